import CTorch

/// An element type, numbered as libtorch numbers it.
public enum DType: Int32, Sendable, CaseIterable {
  case uint8 = 0
  case int8 = 1
  case int16 = 2
  case int32 = 3
  case int64 = 4
  case float16 = 5
  case float32 = 6
  case float64 = 7
  case bool = 11
  case bfloat16 = 15

  /// Bytes per element.
  public var size: Int {
    switch self {
    case .uint8, .int8, .bool: 1
    case .int16, .float16, .bfloat16: 2
    case .int32, .float32: 4
    case .int64, .float64: 8
    }
  }

  /// Whether it holds fractions, and so can have gradients.
  public var isFloating: Bool {
    switch self {
    case .float16, .float32, .float64, .bfloat16: true
    default: false
    }
  }
}

/// Where a tensor lives.
public enum Device: Hashable, Sendable, CustomStringConvertible {
  case cpu
  case cuda(Int)
  case mps

  /// Reads `cpu`, `cuda`, `cuda:1`, `mps`.
  public init?(_ text: String) {
    switch text {
    case "cpu": self = .cpu
    case "cuda": self = .cuda(0)
    case "mps": self = .mps
    default:
      guard text.hasPrefix("cuda:"), let n = Int(text.dropFirst(5)), (0..<128).contains(n) else {
        return nil
      }
      self = .cuda(n)
    }
  }

  /// The name that `init(_:)` reads.
  public var description: String {
    switch self {
    case .cpu: "cpu"
    case .cuda(let n): "cuda:\(n)"
    case .mps: "mps"
    }
  }

  /// Whether this libtorch and this machine have it.
  public var isAvailable: Bool {
    switch self {
    case .cpu: true
    case .cuda(let n): n >= 0 && n < Int(ct_cuda_device_count())
    case .mps: ct_mps_available()
    }
  }

  /// Every device that can be used here.
  public static var available: [Device] {
    [.cpu] + (0..<Int(ct_cuda_device_count())).map { .cuda($0) } + (ct_mps_available() ? [.mps] : [])
  }

  /// Why there is no such device here, where something can be said; nil when there is.
  public var problem: String? {
    guard !isAvailable else { return nil }
    switch self {
    case .cpu: return nil
    case .mps: return "this libtorch or this machine has no MPS"
    case .cuda(let n):
      let count = Int(ct_cuda_device_count())
      if count > 0 { return "there are \(count), from cuda:0 to cuda:\(count - 1), and no cuda:\(n)" }
      let reason = String(cString: ct_cuda_problem())
      return reason.hasPrefix("libtorch_cuda.so: cannot open")
        ? "this libtorch was built without CUDA; build with LIBTORCH at one that has it" : reason
    }
  }

  var code: (type: Int32, index: Int32) {
    switch self {
    case .cpu: (Int32(CT_CPU), 0)
    case .cuda(let n): (Int32(CT_CUDA), Int32(clamping: n))
    case .mps: (Int32(CT_MPS), 0)
    }
  }
}

/// How a 4-dimensional tensor lies in memory.
public enum MemoryFormat: Int32, Sendable {
  case contiguous = 0
  case preserve = 1
  case channelsLast = 2
}

/// Settings of the process.
public enum Runtime {
  /// libtorch's own version, such as `2.13.0`.
  public static var version: String { String(cString: ct_version()) }

  /// The versions that every test was run with, oldest first; `scripts/setup.py` fetches one of these. Others from
  /// 2.11 on are taken as they are.
  public static let testedVersions = ["2.11.0", "2.13.0", "2.15.0"]

  /// `version` where it is none of `testedVersions`, for a program to tell its user; else nil.
  public static var untestedVersion: String? { testedVersions.contains(version) ? nil : version }

  /// Threads that one operation may use.
  public static var threads: Int { Int(ct_threads()) }

  /// The most threads that `setThreads` takes.
  public static let maximumThreads = 1024

  /// Lets one operation use up to `n` threads; throws outside 1…`maximumThreads`.
  public static func setThreads(_ n: Int) throws {
    guard (1...maximumThreads).contains(n) else {
      throw TorchError("\(n) threads: give a number from 1 to \(maximumThreads)")
    }
    try check(ct_set_threads(Int32(n)))
  }

  /// Whether CUDA may round the factors of fp32 products to 10 bits (TF32), which is several times
  /// faster; off at first. Nothing else than CUDA knows it.
  public static func allowTF32(_ on: Bool) throws { try check(ct_allow_tf32(on)) }

  /// Keeps freed memory in the process, where a tensor of the same size takes its place; call it first in
  /// `main`. Large tensors are otherwise mapped anew, page by page, at every allocation.
  public static func tuneAllocator() { ct_tune_allocator() }
}
