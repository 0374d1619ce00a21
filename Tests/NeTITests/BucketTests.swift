import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import Synchronization
import TestSupport
import Testing
import Torch

@Suite("Buckets", .serialized)
struct BucketTests {
  @Test("SDXL's sizes are of those that it was trained on, and other models have the like")
  func table() {
    // Podell et al. 2023, appendix I: the wide ones.
    let published = [
      2048: [512], 1984: [512], 1920: [512], 1856: [512], 1792: [576], 1728: [576], 1664: [576],
      1600: [640], 1536: [640], 1472: [704], 1408: [704], 1344: [704, 768], 1280: [768],
      1216: [832], 1152: [832, 896], 1088: [896, 960], 1024: [960, 1024],
    ]
    let sdxl = SizeBuckets(resolution: 1024, factor: 8).sizes
    #expect(sdxl.count == 33 && sdxl[0] == (1024, 1024))
    for (w, h) in sdxl {
      #expect(published[max(w, h)]?.contains(min(w, h)) == true, "\(w)×\(h)")
      #expect(sdxl.contains { $0 == (h, w) })
    }
    for (resolution, step) in [
      (64, 8), (128, 16), (96, 8), (512, 64), (768, 64), (8, 8), (100, 8),
      // The square has the resolution that was asked for, whatever divides it.
      (500, 16), (504, 56), (520, 40), (600, 40), (1000, 40), (488, 8), (136, 8),
    ] {
      let buckets = SizeBuckets(resolution: resolution, factor: 8)
      let sizes = buckets.sizes
      #expect(buckets.step == step, "\(resolution)")
      #expect(sizes[0].width == sizes[0].height && sizes[0].width == resolution / 8 * 8)
      for (w, h) in sizes {
        #expect(w.isMultiple(of: step) && h.isMultiple(of: step) && w > 0 && h > 0)
        #expect(w * h <= resolution * resolution, "\(w)×\(h) at \(resolution)")
      }
    }
    for resolution in stride(from: 64, through: 8192, by: 64) {
      #expect(SizeBuckets(resolution: resolution, factor: 8).step == min(64, resolution / 8), "\(resolution)")
    }
    #expect(SizeBuckets(resolution: 500, factor: 8).nearest(width: 4000, height: 3000) == (576, 432))
    #expect(SizeBuckets(resolution: 128, factor: 8).nearest(width: 300, height: 200) == (160, 96))
    #expect(SizeBuckets(resolution: 512, factor: 8).nearest(width: 3000, height: 4000) == (448, 576))
    #expect(SizeBuckets(resolution: 512, factor: 8).nearest(width: 10, height: 5000) == (256, 1024))
  }

  /// Three images of three sizes in a folder, with captions, and a mask for the first.
  private static func files() throws -> Scratch {
    let scratch = try Scratch()
    let folder = scratch.file("images")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    for (i, (w, h)) in [(96, 64), (70, 70), (60, 100)].enumerated() {
      let pixels = (0..<w * h * 3).map { n -> UInt8 in
        let line = n / (3 * w)
        return UInt8(truncatingIfNeeded: n * (i + 3) + line * 7)
      }
      try Data(Image(width: w, height: h, pixels: pixels).png()).write(
        to: folder.appending(path: "\(i + 1).png"))
      try Data("{} number \(i + 1)".utf8).write(to: folder.appending(path: "\(i + 1).txt"))
    }
    var mask: [UInt8] = []
    for y in 0..<64 {
      for x in 0..<96 { mask += [UInt8](repeating: x < 30 ? 0 : UInt8(190 + y), count: 3) }
    }
    try Data(Image(width: 96, height: 64, pixels: mask).png()).write(
      to: folder.appending(path: "1_mask.png"))
    return scratch
  }

  private static func images(_ scratch: Scratch, resolution: Int, buckets: Bool = true) throws
    -> TrainingImages
  {
    try TrainingImages(
      folder: scratch.file("images"), side: resolution, crop: true,
      buckets: buckets ? SizeBuckets(resolution: resolution, factor: 8) : nil, captionsFor: "<toy>")
  }

  @Test("An image is cut as little as its size allows, its mask with it, and SDXL is told what was cut")
  func cut() throws {
    let scratch = try Self.files()
    let images = try Self.images(scratch, resolution: 128)
    #expect(images.sizes == "160×96 (1), 128×128 (1) and 96×160 (1)")
    let wide = images.examples[0]
    #expect(wide.size == SizeConditioning(original: (64, 96), crop: (5, 0), target: (96, 160)))
    // 96×58 of it, from the fourth row on.
    let whole = try Image.load(scratch.file("images/1.png"))
    let rows = try Image(
      width: 96, height: 58, pixels: Array(whole.pixels[3 * 96 * 3..<61 * 96 * 3]))
    #expect(try wide.image == rows.resized(width: 160, height: 96))
    let mask = try #require(wide.mask)
    #expect((mask.width, mask.height) == (160, 96))
    #expect(mask[20, 50]?.red == 0 && mask[120, 50]?.red ?? 0 > 200)
    let tall = images.examples[2].size
    #expect(tall == SizeConditioning(original: (100, 60), crop: (0, 0), target: (160, 96)))

    // A square image is the same with and without.
    let squares = try Self.images(scratch, resolution: 128, buckets: false)
    #expect(squares.sizes == "128×128" && squares.examples[1] == images.examples[1])
    #expect(squares.examples[0].image != wide.image)
  }

