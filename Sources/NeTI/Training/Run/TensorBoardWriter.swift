import Files
public import Foundation

/// Writes scalars and images to an event file that TensorBoard reads.
///
/// A resumed run gets a new file beside the old ones, which begins with a note that hides what the
/// interrupted run wrote from the resumed step on. Formats: tensorflow's `event.proto` and
/// `summary.proto`, written as `torch.utils.tensorboard` writes them.
public final class TensorBoardWriter {
  private let file: AppendOnlyFile
  private let now: () -> Date

  /// Event files of one second in one folder, before the writer gives up.
  private static let largestCounter = 999
  private static let namePrefix = "events.out.tfevents."
  /// Of ten digits, so that names sort as numbers.
  private static let largestSecond = 9_999_999_999

  /// Begins a new event file in `folder`, which must exist.
  ///
  /// `firstStep` is the first step that will be written, when the run goes on from an earlier one.
  /// `now` is the clock. Throws a `NeTIError` when the file cannot be made.
  public init(folder: URL, resumingAt firstStep: Int? = nil, now: @escaping () -> Date = { Date() }) throws {
    self.now = now
    file = try Self.newFile(in: folder, at: now())
    try write(step: 0) { $0.add(Field.fileVersion, text: "brain.Event:2") }
    if let firstStep {
      var session = ProtobufMessage()
      session.add(1, int: 1)  // SessionLog.status = START
      try write(step: firstStep) { $0.add(Field.sessionLog, message: session) }
    }
  }

  /// A number at a step. TensorBoard keeps 32 bits of it.
  public func scalar(_ tag: String, _ value: Double, step: Int) throws {
    try summary(step: step) {
      $0.add(Field.tag, text: tag)
      $0.add(Field.simpleValue, float: Float(value))
    }
  }

  /// An image at a step: the bytes of a PNG (or JPEG) of RGB colours, and its size in pixels.
  public func image(_ tag: String, encoded: Data, width: Int, height: Int, step: Int) throws {
    var image = ProtobufMessage()
    image.add(1, int: height)
    image.add(2, int: width)
    image.add(3, int: 3)  // colorspace: RGB
    image.add(4, bytes: encoded)
    try summary(step: step) {
      $0.add(Field.tag, text: tag)
      $0.add(Field.image, message: image)
    }
  }

  private enum Field {
    // Event
    static let wallTime: UInt64 = 1
    static let step: UInt64 = 2
    static let fileVersion: UInt64 = 3
    static let summary: UInt64 = 5
    static let sessionLog: UInt64 = 7
    // Summary.Value
    static let tag: UInt64 = 1
    static let simpleValue: UInt64 = 2
    static let image: UInt64 = 4
  }

  private func summary(step: Int, value fill: (inout ProtobufMessage) -> Void) throws {
    var value = ProtobufMessage()
    fill(&value)
    var summary = ProtobufMessage()
    summary.add(1, message: value)
    try write(step: step) { $0.add(Field.summary, message: summary) }
  }

  private func write(step: Int, content fill: (inout ProtobufMessage) -> Void) throws {
    var event = ProtobufMessage()
    event.add(Field.wallTime, double: now().timeIntervalSince1970)
    if step != 0 { event.add(Field.step, int: step) }
    fill(&event)
    try file.append(TensorBoardRecord.frame(event.data))
  }

  /// TensorBoard takes any name with `tfevents` in it and reads a folder's files in the order of their
  /// names; the usual name also tells the host, which is nobody's business. Where the clock was set back, the name
  /// goes on from the last file's: what a resumed run hides is what was read before it.
  private static func newFile(in folder: URL, at time: Date) throws -> AppendOnlyFile {
    var second = min(max(Int(time.timeIntervalSince1970), 0), largestSecond)
    if let last = lastSecond(in: folder), last > second { second = min(last + 1, largestSecond) }
    let seconds = String(format: "%010ld", second)
    for counter in 0...largestCounter {
      let name = "\(namePrefix)\(seconds).neti.\(String(format: "%03d", counter))"
      if let file = try AppendOnlyFile(new: folder.appending(path: name)) { return file }
    }
    throw NeTIError("cannot make an event file in \(folder.path): too many of this second are there already")
  }

  /// The latest second in the names of a folder's event files.
  private static func lastSecond(in folder: URL) -> Int? {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.compactMap { name in
      name.hasPrefix(namePrefix) ? Int(name.dropFirst(namePrefix.count).prefix { $0 != "." }) : nil
    }.filter { 0...largestSecond ~= $0 }.max()
  }
}
