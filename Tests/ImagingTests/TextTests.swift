import Foundation
import Imaging
import Testing

/// Which fonts there are is not known here, but that there is one.
@Suite struct TextTests {
  private static let white = Colour(255, 255, 255)
  private static let scripts = [
    "a painting of a cat", "un tableau: naïve café", "μια ζωγραφιά", "рисунок кошки", "猫の絵を描く",
    "صورة قطة على الشاطئ", "ציור של חתול", "बिल्ली का चित्र", "고양이 그림", "🐈👨‍👩‍👧‍👦",
  ]

  /// The text alone on white, with its upper left corner at (20, 20).
  private func page(_ text: Text, turned: Bool = false) throws -> Image {
    let (across, down) = turned ? (text.height, text.width) : (text.width, text.height)
    var page = try Image(width: across + 40, height: down + 40, colour: Self.white)
    if turned {
      text.drawUpwards(on: &page, x: 20, y: 20, Colour(0, 0, 0))
    } else {
      text.draw(on: &page, x: 20, y: 20, Colour(0, 0, 0))
    }
    return page
  }

  /// Columns and rows that hold ink; `nil` when there is none.
  private func ink(_ page: Image, from column: Int = 0) -> (x: ClosedRange<Int>, y: ClosedRange<Int>)? {
    let places = (0..<page.width * page.height).filter {
      $0 % page.width >= column && page.pixels[3 * $0] < 255
    }
    let xs = places.map { $0 % page.width }
    guard let left = xs.min(), let right = xs.max(), let first = places.first, let last = places.last else {
      return nil
    }
    return (left...right, first / page.width...last / page.width)
  }

  @Test(arguments: scripts) func inkIsInsideTheBlock(_ string: String) throws {
    let text = Text(string, width: 400)
    #expect(1...400 ~= text.width)
    let page = try page(text)
    let found = try #require(ink(page))
    // Letters may reach 3 pixels out of their line, to the sides.
    #expect(found.x.lowerBound >= 17 && found.x.upperBound < 20 + text.width + 3)
    #expect(found.y.lowerBound >= 20 && found.y.upperBound < 20 + text.height)
    // Most of the block's width holds ink: it does not start or end somewhere else.
    #expect(found.x.count > text.width * 3 / 4)
    #expect(try self.page(Text(string, width: 400)) == page)
  }

