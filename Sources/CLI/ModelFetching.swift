import ArgumentParser
import Diffusion
import Files
import Foundation
import Hub

/// Getting models from the Hub, with words and a progress bar.
enum ModelFetching {
  /// Fetches a model that is named like one on the Hub and is not here, where that is wanted: with `--download`, or after
  /// a yes on the terminal. Otherwise nothing happens, and opening it says what is missing.
  static func offer(_ model: String, download: Bool) throws {
    let path = try expandedPath(model)
    guard !model.isEmpty, !FileManager.default.fileExists(atPath: path),
      try !fetchFile(path, download: download), let name = RepositoryName(path)
    else { return }
    let cache = try HubCache()
    let folder = try cache.snapshot(of: name)
    if let folder, ModelFileChoice.isComplete(folder) { return }
    guard folder != nil || ModelFolder.absence(path) == nil else { return }
    if !download {
      // A name without an organisation is a path with an error more often than a model.
      guard name.id.contains("/"), isatty(STDIN_FILENO) == 1, isatty(STDERR_FILENO) == 1 else {
        if folder != nil {
          note("\(name) is here only in part; --download, or `neti model get \(name)`, fetches the rest")
        }
        return
      }
      guard try !HubSettings().isOffline else { return }
      note("\(name) is not here\(folder == nil ? "" : " as a whole"); asking the Hub how large it is")
      let order: Order
      do { order = try Order(name, into: cache) } catch let e as HubError {
        guard folder == nil else { return warn("\(name) is here only in part, and \(e.message)") }
        throw HubError("model \(model): there is no such folder, and \(e.message)")
      }
      guard order.missing == 0 || Question.agrees(order.question) else { return }
      try order.run()
      return
    }
    try Order(name, into: cache).run()
  }

  /// Fetches a model in one file that is named like one on the Hub and is not here, with `--download` only: such a name is a
  /// path with an error more often.
  ///
  /// - Returns: whether it is named so.
  private static func fetchFile(_ path: String, download: Bool) throws -> Bool {
    guard let name = RepositoryFileName(path) else { return false }
    let cache = try HubCache()
    if download, try cache.file(name) == nil {
      try Order(name.repository, file: name.path, into: cache).run()
    }
    return true
  }

  /// A model that is to be fetched: the Hub was asked what there is, the disk has room, and nothing but the indexes of
  /// shards was fetched yet.
  struct Order {
    let download: ModelDownload
    private let name: RepositoryName
    private let cache: HubCache
    private let place: String
    private let bar = Bar()

    /// What is damaged is named, and missing from then on.
    ///
    /// - Parameters:
    ///   - file: the path of the one file that is wanted.
    ///   - variant: of the weights; nil prefers the plain ones.
    ///   - verifying: whether all that is here of the revision is hashed again.
    /// - Throws: `HubError` also where the disk has no room.
    init(
      _ name: RepositoryName, file: String? = nil, variant: String? = nil, verifying: Bool = false,
      into cache: HubCache
    ) throws {
      (self.name, self.cache) = (name, cache)
      let settings = try HubSettings()
      let place = settings.place
      self.place = place
      let client = try HubClient(settings, listener: bar.listen)
      func tell(_ kept: [RepositoryFile]) {
        let bytes = byteText(kept.reduce(0) { $0 + $1.size })
        note(
          kept.isEmpty
            ? "there is nothing of \(name) here to check"
            : "checking all that is here of \(name), \(kept.count) file\(kept.count == 1 ? "" : "s") of \(bytes), against the hashes of \(place)"
        )
      }
      download = try ModelDownload(
        name, file: file, variant: variant, from: client, into: cache, verifying: verifying ? tell : nil)
      for file in download.damaged { warn("\(name): \(quoted(file.path)) is damaged, and is fetched again") }
      if verifying, download.damaged.isEmpty, download.present > 0 {
        note("what is here of \(name) is what \(place) has")
      }
      try download.requireRoom()
    }

    /// Bytes that are not here.
    var missing: Int { download.size - download.present }

    var question: String {
      "Download \(byteText(missing)) of \(name) from \(place) into \(cache.folder.path)"
        + (download.room.map { ", where \(byteText($0)) are free?" } ?? "?")
    }

    /// Fetches what is missing.
    func run() throws {
      if missing > 0 {
        note(
          "\(name): \(byteText(missing)) to fetch from \(place)"
            + (download.present > 0 ? ", \(byteText(download.present)) are here" : "")
            + ", into \(cache.folder.path)")
      }
      bar.begin(name.id, total: download.size, present: download.present)
      defer { bar.finish() }
      try download.run()
    }
  }

  /// Bytes as a bar of megabytes; what keeps it waiting as lines.
  private final class Bar {
    private var bar: ProgressBar?
    private var done = 0
    private var total = 0
    /// Megabytes that were here.
    private var first = 0
    private var saidWaiting = false

    func begin(_ name: String, total: Int, present: Int) {
      (self.total, done) = (total, present)
      guard total > present else { return }
      first = present / 1_000_000
      bar = ProgressBar(name, total: Self.megabytes(total), first: first, unit: "MB")
    }

    func listen(_ event: HubEvent) {
      switch event {
      case .received(let bytes):
        done += bytes
        // A file that begins anew counts down, and the bar does not.
        bar?.update(
          done >= total
            ? Self.megabytes(total) : max(first, min(done / 1_000_000, Self.megabytes(total) - 1)))
      case .waits(let seconds, let reason):
        bar?.finish()
        note("\(reason); going on in \(seconds) s")
      case .waitsForAnother:
        if !saidWaiting { note("another process fetches the same; waiting for it") }
        saidWaiting = true
      }
    }

    func finish() { if done < total { bar?.finish() } }

    private static func megabytes(_ bytes: Int) -> Int { max(1, (bytes + 500_000) / 1_000_000) }
  }
}

/// A question that is answered on the terminal.
enum Question {
  /// Whether the answer is yes; anything else is no.
  static func agrees(_ text: String) -> Bool {
    writeStandardError(text.printable + " [y/N] ")
    let answer = readLine()?.trimmingCharacters(in: .whitespaces).lowercased() ?? ""
    return ["y", "yes"].contains(answer)
  }
}
