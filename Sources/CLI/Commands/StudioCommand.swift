import ArgumentParser
import Diffusion
import Files
import Foundation
import NeTI
import Studio

/// `neti studio`: a page on which a concept is learned and played with.
struct StudioCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "studio",
    abstract: "Open a page on which to learn a concept from images and generate it, without a command line.",
    discussion: """
        neti studio

      It prints an address to open in a browser on this machine. Everything that the page does is kept in \
      --folder. Ctrl-C ends it; what is being learned is saved, and the page offers to go on the next time.

      Others reach it only with --host, which wants a password for them; the connection is not encrypted:

        neti studio --host 0.0.0.0 --password-file secret.txt
      """)

  @Option(
    help: ArgumentHelp(
      "Where the studio keeps its things; the user's data directory when left out.", valueName: "folder"))
  var folder: String?

  @Option(help: ArgumentHelp("0 takes any that is free.", valueName: "number"))
  var port: UInt16 = 6384

  @Option(
    help: ArgumentHelp(
      "The address to listen on. Others than 127.0.0.1 need --password-file.", valueName: "address"))
  var host: String = "127.0.0.1"

  @Option(help: ArgumentHelp("Its first line is the password that the page asks for.", valueName: "file"))
  var passwordFile: String?

  @OptionGroup var model: ModelOptions

  func run() throws {
    var settings = StudioSettings(
      configuration: { words in try Train.configuration(ofWords: words) },
      resource: { try Installation.resource($0) },
      metadata: { GenerationOptions.metadata($0, model: $1) })
    settings.folder = try folder.map { try place($0, isFolder: true) }
    (settings.host, settings.port) = (host, port)
    settings.password = try passwordFile.map { try StudioSettings.password(from: place($0)) }
    settings.command = Installation.command
    settings.modelWords = try model.words()
    settings.examples = try Self.examples()
    let studio = try Studio(model.open(model.folder()), settings) { warn($0) }
    let signals = Signals { code in
      studio.tellClosing("The studio was closed. Start it again to go on; what was being learned is kept.")
      studio.shutDown { saved in
        switch saved {
        case .success(let step?):
          note(
            "\nthe studio is closed; step \(step) of what was being learned is saved, and the page goes on from it"
          )
        case .success(nil): note("\nthe studio is closed")
        case .failure(let error):
          note("\nneti: the studio is closed, and the last step could not be saved: \("\(error)".oneLine)")
        }
        _exit(code)
      }
    }
    LostFile.onLoss { problem in
      studio.shutDown { saved in
        let step = (try? saved.get()).flatMap { $0 }.map { "; step \($0) of what was being learned is saved" }
        let line = "the studio is closed: \(problem)\(step ?? "")"
        // The trainer is locked here, and whoever has the page's state may wait for it: the page gets a moment.
        let told = DispatchSemaphore(value: 0)
        Thread.detachNewThread {
          studio.tellClosing(line)
          told.signal()
        }
        _ = told.wait(timeout: .now() + 2)
        complain(line)
        _exit(1)
      }
    }
    studio.start()
    if !StudioSettings.isLoopback(host) {
      warn("the connection is not encrypted: whoever can listen on the way can read the password")
    }
    tell("neti studio is open at\n\n" + studio.addresses.map { "  \($0)\n" }.joined())
    note("Ctrl-C closes it.")
    withExtendedLifetime(signals) { while true { sleep(1000) } }
  }

  private struct ExampleDescription: Decodable { let category: String }

  private static func examples() throws -> [StudioSettings.Example] {
    let folder = try Installation.resource("Examples")
    return try Installation.examples().map { name in
      let about = try JSONFile.decode(
        ExampleDescription.self, from: folder.appending(path: "\(name).json"))
      return .init(
        name: name, kind: about.category, folder: folder.appending(path: name, directoryHint: .isDirectory))
    }
  }
}
