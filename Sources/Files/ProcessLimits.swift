import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// What the system lets this process have. Where it is too little, the libraries that all is built on end the
/// process without a word.
package enum ProcessLimits {
  /// Files that are open at once while a model is loaded, and what a library may add.
  private static let files = 32
  /// What a process of ours takes beside a model.
  private static let bytes = 256.0 * 1024 * 1024

  /// Threads beside those that compute: signals, lost files, deep configurations, gradients, what Dispatch adds.
  package static let threads = 8

  /// Bytes of addresses that the process may still take (`ulimit -v`); nil where there is no such limit.
  package static func addressSpaceLeft() -> Double? {
    func numbers(_ file: String, _ line: String) -> [Double] {
      let text = (try? String(contentsOfFile: file, encoding: .utf8)) ?? ""
      let found = text.split(separator: "\n").first { $0.hasPrefix(line) }
      return found?.dropFirst(line.count).split(whereSeparator: \.isWhitespace).compactMap { Double($0) }
        ?? []
    }
    guard let most = numbers("/proc/self/limits", "Max address space").first,
      let used = numbers("/proc/self/status", "VmSize:").first
    else { return nil }
    return max(0, most - used * 1024)
  }

  /// Throws a `FileError` where it is less than any work needs.
  package static func require() throws {
    var opened: [Int32] = []
    defer { for o in opened { close(o) } }
    while opened.count < files {
      let descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
      guard descriptor >= 0 else {
        throw systemError(
          "only \(opened.count) more files can be opened, and neti needs \(files): allow more (ulimit -n 1024)"
        )
      }
      opened.append(descriptor)
    }
    if let left = addressSpaceLeft(), left < bytes {
      throw FileError(
        "the limit of memory (ulimit -v) leaves \(Int(left) >> 20) MiB, and neti needs \(Int(bytes) >> 20) MiB beside "
          + "a model: raise it")
    }
    try requireThreads(threads)
  }

  /// Throws one line where not so many threads can be started: Foundation, Dispatch and OpenMP wait for one that
  /// never comes.
  ///
  /// - Parameter remedy: what needs fewer, where something does.
  package static func requireThreads(_ threads: Int, remedy: String = "") throws {
    let started = threadsThatStart(of: threads)
    guard started == threads else {
      throw FileError(
        "only \(started) more threads can be started, and neti needs \(threads): allow more (ulimit -u, or the limit of "
          + "its control group)\(remedy)")
    }
  }

  /// How many of `threads` the system starts at the same time.
  private static func threadsThatStart(of threads: Int) -> Int {
    // Each waits for the other end to be closed.
    var gate: [Int32] = [-1, -1]
    guard pipe(&gate) == 0 else { return threads }
    var started: [pthread_t] = []
    while started.count < threads, let thread = start(waitingFor: gate[0]) { started.append(thread) }
    close(gate[1])
    for thread in started { pthread_join(thread, nil) }
    close(gate[0])
    return started.count
  }

  /// A thread that waits for the end of a file; nil where the system has none left.
  private static func start(waitingFor file: Int32) -> pthread_t? {
    #if canImport(Darwin)
      var thread: pthread_t?
    #else
      var thread = pthread_t()
    #endif
    let problem = pthread_create(
      &thread, nil,
      { file in
        var byte: UInt8 = 0
        _ = read(Int32(Int(bitPattern: file)), &byte, 1)
        return nil
      }, UnsafeMutableRawPointer(bitPattern: Int(file)))
    return problem == 0 ? thread : nil
  }
}
