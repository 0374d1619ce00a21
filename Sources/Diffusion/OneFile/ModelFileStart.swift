import Files

/// A file that lies elsewhere, known by its first bytes: safetensors declare all tensors there, and names and shapes tell
/// which model they are. So nobody waits for gigabytes of one that is refused.
package enum ModelFileStart {
  /// Bytes that are asked for at most; SDXL's names take some 300 kB.
  package static let maximumBytes = 4 << 20

  /// Refuses what is no model, in the words that the file would be refused with on the disk. What cannot be told so is
  /// let pass: other formats, a start that cannot be had, a header that is too long to ask for.
  ///
  /// - Parameters:
  ///   - place: what messages call the file.
  ///   - size: bytes of the file.
  ///   - start: gives as many of its first bytes as it is asked for; nil where they cannot be had.
  /// - Throws: `DiffusionError` in one line.
  package static func check(_ place: String, size: Int, start: (Int) -> [UInt8]?) throws {
    struct Untold: Error {}
    // The length of a header, and how that begins.
    let least = 9
    guard size >= least, let first = start(least), first.last == UInt8(ascii: "{") else { return }
    do {
      let declared = try SafetensorsDeclarations(of: place, advice: "", size: size) { count in
        if count < least { return Array(first.prefix(count)) }
        guard count <= maximumBytes, let bytes = start(count) else { throw Untold() }
        return bytes
      }
      let names = try TensorNames(declared.tensors, in: place)
      _ = try ModelFile.family(names)
      try names.requireKnown()
    } catch is Untold {
      return
    } catch let error as FileError {
      throw DiffusionError("\(error.message); it was not downloaded")
    } catch let error as DiffusionError {
      throw DiffusionError("\(error.message); it was not downloaded")
    }
  }
}
