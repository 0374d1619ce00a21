import Files
import Foundation
import NeTI
import Studio
import TestSupport
import Testing

/// What waits for the one thread that computes: who comes first, who gives way, who is stopped, and what is left of it
/// when the studio ends.
@Suite("The studio's queue", .serialized)
struct QueueTests {
  private func mug(seeds: Range<Int>, steps: Int = 2) -> String {
    #"{"prompt": "a red mug", "seeds": [\#(seeds.map(String.init).joined(separator: ","))], "steps": \#(steps)}"#
  }

  @Test("learning goes on between two images of an order, and a stop of the order keeps those that are done")
  func givesWay() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    try studio.learn(id, "one", steps: 40)
    try studio.wait { ($0.learnJob?.step ?? 0) > 0 }
    _ = try studio.generate(mug(seeds: 0..<16))
    // How many steps there were when an image came.
    var steps: [Int] = []
    while steps.count < 3, try studio.work().learning != nil {
      let count = studio.imageFiles.count
      while steps.count < count { steps.append(try studio.steps(id, "one").count) }
      Thread.sleep(forTimeInterval: 0.02)
    }
    #expect(steps.count >= 3 && zip(steps, steps.dropFirst()).allSatisfy { $0 < $1 }, "\(steps)")

    #expect(try studio.ask("POST", "/api/generations/stop").status == 200)
    let ended = try studio.wait { $0.generating == nil }
    let kept = studio.imageFiles.count
    #expect((3..<16).contains(kept) && ended.toGenerate == 0 && ended.problem == nil)
    let now = try studio.steps(id, "one").count
    try studio.wait { try $0.learning == nil || studio.steps(id, "one").count > now + 2 }
    #expect(studio.imageFiles.count == kept, "something was generated after the stop")
    // They are shown, too.
    for name in studio.imageFiles {
      #expect(try studio.ask("GET", "/api/images/\(name.dropLast(4))").status == 200)
    }
    _ = try studio.ask("POST", "/api/concepts/\(id)/stop")
    _ = try studio.wait(for: "stopped", of: id)
  }

  @Test("a stop of learning does not wait for the image at hand, which is made all the same")
  func promptStop() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    try studio.learn(id, "one", steps: 400)
    try studio.wait { ($0.learnJob?.step ?? 0) > 0 }
    _ = try studio.generate(mug(seeds: 0..<1, steps: 200))
    try studio.wait { ($0.generateJob?.step ?? 0) > 2 }
    #expect(try studio.ask("POST", "/api/concepts/\(id)/stop").status == 200)
    let stopped = try #require(try studio.wait(for: "stopped", of: id))
    #expect(stopped.progress.step > 0)
    #expect(studio.imageFiles.isEmpty, "it waited for the image")
    try studio.wait { $0.generating == nil }
    #expect(studio.imageFiles.count == 1)
  }

  @Test("what is generated gives way to what waits to be learned")
  func learningBegins() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    // More than are denoised together.
    _ = try studio.generate(mug(seeds: 0..<16, steps: 60))
    try studio.wait { $0.generating != nil }
    try studio.learn(id, "one", steps: 3)
    try studio.wait { $0.learning != nil }
    #expect(studio.imageFiles.count < 16)
    _ = try #require(try studio.wait(for: "learned", of: id))
    try studio.wait { $0.generating == nil }
    #expect(studio.imageFiles.count == 16)
  }

  @Test("the same order twice is one, and a dial's newest replaces those before")
  func coalescing() throws {
    let studio = try TestStudio()
    let first = try studio.generate(mug(seeds: 0..<8, steps: 200))
    try studio.wait { $0.generating != nil }
    #expect(try studio.generate(mug(seeds: 0..<8, steps: 200)) == first)
    let other = try studio.generate(mug(seeds: 1..<2))
    #expect(try studio.generate(mug(seeds: 1..<2)) == other && other != first)
    #expect(try studio.work().toGenerate == 1)
    // Of many moves of a dial one waits, and the others' orders stay.
    let moves = try (2..<12).map { try studio.generate(mug(seeds: $0..<$0 + 1), replacing: true) }
    #expect(Set(moves).count == 10)
    let work = try studio.work()
    #expect(work.toGenerate == 2 && work.generating == first)
    // What was asked for by itself, too, does not go with the next move.
    #expect(try studio.generate(mug(seeds: 11..<12)) == moves.last)
    _ = try studio.generate(mug(seeds: 12..<13), replacing: true)
    #expect(try studio.work().toGenerate == 3)
    #expect(try studio.ask("POST", "/api/generations/stop").status == 200)
    let ended = try studio.wait { $0.generating == nil }
    #expect(ended.toGenerate == 0 && studio.imageFiles.isEmpty)
  }

  @Test("what was stopped before anything was learned can be changed again, and goes on once")
  func released() async throws {
    let studio = try TestStudio()
    let ids = try [studio.example(), studio.example()]
    try studio.learn(ids[0], "one", steps: 400)
    try studio.learn(ids[1], "two", steps: 4)
    try studio.wait { ($0.learnJob?.step ?? 0) > 0 }
    #expect(try studio.work().toLearn == [ids[1]])
    #expect(try studio.ask("DELETE", "/api/concepts/\(ids[1])/pictures/1").status == 409)
    #expect(try studio.ask("POST", "/api/concepts/\(ids[1])/stop").status == 200)
    #expect(try studio.work().toLearn.isEmpty)
    #expect(try studio.wait(for: "pictures", of: ids[1])?.name == nil)
    #expect(try studio.ask("DELETE", "/api/concepts/\(ids[1])/pictures/1").status == 200)

    #expect(try studio.ask("POST", "/api/concepts/\(ids[0])/stop").status == 200)
    _ = try #require(try studio.wait(for: "stopped", of: ids[0]))
    #expect(try studio.ask("DELETE", "/api/concepts/\(ids[0])/pictures/1").status == 409)
    // Twenty clicks at once.
    let ask = studio.asker()
    let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
      for _ in 0..<20 { group.addTask { try ask("POST", "/api/concepts/\(ids[0])/resume", "{}") } }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(statuses.filter { $0 == 200 }.count == 1 && statuses.filter { $0 == 409 }.count == 19)
    let work = try studio.work()
    #expect([work.learning].compactMap(\.self) + work.toLearn == [ids[0]])
    _ = try studio.ask("POST", "/api/concepts/\(ids[0])/stop")
    _ = try studio.wait(for: "stopped", of: ids[0])
  }

  @Test("images of an order stand in the order of their seeds, also where each came by itself")
  func places() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    try studio.learn(id, "one", steps: 400)
    try studio.wait { ($0.learnJob?.step ?? 0) > 0 }
    _ = try studio.generate(mug(seeds: 3..<7, steps: 1))
    try studio.wait { $0.generating == nil && $0.toGenerate == 0 }
    let work = try studio.work()
    #expect(work.learning == id, "they did not come one by one")
    #expect(try studio.images().map { $0["seed"] } == ["3", "4", "5", "6"])
    _ = try studio.ask("POST", "/api/concepts/\(id)/stop")
    _ = try studio.wait(for: "stopped", of: id)
    // The newest order is first, after a new start, too.
    let next = try studio.next()
    #expect(try next.images().map { $0["seed"] } == ["3", "4", "5", "6"])
    _ = try next.generate(mug(seeds: 0..<2, steps: 1))
    try next.wait { $0.generating == nil && $0.toGenerate == 0 }
    #expect(try next.images().map { $0["seed"] } == ["0", "1", "3", "4", "5", "6"])
  }

  @Test("what a kill broke off is offered, and its missing images are those of an undisturbed order")
  func goesOn() throws {
    let studio = try TestStudio()
    // Twice as many as are denoised together.
    let id = try studio.generate(mug(seeds: 0..<16, steps: 40))
    let end = ContinuousClock.now + .seconds(300)
    while studio.waiting.imagesDone != [8], ContinuousClock.now < end { Thread.sleep(forTimeInterval: 0.02) }
    let next = try studio.next()
    // It goes on, undisturbed.
    try studio.wait { $0.generating == nil }
    let whole = try studio.imagesBySeed()
    #expect(whole.count == 16 && whole.values.allSatisfy { $0.count == 1 })
    #expect(try studio.images().map { $0["seed"] } == (0..<16).map(String.init))
    #expect(studio.nothingWaits)

    let work = try next.work()
    #expect(work.queue.map(\.id) == [id] && work.queue[0].isBrokenOff && work.queue[0].prompt == "a red mug")
    #expect(work.generating == nil && work.toGenerate == 0 && next.imageFiles.count == 8)
    // Who does not answer is asked again.
    let third = try next.next()
    #expect(try third.work().queue.map(\.isBrokenOff) == [true])
    // Who asks for the same again is not offered it beside that.
    let fourth = try third.next()
    let again = try fourth.generate(mug(seeds: 0..<16, steps: 40))
    #expect(try again != id && fourth.work().queue.map(\.id) == [again])
    #expect(try fourth.ask("DELETE", "/api/generations/\(again)").status == 200)
    try fourth.wait { $0.queue.isEmpty }
    #expect(try third.ask("DELETE", "/api/generations/\(id)").status == 200)
    #expect(try third.work().queue.isEmpty && third.nothingWaits)
    let late = try third.ask("POST", "/api/generations/\(id)/resume")
    #expect(late.status == 409 && late.line == "there is nothing to go on with")

    #expect(try next.ask("POST", "/api/generations/\(id)/resume").status == 200)
    #expect(try next.ask("POST", "/api/generations/\(id)/resume").status == 409)
    try next.wait { $0.queue.isEmpty }
    #expect(try next.imagesBySeed() == whole)
    #expect(next.nothingWaits && third.imageFiles.count == 8)
  }

  @Test("a table that was broken off becomes whole")
  func tableGoesOn() throws {
    let studio = try TestStudio()
    let json =
      #"{"base": {"prompt": "a mug", "seeds": [0], "steps": 40}, "columns": {"kind": "seed", "values": ["1", "2", "3"]}}"#
    let made = try studio.ask("POST", "/api/grids", json: json)
    let id = try JSONDecoder().decode([String: String].self, from: made.body)["id"] ?? ""
    let end = ContinuousClock.now + .seconds(300)
    while studio.waiting.imagesDone != [1], ContinuousClock.now < end { Thread.sleep(forTimeInterval: 0.02) }
    let next = try studio.next()
    try studio.wait { $0.queue.isEmpty }
    #expect(try next.ask("POST", "/api/generations/\(id)/resume").status == 200)
    try next.wait { $0.queue.isEmpty }
    #expect(try next.images().map { $0["sheet"] } == [id, id, id])
    #expect(try next.imagesBySeed() == studio.imagesBySeed())
    #expect(
      try next.ask("GET", "/api/sheets/\(id)").body == studio.ask("GET", "/api/sheets/\(id)").body)
  }

  @Test("another studio finds what waited, in its order, and says what it was at")
  func outlives() throws {
    let studio = try TestStudio()
    let ids = try (0..<3).map { _ in try studio.example() }
    for (id, name) in zip(ids, ["one", "two", "three"]) {
      try studio.learn(id, name, steps: id == ids[0] ? 400 : 2)
    }
    try studio.wait { ($0.learnJob?.step ?? 0) > 0 }
    _ = try studio.generate(mug(seeds: 0..<16, steps: 200))
    try studio.wait { $0.generating != nil }
    _ = try studio.generate(mug(seeds: 1..<3))
    _ = try studio.generate(mug(seeds: 3..<4), replacing: true)
    let here = studio.scratch.folder.appending(path: "studio")
    let file = here.appending(path: "waiting.json")
    let count = Waiting(file).count
    #expect(count.learn == 2 && count.orders == 1 && count.brokenOff == 1)

    // As a kill would leave it, without what is being learned.
    let there = studio.scratch.folder.appending(path: "there")
    for inner in [".neti-studio", "waiting.json", "concepts/\(ids[1])", "concepts/\(ids[2])"] {
      let target = there.appending(path: inner)
      try FileManager.default.createDirectory(
        at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
      try FileManager.default.copyItem(at: here.appending(path: inner), to: target)
    }
    #expect(try studio.ask("POST", "/api/generations/stop").status == 200)
    let next = try TestStudio { $0.folder = there }
    let work = try next.work()
    #expect(work.problem == nil)
    #expect(work.queue.filter(\.isBrokenOff).map(\.prompt) == ["a red mug"])
    #expect([work.learning].compactMap(\.self) + work.toLearn == [ids[1], ids[2]])
    for id in ids[1...] { _ = try #require(try next.wait(for: "learned", of: id)) }
    try next.wait { $0.generating == nil && $0.toGenerate == 0 }
    let made = try FileManager.default.contentsOfDirectory(atPath: there.appending(path: "images").path)
    #expect(made.filter { $0.hasSuffix(".png") }.count == 2)
    #expect(Waiting(there.appending(path: "waiting.json")).count == (0, 0, 1))

    // One that is not for this model is told so, and can be changed.
    let other = studio.scratch.folder.appending(path: "other")
    for inner in [".neti-studio", "waiting.json", "concepts/\(ids[2])"] {
      let target = other.appending(path: inner)
      try FileManager.default.createDirectory(
        at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
      try FileManager.default.copyItem(at: here.appending(path: inner), to: target)
    }
    let foreign = try TestStudio {
      ($0.folder, $0.modelWords) = (other, ["--clip-skip", "1"])
    }
    let told = try foreign.concepts()
    #expect(told.map(\.progress.state) == ["pictures"])
    #expect(told[0].progress.problem?.contains("other options of the model") == true)

    // What is damaged is no list; what is out of bounds is not in it.
    let good = try Data(contentsOf: file)
    let damaged = studio.scratch.folder.appending(path: "damaged.json")
    for mutation in Mutations(of: good, count: 300, seed: 21) {
      try mutation.write(to: damaged)
      let count = Waiting(damaged).count
      #expect(count.learn <= 500 && count.orders <= 8 && count.brokenOff <= 8)
    }
    func order(_ steps: Int, _ id: String = "a", done: Int = 0) -> String {
      #"{"id": "\#(id)", "done": \#(done), "#
        + #""order": {"images": {"_0": {"prompt": "a", "seeds": [0], "steps": \#(steps)}}}}"#
    }
    for (text, learn, orders) in [
      ("", 0, 0), ("[]", 0, 0), (#"{"learn": ["../x"], "orders": [], "brokenOff": []}"#, 0, 0),
      (#"{"learn": ["a", "a"], "orders": [\#(order(1))], "brokenOff": [\#(order(1))]}"#, 1, 1),
      (#"{"learn": [], "orders": [\#(order(1, "../x"))], "brokenOff": []}"#, 0, 0),
      // What is damaged, or of an earlier version, does not take the rest with it.
      (#"{"learn": ["a", 7], "orders": [\#(order(1)), {"done": "3"}]}"#, 1, 1),
      (#"{"learn": {}, "orders": [\#(order(1).replacing(#""done": 0, "#, with: ""))]}"#, 0, 1),
    ] {
      try Data(text.utf8).write(to: damaged)
      let count = Waiting(damaged).count
      #expect(count.learn == learn && count.orders == orders && count.brokenOff == 0, "\(text)")
    }
    // What the model does not take is not begun.
    let third = studio.scratch.folder.appending(path: "third")
    try FileManager.default.createDirectory(at: third, withIntermediateDirectories: true)
    try FileManager.default.copyItem(
      at: here.appending(path: ".neti-studio"), to: third.appending(path: ".neti-studio"))
    // Nor what says that more is done than it has, or less than nothing.
    let strange = [order(100_000), order(1, "b", done: -5), order(1, "c", done: Int.max)]
    let list = strange.joined(separator: ",")
    try Data(#"{"learn": [], "orders": [\#(list)], "brokenOff": [\#(order(100_000, "d"))]}"#.utf8).write(
      to: third.appending(path: "waiting.json"))
    let careful = try TestStudio { $0.folder = third }
    try careful.wait { $0.generating == nil && $0.toGenerate == 0 }
    let images = try FileManager.default.contentsOfDirectory(atPath: third.appending(path: "images").path)
    #expect(images.filter { $0.hasSuffix(".png") }.count == 1)
    // What is done is not said to have been broken off.
    let kept = third.appending(path: "waiting.json")
    for _ in 0..<100 where Waiting(kept).count != (0, 0, 0) { Thread.sleep(forTimeInterval: 0.05) }
    #expect(Waiting(kept).count == (0, 0, 0))
    _ = try studio.ask("POST", "/api/concepts/\(ids[0])/stop")
    _ = try studio.wait(for: "stopped", of: ids[0])
  }

  @Test("of what is quick, some wait at once, and others are told to try again")
  func busy() throws {
    let studio = try TestStudio()
    let id = try studio.imported()
    let request =
      "GET /api/concepts/\(id)/importance HTTP/1.1\r\nHost: 127.0.0.1:\(studio.port)\r\nCookie: \(studio.cookie)\r\n\r\n"
    var answers: [Client.Response] = []
    // How many come before one is done is chance.
    for _ in 0..<20 where !answers.contains(where: { $0.status == 429 }) {
      let clients = try (0..<40).map { _ in
        let client = try Client(port: studio.port)
        client.send(request)
        return client
      }
      answers += clients.map { $0.receive() }
    }
    #expect(answers.allSatisfy { [200, 429].contains($0.status) })
    let refused = answers.first { $0.status == 429 }
    #expect(refused?.line == "the studio is busy; try again in a moment")
  }

  @Test("what is quick does not wait for a long step")
  func errands() throws {
    let studio = try TestStudio { settings in
      settings.configuration = {
        var c = try configuration(of: $0)
        if $0.contains("<one>") { c.optim.gradientAccumulationSteps = 60 }
        return c
      }
    }
    let id = try studio.example()
    try studio.learn(id, "one", steps: 1)
    _ = try #require(try studio.wait(for: "learning", of: id))
    let file = try Data(contentsOf: Fixtures.url("integrations/toy.safetensors"))
    let made = try studio.ask("POST", "/api/imports?name=toy.safetensors", file)
    #expect(made.status == 200, "\(made.text)")
    let toy = try JSONDecoder().decode([String: String].self, from: made.body)["id"] ?? ""
    #expect(try studio.ask("GET", "/api/concepts/\(toy)/importance").status == 200)
    #expect(try studio.ask("GET", "/api/concepts/\(toy)/folder?for=comfyui").status == 200)
    let work = try studio.work()
    #expect(work.learning == id && work.learnJob?.step == 0, "the step was over before")
    _ = try studio.ask("POST", "/api/concepts/\(id)/stop")
    // Nor is anything computed when the process ends.
    _ = try studio.wait { $0.learning == nil && !$0.isTrying }
  }

  @Test("what fails to come leaves no concept behind, nor does one that never got a picture")
  func ghosts() throws {
    let scratch = try Scratch()
    let broken = scratch.folder.appending(path: "broken", directoryHint: .isDirectory)
    try FileManager.default.createDirectory(at: broken, withIntermediateDirectories: true)
    let jpeg = try Data(contentsOf: Fixtures.examples.appending(path: "ginger/1.jpg"))
    try jpeg.write(to: broken.appending(path: "1.jpg"))
    try jpeg.prefix(jpeg.count / 3).write(to: broken.appending(path: "2.jpg"))
    let studio = try TestStudio { $0.examples.append(.init(name: "broken", kind: "cat", folder: broken)) }
    let example = try studio.ask("POST", "/api/concepts", json: #"{"example": "broken"}"#)
    #expect(example.status == 422, "\(example.text)")
    #expect(try studio.concepts().isEmpty && studio.conceptCount == 0)

    // No place to put it.
    let concepts = studio.scratch.folder.appending(path: "studio/concepts")
    try FileManager.default.removeItem(at: concepts)
    try Data().write(to: concepts)
    let file = try Data(contentsOf: Fixtures.url("integrations/toy.safetensors"))
    #expect(try studio.ask("POST", "/api/imports?name=toy.safetensors", file).status == 422)
    #expect(try studio.concepts().isEmpty)
    let trash = studio.scratch.folder.appending(path: "studio/trash")
    #expect(try FileManager.default.contentsOfDirectory(atPath: trash.path).isEmpty)
    try FileManager.default.removeItem(at: concepts)
    try FileManager.default.createDirectory(at: concepts, withIntermediateDirectories: true)
    #expect(try studio.ask("POST", "/api/imports?name=toy.safetensors", file).status == 200)

    // A page that was closed too early, and a kill amid an import.
    #expect(try studio.ask("POST", "/api/concepts", json: "{}").status == 200)
    #expect(studio.conceptCount == 2)
    let moved = studio.scratch.folder.appending(path: "moved")
    try FileManager.default.copyItem(at: studio.scratch.folder.appending(path: "studio"), to: moved)
    let half = moved.appending(path: "trash/.neti-abc.tmp/images")
    try FileManager.default.createDirectory(at: half, withIntermediateDirectories: true)
    let next = try TestStudio { $0.folder = moved }
    #expect(try next.concepts().map(\.title) == ["toy"])
    let left = try FileManager.default.contentsOfDirectory(atPath: moved.appending(path: "concepts").path)
    #expect(left.count == 1)
    #expect(try FileManager.default.contentsOfDirectory(atPath: moved.appending(path: "trash").path).isEmpty)
  }
}
