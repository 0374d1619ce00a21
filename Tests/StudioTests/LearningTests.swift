import Files
import Foundation
import Imaging
import NeTI
import Studio
import TestSupport
import Testing

/// From pictures to images, as the page asks for it.
@Suite("The studio", .serialized)
struct LearningTests {
  private static let plan = #"{"title": "My Cät", "kind": "cat", "quality": "quick", "steps": 2, "seed": 1}"#

  @Test("keeps copies of pictures and shows the squares that the trainer sees")
  func pictures() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    let place = studio.scratch.folder.appending(path: "studio/concepts/\(id)")
    for n in 1...5 {
      let original = Fixtures.examples.appending(path: "ginger/\(n).jpg")
      let copy = try Data(contentsOf: place.appending(path: "images/\(n).jpg"))
      #expect(try copy == Data(contentsOf: original))
      let square = try studio.ask("GET", "/api/concepts/\(id)/pictures/\(n)")
      let trained = try TrainingImages.prepare(Image.load(original), side: 128, crop: true)
      #expect(try Image.decode(square.body, name: "square") == trained)
    }
    // The same once more, and one that is small.
    let again = try Data(contentsOf: Fixtures.examples.appending(path: "ginger/2.jpg"))
    #expect(try studio.ask("POST", "/api/concepts/\(id)/pictures?name=2.jpg", again).status == 409)
    // The same picture, saved anew and smaller: it is taken, and said.
    let other = try Image.decode(again, name: "2.jpg")
    let resaved = try other.resized(width: other.width / 3, height: other.height / 3)
    #expect(
      try studio.ask("POST", "/api/concepts/\(id)/pictures?name=r.png", Data(resaved.png())).status == 200)
    var notes = try studio.concepts()[0].pictures.map(\.note)
    #expect(notes.count == 6 && notes.prefix(5).allSatisfy { $0 == nil })
    #expect(
      notes.last??.hasSuffix("it looks the same as picture 2; another one teaches more") == true, "\(notes)")
    #expect(try studio.ask("DELETE", "/api/concepts/\(id)/pictures/2").status == 200)
    notes = try studio.concepts()[0].pictures.map(\.note)
    #expect(!notes.contains { $0?.contains("the same as") == true })
    let small = Data(try Image(width: 30, height: 40, colour: Colour(1, 2, 3)).png())
    #expect(try studio.ask("POST", "/api/concepts/\(id)/pictures?name=small.png", small).status == 200)
    let shown = try studio.concepts()[0].pictures
    #expect(shown.map(\.number) == [1, 3, 4, 5, 6, 7])
    #expect(shown[5].note?.hasPrefix("small: 30 × 30 pixels") == true)
    #expect(try studio.ask("DELETE", "/api/concepts/\(id)/pictures/7").status == 200)
    #expect(!FileManager.default.fileExists(atPath: place.appending(path: "images/7.png").path))
  }

  @Test("takes captions in which the concept stands once")
  func captions() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    func asked(_ text: String) throws -> Client.Response {
      try studio.ask("PUT", "/api/concepts/\(id)/pictures/1/caption", json: "{\"caption\": \"\(text)\"}")
    }
    func caption(_ text: String) throws -> Int { try asked(text).status }
    let file = studio.scratch.folder.appending(path: "studio/concepts/\(id)/images/1.txt")
    #expect(try caption("a cat") == 422)
    #expect(try caption("a {} by a {}") == 422)
    for (text, words) in [
      ("a cat", "the caption “a cat” must have {} in it once, where the concept stands"),
      (String(repeating: "a", count: 501), "a caption is one sentence; this has 501 letters"),
      ("a [name]", "the caption has [name] in it; write {} where the concept stands"),
    ] {
      #expect(try asked(text).line == words)
    }
    #expect(!FileManager.default.fileExists(atPath: file.path))
    #expect(try caption("a  photo of a {}") == 200)
    #expect(try String(contentsOf: file, encoding: .utf8) == "a photo of a {}\n")
    #expect(try caption("") == 200)
    #expect(!FileManager.default.fileExists(atPath: file.path))
  }

  @Test("refuses what cannot be learned before anything begins")
  func refusals() throws {
    let studio = try TestStudio()
    let empty = try studio.ask("POST", "/api/concepts", json: "{}")
    let none = try JSONDecoder().decode([String: String].self, from: empty.body)["id"] ?? ""
    let bare = try studio.ask("POST", "/api/concepts/\(none)/learn", json: Self.plan)
    #expect(bare.status == 422 && bare.line == "choose some pictures first")
    let id = try studio.example()
    for (old, new, words) in [
      ("My Cät", " ", "the name is missing"), ("\"cat\"", "\"\"", "the kind is missing"),
      ("My Cät", String(repeating: "a", count: 61), "the name has 61 letters; at most 60 fit"),
      ("My Cät", "a\\u0007", "the name has signs in it that cannot be shown"),
      ("\"cat\"", "\"--output\"", "the kind “--output” must be a word such as cat"),
      ("2,", "0,", "0 steps: between 1 and 100000"), ("2,", "1000000000,", "1000000000 steps: between 1 and"),
      ("\"seed\": 1", "\"seed\": -1", "the seed -1 must be a whole number from 0 to 4294967295"),
      ("\"seed\": 1", "\"learningRate\": 0", "optim.learning_rate"),
      ("\"seed\": 1", "\"batch\": 0", "optim.train_batch_size"),
      ("\"seed\": 1", "\"vectors\": 17", "model.num_vectors"),
      ("\"seed\": 1", "\"representation\": \"--resume\"", "what the page sent cannot be read"),
      ("quick", "sloppy", "what the page sent cannot be read; load the page anew"),
    ] {
      let response = try studio.ask(
        "POST", "/api/concepts/\(id)/learn", json: Self.plan.replacing(old, with: new))
      #expect(
        [400, 422].contains(response.status) && response.text.contains(words), "\(new): \(response.text)")
    }
    // What is not there, not learned, or not deleted.
    for (method, path, status, words) in [
      ("POST", "/api/concepts/\(id)/restore", 404, "this concept was not deleted since the studio started"),
      ("GET", "/api/concepts/\(id)/previews/1/0", 404, "this concept is not learned yet; learn it first"),
      ("GET", "/api/concepts/\(id)/file", 409, "this concept is not learned yet"),
      ("GET", "/api/concepts/\(id)/file?timestep=1000", 422, "the timestep is a number from 0 to 999"),
      ("GET", "/api/concepts/\(id)/file?format=x", 404, "there is no such format"),
      ("GET", "/api/concepts/\(id)/folder?for=x", 404, "there is no such program"),
      ("GET", "/api/concepts/\(id)/pictures/one", 404, "there is nothing here"),
      ("DELETE", "/api/images/abc", 404, "this image is not there any more"),
    ] {
      let response = try studio.ask(method, path)
      #expect(response.status == status && response.line == words, "\(path): \(response.text)")
    }
    let example = try studio.ask("POST", "/api/concepts", json: #"{"example": "nobody"}"#)
    #expect(example.status == 404 && example.line == "there is no example “nobody”")
    #expect(try studio.concepts().allSatisfy { $0.progress.state == "pictures" })
  }

  @Test("says what is too much, and what in its folder or of another model cannot be used")
  func bounds() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    let picture = try Data(contentsOf: Fixtures.examples.appending(path: "starmug/1.jpg"))
    let copied = try studio.next { folder in
      let concepts = folder.appending(path: "concepts")
      try FileManager.default.copyItem(
        at: concepts.appending(path: id), to: concepts.appending(path: "copy"))
      try TestStudio.change(id, in: folder) { record in
        let first = (record["pictures"] as? [[String: Any]])?.first ?? [:]
        record["pictures"] = (1...40).map { n in first.merging(["number": n]) { $1 } }
      }
    }
    #expect(
      copied.notices.count == 1
        && copied.notices[0].hasSuffix(
          "/concepts/copy/concept.json belongs to another folder: it is a copy, and is passed over")
    )
    let crowded = try copied.ask("POST", "/api/concepts/\(id)/pictures?name=a.jpg", picture)
    #expect(crowded.status == 422 && crowded.line == "40 pictures are here; 3 to 6 are enough")

    let full = try studio.next { folder in
      let concepts = folder.appending(path: "concepts")
      let record = try String(contentsOf: concepts.appending(path: "\(id)/concept.json"), encoding: .utf8)
      for n in 1..<500 {
        let other = concepts.appending(path: "c\(n)")
        try FileManager.default.createDirectory(at: other, withIntermediateDirectories: true)
        try Data(record.replacing("\"\(id)\"", with: "\"c\(n)\"").utf8)
          .write(to: other.appending(path: "concept.json"))
      }
    }
    let refused = try full.ask("POST", "/api/concepts", json: "{}")
    #expect(refused.status == 422 && refused.line == "500 concepts are kept; delete one first")
    #expect(try full.ask("DELETE", "/api/concepts/\(id)").status == 200)
    #expect(try full.ask("POST", "/api/concepts", json: "{}").status == 200)

    let foreign = try studio.next { folder in
      let run = folder.appending(path: "concepts/\(id)/one")
      try FileManager.default.createDirectory(at: run, withIntermediateDirectories: true)
      try Data().write(to: run.appending(path: "config.yaml"))
      try TestStudio.change(id, in: folder) {
        $0["plan"] = ["name": "one", "steps": 2, "base": "another", "words": [String]()] as [String: Any]
      }
    }
    let resumed = try foreign.ask("POST", "/api/concepts/\(id)/resume")
    #expect(
      resumed.status == 409
        && resumed.line == "this concept is learned on another model; start the studio with that")
    let strip =
      #"{"concept": "\#(id)", "prompt": "a {}", "view": "frozen", "count": 2, "seed": 0, "steps": 2}"#
    #expect(try foreign.ask("POST", "/api/decompositions", json: strip).status == 200)
    let work = try foreign.wait { $0.generating == nil && $0.toGenerate == 0 }
    #expect(work.problem == "this concept is for another model; start the studio with that")
  }

  @Test("learns with other settings than the model's, and its command line says them")
  func settings() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    let plan = Self.plan.replacing(
      "\"seed\": 1",
      with: #""learningRate": 1e-05, "batch": 3, "representation": "xti", "vectors": 2"#)
    #expect(try studio.ask("POST", "/api/concepts/\(id)/learn", json: plan).status == 200)
    let learned = try #require(try studio.wait(for: "learned", of: id))
    #expect(
      learned.commandLine?.contains(
        " --seed 0 --representation xti --vectors 2 --optim.learning_rate 1e-05 --optim.scale_lr false "
          + "--optim.train_batch_size 3 --validate-every 5 ") == true, "\(learned.commandLine ?? "")")
    let run = studio.scratch.folder.appending(path: "studio/concepts/\(id)/my-cat")
    let c = try RunFolder.configuration(of: run)
    #expect(c.optim.learningRateSchedule().base == 1e-05 && c.optim.trainBatchSize == 3)
    #expect(c.model.representation == .xti && c.model.numVectors == 2)
    let concept = try Concept(contentsOf: run.appending(path: "concept.safetensors"))
    #expect(concept.representation.vectorCount == 2)
    // Other settings take another time: what is foreseen for the model's own is not changed by them.
    let file = studio.scratch.folder.appending(path: "studio/experience.json")
    let known =
      (try? JSONDecoder().decode([String: Experience.Entry].self, from: Data(contentsOf: file))) ?? [:]
    #expect(known.keys.allSatisfy { $0.contains(", 3 × ") == $0.contains(", 2 × xti,") })
  }

  @Test("learns, keeps what it learned over a restart, and generates it")
  func learning() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    #expect(try studio.ask("POST", "/api/concepts/\(id)/learn", json: Self.plan).status == 200)
    // What it is learned from stays as it is.
    #expect(try studio.ask("DELETE", "/api/concepts/\(id)/pictures/1").status == 409)
    #expect(try studio.ask("DELETE", "/api/concepts/\(id)").status == 409)
    let learned = try #require(try studio.wait(for: "learned", of: id))
    #expect(learned.name == "my-cat" && learned.title == "My Cät" && learned.progress.step == 2)
    #expect(
      learned.commandLine?.hasSuffix(
        "--token '<my-cat>' --category cat --output my-cat --steps 2 --seed 1 "
          + "--validate-every 5 --validation-prompt 'a photo of a {}' --validation-prompt 'a watercolor painting of a {}' "
          + "--eval.num_validation_images 1 --eval.num_denoising_steps 20 --log.save_steps 5 --log.checkpoints_total_limit 12"
      )
        == true, "\(learned.commandLine ?? "")")
    let file = try studio.ask("GET", "/api/concepts/\(id)/file")
    #expect(file.header("Content-Disposition") == "attachment; filename=\"my-cat.safetensors\"")

    let request =
      #"{"prompt": "a {my-cat}", "seeds": [3, 4], "steps": 2, "truncation": 8, "scheduler": "ddim"}"#
    #expect(try studio.ask("POST", "/api/generations", json: request).status == 200)
    let images = studio.scratch.folder.appending(path: "studio/images")
    let names = try waitForFiles(2, in: images)
    let settings = try names.map { name in
      let data = try Data(contentsOf: images.appending(path: name))
      let answer = try studio.ask("POST", "/api/settings", data)
      return try JSONDecoder().decode([String: String].self, from: answer.body)
    }
    #expect(Set(settings.map { $0["seed"] }) == ["3", "4"])
    #expect(
      settings.allSatisfy { $0["prompt"] == "a {}" && $0["truncation"] == "8" && $0["names"] == "my-cat" })
    // Another studio finds all of it, where the folder lies now.
    let moved = studio.scratch.folder.appending(path: "moved")
    try FileManager.default.copyItem(at: studio.scratch.folder.appending(path: "studio"), to: moved)
    let next = try TestStudio { $0.folder = moved }
    #expect(try next.concepts().first?.progress.state == "learned")
    #expect(try next.ask("GET", "/api/concepts/\(id)/file").body == file.body)
    // Deleted, and back.
    #expect(try studio.ask("DELETE", "/api/concepts/\(id)").status == 200)
    #expect(try studio.concepts().isEmpty == true)
    #expect(try studio.ask("POST", "/api/concepts/\(id)/restore").status == 200)
    #expect(try studio.concepts().first?.progress.state == "learned")
  }

  private func waitForFiles(_ count: Int, in folder: URL) throws -> [String] {
    let end = ContinuousClock.now + .seconds(300)
    while ContinuousClock.now < end {
      let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter {
        $0.hasSuffix(".png")
      }
      if names.count >= count, !names.contains(where: { $0.hasPrefix(".") }) { return names }
      Thread.sleep(forTimeInterval: 0.1)
    }
    return []
  }

  @Test("lets a hundred clicks wait in a short queue, and stops when asked")
  func clicks() throws {
    let studio = try TestStudio()
    var refused = 0
    for seed in 0..<100 {
      let request = #"{"prompt": "a red mug", "seeds": [\#(seed)], "steps": 100}"#
      let response = try studio.ask("POST", "/api/generations", json: request)
      guard response.status != 200 else { continue }
      #expect(
        response.status == 429 && response.line == "8 generations wait already; let them come first")
      refused += 1
    }
    #expect(refused >= 80)
    #expect(try studio.ask("POST", "/api/generations/stop").status == 200)
    for bad in [
      #"{"prompt": " ", "seeds": [0]}"#, #"{"prompt": "a", "seeds": []}"#,
      #"{"prompt": "a", "seeds": [-1]}"#, #"{"prompt": "a", "seeds": [0], "scheduler": "magic"}"#,
      #"{"prompt": "a", "seeds": [0], "truncation": 4096}"#,
      #"{"prompt": "a", "seeds": [0], "guidance": 1e9}"#,
    ] { #expect(try studio.ask("POST", "/api/generations", json: bad).status == 422, "\(bad)") }
  }

  @Test("goes on after a kill with what can be read")
  func damage() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    let other = studio.scratch.folder.appending(path: "other")
    try FileManager.default.copyItem(at: studio.scratch.folder.appending(path: "studio"), to: other)
    let record = other.appending(path: "concepts/\(id)/concept.json")
    try Data("{\"id\": \"../../x\"".utf8).write(to: record)
    try Data("no png".utf8).write(to: other.appending(path: "images/abc.png"))
    let damaged = try TestStudio { $0.folder = other }
    #expect(try damaged.concepts().isEmpty)
    #expect(try damaged.ask("GET", "/api/images/abc").status == 404)
  }
}
