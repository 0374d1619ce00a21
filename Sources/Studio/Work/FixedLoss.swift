import Diffusion
import Files
import Foundation
import NeTI

/// The loss at each checkpoint of a run, on a grid of timesteps and noises that stays the same and that nothing is
/// trained on. The loss of the steps jumps with their timesteps; this tells which checkpoint explains the pictures
/// best.
final class FixedLoss {
  /// The file beside the run: one object a line.
  static let name = "fixed-loss.jsonl"
  /// Pictures and noises for each timestep that are looked at: 36 passes at a checkpoint.
  private static let (mostPictures, noises) = (3, 1)

  /// Passes of the U-Net at a checkpoint.
  static func passes(pictures: Int) -> Int {
    min(pictures, mostPictures) * noises * HeldOutLoss.timesteps.count
  }

  private static let largestFile = 1 << 20

  struct Point: Codable, Sendable, Equatable { let step: Int, loss: Double }

  private let model: StableDiffusion
  private let examples: [TrainingExample]
  private let templates: [String]
  private let file: URL
  private var grids: [HeldOutLoss]?

  /// - Parameter templates: the sentences of those examples that have no caption.
  init(_ model: StableDiffusion, _ examples: [TrainingExample], templates: [String], file: URL) {
    (self.model, self.templates, self.file) = (model, templates, file)
    self.examples = Array(examples.prefix(Self.mostPictures))
  }

  /// Measures a checkpoint and keeps the result.
  func measure(_ checkpoint: URL, step: Int) throws {
    let concept = try Concept(contentsOf: checkpoint)
    let grids = try self.grids ?? makeGrids()
    self.grids = grids
    let losses = try grids.map { try $0(concept) }
    var points = Self.read(file).filter { $0.step != step }
    points.append(Point(step: step, loss: losses.reduce(0, +) / Double(losses.count)))
    let lines = try points.sorted { $0.step < $1.step }.map { try HTTPResponse.encoded($0) + Data("\n".utf8) }
    try AtomicFile.write(lines.reduce(Data(), +), to: file)
  }

  private func makeGrids() throws -> [HeldOutLoss] {
    try examples.map {
      try HeldOutLoss(model, $0, templates: templates, noises: Self.noises)
    }
  }

  /// Those checkpoints of a run that were not measured: the process was killed, or stopped, before it was done.
  func missing(of run: URL) -> [RunFolder.Checkpoint] {
    let measured = Set(Self.read(file).map(\.step))
    return RunFolder.checkpoints(in: run).filter { !measured.contains($0.step) }
  }

  /// What was measured so far, without what cannot be read.
  static func read(_ file: URL) -> [Point] {
    guard let data = try? readFile(file, limit: largestFile) else { return [] }
    return data.split(separator: UInt8(ascii: "\n")).compactMap {
      try? JSONDecoder().decode(Point.self, from: Data($0))
    }
  }
}
