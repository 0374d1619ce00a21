import Foundation

/// Runs `work` on a thread with a stack of `bytes` and waits for it.
///
/// For parsers that call themselves once a level of nesting: some threads have stacks of 512 KB.
func withLargeStack<T: Sendable>(
  bytes: Int, _ work: @escaping @Sendable () throws -> T
) throws -> T {
  let result = ResultBox<T>()
  let done = DispatchSemaphore(value: 0)
  let thread = Thread {
    result.value = Result { try work() }
    done.signal()
  }
  thread.stackSize = bytes
  thread.start()
  done.wait()
  guard let value = result.value else { throw NeTIError("a thread ended without a result") }
  return try value.get()
}

/// Written before the semaphore is signalled and read after it: never at once.
private final class ResultBox<T>: @unchecked Sendable {
  var value: Result<T, any Error>?
}
