import Diffusion
import Files
import Foundation
import NeTI

/// What a page asks the workshop to generate.
enum Order: Codable, Sendable, Equatable {
  /// One prompt, some seeds.
  case images(GenerateRequest)
  /// The same over one or two other things.
  case grid(GridRequest)
  /// Two concepts in one.
  case mix(MixRequest)
  /// A concept over the denoising process.
  case decompose(DecomposeRequest)

  func check(_ sides: ImageSides) throws {
    switch self {
    case .images(let request): try request.check(sides)
    case .grid(let request): try request.check(sides)
    case .mix(let request): try request.check(sides)
    case .decompose(let request): try request.check(sides)
    }
  }

  var prompt: String {
    switch self {
    case .images(let request): request.prompt
    case .grid(let request): request.base.prompt
    case .mix(let request): request.prompt
    case .decompose(let request): request.prompt
    }
  }
}

/// A table of images over one or two things that change.
struct GridRequest: Codable, Sendable, Equatable {
  /// What stays the same.
  let base: GenerateRequest
  let columns: Axis
  let rows: Axis?

  struct Axis: Codable, Sendable, Equatable {
    let kind: Kind
    let values: [String]

    enum Kind: String, Codable, Sendable { case prompt, dial, seed, checkpoint, guidance }

    /// What stands beside an image.
    func label(_ value: String) -> String {
      switch kind {
      case .prompt: value
      case .dial: value == GridRequest.all ? "all of it" : "dial \(value)"
      case .seed: "seed \(value)"
      case .checkpoint: value == GridRequest.all ? "learned" : "after \(value) steps"
      case .guidance: "guidance \(value)"
      }
    }
  }

  /// The dial's end, and the concept that is learned.
  static let all = "all"
  private static let (mostValues, mostCells) = (8, 36)

  /// An image of the table.
  struct Cell { let request: GenerateRequest, checkpoint: Int?, row: String, column: String }

  func check(_ sides: ImageSides) throws { for cell in try cells() { try cell.request.check(sides) } }

  /// All images, row by row. Throws one line for what is out of bounds.
  func cells() throws -> [Cell] {
    let axes = [columns] + (rows.map { [$0] } ?? [])
    guard rows?.kind != columns.kind else {
      throw StudioError("rows and columns both change the \(columns.kind.rawValue); choose another for one")
    }
    for axis in axes {
      guard (1...Self.mostValues).contains(axis.values.count) else {
        throw StudioError(
          "\(axis.values.count) values of the \(axis.kind.rawValue): from 1 to \(Self.mostValues)")
      }
      guard Set(axis.values).count == axis.values.count else {
        throw StudioError("one value of the \(axis.kind.rawValue) stands there twice")
      }
    }
    let count = axes.map(\.values.count).reduce(1, *)
    guard count <= Self.mostCells else {
      throw StudioError("\(count) images; a table has at most \(Self.mostCells)")
    }
    return try (rows?.values ?? [""]).flatMap { row in
      try columns.values.map { column in
        var request = base
        request.seeds = Array(base.seeds.prefix(1))
        var checkpoint: Int?
        try Self.set(columns.kind, column, &request, &checkpoint)
        if let rows { try Self.set(rows.kind, row, &request, &checkpoint) }
        return Cell(
          request: request, checkpoint: checkpoint, row: rows?.label(row) ?? "", column: columns.label(column)
        )
      }
    }
  }

  private static func set(
    _ kind: Axis.Kind, _ value: String, _ request: inout GenerateRequest, _ checkpoint: inout Int?
  ) throws {
    func number<T: LosslessStringConvertible>(_ type: T.Type) throws -> T {
      guard value.utf8.count <= 20, let number = T(value) else {
        throw StudioError("the \(kind.rawValue) must be a number of at most 20 digits, not \(quoted(value))")
      }
      return number
    }
    switch kind {
    case .prompt: request.prompt = value
    case .dial: request.truncation = value == all ? nil : try number(Int.self)
    case .seed: request.seeds = [try number(Int.self)]
    case .guidance: request.guidance = try number(Double.self)
    case .checkpoint: checkpoint = value == all ? nil : try number(Int.self)
    }
  }
}

/// The shape of one concept with the look of another.
struct MixRequest: Codable, Sendable, Equatable {
  let geometry: ID
  let appearance: ID
  /// With `{}` for the mixture.
  let prompt: String
  /// Timesteps that the mixing starts at; −1 is never.
  let starts: [Int]
  /// What the geometry keeps, as `neti mix --layers` says it.
  let layers: String
  let parents: Bool?
  let seed: Int
  let steps: Int?
  let guidance: Double?

  private static let mostStarts = 8
  private static let longestLayers = 200

  func check(_ sides: ImageSides) throws {
    try settings.check(sides)
    guard (1...Self.mostStarts).contains(starts.count), Set(starts).count == starts.count,
      starts.allSatisfy({ (-1...999).contains($0) })
    else {
      throw StudioError(
        "the mixing starts at 1 to \(Self.mostStarts) different timesteps, from 999 to 0, or never")
    }
    guard layers.count <= Self.longestLayers else {
      throw StudioError(
        "the list of layers has \(layers.count) letters; at most \(Self.longestLayers) are read")
    }
    guard geometry != appearance else { throw StudioError("choose two different concepts to mix") }
  }

  /// What it has in common with other images.
  var settings: GenerateRequest {
    GenerateRequest(prompt: prompt, seeds: [seed], guidance: guidance, steps: steps)
  }
}

/// What a concept has learned for each part of the denoising process.
struct DecomposeRequest: Codable, Sendable, Equatable {
  let concept: ID
  /// With `{}` for the concept.
  let prompt: String
  let view: String
  let count: Int
  let seed: Int
  let steps: Int?
  let guidance: Double?

  private static let mostColumns = 10

  func check(_ sides: ImageSides) throws {
    try settings.check(sides)
    guard Decomposition.View(rawValue: view) != nil else {
      let known = Decomposition.View.allCases.map(\.rawValue).joined(separator: ", ")
      throw StudioError("there is no view \(quoted(view)); there are \(known)")
    }
    guard (1...Self.mostColumns).contains(count) else {
      throw StudioError("\(count) parts of the strip: from 1 to \(Self.mostColumns)")
    }
  }

  var settings: GenerateRequest {
    GenerateRequest(prompt: prompt, seeds: [seed], guidance: guidance, steps: steps)
  }
}
