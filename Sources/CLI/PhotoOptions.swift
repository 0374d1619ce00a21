import ArgumentParser
import Foundation
import Imaging
import NeTI

/// A photo that images are generated into.
struct PhotoOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "A photo to start from, instead of noise alone. The results have its size.", valueName: "file"))
  var image: String?

  @Option(
    help: ArgumentHelp(
      "What of --image is generated anew: what is white, or opaque in an image with transparency.",
      valueName: "file"))
  var mask: String?

  @Option(
    help: ArgumentHelp(
      "How much of --image is generated anew, from 0 to 1; 0.8 when left out, 1 with a --mask.",
      valueName: "number"))
  var strength: Double?

  func validate() throws {
    if image == nil, mask != nil { throw ValidationError("--mask needs an --image that it belongs to") }
    if image == nil, strength != nil { throw ValidationError("--strength needs an --image to start from") }
    if let strength, !(0...1).contains(strength) {
      throw ValidationError("--strength \(strength): a number between 0 and 1")
    }
  }

  /// Refuses a size beside a photo, which has one.
  func check(_ generation: GenerationOptions) throws {
    guard image != nil else { return }
    for (name, side) in [("width", generation.width), ("height", generation.height)] where side != nil {
      throw ValidationError("--\(name) has no place beside --image: the results have the photo's size")
    }
  }

  func read() throws -> Photo? {
    guard let image else { return nil }
    let photo = try Image.loadWithOpacity(place(image))
    guard !photo.isInvisible else {
      throw NeTIError("\(image): transparent everywhere, so that nothing of it is seen; give another image")
    }
    let mask = try mask.map { try Mask.load(place($0)) }
    if let mask, mask.isColoured {
      warn(
        "\(self.mask ?? ""): a mask in colour; what counts is how bright it is: save it in black and white")
    }
    if let mask, mask.isAlpha {
      note("\(self.mask ?? ""): its transparency is the mask; what is opaque is generated anew")
    }
    if let profile = photo.profile { warn(ColourProfile.warning([(image, profile)])) }
    if photo.opacity != nil {
      let remedy = mask == nil ? "; the same file as --mask has what is opaque generated anew" : ""
      note("\(image): transparent in part, and put on white\(remedy)")
    }
    return try Photo(photo.image, mask: mask?.mask, strength: strength)
  }

  /// What an image's metadata says of the photo, which was read.
  func metadata(_ photo: Photo?) -> [String: String] {
    guard let photo, let image else { return [:] }
    return [
      "image": URL(filePath: image).lastPathComponent,
      "mask": mask.map { URL(filePath: $0).lastPathComponent } ?? "", "strength": String(photo.strength),
    ]
  }
}
