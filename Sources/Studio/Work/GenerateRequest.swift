import Diffusion
import Files
import Foundation
import NeTI

/// What the page asks to generate.
struct GenerateRequest: Codable, Sendable, Equatable {
  var prompt: String
  var negative: String?
  var seeds: [Int]
  var truncation: Int?
  var guidance: Double?
  var steps: Int?
  var scheduler: String?
  /// In pixels; the model's own when nil.
  var width: Int?
  var height: Int?
  /// How several concepts share an image, and how wide the part of each is.
  var layout: String?
  var regions: [Double]?

  static let mostSeeds = 16
  static let longestPrompt = 2000
  private static let mostSteps = 200
  private static let mostRegions = 8

  /// Throws one line for the first value that is out of bounds.
  ///
  /// - Parameter sides: of images that the model can make.
  func check(_ sides: ImageSides) throws {
    for (name, side) in [("width", width), ("height", height)] {
      if let side { try sides.check(side, name) }
    }
    guard !prompt.allSatisfy(\.isWhitespace) else {
      throw StudioError("the prompt is empty: say what to show")
    }
    for text in [prompt, negative ?? ""] where text.count > Self.longestPrompt {
      throw StudioError("the prompt has \(text.count) letters; at most \(Self.longestPrompt) are read")
    }
    guard (1...Self.mostSeeds).contains(seeds.count) else {
      throw StudioError("\(seeds.count) seeds are asked for; 1 to \(Self.mostSeeds) can be")
    }
    guard seeds.allSatisfy({ $0 >= 0 }) else { throw StudioError("a seed is a whole number from 0 on") }
    if let steps, !(1...Self.mostSteps).contains(steps) {
      throw StudioError("\(steps) steps: between 1 and \(Self.mostSteps)")
    }
    if let guidance, !(0...100).contains(guidance) {
      throw StudioError("guidance \(guidance): between 0 and 100")
    }
    if let truncation, !(1...NeTIMapper.hiddenWidth).contains(truncation) {
      throw StudioError("the dial is at \(truncation); it goes from 1 to \(NeTIMapper.hiddenWidth)")
    }
    if let layout, ConceptLayout(rawValue: layout) == nil {
      let known = ConceptLayout.allCases.map(\.rawValue).joined(separator: " and ")
      throw StudioError("there is no layout \(quoted(layout)); there are \(known)")
    }
    if let regions {
      guard (2...Self.mostRegions).contains(regions.count), regions.allSatisfy({ (0.01...100).contains($0) })
      else {
        throw StudioError("the widths of the parts are 2 to \(Self.mostRegions) numbers from 0.01 to 100")
      }
    }
    if let scheduler, SchedulerKind(rawValue: scheduler) == nil {
      let known = SchedulerKind.allCases.map(\.rawValue).joined(separator: ", ")
      throw StudioError("there is no scheduler \(quoted(scheduler)); there are \(known)")
    }
  }

  /// The names in braces that the texts have.
  var names: Set<String> {
    Set(
      [prompt, negative ?? ""].flatMap { $0.matches(of: /\{([a-z0-9-]{1,60})\}/).map { String($0.output.1) } }
    )
  }

  /// A request of the library, with `{}` for `name` where that is the only concept.
  ///
  /// - Parameter usual: what suits the model.
  func request(only name: String?, usual: ModelDefaults?) -> ConceptGenerator.Request {
    func words(_ text: String) -> String { name.map { text.replacing("{\($0)}", with: "{}") } ?? text }
    var request = ConceptGenerator.Request(prompts: [words(prompt)])
    // A field that was left empty asks for nothing.
    request.negativePrompt = negative.map(words).flatMap { $0.isEmpty ? nil : $0 }
    request.seeds = seeds.map { UInt64($0) }
    request.steps = steps ?? usual?.denoisingSteps ?? 25
    request.guidance = guidance ?? usual?.guidance ?? 7.5
    request.layout = layout.flatMap(ConceptLayout.init(rawValue:)) ?? request.layout
    request.regions = regions
    (request.width, request.height) = (width, height)
    let kind = scheduler.flatMap(SchedulerKind.init(rawValue:))
    request.scheduler = kind ?? usual?.scheduler ?? request.scheduler
    return request
  }
}

/// Sides of the images that a model makes here, in pixels.
struct ImageSides: Encodable, Sendable, Equatable {
  /// The model's own.
  let usual: Int
  let least: Int
  let most: Int
  /// They are multiples of it.
  let step: Int

  /// Of the model's own side: beyond that a model repeats itself, and one image could take all of the memory.
  private static let timesUsual = 4
  /// Positions of the latents, of which a U-Net halves the side several times.
  private static let leastPositions = 8

  init(of model: StableDiffusion) {
    (usual, step) = (model.resolution, model.vaeFactor)
    least = min(usual, Self.leastPositions * step)
    most = max(usual, min(StableDiffusion.maximumSide, Self.timesUsual * usual) / step * step)
  }

  func check(_ side: Int, _ name: String) throws {
    guard (least...most).contains(side), side.isMultiple(of: step) else {
      throw StudioError("the \(name) is \(side): a multiple of \(step) from \(least) to \(most) pixels")
    }
  }
}
