import NeTI

/// What a variant is called on sheets, in files' names and in recipes.
extension DrawingVariant {
  /// A column's heading.
  var label: String {
    switch self {
    case .whole: "all of it"
    case .truncation(let k): "keep \(k)"
    case .mixed(let s): s < 0 ? "never" : "from \(s)"
    case .geometry: "geometry alone"
    case .appearance: "appearance alone"
    case .frozen(let t): "t = \(t)"
    case .cumulative(let t): "down to \(t)"
    case .window(let w): "\(w.upperBound)-\(w.lowerBound)"
    }
  }

  /// Part of a file's name.
  var slug: String? {
    switch self {
    case .whole: nil
    case .truncation(let k): "t\(k)"
    case .mixed(let s): s < 0 ? "never" : "from\(s)"
    case .geometry: "geometry"
    case .appearance: "appearance"
    case .frozen(let t): "frozen\(t)"
    case .cumulative(let t): "down-to\(t)"
    case .window(let w): "window\(w.upperBound)-\(w.lowerBound)"
    }
  }

  /// Text chunks of a picture, beside what all pictures of a drawing share.
  var recipe: [String: String] {
    switch self {
    case .whole: [:]
    case .truncation(let k): ["truncation": String(k)]
    case .mixed(let s): ["mixed from": s < 0 ? "never" : String(s)]
    case .geometry: ["alone": "geometry"]
    case .appearance: ["alone": "appearance"]
    case .frozen(let t): ["frozen at": String(t)]
    case .cumulative(let t): ["concept down to": String(t)]
    case .window(let w): ["concept within": "\(w.upperBound)-\(w.lowerBound)"]
    }
  }
}
