public import Diffusion
import Files
public import Foundation
public import NeTI

/// What a studio is started with.
public struct StudioSettings: Sendable {
  /// Where it keeps everything; the user's data directory when nil.
  public var folder: URL?
  /// The address that it listens on.
  public var host = "127.0.0.1"
  public var port: UInt16 = 6384
  /// Asked for where others can reach the studio.
  public var password: String?
  /// Folders of pictures to try it with.
  public var examples: [Example] = []
  /// How the person calls neti, for the command lines that are shown.
  public var command = "neti"
  /// Options that name the model, as commands have them.
  public var modelWords: [String] = []
  /// Settings of a run, of the words of a command line that begins with `train`.
  public var configuration: @Sendable (_ words: [String]) throws -> RunConfiguration
  /// How long clients may take.
  package var deadlines = Deadlines()
  /// Finds what comes with neti by its path, such as `LICENSE`.
  public var resource: @Sendable (_ path: String) throws -> URL
  /// What a generated image says of how it was made.
  public var metadata: @Sendable (Generation, StableDiffusion) -> [String: String]

  public init(
    configuration: @escaping @Sendable (_ words: [String]) throws -> RunConfiguration,
    resource: @escaping @Sendable (_ path: String) throws -> URL,
    metadata: @escaping @Sendable (Generation, StableDiffusion) -> [String: String]
  ) {
    self.configuration = configuration
    self.resource = resource
    self.metadata = metadata
  }

  /// Pictures that come with neti.
  public struct Example: Sendable {
    public let name: String
    public let kind: String
    public let folder: URL

    public init(name: String, kind: String, folder: URL) {
      self.name = name
      self.kind = kind
      self.folder = folder
    }
  }

  /// Reads a password from a file: its first line.
  ///
  /// - Throws: one line when it cannot be read, or is too short to keep anyone out.
  public static func password(from file: URL) throws -> String {
    let data = try readFile(file, limit: 4096)
    let line = String(decoding: data, as: UTF8.self).split(whereSeparator: \.isNewline).first.map(String.init)
    let password = (line ?? "").trimmingCharacters(in: .whitespaces)
    guard password.count >= Gate.leastPassword else {
      throw FileError(
        "\(file.path): the password in its first line has \(password.count) letters; at least \(Gate.leastPassword) are needed"
      )
    }
    return password
  }

  /// Whether only this machine reaches an address.
  public static func isLoopback(_ host: String) -> Bool { SocketAddress.isLoopback(host) }
}
