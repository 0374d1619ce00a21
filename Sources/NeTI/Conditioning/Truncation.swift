public import Torch

/// Truncation: a concept's dial at inference. Of the mapper's last hidden layer, which nested dropout ordered
/// by importance, only the first k units are kept,
///
///     h ← h · 1[i < k],   k ∈ 1 … 128
///
/// A small k follows the prompt (editability), a large one the training images (fidelity). NeTI, section 3.4
/// (https://arxiv.org/abs/2305.15391). Training draws its k by `NestedDropout`.
public enum Truncation {
  /// The 0/1 mask [N, width] that keeps the first `keep[i]` units of row i; nil keeps all of a row, and a nil
  /// mask all of all.
  public static func mask(keep: [Int?], width: Int) throws -> Tensor? {
    if keep.allSatisfy({ $0 == nil || $0 == width }) { return nil }
    for k in keep {
      if let k, !(0...width).contains(k) {
        throw NeTIError(wrongUsage: "a truncation of \(k) is outside 1…\(width)")
      }
    }
    let limits = try Tensor(keep.map { Float($0 ?? width) }, [keep.count, 1])
    let units = try Tensor.range(to: Double(width)).reshaped([1, width])
    return try units.less(than: limits).to(.float32)
  }
}

extension ConceptPrompter.Words {
  /// Refuses to keep `k` hidden units of the concepts that stand in the prompts, the shown ones of `concepts`,
  /// where that is not possible; nil, which keeps all, always is.
  func checkTruncation(_ k: Int?, of concepts: [Concept]) throws {
    guard let k else { return }
    guard !shown.isEmpty else {
      throw NeTIError(
        wrongUsage: "a truncation of \(k) turns the dial of a concept in the prompt, where none stands; "
          + "leave the truncation out, or write the concept there, as in “a photo of a {}”")
    }
    for c in shown { try concepts[c].checkTruncation(k) }
  }
}

extension Concept {
  fileprivate func checkTruncation(_ k: Int) throws {
    guard representation is NeTIMapper else {
      throw NeTIError(
        wrongUsage:
          "the concept \(about.token) is of the kind \(representation.kind.rawValue), which has no hidden units to keep; "
          + "leave the truncation out")
    }
    guard let width = representation.truncationWidth else {
      throw NeTIError(
        wrongUsage:
          "the concept \(about.token) was trained without nested dropout, so its units have no order and it "
          + "cannot be truncated; leave the truncation out")
    }
    guard (1...width).contains(k) else {
      throw NeTIError(
        wrongUsage: "a truncation of \(k): it must be between 1 and \(width), the hidden units of the mapper")
    }
  }
}
