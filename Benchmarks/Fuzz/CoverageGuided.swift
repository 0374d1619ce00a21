#if COVERAGE
  import Files
  import Foundation

  // libFuzzer, which every Swift toolchain for Linux brings along, damages the files of one parser. It keeps those that
  // reach code which none before reached, and damages them further. Its `main` is the program's here, and calls these
  // two functions by their names (https://llvm.org/docs/LibFuzzer.html); scripts/fuzz-coverage builds and runs it.

  private struct Examined {
    let target: FuzzTarget
    let file: URL
  }

  /// Set before the first file comes, on the same thread.
  nonisolated(unsafe) private var examined: Examined?

  /// Seconds of the processor, and bytes, that a file may take.
  private let (slow, memory) = (1.0, 1024.0 * 1_048_576)

  /// Puts the sound files of NETI_FUZZ_PARSER into the folder `corpus` of NETI_FUZZ_FOLDER; without a parser it prints
  /// the names of all, and ends.
  @_cdecl("LLVMFuzzerInitialize")
  public func prepare(_ count: UnsafeRawPointer?, _ words: UnsafeRawPointer?) -> CInt {
    let environment = ProcessInfo.processInfo.environment
    let folder = URL(filePath: environment["NETI_FUZZ_FOLDER"] ?? "fuzz")
    do {
      let corpus = folder.appending(path: "corpus")
      try FileManager.default.createDirectory(at: corpus, withIntermediateDirectories: true)
      let targets = try FuzzTarget.all(folder)
      guard let name = environment["NETI_FUZZ_PARSER"] else {
        for target in targets { print(target.name) }
        exit(0)
      }
      guard let target = targets.first(where: { $0.name == name }) else {
        stop("there is no parser “\(name)”")
      }
      examined = Examined(target: target, file: folder.appending(path: target.file))
      for (i, original) in target.originals.enumerated() {
        try original.write(to: corpus.appending(path: "original-\(i)"))
      }
      return 0
    } catch { stop("\(error)") }
  }

  @_cdecl("LLVMFuzzerTestOneInput")
  public func examine(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    guard let examined else { return 0 }
    let data = bytes.map { Data(bytes: $0, count: count) } ?? Data()
    ProcessUse.forgetPeak()
    let before = ProcessUse()
    do {
      try data.write(to: examined.file)
      try examined.target.parse(data)
    } catch is any DescribedError {
    } catch { stop("threw \(type(of: error)): \(error)") }
    let after = ProcessUse()
    if after.seconds - before.seconds > slow { stop("took \(after.seconds - before.seconds) s") }
    if after.peak - before.peak > memory { stop("took \(Int(after.peak - before.peak) >> 20) MiB") }
    return 0
  }

  /// libFuzzer keeps the file of a process that aborts.
  private func stop(_ problem: String) -> Never {
    FileHandle.standardError.write(Data("\(examined?.target.name ?? "fuzz"): \(problem)\n".utf8))
    abort()
  }
#endif
