import ArgumentParser
import Files
import Foundation
import NeTI

/// What is added to the argument parser's message about a command line that is wrong.
enum UsageError {
  /// The message with what a value may be, and with the option or command that was perhaps meant.
  static func explained(_ message: String, words: [String]) -> String {
    // A long list of the values that there are is put on that line.
    let message = message.replacing("following:\n  - ", with: "following: ").replacing("\n  - ", with: ", ")
    var lines = message.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    guard let first = lines.first, first.hasPrefix("Error: ") else { return message }
    let (command, rest) = command(of: words)
    if let unknown = unknownCommand(command, rest) {
      lines[0] = "Error: \(unknown)"
    } else if let value = negativeValue(first, rest) {
      lines[0] = "Error: \(value)"
    } else {
      if let allowed = allowed(first) { lines[0] += "; \(allowed)" }
      if !first.lowercased().contains("did you mean"), let meant = meant(command, rest) {
        lines[0] += "; did you mean \(meant)?"
      }
    }
    return lines.joined(separator: "\n")
  }

  /// Where to read on, as the argument parser says it.
  static func help(_ words: [String]) -> String {
    let names = ["neti"] + words.dropLast(command(of: words).rest.count)
    return "  See '\(names.joined(separator: " ")) --help' for more information."
  }

  /// What to say where help is asked for of a command that there is not: the parser shows that of the whole program.
  static func helpless(_ words: [String]) -> String? {
    guard words.first == "help" else { return nil }
    let (command, rest) = command(of: Array(words.dropFirst()))
    return unknownCommand(command, rest)
  }

  /// A line about the first word that is not UTF-8, which Swift would read with other characters in it.
  static func unreadable(
    _ words: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>, _ count: Int32
  ) -> String? {
    for i in 1..<max(Int(count), 1) {
      guard let word = words[i], String(validatingCString: word) == nil else { continue }
      let readable = String(cString: word).replacing(/\u{FFFD}+/, with: "…")
      return "word \(i) of the command line, \(quoted(readable)), is not UTF-8; write it in UTF-8"
    }
    return nil
  }

  /// A line where an option is given several times of which one value counts; nil where none is.
  static func repetition(_ words: [String]) -> String? {
    let given = words.prefix { $0 != "--" }.filter { $0.hasPrefix("--") }
      .map { String($0.prefix { $0 != "=" }) }
    var seen: Set<String> = []
    // Most command lines have none, and the list of options takes time to make.
    let several = given.filter { !seen.insert($0).inserted }
    guard !several.isEmpty, let options = try? single(in: command(of: words).command) else { return nil }
    let names = Set(several).intersection(options).sorted()
    guard let first = names.first else { return nil }
    return names.count == 1
      ? "\(first) is given several times; the last one counts"
      : "\(names.joined(separator: ", ")) are given several times; the last ones count"
  }

  /// The only option for a path that has nothing, or only spaces, for its value.
  static func emptyOption(_ words: [String]) -> String? {
    guard let options = try? single(in: command(of: words).command).subtracting(["--negative-prompt"]) else {
      return nil
    }
    let empty = zip(words, words.dropFirst() + ["-"]).compactMap { word, next -> String? in
      let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
      guard options.contains(parts[0]) else { return nil }
      return (parts.count == 2 ? parts[1] : next).allSatisfy(\.isWhitespace) ? parts[0] : nil
    }
    return empty.count == 1 ? empty[0] : nil
  }

  /// The options of a command that take one value.
  private static func single(in command: any ParsableCommand.Type) throws -> Set<String> {
    struct Dump: Decodable {
      struct Command: Decodable { let arguments: [Argument]? }
      struct Argument: Decodable {
        struct Name: Decodable { let kind, name: String }
        let kind: String
        let isRepeating: Bool
        let names: [Name]?
      }
      let command: Command
    }
    let dump = try JSONDecoder().decode(Dump.self, from: Data(command._dumpHelp().utf8))
    return Set(
      (dump.command.arguments ?? []).filter { $0.kind == "option" && !$0.isRepeating }
        .flatMap { $0.names ?? [] }.filter { $0.kind == "long" }.map { "--" + $0.name })
  }

