import CZlib
package import Foundation

#if canImport(CryptoKit)
  import CryptoKit
#else
  import COpenSSL
#endif

/// The CRC-32 of zip and PNG (ISO 3309), by zlib.
package func crc32(_ bytes: some Collection<UInt8>) -> UInt32 {
  let sum = bytes.withContiguousStorageIfAvailable { crc32_z(0, $0.baseAddress, $0.count) }
  return UInt32(
    truncatingIfNeeded: sum ?? Array(bytes).withUnsafeBufferPointer { crc32_z(0, $0.baseAddress, $0.count) })
}

/// The hash function of FIPS 180-4, by the system's library.
package enum SHA256 {
  /// The hash of `bytes`, as 64 hexadecimal digits.
  package static func hexadecimal(_ bytes: some Collection<UInt8>) -> String {
    let digest =
      bytes.withContiguousStorageIfAvailable { hash(UnsafeRawBufferPointer($0)) }
      ?? Array(bytes).withUnsafeBytes { hash($0) }
    return digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  private static func hash(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    #if canImport(CryptoKit)
      Array(CryptoKit.SHA256.hash(data: bytes))
    #else
      withUnsafeTemporaryAllocation(of: UInt8.self, capacity: Int(EVP_MAX_MD_SIZE)) { digest in
        var count: UInt32 = 0
        EVP_Digest(bytes.baseAddress, bytes.count, digest.baseAddress, &count, EVP_sha256(), nil)
        return Array(digest.prefix(Int(count)))
      }
    #endif
  }
}

/// What a `fingerprint` begins with: others are of earlier versions, and say nothing.
package let fingerprintVersion = "3-"

/// A short hash of files' sizes and contents, of gigabytes in a moment: all of a file up to 64 MB, else 4096 pieces of
/// 4 KB evenly over it. So it tells models whose weights differ in a run of bytes longer than 1/4096 of a file.
///
/// - Throws: a `FileError` when a file cannot be read.
package func fingerprint(of files: [URL]) throws -> String {
  let (pieces, pieceSize, whole) = (4096, 1 << 12, 1 << 26)
  var bytes: [UInt8] = []
  for url in files {
    let file = try MappedFile(url)
    let size = file.bytes.count
    bytes += Array("\(size)\n".utf8)
    guard size > whole else {
      bytes += file.bytes
      continue
    }
    for i in 0..<pieces {
      let first = (size - pieceSize) * i / (pieces - 1)
      bytes += file.bytes[first..<first + pieceSize]
    }
  }
  return fingerprintVersion + SHA256.hexadecimal(bytes).prefix(16)
}
