import Diffusion
import Files
import Foundation
import NeTI
import Synchronization

/// A line for the user, or several, on standard error.
func note(_ text: String) { writeStandardError(text.namingOptions.printable + "\n") }

/// A warning on standard error: something the user should know that stops nothing.
func warn(_ text: String) { note("warning: \(text.oneLine)") }

/// Why the command fails, on standard error.
func complain(_ text: String) { note("neti: \(text.oneLine)") }

/// A result on standard output.
func tell(_ text: String) {
  let problem = writeAll(Data((text.printable + "\n").utf8), to: STDOUT_FILENO)
  if problem != 0 { outputProblem.withLock { $0 = problem } }
}

/// What the system said when a result could not be told; 0 while all could.
private let outputProblem = Mutex<Int32>(0)

/// Throws when a result could not be told.
func requireOutput() throws {
  let problem = outputProblem.withLock { $0 }
  guard problem == 0 else { throw systemError("standard output cannot be written", problem) }
}

/// Where a standard stream is closed, the first files that are opened would take its number, and what is said would
/// be written into them. What is opened in its place here cannot be written.
func keepStandardStreams() {
  for stream in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] where fcntl(stream, F_GETFD) == -1 {
    _ = open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY)
  }
}

/// Machine-readable results on standard output.
func tellJSON(_ value: some Encodable) throws {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
  tell(String(decoding: try encoder.encode(value), as: UTF8.self))
}

/// Where standard error is closed or full, work goes on without it.
func writeStandardError(_ text: String) {
  try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
}

extension String {
  /// Text from files cannot redraw the terminal: lines stay, other control characters are escaped.
  var printable: String {
    split(separator: "\n", omittingEmptySubsequences: false).map { String($0).escaped }
      .joined(separator: "\n")
  }

  /// One line that a terminal can show, without its middle when it is very long.
  var oneLine: String {
    let limit = 900
    let text = escaped
    guard text.count > limit else { return text }
    return text.prefix(limit * 2 / 3) + " … " + text.suffix(limit / 3)
  }

  /// With what the libraries name in backticks, a setting with or without its value or a command, as it is
  /// written here: “`output`” is `--output`. Keys of files stand in “…”, so that they are not taken for settings.
  var namingOptions: String {
    replacing(/`([a-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*)( [^`\n]*)?`/) { match in
      let (name, rest) = (String(match.output.1), match.output.2 ?? "")
      if name == "model", ["get", "list", "remove"].contains(rest.split(separator: " ").first ?? "") {
        return "\(Installation.command) model\(rest)"
      }
      if name == "convert" { return "\(Installation.command) convert\(rest)" }
      return Self.isOption(name) ? "--\(name)\(rest)" : String(match.output.0)
    }
  }

  /// A dotted setting, or one of the options that the libraries' messages name.
  private static func isOption(_ name: String) -> Bool {
    if RunConfiguration.settings.contains(where: { $0.name == name }) { return true }
    if let dot = name.firstIndex(of: ".") {
      return ["log", "data", "model", "eval", "optim"].contains(name[..<dot])
    }
    return [
      "category", "clip-skip", "concept", "crop", "download", "folder", "format", "generated", "guidance",
      "host", "image", "images", "layer", "layout", "lora", "mask", "masks", "model", "original-size",
      "output", "password-file", "port", "precision", "prediction-type", "prompt-weights", "property",
      "references", "regions", "representation", "resume", "scheduler", "seed", "steps", "strength",
      "threads", "timestep", "token", "vectors", "width",
    ].contains(name)
  }
}
