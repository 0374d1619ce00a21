import Diffusion

/// How the concepts of one prompt share an image.
public enum ConceptLayout: String, CaseIterable, Sendable {
  /// Each concept in a region of its own (`Region`), in the order of the prompt, under its own prompt:
  /// what joins the concepts is left out. One concept has the whole image.
  case sideBySide = "side-by-side"
  /// The whole prompt everywhere: the model decides which concept appears, and where.
  case free

  /// The least width of a region, as a share of the model's own.
  static let leastRegion = 0.25

  /// Whether `concepts` concepts get regions.
  func hasRegions(_ concepts: Int) -> Bool { self == .sideBySide && concepts > 1 }

  /// The width of an image in pixels. When none is asked for, each region is as wide as the images that
  /// the model was trained on.
  func width(_ asked: Int?, concepts: Int, resolution: Int, vaeFactor: Int) throws -> Int? {
    guard hasRegions(concepts) else { return asked }
    let own = resolution / vaeFactor
    let least =
      vaeFactor
      * Region.Place.rowWidth(concepts, each: max(2, Int((Self.leastRegion * Double(own)).rounded(.up))))
    let width = asked ?? vaeFactor * Region.Place.rowWidth(concepts, each: own)
    guard width >= least else {
      throw NeTIError(
        wrongUsage: "an image \(width) pixels wide has no room for \(concepts) concepts side by side; "
          + "take fewer, `layout free`, or a `width` of \(least) or more")
    }
    return width
  }
}
