import ArgumentParser
import Files
import Foundation
import NeTI
import Torch

/// The command `neti`.
@main
struct Neti: ParsableCommand {
  static let version = "0.1.0"

  static let configuration = CommandConfiguration(
    commandName: "neti",
    abstract:
      "Personal concepts for text-to-image diffusion: learn one from 3–6 images, then generate it anywhere.",
    discussion: """
      Start with an example, which ends with a sheet of images:

        neti demo

      Then use your own images:

        neti train --images my-toy --token '<toy>' --category toy --output run
        neti generate --concept run/concept.safetensors --prompt 'a {} on a beach'

      Without --model, everything runs on mini-sd, a small model that comes with neti. Give a folder in \
      the diffusers layout, or the name of a model on the Hugging Face Hub, to use Stable Diffusion.
      """,
    version: versionText,
    subcommands: [
      Demo.self, StudioCommand.self, Train.self, Generate.self, Mix.self, Decompose.self, Evaluate.self,
      Inspect.self,
      Convert.self,
      Export.self,
      ModelCommand.self,
    ])

  private static var versionText: String {
    "neti \(version), libtorch \(Runtime.version), devices: \(Device.available.map(\.description).joined(separator: ", "))"
  }

  /// Exit codes: 0 done, 1 failed, 64 wrong usage, 129, 130 and 143 stopped by a signal.
  static func main() {
    keepStandardStreams()
    Runtime.tuneAllocator()
    // A file-size limit, and a reader that has gone, then are errors of the write, as a full disk is, and not the end
    // of the process.
    signal(SIGXFSZ, SIG_IGN)
    signal(SIGPIPE, SIG_IGN)
    if let v = Runtime.untestedVersion { note("neti: libtorch \(v) is used, which neti was not tested with") }
    if let line = UsageError.unreadable(CommandLine.unsafeArgv, CommandLine.argc) {
      note("Error: \(line)")
      exit(withError: ExitCode.validationFailure)
    }
    let words = Array(CommandLine.arguments.dropFirst())
    do {
      try ProcessLimits.require()
      LostFile.watch()
      var command = try parseAsRoot()
      if let line = UsageError.helpless(words) {
        note("Error: \(line)\n\(UsageError.help([]))")
        exit(withError: ExitCode.validationFailure)
      }
      if !LaunchedProcesses.isSilent, let line = UsageError.repetition(words) { warn(line) }
      do { try command.run() } catch let error as ValidationError {
        // As it is said of what is found wrong before, without the usage of the whole program.
        note("Error: \(error.message)\n\(UsageError.help(words))")
        exit(withError: ExitCode.validationFailure)
      }
      try requireOutput()
    } catch let error as any CommandFailure {
      complain("\(error)")
      exit(withError: error.exitCode)
    } catch  where exitCode(for: error).isSuccess {
      exit(withError: error)
    } catch {
      // Wrong usage: what the user wrote is in the message.
      let text = UsageError.explained(fullMessage(for: error), words: words)
      if !text.isEmpty { note(text) }
      exit(withError: exitCode(for: error))
    }
  }
}

/// An error of the libraries: one line for the user, exit code 1, or 64 for wrong usage.
protocol CommandFailure: Error, CustomStringConvertible {
  var exitCode: ExitCode { get }
}

extension CommandFailure {
  var exitCode: ExitCode { .failure }
}
