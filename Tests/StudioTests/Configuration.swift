import NeTI

/// The settings that the words of a command line mean; enough of it for tests, the command does it whole.
func configuration(of words: [String]) throws -> RunConfiguration {
  let names = [
    "images": "data.train_data_dir", "token": "data.placeholder_token",
    "category": "data.super_category_token",
    "representation": "model.representation", "vectors": "model.num_vectors",
    "property": "data.learnable_property", "steps": "optim.max_train_steps", "seed": "optim.seed",
    "validate-every": "eval.validation_steps",
  ]
  var overrides: [(key: String, value: String)] = [
    ("data.center_crop", "true"), ("eval.validation_prompts", "[]"),
  ]
  var rest = words.dropFirst()[...]
  while let word = rest.popFirst() {
    let option = String(word.dropFirst(2))
    if option == "resume" { continue }
    guard let value = rest.popFirst() else { break }
    if option == "output" {
      let parts = value.split(separator: "/")
      overrides.append(("log.exp_dir", "/" + parts.dropLast().joined(separator: "/")))
      overrides.append(("log.exp_name", String(parts.last ?? "")))
    } else if option.contains(".") {
      overrides.append((option, value))
    } else if let name = names[option] {
      overrides.append((name, value))
    }
  }
  return try RunConfiguration.load(overrides: overrides).configuration
}
