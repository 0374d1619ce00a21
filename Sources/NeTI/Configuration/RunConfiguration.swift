public import Diffusion
public import Foundation

/// Everything a training run is made by, in the structure of the authors' `train.yaml`.
///
/// Sections, names and defaults are those of `training/config.py` in the authors' code
/// (https://github.com/NeuralTextualInversion/NeTI), written here the Swift way; `RunConfiguration.settings`
/// is the table of all that is known of each. Where it says *ours*, the authors have no such key.
public struct RunConfiguration: Codable, Sendable, Equatable {
  public var log = Log()
  public var data = Images()
  public var model = Model()
  public var eval = Validation()
  public var optim = Optimization()

  /// The authors' defaults; `log.exp_name`, `data.train_data_dir` and `data.placeholder_token` have none.
  public init() {}

  /// `log`: where a run is written and how often.
  public struct Log: Sendable, Equatable {
    /// The name of the run's folder inside `exp_dir`.
    public var expName = ""
    public var expDir = "outputs"
    /// Updates between checkpoints.
    public var saveSteps = 250
    /// No effect: TensorBoard files are in `tensorboard/` of the run folder.
    public var loggingDir = "logs"
    /// Only `tensorboard` has an effect.
    public var reportTo = "tensorboard"
    /// Checkpoints kept, the newest; nil keeps all.
    public var checkpointsTotalLimit: Int?
  }

  /// `data`: the images and the words for them.
  public struct Images: Sendable, Equatable {
    public var trainDataDir = ""
    /// The word that stands for the concept in templates and prompts.
    public var placeholderToken = ""
    /// The word whose embedding gives the mapper's output its norm.
    public var superCategoryToken = "object"
    /// No effect: images are encoded once, before the first step.
    public var dataloaderNumWorkers = 8
    /// Which templates training samples from.
    public var learnableProperty = LearnableProperty.object
    /// Times an image stands in the list that each pass shuffles.
    public var repeats = 100
    /// The side of the training images in pixels; nil is the model's own (the authors: 512).
    public var resolution: Int?
    /// Whether images are cropped to their middle square; else they are squashed into one.
    public var centerCrop = false
    /// Ours: whether each image has the size of `SizeBuckets` that is nearest to its proportions; else all are squares.
    public var buckets = false
    /// Ours: whether the text file beside an image replaces the templates for it.
    public var useCaptions = true
    /// Ours: a folder with masks, named as their images; the loss counts where they are bright.
    public var masksDir: String?
    /// Ours: whether the loss counts only where an image without a mask is opaque.
    public var alphaMask = false
  }

  /// What is learned: a thing or a style.
  public enum LearnableProperty: String, Codable, Sendable, CaseIterable {
    case object
    case style

    /// The sentences that training puts the placeholder into.
    public var templates: [String] { self == .object ? Templates.object : Templates.style }
  }

  /// `model`: the base model and the mapper.
  public struct Model: Sendable, Equatable {
    /// One file, a folder in the diffusers layout or the name of a repository in the local cache; nil is
    /// mini-sd (the authors: Stable Diffusion 1.4).
    public var pretrainedModelNameOrPath: String?
    /// Ours: what the base model predicts; nil is what it says itself.
    public var predictionType: PredictionType?
    public var useNestedDropout = true
    public var nestedDropoutProb = 0.5
    /// Whether the mapper's output is scaled to the norm of the super-category's embedding.
    public var normalizeMapperOutput = true
    /// No effect, as in the authors' code: the norm is read from the super-category's embedding.
    public var targetNorm: Double?
    public var usePositionalEncoding = true
    public var peSigmas = Sigmas()
    public var numPeTimeAnchors = 10
    public var outputBypass = true
    /// No effect: the local cache decides.
    public var revision: String?
    /// A concept whose mapper training starts from.
    public var mapperCheckpointPath: String?
    /// Ours: LoRAs that are merged into the base model, written `FILE:WEIGHT`.
    public var loras: [String] = []
    /// Ours: what a concept is made of.
    public var representation = RepresentationKind.neti
    /// Ours: how many vectors stand for the concept, one after another.
    public var numVectors = 1
    /// Ours: which layer of the text encoder is used, counted from the last.
    public var clipSkip = 1
  }

  /// Standard deviations of the positional encoding's frequencies, for time and for layer.
  public struct Sigmas: Sendable, Equatable {
    public var sigmaT = 0.03
    public var sigmaL = 2.0
  }

  /// `eval`: images generated while training.
  public struct Validation: Sendable, Equatable {
    /// Prompts with `{}` or the token for the concept; none generates nothing.
    public var validationPrompts = [
      "A photo of a {}", "A photo of a {} on a beach", "App icon of {}",
      "A painting of {} in the style of Monet",
    ]
    /// Ours: whether the prompts have AUTOMATIC1111's weights.
    public var promptWeights = false
    /// Images of each prompt.
    public var numValidationImages = 4
    /// The seed of each image; nil counts from 0. Without the key, and for another number of
    /// images than 4, it is nil.
    public var validationSeeds: [Int]? = [42, 420, 501, 5456]
    /// Updates between two validations.
    public var validationSteps = 100
    public var numDenoisingSteps = 50
    /// Ours: guidance of these images (the authors' is fixed).
    public var guidanceScale = 7.5

    /// One seed for each image of a prompt.
    public var seeds: [Int] { validationSeeds ?? Array(0..<max(numValidationImages, 0)) }
  }

  /// `optim`: the optimiser and its schedule.
  public struct Optimization: Sendable, Equatable {
    /// Updates in all.
    public var maxTrainSteps = 1000
    public var learningRate = 1e-3
    /// Whether the rate is multiplied by batch × accumulation.
    public var scaleLr = true
    /// Samples of a micro-batch, of all processes together where several share the run.
    public var trainBatchSize = 2
    /// No effect: what the backward pass needs is kept, which is little beside the weights, as these are not trained.
    public var gradientCheckpointing = false
    /// Micro-batches of one update.
    public var gradientAccumulationSteps = 4
    /// Decides every random number; nil becomes 0 when a configuration is loaded.
    public var seed: Int?
    public var lrScheduler = LearningRate.Schedule.constant
    /// Updates of warm-up.
    public var lrWarmupSteps = 0
    public var adamBeta1 = 0.9
    public var adamBeta2 = 0.999
    public var adamWeightDecay = 1e-2
    public var adamEpsilon = 1e-8
    public var mixedPrecision = MixedPrecision.no
    /// Whether CUDA may round the factors of fp32 products; without CUDA it has no effect.
    public var allowTf32 = false

    /// Samples of one update.
    public var samplesPerStep: Int { trainBatchSize * gradientAccumulationSteps }

    /// The learning rate of every update, with `scale_lr` applied.
    public func learningRateSchedule() -> LearningRate {
      LearningRate(
        lrScheduler, base: learningRate * (scaleLr ? Double(samplesPerStep) : 1), warmup: lrWarmupSteps,
        total: maxTrainSteps)
    }
  }

  /// What the frozen model computes in; the mapper, the loss and the optimiser are always fp32. fp16 is read, as
  /// the authors' files have it, and computed in fp32.
  public enum MixedPrecision: String, Codable, Sendable, CaseIterable {
    case no
    case fp16
    case bf16
  }

  /// The folder of the run: `log.exp_dir` / `log.exp_name`.
  public var runFolder: URL {
    URL(filePath: log.expDir, directoryHint: .isDirectory)
      .appending(path: log.expName, directoryHint: .isDirectory)
  }
}
