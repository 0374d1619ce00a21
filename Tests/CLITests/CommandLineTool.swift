import Foundation
import TestSupport

/// The built executable, run as a user would.
struct CommandLineTool {
  struct Result {
    let code: Int32
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
    let process = Process()
    process.executableURL = executable
    process.arguments = arguments
    process.currentDirectoryURL = folder
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let (out, err) = (Pipe(), Pipe())
    process.standardOutput = out
    process.standardError = err
    process.standardInput = FileHandle.nullDevice
    try process.run()
    // Standard error is read on another thread, so that neither pipe can fill up and stop the process.
    let errors = DispatchQueue(label: "stderr")
    nonisolated(unsafe) var errorData = Data()
    errors.async { errorData = err.fileHandleForReading.readDataToEndOfFile() }
    let output = out.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    errors.sync {}
    return Result(
      code: process.terminationStatus, output: String(decoding: output, as: UTF8.self),
      error: String(decoding: errorData, as: UTF8.self))
  }
}
