import Files
import Foundation
import NeTI
import TestSupport
import Testing

/// Every row of the table, whatever it is.
@Suite struct SettingsTests {
  private static let needed = [
    (key: "log.exp_name", value: "run"), (key: "data.train_data_dir", value: "images"),
    (key: "data.placeholder_token", value: "<toy>"),
  ]
  /// Texts that nothing depends on, so that they may be anything.
  private static let free = ["log.logging_dir", "log.report_to", "model.revision"]

  private static func load(_ name: String, _ value: String) throws -> RunConfiguration {
    try RunConfiguration.load(overrides: needed + [(name, value)]).configuration
  }

  /// Whole numbers of settings that cannot be 20.
  private static let small = ["model.num_vectors": "4"]

  /// Values that a setting can have, one of which is not its default, and one that it cannot have.
  private static func values(_ expectation: String) -> (good: [String], bad: String) {
    let type = expectation.replacing(" or null", with: "").replacing("null or ", with: "")
    return switch type {
    case "true or false": (["true", "false"], "maybe")
    case "a whole number": (["20"], "-1")
    case "a number": (["0.25"], "-1")
    case "text": (["other"], "\u{7}")
    case "a list, each entry a whole number": (["[1, 2, 3, 4]"], "[1, 2, 3, -4]")
    case "a list, each entry text": (["[\"one {}\"]"], "[\"none:much\"]")
    default: (type.replacing("one of ", with: "").components(separatedBy: ", "), "maybe")
    }
  }

  @Test(arguments: RunConfiguration.settings.map { [$0.name, $0.expectation] })
  func `A setting is set, written and read back, and refused by name outside its range`(_ row: [String])
    throws
  {
    let (name, values) = (row[0], Self.values(row[1]))
    let plain = try RunConfiguration.load(overrides: Self.needed).configuration
    var others = 0
    for value in Self.small[name].map({ [$0] }) ?? values.good {
      let c = try Self.load(name, value)
      others += c == plain ? 0 : 1
      #expect(try RunConfiguration(resolvedYAML: c.resolvedYAML()) == c)
      #expect(try JSONDecoder().decode(RunConfiguration.self, from: JSONEncoder().encode(c)) == c)
    }
    #expect(others > 0, "\(name) cannot be set")
    if Self.free.contains(name) { return }
    let error = #expect(throws: NeTIError.self) { try Self.load(name, values.bad) }
    #expect(error?.message.contains(name) == true, "\(error?.message ?? "")")
  }

  // MARK: The authors' checkpoints

  private static let classes: Set = ["models.positional_encoding NeTIPositionalEncoding"]

  private static func cfg(_ url: URL) throws -> PickleValue {
    try #require(TorchFile(url, classes: classes).root["cfg"])
  }

  /// Dotted names in the file's order.
  private static func names(_ value: PickleValue, _ prefix: String = "") -> [String] {
    guard case .dictionary(let entries, _) = value else { return [prefix] }
    return entries.flatMap { entry -> [String] in
      guard case .string(let name) = entry.key else { return [] }
      return names(entry.value, prefix.isEmpty ? name : prefix + "." + name)
    }
  }

  /// The default checkpoint with other settings, written; nothing is checked on the way.
  private func written(_ scratch: Scratch, _ change: (inout RunConfiguration) -> Void) throws -> URL {
    var checkpoint = try AuthorsCheckpoint(Fixtures.authors("default/mapper-steps-5.pt"))
    change(&checkpoint.settings)
    _ = try scratch.file(checkpoint.encodedRow("row"), "learned_embeds-final.bin")
    return try scratch.file(checkpoint.encodedMapper("mapper"), "mapper-final.pt")
  }

  @Test func `What is written for the authors' loader has exactly the keys of their own files`() throws {
    let run = try Self.load("optim.seed", "1")
    let scratch = try Scratch()
    let ours = try written(scratch) { $0 = run }
    let theirs = Fixtures.authors("default/mapper-steps-5.pt")
    #expect(try Self.names(Self.cfg(ours)) == Self.names(Self.cfg(theirs)))
  }

  @Test func `What a concept depends on is kept in their file, and nothing of the run and the machine`()
    throws
  {
    let scratch = try Scratch()
    let url = try written(scratch) {
      $0.log.expDir = "/home/someone/runs"
      $0.data.trainDataDir = "/home/someone/images"
      $0.data.repeats = 7
      $0.data.learnableProperty = .style
      $0.model.peSigmas.sigmaL = 3
      $0.model.mapperCheckpointPath = "/home/someone/mapper.pt"
      $0.optim.lrScheduler = .cosine
      $0.optim.seed = nil
    }
    let found = try AuthorsCheckpoint(url).settings
    #expect(found.data.repeats == 7 && found.data.learnableProperty == .style)
    #expect(found.model.peSigmas.sigmaL == 3 && found.optim.lrScheduler == .cosine && found.optim.seed == nil)
    #expect(found.model.mapperCheckpointPath == nil)
    let archive = try ZipArchive(Array(Data(contentsOf: url)))
    let pickle = String(decoding: try archive.contents("mapper/data.pkl"), as: UTF8.self)
    #expect(!pickle.contains("someone"))
  }

  @Test func `A value outside its range in their file is refused by its key`() throws {
    let scratch = try Scratch()
    let cases: [(String, (inout RunConfiguration) -> Void)] = [
      ("model.target_norm", { $0.model.targetNorm = -1 }),
      ("model.target_norm", { $0.model.targetNorm = .nan }),
      ("model.num_pe_time_anchors", { $0.model.numPeTimeAnchors = 3 }),
      ("model.nested_dropout_prob", { $0.model.nestedDropoutProb = 1.5 }),
      ("data.placeholder_token", { $0.data.placeholderToken = "" }),
      ("optim.learning_rate", { $0.optim.learningRate = .infinity }),
    ]
    for (name, change) in cases {
      let url = try written(scratch, change)
      let error = #expect(throws: NeTIError.self) { try AuthorsCheckpoint(url) }
      #expect(error?.message.contains("\(name) ") == true, "\(error?.message ?? "")")
      #expect(error?.message.contains(url.path) == true)
    }
  }
}