  @Test func scriptsLookDifferent() throws {
    let pages = try Self.scripts.map { try page(Text($0, width: 400)) }
    for i in pages.indices { for j in 0..<i { #expect(pages[i] != pages[j]) } }
    #expect(try page(Text("кот", width: 400)) != page(Text("кит", width: 400)))
  }

  @Test(arguments: scripts, [1, 60, 230]) func linesAreNoWiderThanAsked(_ string: String, width: Int) throws {
    let long = Array(repeating: string, count: 20).joined(separator: " ")
    var last = 0
    for lines in 1...4 {
      let text = Text(long, width: width, lines: lines)
      #expect(text.width <= width)
      #expect(text.height > last)
      last = text.height
      let found = try #require(ink(page(text)))
      #expect(found.x.lowerBound >= 17 && found.x.upperBound < 20 + width + 3)
    }
  }

  @Test func whatIsLeftOutIsAnEllipsis() throws {
    let all = "ONE TWO THREE FOUR FIVE SIX SEVEN"
    let cut = Text(all, width: 200)
    let whole = Text(all, width: 2000)
    #expect(cut.width < whole.width && cut.height == whole.height)
    // It ends with something as wide as an ellipsis that, unlike capitals, is low.
    let dots = Text("…", width: 200).width - 3
    func end(_ text: Text) throws -> ClosedRange<Int> {
      try #require(ink(page(text), from: 20 + text.width - dots)).y
    }
    #expect(try end(whole).count > cut.height / 3)
    #expect(try end(cut).count < cut.height / 4)
    #expect(try end(cut).lowerBound > 20 + cut.height / 2)
    // The last of several lines, too; and where there are lines enough nothing is left out.
    let two = Text(all, width: 100, lines: 2)
    #expect(two.height < Text(all, width: 100, lines: 3).height)
    #expect(try page(two) != page(Text("ONE TWO THREE", width: 100, lines: 2)))
    #expect(try page(Text(all, width: 100, lines: 20)) == page(Text(all, width: 100, lines: 30)))
  }

  @Test func whiteSpaceIsOneSpaceAndTheEmptyTextIsNothing() throws {
    #expect(try page(Text(" a\n\n\tb\r\n\u{2028}c\u{85}", width: 300)) == page(Text("a b c", width: 300)))
    for nothing in ["", " ", "\n\n", "\0", "\u{1B}\u{7}\u{202E}"] {
      let text = Text(nothing, .title, width: 300, lines: 2)
      #expect(text.width == 0 && text.height == 0)
      #expect(try ink(page(text)) == nil)
    }
  }

  @Test func markupAndControlCharactersDoNothing() throws {
    #expect(Text("<b>a</b> &amp; <span size='99999'>", width: 2000).width > Text("a &", width: 2000).width)
    #expect(
      Text("<span size='999999'>a</span>", width: 2000).height
        == Text("span size='999999' a/span", width: 2000).height)
    for inert in ["\0", "\u{1B}", "\u{7}", "\u{9B}", "\u{202E}", "\u{2066}", "\u{200F}", "\u{7F}"] {
      #expect(try page(Text("red \(inert)car\(inert)", width: 300)) == page(Text("red car", width: 300)))
    }
  }

  @Test func veryLongTextsAreSetInLittleTime() throws {
    let every = String.UnicodeScalarView((0..<10_000).compactMap { Unicode.Scalar(UInt32($0 * 111)) })
    let texts = [
      String(repeating: "word ", count: 10_000), String(repeating: "x", count: 10_000),
      "a" + String(repeating: "\u{301}", count: 10_000), String(repeating: "ש a", count: 10_000),
      String(repeating: "👨‍👩‍👧‍👦", count: 10_000), String(repeating: " ", count: 1_000_000) + "x", String(every),
    ]
    let time = try ContinuousClock().measure {
      for text in texts {
        for width in [1, 230, 100_000] {
          let block = Text(text, width: width, lines: 12)
          #expect(block.width <= 8192 && block.height < 1000)
          _ = try page(block)
        }
      }
    }
    #expect(time < .seconds(20))
  }

  @Test func textIsCutAtTheEdgesOfAnImage() throws {
    let text = Text("cut", .title, width: 300)
    let places = [(-10_000, 0), (0, -10_000), (10_000, 5), (-text.width / 2, -text.height / 2), (15, 15)]
    for (x, y) in places {
      var page = try Image(width: 20, height: 20, colour: Self.white)
      text.draw(on: &page, x: x, y: y, Colour(0, 0, 0))
      text.drawUpwards(on: &page, x: x, y: y, Colour(0, 0, 0))
      #expect(page.pixels.count == 1200)
    }
    // A part of a text is that part of the whole.
    let whole = try page(text)
    var part = try Image(width: 20, height: whole.height, colour: Self.white)
    text.draw(on: &part, x: -5, y: 20, Colour(0, 0, 0))
    for x in 0..<20 { for y in 0..<part.height { #expect(part[x, y] == whole[x + 25, y]) } }
  }

  @Test func turnedTextIsReadFromBelow() throws {
    let text = Text("||||||  .", width: 300)
    let page = try page(text, turned: true)
    let found = try #require(ink(page))
    #expect(found.x.lowerBound >= 20 && found.x.upperBound < 20 + text.height)
    #expect(found.y.lowerBound >= 17 && found.y.upperBound < 20 + text.width + 3)
    let rows = found.y.map { y in found.x.count { (page[$0, y]?.red ?? 255) < 128 } }
    // The bars are tall and at the bottom, the full stop is small and at the top.
    #expect(rows.suffix(rows.count / 2).max() ?? 0 > 2 * (rows.prefix(3).max() ?? 0))
  }

  @Test func theColourIsTheOneAskedFor() throws {
    var page = try Image(width: 400, height: 60, colour: Self.white)
    Text("████", .title, width: 300).draw(on: &page, x: 20, y: 10, Colour(200, 30, 90))
    let darkest = (0..<400 * 60).map { page.pixels[3 * $0 + 1] }.min()
    #expect(darkest == 30)
  }

  @Test func everyThreadDrawsTheSame() async throws {
    let expected = try Self.scripts.map { try page(Text($0, width: 200, lines: 3)) }
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for _ in 0..<16 {
        group.addTask { try Self.scripts.map { try page(Text($0, width: 200, lines: 3)) } == expected }
      }
      for try await isSame in group { #expect(isSame) }
    }
  }

  @Test func withoutAnyFontThereIsNoTextAndNoCrash() async {
    await #expect(processExitsWith: .success) {
      let file = FileManager.default.temporaryDirectory.appending(path: "no-fonts-\(UUID().uuidString).conf")
      try Data("<fontconfig></fontconfig>".utf8).write(to: file)
      defer { try? FileManager.default.removeItem(at: file) }
      setenv("FONTCONFIG_FILE", file.path, 1)
      let dot = try Image(width: 8, height: 8, colour: Colour(9, 9, 9))
      let row = Sheet.Row(label: "ein Hund", images: [dot])
      let sheet = Sheet(
        title: "猫", subtitle: "кот", sections: [.init(heading: "<b>", columns: ["a"], rows: [row])])
      let page = try sheet.draw()
      let chart = try BarChart(title: "x", xLabel: "y", yLabel: "z", values: [1, 2]).draw()
      #expect(page.height > 0 && chart.height > 0)
    }
  }
}