  private static func configuration(_ more: [(key: String, value: String)] = []) throws -> RunConfiguration {
    try RunConfiguration.load(
      overrides: [
        ("data.train_data_dir", "x"), ("data.placeholder_token", "<toy>"),
        ("data.super_category_token", "cat"), ("data.buckets", "true"), ("log.exp_name", "test"),
        ("optim.max_train_steps", "1"), ("optim.learning_rate", "1e-2"), ("optim.scale_lr", "false"),
        ("optim.train_batch_size", "2"), ("optim.gradient_accumulation_steps", "4"),
        ("eval.validation_prompts", "[]"),
      ] + more
    ).configuration
  }

  private static func model(_ name: String, _ scratch: Scratch) throws -> StableDiffusion {
    let folder = scratch.file("model")
    guard name != "mini-sd" else { return try StableDiffusion(ModelFolder(Fixtures.miniSD.path)) }
    if !FileManager.default.fileExists(atPath: folder.path) { try RandomModel(name).writeFolder(folder) }
    return try StableDiffusion(ModelFolder(folder.path))
  }

  private static func train(_ trainer: Trainer) throws -> (concept: Concept, loss: Double) {
    var loss = Double.nan
    let concept = try trainer.run(save: { _, _ in URL(filePath: "/dev/null") }) {
      if case .step(let s) = $0 { loss = s.loss }
    }
    return (concept, loss)
  }

