import ArgumentParser
import Diffusion
import Foundation
import NeTI
import Torch

/// Times every stage of training and of drawing on one model, and compares it with what the machine can
/// do. Prints a table and, last, one line of JSON with the same figures.
@main
struct Speed: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "speed", abstract: "Time by stage, peak memory, and the share of the machine's peak.")

  enum Precision: String, ExpressibleByArgument { case fp32, bf16 }

  @Option(help: "The base model's folder.") var model = "Models/mini-sd"
  @Option(help: "fp32 or bf16.") var precision = Precision.fp32
  @Option(help: "Threads of one operation; all cores when left out.") var threads: Int?
  @Option(help: "Samples that run together in training.") var batch = 1
  @Option(help: "Timed repeats of everything, after one that is not; medians are printed.") var repeats = 3
  @Flag(help: "Training only.") var trainingOnly = false
  @Flag(help: "Processor time instead of time: with one thread, to compare beside other work.")
  var processorTime = false

  func validate() throws {
    guard batch >= 1, repeats >= 1 else { throw ValidationError("--batch and --repeats begin at 1") }
  }

  func run() throws {
    Runtime.tuneAllocator()
    Stopwatch.clock = processorTime ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC
    if let threads { try Runtime.setThreads(threads) }
    let dtype: DType = precision == .bf16 ? .bfloat16 : .float32
    var report = Report(
      model: URL(filePath: model).lastPathComponent, precision: precision.rawValue,
      threads: Runtime.threads, batch: batch)
    report.matmulPeak = try Peak.matmul(dtype)
    report.convolutionPeak = try Peak.convolution(dtype)

    Memory.resetPeak()
    var clock = Stopwatch()
    let base = try StableDiffusion(ModelFolder(model), dtype: dtype)
    let stages = try Stages(base, batch: batch)
    _ = try base.unet
    _ = try base.vae
    report.loading = clock.lap()
    report.loadingPeak = Memory.peak()
    Memory.resetPeak()
    try measure(stages, into: &report)
    print(report.table)
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    print(String(decoding: try encoder.encode(report), as: UTF8.self))
  }

  private func measure(_ s: Stages, into report: inout Report) throws {
    let (u, t, v) = (s.model.unetConfiguration, s.model.textConfigurations[0], s.model.vaeConfiguration)
    let unet = Operations.unet(u, side: s.side, tokens: t.maxPositions)
    let layers = s.conditioner.layerCount
    let text = Operations.textEncoder(t, rows: layers, prefix: s.prefix)
    let n = Double(batch)

    report.add(
      .encode, try median { try s.encoding() },
      operations: Operations.encoder(v, side: s.side * s.model.vaeFactor).forward)
    s.model.release(.vae)

    _ = try s.trainingStep()
    var laps: [Stage: [Double]] = [:]
    for _ in 0..<repeats {
      for lap in try s.trainingStep() { laps[lap.stage, default: []].append(lap.seconds / n) }
    }
    let counted: [(Stage, Double)] = [
      (.text, text.forward), (.unet, unet.forward), (.unetBackward, unet.backward),
      (.textBackward, text.backward), (.optimizer, 0),
    ]
    for (stage, operations) in counted {
      report.add(stage, Self.median(laps[stage] ?? []), operations: operations)
    }
    report.trainingPeak = Memory.peak()
    guard !trainingOnly else { return }

    Memory.resetPeak()
    report.add(
      .conditioning, try median { try s.conditioning(steps: 8) }, operations: text.forward)
    report.add(.denoising, try median { try s.denoisingStep() }, operations: 2 * unet.forward)
    report.add(
      .decode, try median { try s.decoding() }, operations: Operations.decoder(v, side: s.side).forward)
    report.drawingPeak = Memory.peak()
  }

  /// The median of `repeats` timings after one that warms up.
  private func median(_ body: () throws -> Double) throws -> Double {
    _ = try body()
    return Self.median(try (0..<repeats).map { _ in try body() })
  }

  static func median(_ x: [Double]) -> Double {
    let s = x.sorted()
    return s.isEmpty ? .nan : (s[(s.count - 1) / 2] + s[s.count / 2]) / 2
  }
}

/// Everything that was measured.
struct Report: Codable {
  struct Row: Codable {
    var stage: Stage
    var seconds: Double
    /// 10⁹.
    var gigaoperations: Double
  }

