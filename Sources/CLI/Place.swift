import Files
import Foundation

/// The place that a path on the command line names. Shells leave `~` and variables in `--output=~/run` and in
/// quotes as they are.
func place(_ path: String, isFolder: Bool = false) throws -> URL {
  URL(filePath: try expandedPath(path), directoryHint: isFolder ? .isDirectory : .inferFromPath)
}
