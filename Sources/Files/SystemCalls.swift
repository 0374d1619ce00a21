package import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// What was attempted, and what the system said: the error number `code`, or `errno`.
package func systemError(_ attempt: @autoclosure () -> String, _ code: Int32? = nil) -> FileError {
  // First of all, as making the text may change it.
  let code = code ?? errno
  return FileError("\(attempt()): \(String(cString: strerror(code)))")
}

/// Writes all bytes to a file; returns 0, or the system's error number.
package func writeAll(_ data: Data, to descriptor: Int32) -> Int32 {
  data.withUnsafeBytes { bytes in
    var rest = bytes[...]
    while !rest.isEmpty {
      let part = UnsafeRawBufferPointer(rebasing: rest)
      let n = write(descriptor, part.baseAddress, part.count)
      if n < 0 {
        if errno == EINTR { continue }
        return errno
      }
      if n == 0 { return EIO }
      rest = rest.dropFirst(n)
    }
    return 0
  }
}
