import CZlib

/// What zlib's format (RFC 1950) holds, at most `limit` bytes of it; what follows its end is left alone.
///
/// - Throws: `FileError` where the data is damaged, cut short, or larger.
package func inflated(_ bytes: [UInt8], limit: Int) throws -> [UInt8] {
  var stream = z_stream()
  guard inflateInit_(&stream, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
    throw FileError("zlib cannot be used")
  }
  defer { inflateEnd(&stream) }
  var input = bytes
  var output = [UInt8](repeating: 0, count: 1 << 16)
  var result: [UInt8] = []
  let inputCount = UInt32(clamping: input.count)
  return try input.withUnsafeMutableBufferPointer { source in
    stream.next_in = source.baseAddress
    stream.avail_in = inputCount
    while true {
      let count = UInt32(output.count)
      let status = output.withUnsafeMutableBufferPointer { target in
        stream.next_out = target.baseAddress
        stream.avail_out = count
        return inflate(&stream, Z_NO_FLUSH)
      }
      result += output[..<Int(count - stream.avail_out)]
      guard result.count <= limit else {
        throw FileError("its compressed data has more than \(limit) bytes")
      }
      if status == Z_STREAM_END { return result }
      guard status == Z_OK, stream.avail_out == 0 || stream.avail_in > 0 else {
        throw FileError("its compressed data is damaged or cut short")
      }
    }
  }
}
