public import Diffusion
import Foundation
public import Torch

/// What a training run needs at its peak, against what the machine and its control group have.
///
/// An estimate from the configurations alone, made before anything is loaded: weights in the compute
/// type, plus what the U-Net and the text encoder keep for the backward pass. Its factors were fitted to
/// measured runs (Benchmarks/README.md), mini-sd's and Stable Diffusion's; it is meant to be right within
/// a quarter, rather above than below.
public struct MemoryEstimate: Sendable {
  /// Values kept for the backward pass, per position and channel: by a residual block and by a
  /// transformer block of the U-Net, and by a layer of the text encoder.
  static let keptByResidual = 4.0
  static let keptByTransformer = 13.0
  static let keptByTextLayer = 11.0
  /// libtorch itself, and what is allocated for a moment.
  static let fixedBytes = 250e6
  /// What generating takes beside the weights at the least: measured with mini-sd, between 70 and 100 MB.
  static let generatingBytes = 75e6

  /// Bytes at the peak with `samples` in one pass.
  public let bytes: Double

  /// - Parameters:
  ///   - weightBytes: of U-Net and text encoders together, in the compute type.
  ///   - area: positions of an image's latents.
  ///   - samples: that run as one batch.
  ///   - layersAtOnce: sequences of the text encoder per sample.
  public init(
    unet: UNetConfiguration, text: [CLIPTextConfiguration], weightBytes: Double, area: Int, samples: Int,
    layersAtOnce: Int, dtype: DType
  ) {
    var kept = 0.0
    for (level, channels) in unet.blockOutChannels.enumerated() {
      let perBlock = Double(max(1, area >> (2 * level)) * channels)
      let layers = Double(unet.layersPerBlock[min(level, unet.layersPerBlock.count - 1)])
      let crosses = level < unet.downBlockTypes.count && unet.downBlockTypes[level] == .crossAttention
      // The way down has `layers` blocks, the way up one more, on about one and a half times the channels.
      let blocks = layers + 1.5 * (layers + 1)
      kept += perBlock * blocks * Self.keptByResidual
      guard crosses else { continue }
      // The middle's counts where the coarsest level has others, as in SDXL.
      let transformers = blocks + (level == unet.blockOutChannels.count - 1 ? 1 : 0)
      kept += perBlock * transformers * Self.keptByTransformer * Double(unet.transformerLayersPerBlock[level])
    }
    let textKept = text.reduce(0) { sum, t in
      sum + Double(layersAtOnce * t.maxPositions * t.hiddenSize * t.stateLayers) * Self.keptByTextLayer
    }
    bytes = weightBytes + Double(samples) * (kept + textKept) * Double(dtype.size) + Self.fixedBytes
  }

  /// What a run needs that trains as `configuration` says.
  ///
  /// - Parameters:
  ///   - batch: samples of a micro-batch; small images' micro-batches run together.
  ///   - side: of the images, in pixels.
  ///   - processes: that share the run.
  public init(
    _ configuration: RunConfiguration, on model: StableDiffusion, batch: Int, side: Int, dtype: DType,
    processes: Int = 1
  ) throws {
    let numbers = try (model.folder.textEncoders + [.unet]).reduce(0) { try $0 + model.parameterCount($1) }
    let factor = model.vaeFactor
    let sizes =
      configuration.data.buckets ? SizeBuckets(resolution: side, factor: factor).sizes : [(side, side)]
    // The images are not read yet: whichever size takes most.
    let passes = sizes.map { size in
      let area = (size.width / factor) * (size.height / factor)
      let samples = Trainer.samplesPerPass(
        microBatch: batch, perStep: configuration.optim.samplesPerStep / processes, area: area)
      return (area: area, samples: samples)
    }
    let largest = passes.max { $0.area * $0.samples < $1.area * $1.samples } ?? (0, 1)
    let kind = configuration.model.representation
    self.init(
      unet: model.unetConfiguration, text: model.textConfigurations,
      weightBytes: Double(numbers) * Double(dtype.size), area: largest.area, samples: largest.samples,
      layersAtOnce: kind.dependsOnLayer ? LayerNames(model.unetConfiguration).paths.count : 1, dtype: dtype)
  }

