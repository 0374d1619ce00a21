package import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Room on a disk that no other program can fill, until this object goes.
///
/// A file without a name holds it, so that nothing is left behind in whatever way the process ends.
package final class ReservedRoom {
  private let descriptor: Int32

  /// Nil where there is not so much, or the disk reserves nothing.
  package init?(_ bytes: Int, in folder: URL) {
    let file = AtomicFile.unfinished(in: folder)
    descriptor = open(file.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { return nil }
    unlink(file.path)
    guard Self.reserve(bytes, descriptor) else { return nil }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  private static func reserve(_ bytes: Int, _ descriptor: Int32) -> Bool {
    #if canImport(Darwin)
      var wanted = fstore_t(
        fst_flags: UInt32(F_ALLOCATEALL), fst_posmode: F_PEOFPOSMODE, fst_offset: 0, fst_length: off_t(bytes),
        fst_bytesalloc: 0)
      return fcntl(descriptor, F_PREALLOCATE, &wanted) != -1
    #else
      return posix_fallocate(descriptor, 0, off_t(bytes)) == 0
    #endif
  }
}