  /// What sample `number` of the first step has as its loss, by itself, of the concept that a run begins with.
  private static func loss(
    _ model: StableDiffusion, _ examples: [TrainingExample], _ concept: Concept, number: Int
  ) throws -> (image: Int, loss: Double) {
    let keys = RandomKeys(seed: 0)
    func source(_ purpose: RandomKeys.Purpose) throws -> RandomSource {
      try keys.source(purpose, step: 0, index: number)
    }
    let order = try keys.source(.order, index: 0).permutation(100 * examples.count).integers()
    let image = order[number] % examples.count
    let (example, flipped) = (examples[image], try source(.flip).uniform([1]).item() < 0.5)
    let timestep = try source(.timestep).integers(in: 0..<1000, [1]).integers()[0]
    func mirrored(_ x: Tensor) throws -> Tensor { flipped ? try x.flipped(3) : x }
    let (w, h) = (example.image.width, example.image.height)
    let moments = try model.vae.encode(mirrored(Tensor(example.image.floats(), [1, 3, h, w])))
    let shape = Array(moments.mean.shape.dropFirst())
    let deviation = try (moments.logVariance * 0.5).exp()
    let clean = try (moments.mean + deviation * source(.posterior).normal(shape)) * model.scalingFactor
    let prompter = try ConceptPrompter(model.tokenizers, [.init(token: "<toy>", category: "cat")])
    let prompts = [try prompter(#require(example.caption))]
    let conditioner = try SpaceTimeConditioner(
      model.textEncoders, concepts: [concept.representation], layerCount: concept.about.base.layers.count)
    let keep = try NestedDropout.sample(
      keys: keys, step: 0, samples: [number], microBatch: 2, layers: conditioner.distinctLayers,
      width: #require(concept.representation.truncationWidth), probability: 0.5)
    // One file's mask is opaque grey: its mean over the 8×8 pixels of each position.
    let weights = try example.mask.map { mask in
      let red = try Tensor(mask.pixels.enumerated().filter { $0.offset % 3 == 0 }.map { Float($0.element) })
      return try mirrored(red.reshaped([1, 1, h / 8, 8, w / 8, 8]).mean([3, 5]) / 255)
    }
    let loss = try NoiseSchedule(model.schedulerConfiguration).loss(
      unet: model.unet, clean: clean, noise: source(.noise).normal([1] + shape), timesteps: [timestep],
      context: conditioner(prompts, samples: [.init(prompt: 0, timestep: Double(timestep))], keep: [keep]),
      added: conditioner.pooled(prompts).map { AddedConditioning(pooled: $0, sizes: [example.size]) },
      predicting: model.predictionType, weights: weights)
    return (image, try loss.item())
  }

  @Test(
    "The loss of a step is the mean of its samples', whatever sizes they have, and so is its gradient",
    arguments: [("mini-sd", 128), ("sdxl", 64)])
  func losses(name: String, resolution: Int) throws {
    let scratch = try Self.files()
    let model = try Self.model(name, scratch)
    let images = try Self.images(scratch, resolution: resolution)
    #expect(Set(images.examples.map { "\($0.image.width)×\($0.image.height)" }).count == 3)
    func trainer() throws -> Trainer {
      try Trainer(model: model, examples: images.examples, configuration: Self.configuration())
    }
    let one = try trainer()
    let samples = try withoutGradients {
      try (0..<8).map { try Self.loss(model, images.examples, one.concept, number: $0) }
    }
    // Several images are seen more than once, and none is left out.
    #expect(Set(samples.map(\.image)).count == 3)
    let expected = samples.map(\.loss).reduce(0, +) / 8
    let (merged, loss) = try Self.train(one)
    #expect(abs(loss - expected) < 1e-5 * expected, "\(loss) and \(expected)")
    let split = try trainer()
    split.latentPositionsPerPass = 1
    let apart = try Self.train(split)
    #expect(abs(loss - apart.loss) < 1e-5 * loss)
    for (a, b) in zip(merged.representation.parameters, apart.concept.representation.parameters) {
      let (x, y) = (try a.tensor.detached(), try b.tensor.detached())
      let error = try ((x - y) * (x - y)).mean().item() / max((y * y).mean().item(), 1e-12)
      #expect(error.squareRoot() < 1e-3, "\(a.name): \(error.squareRoot())")
    }
  }

  /// Two processes of a run, as threads: each waits for the other's values.
  private final class Sums: @unchecked Sendable {
    // Everything below is only touched with the lock held.
    private let condition = NSCondition()
    private var (arrived, round) = (0, 0)
    private var (total, result): ([Float], [Float]) = ([], [])

    func sum(_ values: inout [Float]) {
      condition.lock()
      defer { condition.unlock() }
      total = arrived == 0 ? values : zip(total, values).map { $0 + $1 }
      arrived += 1
      if arrived == 2 {
        (result, arrived, round) = (total, 0, round + 1)
        condition.broadcast()
      } else {
        let own = round
        while round == own { condition.wait() }
      }
      values = result
    }
  }

  private final class Half: TrainingProcesses {
    let (rank, count): (Int, Int)
    private let sums: Sums

    init(_ rank: Int, _ sums: Sums) { (self.rank, self.count, self.sums) = (rank, 2, sums) }
    func sum(_ values: inout [Float]) { sums.sum(&values) }
  }

  @Test("Two processes learn from images of three sizes what one learns")
  func processes() throws {
    let scratch = try Self.files()
    let examples = try Self.images(scratch, resolution: 128).examples
    // A step is the gradient times the rate, so that rounding stays small.
    let c = try Self.configuration([
      ("optim.max_train_steps", "3"), ("optim.adam_epsilon", "0.01"), ("optim.adam_weight_decay", "0"),
    ])
    @Sendable func values(_ processes: any TrainingProcesses, start: Bool = false) throws -> [Double] {
      let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
      let trainer = try Trainer(model: model, examples: examples, configuration: c, processes: processes)
      let concept =
        try start
        ? trainer.concept
        : processes.isFirst
          ? trainer.run(save: { _, _ in URL(filePath: "/dev/null") }) { _ in } : trainer.assist()
      return try concept.representation.parameters.flatMap { try $0.tensor.detached().doubles() }
    }
    let sums = Sums()
    let both = Mutex<[Int: [Double]]>([:])
    DispatchQueue.concurrentPerform(iterations: 2) { rank in
      let found = try? values(Half(rank, sums))
      both.withLock { $0[rank] = found }
    }
    let found = both.withLock { $0 }
    let (first, second) = (try #require(found[0]), try #require(found[1]))
    #expect(first == second)
    let (whole, start) = (try values(SingleProcess()), try values(SingleProcess(), start: true))
    func distance(_ a: [Double], _ b: [Double]) -> Double {
      zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }.squareRoot()
    }
    #expect(distance(whole, start) > 0)
    #expect(distance(first, whole) < 1e-3 * distance(whole, start))
  }

  @Test("The memory of a run is that of the size which takes most")
  func memory() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    func bytes(_ buckets: Bool, _ batch: Int, _ accumulation: Int) throws -> Double {
      var c = try Self.configuration()
      (c.data.buckets, c.optim.trainBatchSize, c.optim.gradientAccumulationSteps) = (
        buckets, batch, accumulation
      )
      return try MemoryEstimate(c, on: model, batch: batch, side: 128, dtype: .float32).bytes
    }
    // Sixteen squares of 256 positions are one pass, and so are as many others, which are smaller.
    #expect(try bytes(true, 1, 4) == bytes(false, 1, 4))
    // Of smaller ones, more run together; never more than 4096 positions.
    let (with, without) = (try bytes(true, 1, 64), try bytes(false, 1, 64))
    #expect(with >= without && with <= without * 1.01)
  }

  @Test("That nothing is squashed is said to whoever asks for both")
  func crop() throws {
    let loaded = try RunConfiguration.load(overrides: [
      ("data.train_data_dir", "x"), ("data.placeholder_token", "<toy>"), ("log.exp_name", "test"),
      ("data.buckets", "true"), ("data.center_crop", "false"),
    ])
    #expect(loaded.notices.contains { $0.contains("data.center_crop") && $0.contains("squashes nothing") })
  }
}
