import Foundation

/// A path as a person wrote it where no shell expanded it: `~`, `~name`, `$NAME` and `${NAME}` as a shell reads them.
///
/// A part with a dollar sign that exists as it is written stays, so that what is expanded already does not change.
///
/// - Parameter environment: where variables and `HOME` are looked up.
/// - Throws: `FileError` when a variable is not set: without it the path would be another one.
package func expandedPath(
  _ text: String, environment: [String: String] = ProcessInfo.processInfo.environment
) throws -> String {
  var parts: [String] = []
  for part in text.split(separator: "/", omittingEmptySubsequences: false).map(String.init) {
    if parts.isEmpty, part.hasPrefix("~") {
      parts.append(home(of: String(part.dropFirst()), environment) ?? part)
    } else if part.contains("$"),
      !FileManager.default.fileExists(atPath: (parts + [part]).joined(separator: "/"))
    {
      parts.append(try withVariables(part, of: text, environment))
    } else {
      parts.append(part)
    }
  }
  return parts.joined(separator: "/")
}

/// The home of a user, or of this one where the name is empty; nil for one that is not known.
private func home(of name: String, _ environment: [String: String]) -> String? {
  let files = FileManager.default
  guard name.isEmpty else { return files.homeDirectory(forUser: name)?.path }
  if let home = environment["HOME"], !home.isEmpty { return home }
  return files.homeDirectoryForCurrentUser.path
}

private func withVariables(_ part: String, of path: String, _ environment: [String: String]) throws -> String
{
  try part.replacing(/\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))/) { match in
    let name = String(match.output.1 ?? match.output.2 ?? "")
    guard let value = environment[name], !value.isEmpty else {
      throw FileError("\(quoted(path)): the variable \(name) is not set; set it, or write the path out")
    }
    return value
  }
}

extension String {
  /// The parts of a path between its slashes, empty ones too. A slash with a combining mark behind it is one character
  /// to Swift, and a slash to the system: parts are told by bytes.
  package var pathParts: [String] {
    utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map {
      String(decoding: $0, as: UTF8.self)
    }
  }

  /// Whether there is a slash in it for the system.
  package var hasSlash: Bool { utf8.contains(UInt8(ascii: "/")) }
}
