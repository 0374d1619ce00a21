import Files
import Foundation
import TestSupport
import Testing

@Suite("A file's fingerprint")
struct FingerprintTests {
  @Test(
    "tells one byte in a file of megabytes, and 1/4096 of a larger one",
    arguments: [1 << 20, (1 << 26) + 4099])
  func changes(size: Int) throws {
    let scratch = try Scratch()
    let file = scratch.file("weights")
    var bytes = [UInt8](repeating: 7, count: size)
    try Data(bytes).write(to: file)
    let before = try fingerprint(of: [file])
    #expect(before.hasPrefix(fingerprintVersion) && before.count == fingerprintVersion.count + 16)
    let run = size <= 1 << 26 ? 1 : size / 4096 + 1
    for at in [0, size / 3, size - run] {
      for i in at..<at + run { bytes[i] = 8 }
      try Data(bytes).write(to: file)
      #expect(try fingerprint(of: [file]) != before)
      for i in at..<at + run { bytes[i] = 7 }
    }
    try Data(bytes).write(to: file)
    #expect(try fingerprint(of: [file]) == before)
  }
}

@Suite struct SHA256Tests {
  @Test(
    "Hashes are those of the standard's examples, at every length of the last block",
    arguments: [
      ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
      (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
      ),
    ])
  func examples(text: String, expected: String) {
    #expect(SHA256.hexadecimal(Array(text.utf8)) == expected)
  }

  @Test("Lengths around the block size agree with another implementation")
  func lengths() {
    // sha256 over the concatenated hex digests of n bytes 0, 1, 2, … for n in 0..<200 (Python's hashlib).
    let digests = (0..<200).map { n in SHA256.hexadecimal((0..<n).map { UInt8($0) }) }.joined()
    #expect(
      SHA256.hexadecimal(Array(digests.utf8))
        == "7a38a844c9e159de39f0862ee2e28569a8250831150a3fbf0a59c001129b2fb2")
  }
}

@Suite struct DigestTests {
  @Test("Bytes in pieces hash to what FIPS 180-4's examples say, SHA-1 and SHA-256")
  func pieces() throws {
    let text = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
    let expected: [(Digest.Kind, String)] = [
      (.sha1, "84983e441c3bd26ebaae4aa1f95129e5e54670f1"),
      (.sha256, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
    ]
    for (kind, hash) in expected {
      for cut in [0, 1, 55, 56] {
        let digest = try Digest(kind)
        digest.update(String(text.prefix(cut)))
        Array(text.utf8.dropFirst(cut)).withUnsafeBytes { digest.update($0) }
        #expect(digest.hexadecimal() == hash)
      }
    }
    #expect(try Digest(.sha1).hexadecimal() == "da39a3ee5e6b4b0d3255bfef95601890afd80709")
  }
}
