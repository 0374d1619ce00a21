import Diffusion
public import Imaging

/// A photo that images are generated into: all of it changes, or what a mask shows.
///
/// It is generated at the size that suits the model (`StableDiffusion.startingSize`), and the result has the
/// photo's size again. Outside the mask its pixels are the photo's; inside they fade in from the edge.
public struct Photo: Sendable {
  public let image: Image
  /// Of the photo's size.
  public let mask: Mask?
  /// How much of the denoising is done, 0…1.
  public let strength: Double

  /// Proportions of a mask and its photo that count as the same.
  private static let sameProportions = 0.98...1.02

  /// - Parameters:
  ///   - mask: what is light is generated anew. In another size, its proportions are the photo's.
  ///   - strength: 0.8, or with a mask 1, when nil, as in diffusers.
  /// - Throws: `NeTIError` when the mask or the strength does not fit.
  public init(_ image: Image, mask: Mask? = nil, strength: Double? = nil) throws {
    self.image = image
    self.strength = strength ?? (mask == nil ? 0.8 : 1)
    guard (0...1).contains(self.strength) else {
      throw NeTIError(wrongUsage: "`strength` is \(self.strength); it must be a number in 0…1")
    }
    self.mask = try mask.map {
      let proportions = Double($0.width * image.height) / Double($0.height * image.width)
      guard Self.sameProportions.contains(proportions) else {
        throw NeTIError(
          "the mask is \($0.width)×\($0.height) and the photo \(image.width)×\(image.height), in other "
            + "proportions; make them the same size")
      }
      return try $0.resized(width: image.width, height: image.height)
    }
  }

  /// The photo and its mask at the size that suits the model.
  func start(_ model: StableDiffusion) throws -> StartingImage {
    let size = model.startingSize(width: image.width, height: image.height)
    let fitted = try image.resized(width: size.width, height: size.height)
    return StartingImage(
      DecodedImage(width: size.width, height: size.height, rgb: fitted.pixels),
      mask: try mask?.resized(width: size.width, height: size.height).isOn, strength: strength)
  }

  /// What puts images of the model's size into the photo. The mask's edge fades over one position of the latents.
  func placement(_ model: StableDiffusion) -> (Image) throws -> Image {
    let size = model.startingSize(width: image.width, height: image.height)
    let scale = (Double(image.width * image.height) / Double(size.width * size.height)).squareRoot()
    let soft = mask?.feathered(Int((Double(model.vaeFactor) * scale).rounded()))
    return { generated in
      let whole = try generated.resized(width: image.width, height: image.height)
      return try soft.map { try image.covered(by: whole, $0) } ?? whole
    }
  }

  /// What the user should know before he waits for images that are the photo itself.
  ///
  /// - Throws: as `Mask.resized`.
  func warnings(_ pipeline: TextToImagePipeline) throws -> [String] {
    if pipeline.timesteps.isEmpty {
      return [
        "`strength` \(strength) of \(pipeline.settings.steps) steps is no step, so that nothing is generated anew; "
          + "take a larger one, or more `steps`"
      ]
    }
    guard let mask else { return [] }
    guard mask.isOn.contains(true) else {
      return ["the mask is black everywhere, so that nothing is generated anew; what is white on it is"]
    }
    // A position of the latents is generated anew where its first pixel is.
    let (model, factor) = (pipeline.model, pipeline.model.vaeFactor)
    let size = model.startingSize(width: image.width, height: image.height)
    let fitted = try mask.resized(width: size.width, height: size.height).isOn
    let isThin = !stride(from: 0, to: size.height, by: factor).contains { y in
      stride(from: 0, to: size.width, by: factor).contains { fitted[y * size.width + $0] }
    }
    return isThin
      ? [
        "what is white on the mask is too thin, so that nothing is generated anew: at \(size.width)×\(size.height), "
          + "where the model generates, make it \(factor) pixels wide or more"
      ] : []
  }
}
