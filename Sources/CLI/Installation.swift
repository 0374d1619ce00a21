import Files
import Foundation
import NeTI

/// Where what comes with neti lies: mini-sd and the example images.
enum Installation {
  /// How to call neti again from the same folder: `./neti` from a checkout, `neti` once installed.
  static var command: String {
    let typed = ProcessInfo.processInfo.environment["NETI_COMMAND"] ?? ""
    return typed.isEmpty ? "neti" : typed.shellQuoted
  }

  /// The first of: `NETI_SHARE`, `share/neti` beside the installed executable, the checkout that
  /// this program was built in.
  static func resource(_ path: String) throws -> URL {
    var candidates: [URL] = []
    if let folder = ProcessInfo.processInfo.environment["NETI_SHARE"], !folder.isEmpty {
      candidates.append(try place(folder))
    }
    if let executable = Bundle.main.executableURL?.resolvingSymlinksInPath() {
      candidates.append(
        executable.deletingLastPathComponent().deletingLastPathComponent().appending(path: "share/neti"))
    }
    candidates.append(
      URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent())
    for c in candidates {
      let url = c.appending(path: path)
      if FileManager.default.fileExists(atPath: url.path) { return url }
    }
    throw NeTIError(
      "\(path) was not found, neither beside the program nor in \(candidates.map(\.path).joined(separator: ", ")); "
        + "install neti again, or set NETI_SHARE to the folder that holds it")
  }

  /// The names of the folders in Examples that say what they show.
  static func examples() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: resource("Examples").path).sorted()
      .filter { $0.hasSuffix(".json") }.map { String($0.dropLast(".json".count)) }
  }

  static func miniSD() throws -> URL { try resource("Models/mini-sd") }

  /// Whether a model's name is that of the one that comes with neti. A folder or file of that name comes first.
  static func isMiniSD(_ name: String) throws -> Bool {
    try name == "mini-sd" && !FileManager.default.fileExists(atPath: place(name).path)
  }
}
