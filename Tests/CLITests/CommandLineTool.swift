import Foundation
import TestSupport

/// The built executable, run as a user would.
struct CommandLineTool {
  struct Result {
    let code: Int32
    /// The process was ended by a signal, as by a crash.
    let killed: Bool
    let output: String
    let error: String
  }

  /// Where the build put `neti`: beside the test bundle.
  static let executable: URL = {
    let folder = Bundle.main.bundleURL
    let beside = [
      folder, folder.deletingLastPathComponent(),
      URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent(),
    ]
    return beside.map { $0.appending(path: "neti") }.first {
      FileManager.default.isExecutableFile(atPath: $0.path)
    }
      ?? folder.appending(path: "neti")
  }()

  /// Runs it in `folder` and waits.
  static func run(_ arguments: [String], in folder: URL, environment: [String: String] = [:]) throws -> Result
  {
    try RunningTool(executable, arguments, in: folder, environment: environment).wait()
  }

  /// Runs it under a shell's `setup`, such as `ulimit -f 1`; `redirect` follows its arguments.
  static func run(
    _ arguments: [String], in folder: URL, setup: String, redirect: String = ""
  ) throws -> Result {
    try RunningTool(
      URL(filePath: "/bin/sh"),
      ["-c", "\(setup)\nexec \"$0\" \"$@\" \(redirect)", executable.path] + arguments, in: folder
    ).wait()
  }

  /// Starts it in `folder`.
  static func start(_ arguments: [String], in folder: URL) throws -> RunningTool {
    try RunningTool(executable, arguments, in: folder)
  }
}

/// A process at work whose output is collected.
final class RunningTool: @unchecked Sendable {
  private let process = Process()
  private let readers = DispatchGroup()
  // Each written by its reader before the group is left, and read after that.
  private var output = Data()
  private var errors = Data()

  init(
    _ executable: URL, _ arguments: [String], in folder: URL, environment: [String: String] = [:]
  ) throws {
    process.executableURL = executable
    process.arguments = arguments
    process.currentDirectoryURL = folder
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let (out, err) = (Pipe(), Pipe())
    process.standardOutput = out
    process.standardError = err
    process.standardInput = FileHandle.nullDevice
    try process.run()
    // Both on threads of their own, so that neither pipe can fill up and stop the process.
    let (readOut, readErr) = (out.fileHandleForReading, err.fileHandleForReading)
    DispatchQueue(label: "stdout").async(group: readers) { [self] in
      output = readOut.readDataToEndOfFile()
    }
    DispatchQueue(label: "stderr").async(group: readers) { [self] in
      errors = readErr.readDataToEndOfFile()
    }
  }

  var isRunning: Bool { process.isRunning }
  var identifier: Int32 { process.processIdentifier }

  func send(_ signal: Int32) { kill(process.processIdentifier, signal) }

  func wait() -> CommandLineTool.Result {
    process.waitUntilExit()
    readers.wait()
    return .init(
      code: process.terminationStatus, killed: process.terminationReason == .uncaughtSignal,
      output: String(decoding: output, as: UTF8.self), error: String(decoding: errors, as: UTF8.self))
  }
}
