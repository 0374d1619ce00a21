import Foundation
import TestSupport
import Testing

@Suite("The command line")
struct UsageTests {
  @Test("tells its own version, libtorch's and the devices")
  func version() throws {
    let r = try CommandLineTool.run(["--version"], in: Fixtures.repository)
    #expect(r.code == 0)
    #expect(r.output.contains("libtorch 2.13") && r.output.contains("cpu"))
  }

  @Test(
    "answers wrong usage with exit code 64 and a line that says what",
    arguments: [
      ["generate", "--prompt", "a cat", "--steps", "0"], ["generate", "--prompt", "a cat", "--seed", "x"],
      ["generate", "--prompt", "a {}", "--concept", "c", "--truncation", "129"],
      ["generate", "--prompt", "a {}", "--concept", "c", "--truncation", "0"], ["generate"], ["paint"],
      ["train", "--images", "x", "--token", "<x>"], ["train", "--resume"],
    ])
  func usage(_ arguments: [String]) throws {
    let r = try CommandLineTool.run(arguments, in: Fixtures.repository)
    #expect(r.code == 64, "\(r.error)")
    #expect(r.error.contains("Error:"))
    #expect(r.output.isEmpty)
  }
}
