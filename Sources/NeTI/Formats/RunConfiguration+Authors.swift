import Files

// The settings that a checkpoint of NeTI's authors carries under `cfg`: their `training/config.py`,
// whose groups and names our table has.
extension RunConfiguration {
  /// What their file says where a concept says nothing: their defaults, or anything for what their loader
  /// asks for in vain.
  static let authors: RunConfiguration = {
    var c = RunConfiguration()
    c.log.expName = "neti"
    c.data.trainDataDir = "images"
    c.data.resolution = 512
    c.model.pretrainedModelNameOrPath = authorsModel
    c.eval.validationPrompts = ["A photo of a {}"]
    return c
  }()
  static let authorsModel = "CompVis/stable-diffusion-v1-4"

  /// Reads `cfg`: what is absent or None has their default, what is unknown is passed over. Throws a
  /// `NeTIError` that names the key of a value of the wrong type or outside its range.
  init(authors cfg: PickleValue) throws {
    self = .authors
    for setting in Self.settings where setting.inTheirs == .kept {
      switch setting.path.reduce(Optional(cfg), { $0?[$1] }) {
      case nil, .none?: break
      case let found?:
        let value = ConfigurationValue(found, isText: setting.isText)
        guard let value, setting.read(&self, value) else {
          throw NeTIError(
            "\(setting.name) must be \(setting.expectation), not \(value?.shown ?? found.kind)")
        }
      }
      try setting.check(self)
    }
  }

  /// The complete `cfg` that their loader expects: it refuses fields it does not know, and needs some
  /// that mean nothing here. Nothing is in it of the machine and the run.
  var authorsConfiguration: PickleValue {
    Self.grouped(
      Self.settings.filter { $0.inTheirs != .absent }.map { setting in
        let own = setting.inTheirs == .kept ? setting.write(self) : .null
        return (setting.path[...], PickleValue(own.isNull ? setting.write(.authors) : own))
      })
  }

  /// Neighbours with the same first name as a dictionary of that name.
  private static func grouped(_ members: [(path: ArraySlice<String>, value: PickleValue)]) -> PickleValue {
    var entries: [PickleEntry] = []
    var rest = members[...]
    while let first = rest.first, let name = first.path.first {
      let group = rest.prefix { $0.path.first == name }
      rest = rest.dropFirst(group.count)
      let inner = group.map { (path: $0.path.dropFirst(), value: $0.value) }
      entries.append(PickleEntry(name, first.path.count == 1 ? first.value : grouped(inner)))
    }
    return .dictionary(entries, ordered: false)
  }
}

extension ConfigurationValue {
  /// A plain value of Python's, which is text where the setting is text and nowhere else; nil for others.
  fileprivate init?(_ value: PickleValue, isText: Bool) {
    switch value {
    case .bool(let flag): self = .bool(flag)
    case .int(let number): self = .int(number)
    case .float(let number): self = .double(number)
    case .string(let text) where isText: self = .text(text)
    default: return nil
    }
  }
}

extension PickleValue {
  fileprivate init(_ value: ConfigurationValue) {
    switch value {
    case .null: self = .none
    case .bool(let flag): self = .bool(flag)
    case .int(let number): self = .int(number)
    case .double(let number): self = .float(number)
    case .text(let text), .word(let text): self = .string(text)
    case .list(let items): self = .list(items.map { PickleValue($0) })
    }
  }
}
