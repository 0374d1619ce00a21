import Files
import Foundation
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A file that loses its end while it is mapped, or a disk that fails below one. The system then raises SIGBUS in the
/// thread that reads what is gone.
///
/// That thread waits, as nothing right can come of its work. Another one says which file it was, saves what there is
/// to save, and ends the process.
enum LostFile {
  /// Where the thread that read tells the address.
  nonisolated(unsafe) private static var pipe: Int32 = -1
  private static let end = Mutex<@Sendable (_ problem: String) -> Void>({ complain($0) })
  /// How long the process may take to end, in seconds.
  private static let patience: UInt32 = 60

  /// What is to be done with a problem from now on, before the process ends with exit code 1: it has to tell it.
  static func onLoss(_ body: @escaping @Sendable (_ problem: String) -> Void) { end.withLock { $0 = body } }

  /// Call once, at the start.
  static func watch() {
    var ends: [Int32] = [-1, -1]
    guard Foundation.pipe(&ends) == 0 else { return }
    for e in ends { _ = fcntl(e, F_SETFD, FD_CLOEXEC) }
    pipe = ends[1]
    let reading = ends[0]
    Thread {
      var address: UInt = 0
      let size = MemoryLayout<UInt>.size
      while read(reading, &address, size) != size {}
      let file =
        MappedFile.path(at: address).map { "a part of \($0) is gone" } ?? "a part of the memory is gone"
      let body = end.withLock { $0 }
      body("\(file): the file was cut short while it was read, or its disk failed; put it back")
      _exit(1)
    }.start()
    typealias Handler =
      @convention(c) (
        Int32, UnsafeMutablePointer<siginfo_t>?, UnsafeMutableRawPointer?
      ) -> Void
    let handler: Handler = { _, info, _ in
      // Nothing here that is not safe in a signal's handler.
      var address = LostFile.address(info)
      _ = write(LostFile.pipe, &address, MemoryLayout<UInt>.size)
      _ = sleep(LostFile.patience)
      _exit(1)
    }
    var action = sigaction()
    #if canImport(Darwin)
      action.__sigaction_u.__sa_sigaction = handler
    #else
      action.__sigaction_handler.sa_sigaction = handler
    #endif
    action.sa_flags = SA_SIGINFO
    sigaction(SIGBUS, &action, nil)
  }

  /// Where it was read.
  private static func address(_ info: UnsafeMutablePointer<siginfo_t>?) -> UInt {
    #if canImport(Darwin)
      return UInt(bitPattern: info?.pointee.si_addr)
    #else
      return UInt(bitPattern: info?.pointee._sifields._sigfault.si_addr)
    #endif
  }
}
