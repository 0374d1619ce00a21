import Files
import Foundation
import TestSupport
import Testing

@Suite struct WrittenPathTests {
  @Test("the parts of a path are those that the system sees")
  func parts() {
    #expect("a//b/".pathParts == ["a", "", "b", ""])
    #expect("../\u{338}x".pathParts == ["..", "\u{338}x"])
    #expect("a/\u{338}".hasSlash && !"a\u{338}".hasSlash)
  }

  private let environment = ["HOME": "/home/me", "DATA": "/data", "name": "toy", "EMPTY": ""]

  @Test(arguments: [
    ("~", "/home/me"), ("~/toy", "/home/me/toy"), ("$HOME/toy", "/home/me/toy"),
    ("${DATA}/$name-1/x", "/data/toy-1/x"),
    ("a/~/b~", "a/~/b~"), ("./~/toy", "./~/toy"), ("/plain/path", "/plain/path"), ("", ""),
    ("org/name", "org/name"),
    ("cost$", "cost$"), ("$1/x", "$1/x"), ("toy=$DATA/x", "toy=/data/x"),
    ("~nobody-by-this-name/x", "~nobody-by-this-name/x"),
  ])
  func whatAShellWouldReadIsRead(_ written: String, _ expected: String) throws {
    #expect(try expandedPath(written, environment: environment) == expected)
  }

  @Test func anotherUsersHomeIsFound() throws {
    #expect(try expandedPath("~root/x", environment: environment).hasSuffix("root/x"))
    #expect(try !expandedPath("~root/x", environment: environment).hasPrefix("~"))
  }

  @Test func aVariableThatIsNotSetIsNamed() throws {
    for path in ["$NOT_SET/x", "/a/${NOT_SET}", "$EMPTY/x"] {
      let error = try #require(throws: FileError.self) { try expandedPath(path, environment: environment) }
      #expect(error.message.hasPrefix("“\(path)”: the variable ") && error.message.contains("is not set"))
    }
  }

  @Test func aPartThatExistsAsItIsWrittenStays() throws {
    let scratch = try Scratch()
    let folder = scratch.file("$name")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let path = folder.appending(path: "new").path
    #expect(try expandedPath(path, environment: environment) == path)
  }
}
