import Diffusion
import Foundation
import NeTI
import Synchronization

/// The files of images that are there so far.
private final class WrittenImages: Sendable {
  private let state = Mutex<[URL]>([])
  private let total: Int

  init(of total: Int) { self.total = total }

  var files: [URL] { state.withLock { $0 } }

  /// Writes one; a signal waits until it is whole.
  func add(_ write: () throws -> URL) throws { try state.withLock { $0.append(try write()) } }

  /// How many there are, and where.
  var told: String {
    let files = files
    guard let first = files.first else { return "no image is finished" }
    let place = files.count == 1 ? first : first.deletingLastPathComponent()
    return "\(files.count) of \(total) images \(files.count == 1 ? "is" : "are") finished: \(place.shownPath)"
  }
}

extension ImageOutput {
  /// Generates what was prepared, with a progress bar, and writes each image when it is there.
  ///
  /// What ends it early, an error or a signal, leaves the images that were there, and says where.
  ///
  /// - Parameter concept: the file of a concept that was learned for them, to be told with them.
  /// - Returns: the images, and the file of each.
  func generate(_ generation: Generation, metadata: [String: String], concept: URL? = nil) throws
    -> (images: [GeneratedImage], files: [URL])
  {
    let bar = ProgressBar("generating", total: generation.totalSteps)
    let written = WrittenImages(of: generation.imageCount)
    let learned = concept.map { "; the concept is learned: \($0.shownPath)" } ?? ""
    let signals = Signals { code in
      note("\nstopped; \(written.told)\(learned)")
      _exit(code)
    }
    LostFile.onLoss { complain("\($0); \(written.told)\(learned)") }
    defer { bar.finish() }
    do {
      let images = try withExtendedLifetime(signals) {
        try generation(
          progress: { bar.update($0.stepsDone) },
          finishing: { image in try written.add { try write(image, metadata: metadata) } })
      }
      return (images, written.files)
    } catch {
      bar.finish()
      if concept != nil || !written.files.isEmpty { note(written.told + learned) }
      throw error
    }
  }
}
