import Foundation
import NeTI
import TestSupport
import Testing

@Suite struct RunLogTests {
  private func filled(_ url: URL, steps: Int) throws {
    let log = try RunLog(url)
    try log.append(RunEvent(.start, step: 0, content: ["images": "toy"]))
    for step in 1...steps {
      try log.append(
        RunEvent(.step, step: step, loss: 0.5 / Double(step), learningRate: 8e-3, seconds: 1.5))
    }
    try log.append(RunEvent(.checkpoint, step: steps, files: ["step-000004.safetensors"]))
  }

  @Test func `events are read back as they were written`() throws {
    let folder = try Scratch()
    let url = folder.file("events.jsonl")
    try filled(url, steps: 4)
    let events = try RunLog.read(url)
    #expect(events.map(\.step) == [0, 1, 2, 3, 4, 4])
    #expect(events[2].loss == 0.25)
    #expect(events[2].learningRate == 8e-3)
    #expect(events[5].files == ["step-000004.safetensors"])
  }

  @Test func `a loss that is not finite is a line like any other`() throws {
    let folder = try Scratch()
    let url = folder.file("events.jsonl")
    try RunLog(url).append(RunEvent(.step, step: 1, loss: .infinity))
    #expect(try RunLog.read(url).first?.loss == .infinity)
  }

  @Test func `a resume drops the lines after its step and keeps the bytes of the others`() throws {
    let folder = try Scratch()
    let url = folder.file("events.jsonl")
    try filled(url, steps: 4)
    let before = try Data(contentsOf: url)
    let log = try RunLog(url, keepingThrough: 2)
    #expect(before.starts(with: try Data(contentsOf: url)))
    try log.append(RunEvent(.step, step: 3))
    #expect(try RunLog.read(url).map(\.step) == [0, 1, 2, 3])
  }

  @Test func `a line torn anywhere by a kill is dropped and the others stay`() throws {
    let folder = try Scratch()
    let url = folder.file("events.jsonl")
    try filled(url, steps: 3)
    let whole = try Data(contentsOf: url)
    for cut in [1, 10, 40] {
      try whole.dropLast(cut).write(to: url)
      #expect(try RunLog.read(url).map(\.step) == [0, 1, 2, 3])
      try RunLog(url).append(RunEvent(.stop, step: 3))
      #expect(try RunLog.read(url).map(\.kind).suffix(2) == [.step, .stop])
    }
  }

  @Test func `5,000 damaged logs are read without a crash`() throws {
    let folder = try Scratch()
    let url = folder.file("events.jsonl")
    try filled(url, steps: 3)
    for mutation in try Mutations(of: Data(contentsOf: url), count: 5000, seed: 11) {
      try mutation.write(to: url)
      _ = try RunLog.read(url)
    }
  }
}
