public import Foundation

/// Where the repository and its test data lie.
public enum Fixtures {
  public static let repository = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
  public static let data = repository.appending(path: "Tests/Fixtures/data")
  public static let miniSD = repository.appending(path: "Models/mini-sd")
  public static let examples = repository.appending(path: "Examples")

  /// A checkpoint of the authors' code.
  public static func authors(_ path: String) -> URL {
    repository.appending(path: "Tests/Fixtures/authors/\(path)")
  }

  /// `section/file` of the golden data.
  public static func url(_ path: String) -> URL { data.appending(path: path) }
}
