import Files
import Foundation
import NeTI
import Studio
import TestSupport
import Testing

/// How long learning takes, before it begins and while it goes on.
@Suite("The studio's estimates", .serialized)
struct ForesightTests {
  private func wait(_ studio: TestStudio, _ isSo: (TestStudio.WorkView) -> Bool) throws
    -> TestStudio.WorkView
  {
    let end = ContinuousClock.now + .seconds(300)
    while true {
      let work = try studio.work()
      if isSo(work) || ContinuousClock.now > end { return work }
      Thread.sleep(forTimeInterval: 0.2)
    }
  }

  @Test("a trial before the first run measures steps and pauses, gives way, and leaves nothing else")
  func trial() throws {
    let studio = try TestStudio()
    #expect(try studio.work().experience == nil)
    let id = try studio.example()
    #expect(try studio.work().isTrying)
    // What is asked for comes before it, or between its steps.
    let image = #"{"prompt": "a red mug", "seeds": [0], "steps": 2}"#
    #expect(try studio.ask("POST", "/api/generations", json: image).status == 200)
    // The trial begins 1.5 seconds after the picture, and has not ended when the second is asked for.
    Thread.sleep(forTimeInterval: 1.5)
    _ = try wait(studio) { $0.generating == nil && $0.toGenerate == 0 }
    Thread.sleep(forTimeInterval: 0.4)
    #expect(
      try studio.ask("POST", "/api/generations", json: image.replacing("[0]", with: "[1]")).status == 200)
    let work = try wait(studio) { $0.experience != nil || $0.trialProblem != nil }
    let found = try #require(work.experience, "\(work.trialProblem ?? "")")
    #expect(found.step > 0.01 && found.step < 60)
    // Two images of 20 steps and 36 passes are more than a step of eight samples.
    #expect(found.pause > found.step && found.pause < 60 * found.step)
    #expect(try #require(found.memory) > 1e8)
    let folder = studio.scratch.folder.appending(path: "studio")
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path + "/concepts/\(id)").sorted()
    #expect(names == ["concept.json", "images", "originals", "squares"])
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path + "/images").count == 2)

    // Another start knows it; damage is nothing known.
    let moved = studio.scratch.folder.appending(path: "moved")
    try FileManager.default.copyItem(at: folder, to: moved)
    #expect(try TestStudio { $0.folder = moved }.work().experience == found)
    let file = moved.appending(path: "experience.json")
    let good = try Data(contentsOf: file)
    for mutation in Mutations(of: good, count: 200, seed: 20) {
      try mutation.write(to: file)
      let experience = Experience(file)
      let text = String(decoding: mutation, as: UTF8.self)
      guard let key = text.split(separator: "\"").first(where: { $0.contains("pixels") }) else { continue }
      if let entry = experience(String(key)) { #expect(entry.isPlausible) }
    }
  }

  @Test("says in a line why nothing could be tried")
  func impossible() throws {
    let studio = try TestStudio { $0.configuration = { _ in throw FileError("there is too little memory") } }
    _ = try studio.example()
    let work = try wait(studio) { $0.trialProblem != nil }
    #expect(work.trialProblem == "there is too little memory" && !work.isTrying && work.experience == nil)
  }

  @Test("what was foreseen counts until it is measured, and pauses count as often as they come")
  func pace() {
    var pace = Pace(every: 10, foreseen: .init(step: 2, pause: 30, memory: nil))
    func left(_ done: Int) -> Double { pace.secondsLeft(after: done, of: 100) ?? -1 }
    #expect(left(0) == 200.0 + 300.0)
    // The first makes caches.
    pace.stepped(50)
    #expect(left(1) == 198.0 + 300.0)
    pace.stepped(1)
    #expect(left(2) == 98.0 + 300.0)
    pace.stepped(3)
    #expect(left(3) == 194.0 + 300.0)
    pace.paused(10)
    #expect(left(10) == 180.0 + 90.0)
    #expect(left(100) == 0.0)
    // The pause after these steps is still to come.
    #expect(pace.secondsLeft(after: 10, of: 100, beforePause: true) == 180.0 + 100.0)
    #expect(pace.secondsLeft(after: 100, of: 100, beforePause: true) == 10.0)
    // Another load of the machine: the newest count for more.
    for _ in 0..<60 { pace.stepped(5) }
    #expect(abs(left(99) - 15.0) < 0.02)
    #expect(pace.entry(memory: 7) != nil)
    #expect(Pace(every: 10, foreseen: nil).secondsLeft(after: 0, of: 10) == nil)
    #expect(Pace(every: 0, foreseen: nil).every == 1)
  }
}
