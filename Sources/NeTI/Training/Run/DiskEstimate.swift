import Diffusion
import Files
package import Foundation

/// What a run will write into its folder at least, against the room on the disk: checkpoints that stay, the concept
/// and the validation images. Slow steps make more checkpoints (`Trainer.saveInterval`).
package struct DiskEstimate {
  /// Bytes of a validation pixel, as a PNG in the folder and once more for TensorBoard.
  private static let bytesPerPixel = 3.0
  /// More than the description of a concept ever took.
  private static let bytesOfHeader = 32 << 10

  /// Checkpoints and validation images that are still to be written and stay.
  package let checkpoints: Int
  package let images: Int
  private let bytes: Double
  /// Bytes of one checkpoint, and of the concept, with what is written about them.
  let bytesOfCheckpoint: Int
  let bytesOfConcept: Int

  /// - Parameters:
  ///   - numbers: that the concept holds; a checkpoint has two more for each.
  ///   - side: of a validation image, in pixels.
  ///   - done: steps that are saved.
  ///   - kept: checkpoints that are there.
  package init(_ configuration: RunConfiguration, numbers: Int, side: Int, done: Int = 0, kept: Int = 0) {
    let (total, every) = (configuration.optim.maxTrainSteps, configuration.log.saveSteps)
    let due = done >= total ? 0 : total / every - done / every + (total % every > 0 ? 1 : 0)
    // One more than stay, for a moment.
    checkpoints = configuration.log.checkpointsTotalLimit.map { min(due, max(1, $0 + 1 - kept)) } ?? due
    let eval = configuration.eval
    images =
      max(0, total / eval.validationSteps - done / eval.validationSteps) * eval.validationPrompts.count
      * eval.seeds.count
    let values = Double(MemoryLayout<Float>.size * numbers)
    bytesOfConcept = MemoryLayout<Float>.size * numbers + Self.bytesOfHeader
    bytesOfCheckpoint = 3 * MemoryLayout<Float>.size * numbers + Self.bytesOfHeader
    bytes =
      values * Double(3 * checkpoints + 1) + Double(images) * Double(side) * Double(side) * Self.bytesPerPixel
  }

  /// Refuses what does not fit into `available` bytes in `folder`; nil where nothing tells.
  package func require(_ available: Double?, in folder: URL) throws {
    guard let available, bytes > available else { return }
    let fewer = checkpoints > 2 ? ", keep fewer checkpoints (`log.checkpoints_total_limit 2`)" : ""
    throw NeTIError(
      "this run writes about \(MemoryEstimate.text(bytes)) into \(folder.path) (\(checkpoints) checkpoints, \(images) "
        + "validation images), and \(MemoryEstimate.text(available)) are free there: make room\(fewer) or choose another "
        + "`output`")
  }

  /// Free bytes on the disk of a folder that need not be there yet.
  static func available(_ folder: URL) -> Double? {
    var place = folder.standardizedFileURL
    while !FileManager.default.fileExists(atPath: place.path), place.path != "/" {
      place.deleteLastPathComponent()
    }
    let values = try? FileManager.default.attributesOfFileSystem(forPath: place.path)
    // A file system without a size is one that does not tell.
    guard let size = values?[.systemSize] as? NSNumber, size.doubleValue > 0 else { return nil }
    return (values?[.systemFreeSize] as? NSNumber)?.doubleValue
  }
}