  // MARK: Values

  /// What an option's value may be, by its name and kind, or by its kind alone.
  private static let values = [
    "--seed <list>":
      "whole numbers from 0 to \(Int.max), such as 0,1,2 or 0-3, at most \(NumberList.largestCount)",
    "--truncation <list>": "whole numbers from 1 to \(NeTIMapper.hiddenWidth), such as 4,16,64",
    "--from <list>": "different timesteps from 999 to 0, or never, such as 999,800,600",
    "--regions <2,1>": "a number above 0 for each concept, such as 2,1",
    "--port <number>": "a whole number from 0 to 65535; 0 takes any that is free",
    "--guidance <number>": "a number from 0 to 1000, such as 7.5",
    "--strength <number>": "a number from 0 to 1, such as 0.6",
    "--timestep <number>": "a number from 0 to 999",
    "--original-size <1024x768>": "a width and a height above 0, such as 1024x768",
    "--crop <0,0>": "two whole numbers from 0 on, such as 16,0",
    "<seconds>": "a number of seconds, such as 60",
    "--seed <number>": "a whole number from 0 on",
    "--truncation <number>": "a whole number from 1 to \(NeTIMapper.hiddenWidth)",
    "--truncation-geometry <number>": "a whole number from 1 to \(NeTIMapper.hiddenWidth)",
    "--truncation-appearance <number>": "a whole number from 1 to \(NeTIMapper.hiddenWidth)",
    "<number>": "a whole number above 0", "<steps>": "a whole number of steps above 0",
    "<pixels>": "a whole number of pixels above 0, such as 512",
  ]

  private static func allowed(_ line: String) -> String? {
    guard let match = line.firstMatch(of: /is invalid for '(--[a-z-]+) (<[^>]*>)'$/) else { return nil }
    return allowed(String(match.1), String(match.2)).map { "it must be \($0)" }
  }

  private static func allowed(_ option: String, _ kind: String) -> String? {
    values["\(option) \(kind)"] ?? values[kind]
  }

  /// The parser takes what begins with a dash for an option, and misses a value.
  private static func negativeValue(_ line: String, _ words: ArraySlice<String>) -> String? {
    guard let match = line.firstMatch(of: /Missing value for '(--[a-z-]+) (<[^>]*>)'/),
      let value = zip(words, words.dropFirst()).first(where: { option, value in
        option == match.1 && value.hasPrefix("-") && !value.hasPrefix("--")
      })?.1
    else { return nil }
    let option = String(match.1)
    guard let allowed = allowed(option, String(match.2)) else {
      return
        "\(option) is followed by \(value), which begins with a dash; write \((option + "=" + value).shellQuoted)"
    }
    return "\(option) \(value): it must be \(allowed)"
  }

  // MARK: Names

  /// The command that is asked for, and the words behind its name.
  private static func command(of words: [String]) -> (
    command: any ParsableCommand.Type, rest: ArraySlice<String>
  ) {
    var command: any ParsableCommand.Type = Neti.self
    var rest = words[...]
    while let word = rest.first,
      let next = command.configuration.subcommands.first(where: { name(of: $0) == word })
    {
      command = next
      rest = rest.dropFirst()
    }
    return (command, rest)
  }

  /// What to say where a word stands for no command.
  private static func unknownCommand(_ command: any ParsableCommand.Type, _ words: ArraySlice<String>)
    -> String?
  {
    let inner = command.configuration.subcommands.map(name)
    guard !inner.isEmpty, let word = words.first, !word.hasPrefix("-"), word != "help" else { return nil }
    return "there is no command \(quoted(word)); "
      + (nearest(to: word, among: inner).map { "did you mean \($0)?" }
        ?? "there are \(inner.joined(separator: ", "))")
  }

  /// The option nearest to the first one that there is not; nil where all are known, or none is near.
  private static func meant(_ command: any ParsableCommand.Type, _ words: ArraySlice<String>) -> String? {
    let known = options(of: command)
    for word in words.prefix(while: { $0 != "--" }) where word.hasPrefix("--") {
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
