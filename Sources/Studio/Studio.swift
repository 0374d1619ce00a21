public import Diffusion
import Files
import Foundation
import NeTI

/// A page on which a concept is learned and played with, and all that is behind it.
///
/// ```swift
/// let studio = try Studio(model, settings) { print($0) }
/// studio.start()
/// print(studio.addresses)
/// ```
///
/// It only listens to the trainer and asks: what is learned is what `neti train` learns.
public final class Studio: Sendable {
  let library: ConceptLibrary
  let gallery: Gallery
  let workshop: Workshop
  let errands = Errands()
  let changes: Changes
  let told = Told()
  let facts: ModelFacts
  let settings: StudioSettings
  private let gate: Gate
  private let server: HTTPServer

  /// Takes the folder and the port.
  ///
  /// - Parameters:
  ///   - model: the base model; it is the studio's from now on.
  ///   - notice: receives one line for each thing in the folder that cannot be read.
  /// - Throws: one line when the port or the folder is taken, or the address is others' and has no password.
  public init(_ model: sending StableDiffusion, _ settings: StudioSettings, notice: (String) -> Void) throws {
    guard settings.password != nil || SocketAddress.isLoopback(settings.host) else {
      throw FileError(
        "others can reach \(settings.host): `password-file` must name a file with a password that they are asked for"
      )
    }
    self.settings = settings
    let door = Door()
    // Before the folder: whoever cannot have the port changes nothing.
    server = try HTTPServer(host: settings.host, port: settings.port, settings.deadlines) {
      try door.answer($0)
    }
    let folder = try StudioFolder(settings.folder ?? StudioFolder.standard())
    changes = Changes()
    facts = try ModelFacts(model, settings)
    library = ConceptLibrary(folder, changes: changes, notice: notice)
    gallery = Gallery(folder.images, changes: changes)
    workshop = Workshop(model, settings, facts: facts, library: library, gallery: gallery, changes: changes)
    workshop.takeOver()
    gate = Gate(host: settings.host, port: server.port, password: settings.password)
    door.open(gate, routes: Routes(self))
  }

  /// What the server asks: it must have a port before there is an address to guard.
  private final class Door: @unchecked Sendable {
    // Set once, before the server starts.
    private var gate: Gate?
    private var routes: Routes?

    func open(_ gate: Gate, routes: Routes) { (self.gate, self.routes) = (gate, routes) }

    func answer(_ exchange: Exchange) throws -> HTTPResponse {
      guard let gate, let routes else { throw StudioError("the studio is not open yet", .failed) }
      return try gate.response(to: exchange) ?? routes(exchange)
    }
  }

  /// The addresses to open in a browser: several where it listens on all that the machine has.
  public var addresses: [String] { gate.addresses }

  /// Serves and works from now on, on threads of its own.
  public func start() {
    workshop.start()
    errands.start()
    server.start()
    if let next = library.all.first(where: { $0.concept.plan == nil && !$0.concept.pictures.isEmpty }) {
      workshop.foresee(next.concept.id)
    }
  }

  /// What the open pages show from now on, as the studio ends: they get a moment to hear it.
  public func tellClosing(_ line: String) {
    workshop.update { $0.closing = line }
    Thread.sleep(forTimeInterval: Self.moment)
  }

  private static let moment = 0.3

  /// Saves what is being learned, within a moment; `end` then ends the process.
  ///
  /// - Parameter end: gets the step that was saved, or why it could not be; nil where nothing was being learned, or no
  ///   step of it was complete.
  public func shutDown(_ end: (Result<Int?, any Error>) -> Void) {
    guard let job = workshop.locked({ $0.learning }) else { return end(.success(nil)) }
    job.stopAtOnce(end)
  }
}