  var model: String
  var precision: String
  var threads: Int
  var batch: Int
  /// 10⁹ operations a second.
  var matmulPeak = 0.0
  var convolutionPeak = 0.0
  /// Seconds to read and convert the three networks.
  var loading = 0.0
  /// Resident bytes at most, mapped weight files included.
  var loadingPeak: Int?
  var trainingPeak: Int?
  var drawingPeak: Int?
  var rows: [Row] = []

  init(model: String, precision: String, threads: Int, batch: Int) {
    self.model = model
    self.precision = precision
    self.threads = threads
    self.batch = batch
  }

  mutating func add(_ stage: Stage, _ seconds: Double, operations: Double) {
    rows.append(Row(stage: stage, seconds: seconds, gigaoperations: operations / 1e9))
  }

  var table: String {
    var lines = [
      "\(model), \(precision), batch \(batch), \(threads) threads; times of training are per sample",
      "",
      "| stage | ms | 10⁹ operations | 10⁹/s | of the matmul peak |", "|---|---:|---:|---:|---:|",
    ]
    for r in rows {
      let rate = r.gigaoperations / r.seconds
      lines.append(
        "| \(r.stage.rawValue) | \(Self.number(r.seconds * 1000)) | "
          + (r.gigaoperations == 0
            ? "– | – | – |"
            : "\(Self.number(r.gigaoperations)) | \(Self.number(rate)) | \(Int((100 * rate / matmulPeak).rounded())) % |")
      )
    }
    let step: Set<Stage> = [.text, .unet, .unetBackward, .textBackward, .optimizer]
    let sum = rows.filter { step.contains($0.stage) }.reduce(0) { $0 + $1.seconds }
    lines += [
      "| **training sample, latents known** | **\(Self.number(sum * 1000))** | | | |", "",
      "Peak of the machine: matrix product \(Self.number(matmulPeak)), 3×3 convolution \(Self.number(convolutionPeak)) · 10⁹/s. "
        + "Loading: \(Self.number(loading)) s. Peak memory: loading \(Self.gigabytes(loadingPeak)), training \(Self.gigabytes(trainingPeak)), drawing \(Self.gigabytes(drawingPeak)).",
    ]
    return lines.joined(separator: "\n")
  }

  private static func number(_ x: Double) -> String {
    String(format: x < 10 ? "%.2f" : x < 100 ? "%.1f" : "%.0f", x)
  }
  private static func gigabytes(_ x: Int?) -> String { x.map { MemoryEstimate.text(Double($0)) } ?? "–" }
}

/// The most that libtorch gets out of this machine, in 10⁹ operations a second.
enum Peak {
  static func matmul(_ dtype: DType) throws -> Double {
    let n = 2048
    let a = try RandomSource(seed: 0).normal([n, n]).to(dtype)
    let b = try RandomSource(seed: 1).normal([n, n]).to(dtype)
    return try best(2 * Double(n * n * n)) { _ = try a.matmul(b) }
  }

  static func convolution(_ dtype: DType) throws -> Double {
    let (side, channels) = (64, 320)
    let x = try RandomSource(seed: 0).normal([1, channels, side, side]).to(dtype)
    let w = try RandomSource(seed: 1).normal([channels, channels, 3, 3]).to(dtype)
    return try best(2 * Double(side * side * channels * channels * 9)) { _ = try x.conv2d(w, padding: 1) }
  }

  /// The best of several, as a peak is.
  private static func best(_ operations: Double, _ body: () throws -> Void) throws -> Double {
    try withoutGradients {
      try body()
      var shortest = Double.infinity
      for _ in 0..<10 {
        var clock = Stopwatch()
        try body()
        shortest = min(shortest, clock.lap())
      }
      return operations / shortest / 1e9
    }
  }
}

/// Resident memory as Linux counts it.
enum Memory {
  /// The most since the last reset; nil elsewhere.
  static func peak() -> Int? {
    guard let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return nil }
    for line in text.split(separator: "\n") where line.hasPrefix("VmHWM:") {
      return line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) }.map { $0 << 10 }
    }
    return nil
  }

  /// Starts counting anew where the system lets us.
  static func resetPeak() {
    guard let file = FileHandle(forWritingAtPath: "/proc/self/clear_refs") else { return }
    try? file.write(contentsOf: Data("5".utf8))
  }
}
