/// What people have under the name of weights, because a download went wrong, and no reader of tensors can say.
package enum ForeignContent {
  /// Bytes from a file's start that tell it.
  package static let signatureBytes = 32

  private static let pointer = "is a pointer of Git LFS, not the file itself; fetch that with: git lfs pull"
  private static let webPage = "is a web page, not the file itself: the download went wrong; fetch it again"
  private static let signatures = [
    ("version https://git-lfs", pointer),
    ("<!DOCTYPE html", webPage), ("<!doctype html", webPage), ("<html", webPage),
  ]

  /// What a file with such a start is, and what to do; nil for others.
  package static func found(in head: some Collection<UInt8>) -> String? {
    let head = Array(head.prefix(signatureBytes))
    return signatures.first { head.starts(with: Array($0.0.utf8)) }?.1
  }
}
