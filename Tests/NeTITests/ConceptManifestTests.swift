import Foundation
import NeTI
import TestSupport
import Testing

@Suite("A manifest")
struct ConceptManifestTests {
  private let folder = URL(filePath: "/concepts", directoryHint: .isDirectory)
  private static let spotty = #"{"images": "spotty", "token": "<spotty>", "category": "monster"}"#

  private func manifest(_ text: String) throws -> ConceptManifest {
    try ConceptManifest(Data(text.utf8), name: "list.jsonl", folder: folder)
  }

  private func configuration(_ line: String, _ overrides: [(key: String, value: String)] = []) throws
    -> RunConfiguration
  {
    let m = try manifest(line)
    return try RunConfiguration.load(
      defaults: [("data.center_crop", "true")], entry: m.entries[0],
      overrides: overrides + [("log.exp_name", m.entries[0].name)]
    ).configuration
  }

  @Test("has one concept a line, with the flags' names, dotted names, and paths from its own folder")
  func fields() throws {
    let m = try manifest(
      "\u{FEFF}\(Self.spotty)\r\n\n"
        + #"{"images": "./cats/a", "masks": "cats/../masks", "token": "<a>", "category": "cat", "output": "A cat", "#
        + #""captions": false, "property": "style", "steps": 7, "seed": 3, "representation": "ti", "vectors": 3, "#
        + #""optim.learning_rate": 2e-3, "eval.validation_prompts": ["a {}", "two: {}"]}"#)
    #expect(m.entries.map(\.line) == [1, 3])
    #expect(m.entries.map(\.name) == ["spotty", "A cat"])
    let c = try RunConfiguration.load(entry: m.entries[1], overrides: [("log.exp_name", "x")]).configuration
    #expect(c.data.trainDataDir == "/concepts/cats/a" && c.data.masksDir == "/concepts/masks")
    #expect(c.data.placeholderToken == "<a>" && c.data.superCategoryToken == "cat")
    #expect(!c.data.useCaptions && c.data.learnableProperty == .style)
    #expect(c.optim.maxTrainSteps == 7 && c.optim.seed == 3 && c.optim.learningRate == 2e-3)
    #expect(c.model.numVectors == 3)
    #expect(c.model.representation == .ti && c.eval.validationPrompts == ["a {}", "two: {}"])
  }

  @Test("is overruled by the command line, and overrules the defaults")
  func order() throws {
    let line = Self.spotty.dropLast() + #", "data.center_crop": false, "steps": 7, "seed": 3}"#
    let c = try configuration(String(line), [("optim.max_train_steps", "9")])
    #expect(c.optim.maxTrainSteps == 9 && c.optim.seed == 3 && !c.data.centerCrop)
    #expect(try configuration(Self.spotty).data.centerCrop)
  }

  @Test(
    "is shared among processes without a gap or an overlap, in equal parts",
    arguments: [(7, 3), (3, 5), (8, 1)])
  func shards(_ count: Int, _ processes: Int) throws {
    let m = try manifest(
      (0..<count).map { #"{"images": "p", "token": "<t\#($0)>", "category": "cat"}"# }.joined(separator: "\n")
    )
    let parts = (1...processes).map { m.shard($0, of: processes).map(\.line) }
    #expect(parts.flatMap { $0 }.sorted() == Array(1...count))
    let sizes = parts.map(\.count)
    #expect((sizes.max() ?? 0) - (sizes.min() ?? 0) <= 1)
  }

  @Test(
    "that is not right is refused, and the error tells the line and what is wrong",
    arguments: [
      ("", #"list.jsonl is empty; each line describes a concept, such as {"images": "my-toy""#),
      ("[\n", "line 1: expected a JSON object on each line"),
      ("{\"images\": 1", "line 1: not valid JSON"),
      ("\n{\"images\": \"p\"}", #"line 2: token is missing; a line is such as {"images""#),
      (#"{"images": "p", "token": "<t>", "category": "c", "step": 4}"#, "did you mean steps?"),
      (#"{"images": "p", "token": "<t>", "category": "c", "optim.learning_rat": 4}"#, "optim.learning_rate?"),
      (
        #"{"images": "p", "token": "<t>", "category": "c", "optim": {"seed": 4}}"#,
        #"optim is a section; its settings are written as "optim.key""#
      ),
      (#"{"images": "p", "token": "<t>", "category": "c", "seed": {"a": 4}}"#, "seed must be a value"),
      (#"{"images": "p", "token": "<t>", "category": "c", "seed": 1, "optim.seed": 2}"#, "the same setting"),
      (#"{"images": "p", "token": "<t>", "category": "c", "seed": 1, "seed": 2}"#, "more than once"),
      (#"{"images": "/p", "token": "<t>", "category": "c"}"#, "images “/p” leads out"),
      (
        #"{"images": "$NETI_NOT_SET/p", "token": "<t>", "category": "c"}"#,
        "images “$NETI_NOT_SET/p”: the variable NETI_NOT_SET is not set"
      ),
      (#"{"images": "a/../../p", "token": "<t>", "category": "c"}"#, "leads out of the manifest's folder"),
      // A slash with a combining mark is one character to Swift, and a slash to the system.
      (#"{"images": "../\u0338a/p", "token": "<t>", "category": "c"}"#, "leads out of the manifest's folder"),
      (#"{"images": "p", "masks": "..", "token": "<t>", "category": "c"}"#, "masks “..” leads out"),
      (#"{"images": "p", "token": "<t>", "category": "c", "output": "../x"}"#, "output must be the name"),
      (#"{"images": "p", "token": "<t>", "category": "c", "output": ".x"}"#, "output must be the name"),
      (#"{"images": "p", "token": "<t>", "category": "c", "output": 3}"#, "output must be the name"),
      (#"{"images": "p", "token": ["<t>"], "category": "c"}"#, "line 1: token must be text, not a list"),
      (#"{"images": "p", "token": 5, "category": "c"}"#, "line 1: token must be text, not 5"),
      (
        #"{"images": "p", "token": "<>", "category": "c"}"#,
        #"the token gives no name for the run's folder; add "output""#
      ),
      (#"{"images": "p", "token": "<t>", "category": "c", "model": "m"}"#, "give `model`"),
      (
        #"{"images": "p", "token": "<t>", "category": "c", "model.prediction_type": "epsilon"}"#,
        "give `prediction-type`"
      ),
      (#"{"images": "p", "token": "<t>", "category": "c", "log.exp_dir": "m"}"#, "`output`"),
      (
        spotty + "\n" + spotty.replacing("<spotty>", with: "<SPOTTY>"),
        "line 2: “SPOTTY” is the name of line 1"
      ),
    ])
  func refused(_ text: String, _ words: String) throws {
    let error = try #require(throws: NeTIError.self) { try manifest(text) }
    #expect(error.message.hasPrefix("list.jsonl") && error.message.contains(words), "\(error.message)")
    #expect(!error.message.contains("\n"))
  }

  @Test("in another encoding is refused by its line")
  func encoding() throws {
    let error = #expect(throws: NeTIError.self) {
      try ConceptManifest(Data(#"{"images": ""#.utf8) + [0xFF], name: "list.jsonl", folder: folder)
    }
    #expect(error?.message == "list.jsonl, line 1: not UTF-8 text; save the file as UTF-8")
    let half = #expect(throws: NeTIError.self) {
      try ConceptManifest(Data([0xFF, 0xFE, 0x00, 0xD8]), name: "list.jsonl", folder: folder)
    }
    #expect(half?.message == "list.jsonl is damaged UTF-16 text; save it again, as UTF-8")
  }

  @Test("with a wrong value names line and key; of a folder that is not there, line and folder")
  func values() throws {
    let none: (RunConfiguration) throws -> ModelDefaults? = { _ in nil }
    for (more, words) in [
      (#""steps": "many""#, "line 1: steps: optim.max_train_steps must be a whole number"),
      (
        #""eval.validation_prompts": 5"#,
        "line 1: eval.validation_prompts must be a list, each entry text, not 5"
      ),
      (#""steps": 0"#, "line 1: optim.max_train_steps is 0"),
      (#""seed": 1"#, "/concepts/spotty: no such folder"),
    ] {
      let m = try manifest(Self.spotty.dropLast() + ", \(more)}")
      let error = try #require(throws: NeTIError.self) {
        try m.configuration(of: m.entries[0], output: folder, modelDefaults: none)
      }
      #expect(error.message.hasPrefix("list.jsonl, ") && error.message.contains(words), "\(error.message)")
    }
  }

  @Test("takes 5,000 mutations: it is read or refused with one line")
  func mutations() throws {
    let text =
      Self.spotty + "\n"
      + #"{"images": "a/b", "masks": "m", "token": "<a>", "category": "c", "output": "A", "steps": 7, "#
      + #""eval.validation_prompts": ["a {}", "b\u00e9 {}"], "optim.learning_rate": 0.5}"#
    for damaged in Mutations(of: Data(text.utf8), count: 5000, seed: 5) {
      do {
        let m = try ConceptManifest(damaged, name: "list.jsonl", folder: folder)
        for e in m.entries {
          #expect(!e.name.contains("/") && !e.name.hasPrefix("."))
          let c = try RunConfiguration.load(entry: e, overrides: [("log.exp_name", e.name)]).configuration
          #expect(c.data.trainDataDir.hasPrefix("/concepts"))
        }
      } catch let e as NeTIError {
        #expect(!e.message.isEmpty && !e.message.contains("\n"))
      }
    }
  }
}
