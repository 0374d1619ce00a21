import Files
public import Foundation
import Synchronization

/// A Hub of a test's own: the API's answers, small files from the Hub itself, and large ones (LFS) from another origin that
/// it redirects to. A test changes single answers to see what becomes of it.
public final class LoopbackHub: Sendable {
  public typealias Request = LoopbackServer.Request
  public typealias Reply = LoopbackServer.Reply

  public struct File: Sendable {
    public let data: Data
    public let isLFS: Bool
    public let gitName: String
    public let sha256: String

    public init(_ data: Data, isLFS: Bool) throws {
      self.data = data
      self.isLFS = isLFS
      func hash(_ kind: Digest.Kind, _ head: String, _ data: Data) throws -> String {
        let digest = try Digest(kind)
        digest.update(head)
        data.withUnsafeBytes { digest.update($0) }
        return digest.hexadecimal()
      }
      sha256 = try hash(.sha256, "", data)
      let pointer = Data(
        "version https://git-lfs.github.com/spec/v1\noid sha256:\(sha256)\nsize \(data.count)\n".utf8)
      let kept = isLFS ? pointer : data
      gitName = try hash(.sha1, "blob \(kept.count)\0", kept)
    }

    /// What its blob is called.
    public var blobName: String { isLFS ? sha256 : gitName }
  }

  /// What both servers and the test share.
  private final class State: Sendable {
    struct Values {
      var requests: [Request] = []
      var change: @Sendable (Request, Reply) -> Reply? = { _, reply in reply }
    }
    let mutex = Mutex(Values())
  }

  public let id: String
  public let commit: String
  public let files: [String: File]
  public let hub: LoopbackServer
  public let store: LoopbackServer
  private let state: State

  /// - Parameters:
  ///   - files: by path. Weights are LFS files.
  ///   - pageSize: entries of a page of the list.
  public init(
    _ id: String = "org/mini", _ files: [String: Data], commit: String = String(repeating: "c", count: 40),
    pageSize: Int = 1000
  ) throws {
    self.id = id
    self.commit = commit
    let files = try files.map { path, data in
      (path, try File(data, isLFS: [".safetensors", ".bin", ".ckpt"].contains(where: path.hasSuffix)))
    }
    let known = Dictionary(uniqueKeysWithValues: files)
    self.files = known
    let state = State()
    self.state = state
    let changed: @Sendable (Request, Reply) -> Reply = { request, reply in
      let change = state.mutex.withLock {
        $0.requests.append(request)
        return $0.change
      }
      return change(request, reply) ?? reply
    }
    let blobs = Dictionary(known.values.map { ($0.sha256, $0.data) }, uniquingKeysWith: { a, _ in a })
    store = try LoopbackServer { request in
      guard let data = blobs[request.path.split(separator: "/").last.map(String.init) ?? ""] else {
        return changed(request, Reply(404))
      }
      return changed(request, Self.part(of: data, request))
    }
    let elsewhere = store.address
    hub = try LoopbackServer { request in
      changed(request, Self.answer(request, id, commit, known, elsewhere, pageSize))
    }
  }

  /// What is asked for, in order.
  public var requests: [Request] { state.mutex.withLock { $0.requests } }

  /// Answers some requests otherwise; nil leaves an answer as it is.
  public func change(_ change: @escaping @Sendable (Request, Reply) -> Reply?) {
    state.mutex.withLock {
      $0.change = change
      $0.requests = []
    }
  }

  /// The variables by which both neti and `huggingface_hub` find it, with a cache in `home`.
  public func environment(_ home: URL) -> [String: String] {
    ["HF_ENDPOINT": hub.address, "HF_HOME": home.path, "HOME": home.path, "no_proxy": "127.0.0.1"]
  }

  private static func answer(
    _ request: Request, _ id: String, _ commit: String, _ files: [String: File], _ store: String,
    _ pageSize: Int
  ) -> Reply {
    let path = request.path.removingPercentEncoding ?? ""
    if path == "/api/models/\(id)/revision/main" || path == "/api/models/\(id)/revision/\(commit)" {
      return Reply(json: #"{"id": "\#(id)", "sha": "\#(commit)"}"#)
    }
    if path.hasPrefix("/api/models/\(id)/revision/") {
      return Reply(404, ["X-Error-Code": "RevisionNotFound"])
    }
    if path == "/api/models/\(id)/tree/\(commit)" { return list(request, files, pageSize) }
    let resolve = "/\(id)/resolve/\(commit)/"
    if path.hasPrefix(resolve) {
      guard let file = files[String(path.dropFirst(resolve.count))] else {
        return Reply(404, ["X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit])
      }
      guard file.isLFS else {
        var reply = part(of: file.data, request)
        reply.headers["ETag"] = "\"\(file.gitName)\""
        reply.headers["X-Repo-Commit"] = commit
        return reply
      }
      return Reply(
        302,
        [
          "Location": "\(store)/lfs/\(file.sha256)?signed=1", "X-Linked-Etag": "\"\(file.sha256)\"",
          "X-Linked-Size": "\(file.data.count)", "X-Repo-Commit": commit,
        ])
    }
    return Reply(401, ["X-Error-Code": "RepoNotFound"])
  }

  private static func list(_ request: Request, _ files: [String: File], _ pageSize: Int) -> Reply {
    let start =
      request.query.split(separator: "&").compactMap { item in
        item.hasPrefix("cursor=") ? Int(item.dropFirst("cursor=".count)) : nil
      }.first ?? 0
    let paths = files.keys.sorted()
    let entries = paths.dropFirst(start).prefix(pageSize).compactMap { path in
      files[path].map { file in
        let outside =
          file.isLFS
          ? #", "lfs": {"oid": "\#(file.sha256)", "size": \#(file.data.count), "pointerSize": 134}"# : ""
        return
          #"{"type": "file", "oid": "\#(file.gitName)", "size": \#(file.data.count), "path": "\#(path)"\#(outside)}"#
      }
    }
    let folders =
      start == 0
      ? [#"{"type": "directory", "oid": "\#(String(repeating: "d", count: 40))", "size": 0, "path": "unet"}"#]
      : []
    var reply = Reply(json: "[" + (folders + entries).joined(separator: ",\n") + "]")
    if start + pageSize < paths.count {
      reply.headers["Link"] = "<\(request.path)?recursive=true&cursor=\(start + pageSize)>; rel=\"next\""
    }
    return reply
  }

  /// A file, or the part of it that a range asks for: `bytes=7-`, `bytes=0-8`.
  private static func part(of data: Data, _ request: Request) -> Reply {
    guard let match = request.headers["range"]?.wholeMatch(of: /bytes=([0-9]+)-([0-9]*)/),
      let start = Int(match.output.1)
    else { return Reply(200, ["Accept-Ranges": "bytes"], data) }
    guard start < data.count else { return Reply(416) }
    let last = min(Int(match.output.2) ?? data.count - 1, data.count - 1)
    guard start <= last else { return Reply(200, ["Accept-Ranges": "bytes"], data) }
    let bytes = data.dropFirst(start).prefix(last + 1 - start)
    return Reply(206, ["Content-Range": "bytes \(start)-\(last)/\(data.count)"], Data(bytes))
  }
}
