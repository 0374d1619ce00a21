public import Foundation
public import Imaging

/// What a trainer tells those who listen: the progress bar, the logs, the run folder.
public enum TrainingEvent {
  /// Work begins: `from` steps are done already, `to` is the last.
  case started(from: Int, to: Int)
  case step(TrainingStep)
  /// A checkpoint was written.
  case checkpoint(step: Int, file: URL)
  /// Validation images: one per prompt and seed.
  case samples(step: Int, images: [(prompt: String, seed: UInt64, image: Image)])
  /// Something failed that training can do without: one line with the reason.
  case warning(String)
}

/// One update of the mapper.
public struct TrainingStep: Codable, Sendable, Equatable {
  /// Updates made, this one included.
  public var step: Int
  /// The mean of the denoising loss over the step's samples.
  public var loss: Double
  public var learningRate: Double
  /// Wall time of this step.
  public var seconds: Double
}
