#if canImport(CryptoKit)
  import CryptoKit
  import Foundation
#else
  import COpenSSL
#endif

/// A hash of bytes that come piece by piece, by the system's library.
package final class Digest {
  package enum Kind: Sendable {
    /// What git names its objects by.
    case sha1
    case sha256
  }

  #if canImport(CryptoKit)
    private var sha1 = Insecure.SHA1()
    private var sha256 = CryptoKit.SHA256()
    private let kind: Kind

    package init(_ kind: Kind) throws { self.kind = kind }

    package func update(_ bytes: UnsafeRawBufferPointer) {
      if kind == .sha1 { sha1.update(bufferPointer: bytes) } else { sha256.update(bufferPointer: bytes) }
    }

    private func finished() -> [UInt8] { kind == .sha1 ? Array(sha1.finalize()) : Array(sha256.finalize()) }
  #else
    private let context: OpaquePointer

    /// - Throws: `FileError` where the system's library refuses the hash.
    package init(_ kind: Kind) throws {
      guard let context = EVP_MD_CTX_new() else { throw FileError("there is no memory left for a checksum") }
      self.context = context
      guard EVP_DigestInit_ex(context, kind == .sha1 ? EVP_sha1() : EVP_sha256(), nil) == 1 else {
        throw FileError("OpenSSL does not compute \(kind == .sha1 ? "SHA-1" : "SHA-256") on this system")
      }
    }

    deinit { EVP_MD_CTX_free(context) }

    package func update(_ bytes: UnsafeRawBufferPointer) {
      EVP_DigestUpdate(context, bytes.baseAddress, bytes.count)
    }

    private func finished() -> [UInt8] {
      withUnsafeTemporaryAllocation(of: UInt8.self, capacity: Int(EVP_MAX_MD_SIZE)) { digest in
        var count: UInt32 = 0
        EVP_DigestFinal_ex(context, digest.baseAddress, &count)
        return Array(digest.prefix(Int(count)))
      }
    }
  #endif

  package func update(_ text: String) {
    var text = text
    text.withUTF8 { update(UnsafeRawBufferPointer($0)) }
  }

  /// The hash in hexadecimal digits; to be asked for once, at the end.
  package func hexadecimal() -> String {
    finished().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }
}
