public import ArgumentParser
public import Diffusion
import Files
import Foundation
public import NeTI
import Torch

/// Which model, and where and how it runs.
struct ModelOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "One file (.safetensors, .ckpt), a folder in the diffusers layout, or the name of a model or of its file on the Hugging Face Hub; mini-sd when left out.",
      valueName: "file, folder or name"))
  var model: String?

  @Flag(help: "Download the model when it is not here; on a terminal that is asked.")
  var download = false

  @Option(
    help: ArgumentHelp(
      "What the model predicts, where it does not say so itself: epsilon, v_prediction or sample.",
      valueName: "name"))
  var predictionType: PredictionType?

  @Option(
    help: ArgumentHelp(
      "A LoRA for the model, and how much of it, 1 when left out; may be given several times.",
      valueName: "file:weight"),
    transform: { text in
      guard let file = LoRAFile(text) else {
        throw ValidationError("it must be a file, or FILE:WEIGHT with a number between -100 and 100")
      }
      return file
    })
  var lora: [LoRAFile] = []

  @Option(help: ArgumentHelp("Where the model runs: cpu, cuda, cuda:1 … or mps.", valueName: "name"))
  var device: String = "cpu"

  @Option(help: ArgumentHelp("Processor threads; all cores when left out.", valueName: "number"))
  var threads: Int?

  @Option(
    name: .customLong("precision"),
    help: ArgumentHelp(
      "What the base model computes in: fp32, bf16 or tf32; fp32 when left out. bf16 takes half the memory, and less time where the processor has it; tf32 is fp32 whose products CUDA rounds.",
      valueName: "name"))
  var givenPrecision: Precision?

  var precision: Precision { givenPrecision ?? .fp32 }

  @Option(
    help: ArgumentHelp(
      "Which layer of the text encoder is used, counted from the model's own; 2 for many anime models of Stable Diffusion 1. What the concept was trained with when left out, else 1.",
      valueName: "number"))
  var clipSkip: Int?

  enum Precision: String, ExpressibleByArgument, CaseIterable {
    case fp32, bf16, tf32
    var dtype: DType { self == .bf16 ? .bfloat16 : .float32 }
  }

  func validate() throws {
    guard let d = Device(device) else {
      throw ValidationError("--device \(device): there are cpu, cuda, cuda:N and mps")
    }
    guard d.isAvailable else {
      throw ValidationError(
        "--device \(device): not available here (\(d.problem ?? "")); this libtorch sees \(Device.available.map(\.description).joined(separator: ", "))"
      )
    }
    if precision == .tf32, !device.hasPrefix("cuda") {
      throw ValidationError("--precision tf32: only CUDA knows it; add --device cuda, or choose fp32 or bf16")
    }
    if let clipSkip, !(1...StableDiffusion.largestClipSkip).contains(clipSkip) {
      throw ValidationError("--clip-skip \(clipSkip): between 1 and \(StableDiffusion.largestClipSkip)")
    }
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads \(threads): between 1 and 1024")
    }
  }

  /// Those that were given, as words of a command line; files by their whole paths.
  func words() throws -> [String] {
    var words: [String] = []
    if let name = model, try !isMiniSD() {
      let path = try place(name).path
      words += ["--model", FileManager.default.fileExists(atPath: path) ? path : name]
    }
    if let predictionType { words += ["--prediction-type", predictionType.rawValue] }
    for file in try given() { words += ["--lora", file.description] }
    if let clipSkip { words += ["--clip-skip", String(clipSkip)] }
    if device != "cpu" { words += ["--device", device] }
    if let threads { words += ["--threads", String(threads)] }
    if precision != .fp32 { words += ["--precision", precision.rawValue] }
    return words
  }

  /// Where the model is; `name` and `predicting` are what a configuration says when no flag does.
  func folder(_ name: String? = nil, predicting: PredictionType? = nil) throws -> ModelFolder {
    let predicting = predictionType ?? predicting
    guard let wanted = model ?? name, try !Installation.isMiniSD(wanted) else {
      return try ModelFolder(Installation.miniSD().path, predicting: predicting)
    }
    guard !wanted.allSatisfy(\.isWhitespace) else {
      throw NeTIError(wrongUsage: "`model` is empty: leave it out for the embedded model")
    }
    try ModelFetching.offer(wanted, download: download)
    return try ModelFolder(wanted, predicting: predicting)
  }

  /// Whether it is the model that comes with neti.
  func isMiniSD() throws -> Bool { try model.map(Installation.isMiniSD) ?? true }

  /// Where the model of a run is.
  func folder(of c: RunConfiguration) throws -> ModelFolder {
    try folder(c.model.pretrainedModelNameOrPath, predicting: c.model.predictionType)
  }

  /// The identity of the model that an embedding of another program is for, whose file does not say it.
  func identity() throws -> BaseIdentity { try StableDiffusion(folder()).baseIdentity }

  /// `--lora`, at the places that the paths name.
  private func given() throws -> [LoRAFile] {
    try lora.map { file in
      var file = file
      file.path = try place(file.path).path
      return file
    }
  }

  /// A LoRA; of a concept it is said that it is one.
  private static func read(_ file: LoRAFile) throws -> WeightedLoRA {
    do { return try file.read() } catch {
      guard (try? Concept.open(URL(filePath: file.path))) != nil else { throw error }
      throw NeTIError(
        "\(file.path) is a concept, not a LoRA; `neti generate` takes it with `concept FILE`, and {} in the prompt"
      )
    }
  }

  /// Throws one line where the threads that will compute cannot be started; before the first of them is, as libtorch
  /// waits for ever for one that never comes. It has two pools of them.
  private func requireThreads() throws {
    let computing = 2 * (threads ?? ProcessInfo.processInfo.activeProcessorCount)
    try ProcessLimits.requireThreads(
      computing + ProcessLimits.threads, remedy: ", or give fewer `threads`")
  }

  /// Opens the model; nothing large is read before it is needed. What decides precision and LoRAs itself, as a
  /// run's configuration does, says which.
  ///
  /// - Parameter usualClipSkip: where no flag says it.
  func open(
    _ folder: ModelFolder, in decided: Precision? = nil, with loras: [LoRAFile]? = nil, usualClipSkip: Int = 1
  ) throws -> StableDiffusion {
    let loras = try (loras ?? given()).map(Self.read)
    let precision = decided ?? precision
    try requireThreads()
    if let threads { try Runtime.setThreads(threads) }
    try Runtime.allowTF32(precision == .tf32)
    if let line = folder.identification { note(line) }
    let base = try StableDiffusion(
      folder, dtype: precision.dtype, device: Device(device) ?? .cpu, clipSkip: clipSkip ?? usualClipSkip)
    base.willLoad = { component, bytes in
      // What takes no noticeable time is not worth a line.
      guard bytes > 100 << 20 else { return }
      note("loading \(base.folder.name)'s \(component.title) (\(bytes >> 20) MiB)")
    }
    for line in try base.warnings + base.add(loras) { warn(line) }
    return base
  }
}

/// A list of whole numbers, written 0,1,2 or 0-3.
struct NumberList: ExpressibleByArgument {
  static let largestCount = 1000
  let values: [Int]

  init(_ values: [Int]) { self.values = values }

  init?(argument: String) {
    var values: [Int] = []
    for part in argument.split(separator: ",", omittingEmptySubsequences: false) {
      let ends = part.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false).map { Int($0) }
      switch ends.count {
      case 1:
        guard let v = ends[0], v >= 0 else { return nil }
        values.append(v)
      default:
        guard let a = ends[0], let b = ends[1], a <= b, b - a < Self.largestCount else { return nil }
        values += a...b
      }
      guard values.count <= Self.largestCount else { return nil }
    }
    // What is named twice is done once.
    var seen: Set<Int> = []
    self.init(values.filter { seen.insert($0).inserted })
  }

  var defaultValueDescription: String { values.map(String.init).joined(separator: ",") }
}

extension SchedulerKind: ExpressibleByArgument {}

extension PredictionType: ExpressibleByArgument {}

extension ConceptLayout: ExpressibleByArgument {}
