extension String {
  /// With control characters, and those that turn the direction of writing, as `\u001B`.
  ///
  /// Names in files come from anybody: so written they can neither redraw a terminal nor look like
  /// another text. The spelling is JSON's.
  package var escaped: String {
    var result = UnicodeScalarView()
    for scalar in unicodeScalars {
      switch scalar.properties.generalCategory {
      case .control, .lineSeparator, .paragraphSeparator: result.append(contentsOf: scalar.codeUnit)
      default:
        if scalar.properties.isBidiControl {
          result.append(contentsOf: scalar.codeUnit)
        } else {
          result.append(scalar)
        }
      }
    }
    return String(result)
  }
}

extension Unicode.Scalar {
  /// `\u001B`; what is escaped has four digits.
  fileprivate var codeUnit: String.UnicodeScalarView {
    let digits = String(value, radix: 16, uppercase: true)
    return ("\\u" + String(repeating: "0", count: max(0, 4 - digits.count)) + digits).unicodeScalars
  }
}

/// A name from a file as it stands in a message: in quotes, escaped, and shortened when it is long.
package func quoted(_ text: String) -> String {
  let limit = 80
  let scalars = text.unicodeScalars
  let start = String(String.UnicodeScalarView(scalars.prefix(limit)))
  return "“" + start.escaped + (scalars.dropFirst(limit).isEmpty ? "”" : "…”")
}

extension String {
  /// As a word of a shell command.
  package var shellQuoted: String {
    let isPlain =
      !isEmpty && allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "/._-+,:@%=".contains($0)) }
    return isPlain ? self : "'" + replacing("'", with: "'\\''") + "'"
  }
}
