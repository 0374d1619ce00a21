import Files
import Foundation
import Hub
import Synchronization
import TestSupport

/// A Hub, an empty cache and a client, for one test.
final class Desk {
  let scratch: Scratch
  let hub: LoopbackHub
  let cache: HubCache
  let name: RepositoryName
  let commit: String
  private let told = Told()

  /// What the client tells and how long it would wait.
  private final class Told: Sendable {
    let events = Mutex<[HubEvent]>([])
    let pauses = Mutex<[Int]>([])
  }

  static let weights = "unet/diffusion_pytorch_model.safetensors"
  static let config = "unet/config.json"

  /// Bytes that look like nothing.
  static func noise(_ count: Int, seed: UInt64 = 1) -> Data {
    var random = SplitMix64(seed: seed)
    return Data((0..<count).map { _ in UInt8.random(in: 0...255, using: &random) })
  }

  init(_ files: [String: Data]? = nil, pageSize: Int = 1000) throws {
    scratch = try Scratch()
    hub = try LoopbackHub(
      "org/mini",
      files ?? [
        Self.weights: Self.noise(300_000), Self.config: Data(#"{"a": 1}"#.utf8), "empty.txt": Data(),
      ],
      pageSize: pageSize)
    cache = HubCache(scratch.file("hub"))
    guard let name = RepositoryName("org/mini") else { throw HubError("no name") }
    self.name = name
    commit = hub.commit
  }

  func settings(_ more: [String: String] = [:]) throws -> HubSettings {
    try HubSettings(hub.environment(scratch.file("home")).merging(more) { $1 })
  }

  func client(_ more: [String: String] = [:]) throws -> HubClient {
    let told = told
    return try HubClient(settings(more)) { seconds in
      told.pauses.withLock { $0.append(seconds) }
    } listener: { event in
      told.events.withLock { $0.append(event) }
    }
  }

  func download(_ name: RepositoryName? = nil, _ more: [String: String] = [:]) throws -> SnapshotDownload {
    try SnapshotDownload(name ?? self.name, from: client(more), into: cache)
  }

  /// Fetches one file, or all.
  func fetch(_ path: String? = nil, _ more: [String: String] = [:]) throws {
    let download = try download(nil, more)
    try download.fetch(download.list.files.filter { path == nil || $0.path == path })
  }

  /// Why fetching fails.
  func failure(_ path: String? = Desk.weights, _ more: [String: String] = [:]) -> String {
    refusal { try fetch(path, more) }?.message ?? ""
  }

  var pauses: [Int] { told.pauses.withLock { $0 } }
  /// Bytes that the listener counted.
  var received: Int {
    told.events.withLock { $0 }.reduce(0) { sum, event in
      if case .received(let bytes) = event { sum + bytes } else { sum }
    }
  }

  var repository: URL { scratch.file("hub/models--org--mini") }
  func blob(_ path: String) -> URL {
    repository.appending(path: "blobs/\(hub.files[path]?.blobName ?? "none")")
  }
  func partial(_ path: String) -> URL { URL(filePath: blob(path).path + ".incomplete") }

  /// The names of blobs and partial blobs.
  var blobs: [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: repository.path + "/blobs")) ?? []).sorted()
  }

  /// Whether a file of the snapshot has the Hub's bytes.
  func isRight(_ path: String) -> Bool {
    (try? Data(contentsOf: repository.appending(path: "snapshots/\(commit)/\(path)")))
      == hub.files[path]?.data
  }

  /// Puts the beginning of a file where a killed download leaves it.
  func begin(_ path: String, _ bytes: Data) throws {
    try FileManager.default.createDirectory(
      at: partial(path).deletingLastPathComponent(), withIntermediateDirectories: true)
    try bytes.write(to: partial(path))
  }

  /// Ranges that the store was asked for.
  var ranges: [String?] {
    hub.requests.filter { $0.port == hub.store.port }.map { $0.headers["range"] }
  }
}
