public import Diffusion
import Files
import Foundation
import NeTI

/// What a figure depends on beside the concept: only figures with the same of all this compare.
///
/// It stands at the head of every file of results, and a file with another one is not gone on with.
public struct EvaluationProtocol: Codable, Sendable, Equatable {
  /// What is measured and how; another number is another measurement.
  public static let version = 2

  public let clip: String
  public let clipIdentity: String
  public let base: String
  public let baseIdentity: String
  /// Names, weights and a hash of the LoRAs that were merged into the base; nil without.
  public let loras: String?
  public let precision: String
  public let scheduler: String
  public let steps: Int
  public let guidance: Double
  public let width: Int
  public let height: Int
  /// Left out where it is 1.
  public let clipSkip: Int?

  /// - Parameter precision: what the base computes in, by its name.
  /// - Throws: when the base's weights cannot be read.
  public init(
    _ model: StableDiffusion, _ clip: CLIP, _ settings: GenerationSettings, precision: String
  ) throws {
    let size = try model.latentSize(width: settings.width, height: settings.height)
    self.clip = clip.name
    clipIdentity = clip.identity
    base = model.folder.name
    baseIdentity =
      try model.folder.contentFingerprint()
      + (model.folder.predicting.map { " \($0.rawValue)" } ?? "")
    loras = try model.loraFingerprint.map {
      "\(model.loras.map(\.description).joined(separator: ", ")) (\($0))"
    }
    self.precision = precision
    scheduler = settings.scheduler.rawValue
    steps = settings.steps
    guidance = settings.guidance
    (width, height) = (size.width * model.vaeFactor, size.height * model.vaeFactor)
    clipSkip = model.clipSkip == 1 ? nil : model.clipSkip
  }

  /// For tests and tables, in words.
  public var facts: [(name: String, value: String)] {
    [
      ("CLIP", "\(clip) (\(clipIdentity))"), ("base", "\(base) (\(baseIdentity))"),
      ("LoRAs", loras ?? "none"), ("precision", precision), ("scheduler", scheduler), ("steps", "\(steps)"),
      ("guidance", "\(guidance)"), ("size", "\(width)×\(height)"), ("clip skip", "\(clipSkip ?? 1)"),
    ]
  }

  /// What differs from `other`, for a message; empty when nothing does.
  ///
  /// - Parameter isOneCLIP: whether the CLIP counts, too; images do not depend on it.
  func differences(from other: EvaluationProtocol, isOneCLIP: Bool = true) -> [String] {
    zip(facts, other.facts).dropFirst(isOneCLIP ? 0 : 1).filter { $0.value != $1.value }.map {
      "\($0.name) \($0.value) instead of \($1.value)"
    }
  }

  /// The name of what is measured, for a column of a table.
  public var name: String { "neti evaluation \(Self.version), CLIP \(clip)" }

  /// What is measured, in sentences.
  public static let explanation = [
    """
    All figures are cosine similarities of CLIP's embeddings. Image similarity is the mean over all pairs of a \
    generated image and a reference image: once with the images that were trained on, as papers do, which rewards \
    copying their background; once with held-out images, which were not trained on.
    """,
    """
    Text similarity is the mean over generated images with their prompts: once with the category's word in the place \
    of the concept, once with the placeholder left out, as Textual Inversion's evaluator does.
    """,
    "All methods start from the same noise: the same seeds for each prompt.",
  ]
  /// What no reader may forget.
  public static let caution =
    "Figures compare only under one CLIP, one base, one list of prompts and one set of references. Figures of "
    + "different papers do not compare, neither with one another nor with these."
}
