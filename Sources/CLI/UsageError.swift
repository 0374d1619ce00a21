import ArgumentParser
import NeTI

/// What is added to the argument parser's message about a command line that is wrong.
enum UsageError {
  /// The message with what a value may be, and with the option or command that was perhaps meant.
  static func explained(_ message: String, words: [String]) -> String {
    // A long list of the values that there are is put on that line.
    let message = message.replacing("following:\n  - ", with: "following: ").replacing("\n  - ", with: ", ")
    var lines = message.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    guard let first = lines.first, first.hasPrefix("Error: ") else { return message }
    if let allowed = allowed(first) { lines[0] += "; \(allowed)" }
    if !first.contains("Did you mean"), let meant = meant(words) { lines[0] += "; did you mean \(meant)?" }
    return lines.joined(separator: "\n")
  }

  // MARK: Values

  /// What an option's value may be, by its name and kind, or by its kind alone.
  private static let values = [
    "--seed <list>": "whole numbers from 0 on, such as 0,1,2 or 0-3, at most \(NumberList.largestCount)",
    "--truncation <list>": "whole numbers from 1 to \(NeTIMapper.hiddenWidth), such as 4,16,64",
    "--from <list>": "different timesteps from 999 to 0, or never, such as 999,800,600",
    "--regions <2,1>": "a number above 0 for each concept, such as 2,1",
    "--port <number>": "a whole number from 0 to 65535; 0 takes any that is free",
    "--guidance <number>": "a number from 0 to 1000, such as 7.5",
    "--strength <number>": "a number from 0 to 1, such as 0.6",
    "--timestep <number>": "a number from 0 to 999",
    "<seconds>": "a number of seconds, such as 60",
    "<number>": "a whole number", "<steps>": "a whole number of steps",
    "<pixels>": "a whole number of pixels, such as 512",
  ]

  private static func allowed(_ line: String) -> String? {
    guard let match = line.firstMatch(of: /is invalid for '(--[a-z-]+) (<[^>]*>)'$/) else { return nil }
    return (values["\(match.1) \(match.2)"] ?? values[String(match.2)]).map { "it must be \($0)" }
  }

  // MARK: Names

  /// The command or option nearest to the first one that there is not; nil where all are known, or none is near.
  private static func meant(_ words: [String]) -> String? {
    var command: any ParsableCommand.Type = Neti.self
    var rest = words[...]
    while !command.configuration.subcommands.isEmpty, let word = rest.first, !word.hasPrefix("-") {
      let inner = command.configuration.subcommands
      guard let next = inner.first(where: { name(of: $0) == word }) else {
        return nearest(to: word, among: inner.map(name)).map { "\($0) instead of \(word)" }
      }
      command = next
      rest = rest.dropFirst()
    }
    let known = options(of: command)
    for word in rest.prefix(while: { $0 != "--" }) where word.hasPrefix("--") {
      let name = String(word.prefix { $0 != "=" })
      // Settings have a word of their own.
      guard !known.contains(name), !name.contains(".") else { continue }
      // A short one is near to too many.
      guard name.count > 5 else { return nil }
      return nearest(to: name, among: known).map { "\($0) instead of \(name)" }
    }
    return nil
  }

  private static func name(of command: any ParsableCommand.Type) -> String {
    command.configuration.commandName ?? "\(command)".lowercased()
  }

  /// As its help lists them.
  private static func options(of command: any ParsableCommand.Type) -> [String] {
    command.helpMessage(columns: 1000).split(separator: "\n").flatMap { line -> [String] in
      guard line.hasPrefix("  -") else { return [] }
      return line.dropFirst(2).prefix { $0 != "<" }.split { " ,/".contains($0) }.map(String.init)
        .prefix { $0.hasPrefix("-") }.filter { $0.hasPrefix("--") }
    }
  }
}
