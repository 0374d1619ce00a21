import Foundation
import TestSupport
import Testing
import Torch

@Suite("The command line")
struct UsageTests {
  @Test("tells its own version, libtorch's and the devices")
  func version() throws {
    let r = try CommandLineTool.run(["--version"], in: Fixtures.repository)
    #expect(r.code == 0)
    #expect(r.output.contains("libtorch \(Runtime.version)") && r.output.contains("cpu"))
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

  @Test(
    "no example of a command's help is broken by its width",
    arguments: [
      "demo", "train", "generate", "mix", "decompose", "inspect", "convert", "export", "evaluate", "model",
    ])
  func examples(_ command: String) throws {
    let help = try CommandLineTool.run(["help", command], in: Fixtures.repository).output
    let lines = help.split(separator: "\n", omittingEmptySubsequences: false)
    for (line, next) in zip(lines, lines.dropFirst())
    where line.hasPrefix("  neti ") || line.hasPrefix("  {") {
      #expect(next.isEmpty || next.hasPrefix("  "), "\(line)\n\(next)")
    }
  }

  @Test("shows a bar on a terminal that leaves no empty line")
  func terminal() throws {
    let place = try Workplace()
    try place.images()
    let inTerminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    for arguments in [Workplace.train(steps: 2), Workplace.generate("a mug")] {
      let shown = try RunningTool(
        URL(filePath: "/usr/bin/env"),
        ["python3", "-c", inTerminal, CommandLineTool.executable.path] + arguments,
        in: place.folder
      ).wait()
      #expect(shown.code == 0, "\(shown.output)")
      #expect(shown.output.contains("█ \(arguments[0] == "train" ? "2/2" : "1/1")"), "\(shown.output)")
      // What train says at its end has an empty line before it.
      let most = arguments[0] == "train" ? "\r\n\r\n" : "\r\n"
      #expect(!shown.output.contains(most + "\r\n"), "\(shown.output)")
    }
  }

  @Test("says why there is no CUDA device", .enabled(if: !Device.cuda(0).isAvailable))
  func cuda() throws {
    for (device, more, words) in [
      ("cuda", [], "--device cuda: not available here ("), ("cuda:x", [], "there are cpu, cuda, cuda:N"),
      ("cpu", ["--precision", "tf32"], "only CUDA knows it"),
    ] {
      let r = try CommandLineTool.run(
        ["generate", "--prompt", "a cat", "--device", device] + more, in: Fixtures.repository)
      #expect(r.code == 64 && r.error.contains(words), "\(r.error)")
    }
  }

  @Test("the script of a check out says that a build failed, and leaves nothing of it")
  func failedBuild() throws {
    let place = try Workplace()
    try FileManager.default.copyItem(
      at: Fixtures.repository.appending(path: "neti"), to: place.path("neti"))
    try place.file("", "scripts/setup.py")
    let swift = try place.file("#!/bin/sh\nexit 1\n", "bin/swift").path
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: swift)
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
    let r = try RunningTool(
      URL(filePath: "/bin/sh"), ["neti", "--version"], in: place.folder,
      environment: ["PATH": "\(place.path("bin").path):\(path)"]
    ).wait()
    #expect(r.code == 1 && r.error.contains("neti: the build failed"), "\(r.error)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path(".build").path).isEmpty)
  }
}