  /// Refuses a run on the CPU that cannot fit into its memory, and says what would.
  ///
  /// - Parameter processes: that share the run, each with memory of its own.
  public static func require(
    _ configuration: RunConfiguration, on model: StableDiffusion, processes: Int = 1
  ) throws {
    guard model.device == .cpu else { return }
    let side = configuration.data.resolution ?? model.resolution
    let batch = max(1, configuration.optim.trainBatchSize / processes)
    func estimate(_ batch: Int, _ side: Int, _ dtype: DType) throws -> MemoryEstimate {
      try MemoryEstimate(
        configuration, on: model, batch: batch, side: side, dtype: dtype, processes: processes)
    }
    var others: [(setting: String, estimate: MemoryEstimate)] = []
    if batch > 1 {
      let accumulation = batch * configuration.optim.gradientAccumulationSteps
      others.append(
        (
          "`optim.train_batch_size 1` `optim.gradient_accumulation_steps \(accumulation)`",
          try estimate(1, side, model.dtype)
        ))
    }
    if model.dtype == .float32 {
      others.append(("`precision bf16` `optim.train_batch_size 1`", try estimate(1, side, .bfloat16)))
    }
    let factor = model.vaeFactor
    let small = max(factor * 8, side / 2 / factor / 8 * factor * 8)
    others.append(
      (
        "`precision bf16` `optim.train_batch_size 1` `data.resolution \(small)`",
        try estimate(1, small, .bfloat16)
      ))
    // The estimate is of the whole process, which may hold the model already.
    try require(
      estimate(batch, side, model.dtype),
      available: SystemMemory.available().map { $0 + SystemMemory.held() }, alternatives: others)
  }

  /// Refuses what cannot fit, with settings that would; `alternatives` are tried in order.
  public static func require(
    _ estimate: MemoryEstimate, available: Double?,
    alternatives: [(setting: String, estimate: MemoryEstimate)]
  ) throws {
    guard let available, estimate.bytes > available else { return }
    let fits = alternatives.first { $0.estimate.bytes <= available }
    throw NeTIError(
      "this run needs about \(text(estimate.bytes)), and \(text(available)) are free; "
        + (fits.map { "it would fit with \($0.setting) (about \(text($0.estimate.bytes)))" }
          ?? "no setting makes it fit: the smallest needs about \(text(alternatives.last?.estimate.bytes ?? estimate.bytes)); use a machine with more memory or a smaller model")
    )
  }

  /// A line where generating takes more on the CPU than is free; nil where it fits, or where nothing tells. Less than a
  /// refusal: weights that are computed with as they lie in their file may go and come back, slowly.
  ///
  /// - Parameter available: in bytes.
  public static func warning(
    generatingOn model: StableDiffusion, available: Double? = SystemMemory.available()
  ) throws -> String? {
    guard model.device == .cpu, let available else { return nil }
    let numbers = try model.folder.networks.reduce(0) { try $0 + model.parameterCount($1) }
    func bytes(_ dtype: DType) -> Double { Double(numbers * dtype.size) + generatingBytes }
    guard bytes(model.dtype) > available else { return nil }
    let less =
      bytes(.bfloat16) < bytes(model.dtype) ? "; `precision bf16` needs \(text(bytes(.bfloat16)))" : ""
    return
      "\(model.folder.name) needs more than \(text(bytes(model.dtype))) of memory, and \(text(available)) are free: "
      + "the system may end neti without a word\(less)"
  }

  /// 7.5 GiB
  public static func text(_ bytes: Double) -> String {
    let units = [(Double(1 << 30), "GiB"), (Double(1 << 20), "MiB"), (1024, "KiB")]
    let (unit, name) = units.first { bytes >= $0.0 } ?? (1024, "KiB")
    return "\((bytes / unit * 10).rounded() / 10) \(name)"
  }
}
