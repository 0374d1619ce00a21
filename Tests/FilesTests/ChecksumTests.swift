import Files
import Testing

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
