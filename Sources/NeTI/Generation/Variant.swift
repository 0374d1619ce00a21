/// What distinguishes the images of one prompt and seed: a column of a sheet.
public enum Variant: Sendable, Equatable {
  /// The concept as it is, or a prompt without one.
  case whole
  /// Only the first units of the concept's mapper.
  case truncation(Int)
  /// Two concepts, the appearance's from this timestep on.
  case mixed(from: Int)
  /// The concepts of a mixture by themselves.
  case geometry, appearance
  /// The concept as it is at one timestep, at every step.
  case frozen(Int)
  /// The concept down to a timestep, the category's word below.
  case cumulative(Int)
  /// The concept between two timesteps, the category's word outside.
  case window(ClosedRange<Int>)
}

extension Variant {
  /// What a variant is called: on a sheet, in a file's name and in an image's metadata.
  public struct Names: Sendable, Equatable {
    /// A column's heading.
    public let label: String
    /// Part of a file's name; nil for none.
    public let slug: String?
    /// Beside what all images of a generation share.
    public let metadata: [String: String]
  }

  public var names: Names {
    func names(_ label: String, _ slug: String?, _ metadata: [String: String]) -> Names {
      Names(label: label, slug: slug, metadata: metadata)
    }
    switch self {
    case .whole: return names("all of it", nil, [:])
    case .truncation(let k): return names("keep \(k)", "t\(k)", ["truncation": "\(k)"])
    case .mixed(let s) where s < 0: return names("never", "never", ["mixed from": "never"])
    case .mixed(let s): return names("from \(s)", "from\(s)", ["mixed from": "\(s)"])
    case .geometry: return names("geometry alone", "geometry", ["alone": "geometry"])
    case .appearance: return names("appearance alone", "appearance", ["alone": "appearance"])
    case .frozen(let t): return names("t = \(t)", "frozen\(t)", ["frozen at": "\(t)"])
    case .cumulative(let t): return names("down to \(t)", "down-to\(t)", ["concept down to": "\(t)"])
    case .window(let w):
      let ends = "\(w.upperBound)-\(w.lowerBound)"
      return names(ends, "window\(ends)", ["concept within": ends])
    }
  }
}

extension Variant {
  /// Hidden units that are kept; nil for all.
  public var truncation: Int? { if case .truncation(let k) = self { k } else { nil } }
}
