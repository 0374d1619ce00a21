/// A small bitmap font, drawn for this project: printable ASCII in cells of 5 × 9, the lower two rows for
/// descenders. Characters are as wide as their ink.
enum Font {
  static let height = 9
  /// Rows from a capital's top to the base line.
  static let ascent = 7
  static let lineHeight = 12
  private static let cellWidth = 5
  private static let spaceWidth = 3
  /// Between letters.
  private static let gap = 1

  struct Glyph {
    let width: Int
    /// Set pixels, as column and row.
    let ink: [(x: Int, y: Int)]
  }

  /// Draws one line at a scale; (x, y) is the left end of the capitals' upper edge.
  static func draw(_ text: String, on picture: inout Picture, x: Int, y: Int, scale: Int, _ colour: Colour) {
    var left = x
    for glyph in glyphs(text) {
      for p in glyph.ink {
        picture.fill(x: left + p.x * scale, y: y + p.y * scale, width: scale, height: scale, colour)
      }
      left += (glyph.width + gap) * scale
    }
  }

  /// The width of one line in pixels.
  static func width(_ text: String, scale: Int) -> Int {
    max(0, glyphs(text).reduce(0) { $0 + $1.width + gap } - gap) * scale
  }

  /// Lines no wider than `width`, broken at spaces, or inside words that are too long; at most `lines`, the last
  /// with an ellipsis when something is left out.
  static func wrap(_ text: String, width limit: Int, lines: Int, scale: Int) -> [String] {
    var result: [String] = []
    var line = ""
    for word in text.split(whereSeparator: \.isWhitespace) {
      var rest = line.isEmpty ? String(word) : line + " " + word
      if width(rest, scale: scale) > limit, !line.isEmpty {
        result.append(line)
        rest = String(word)
      }
      while width(rest, scale: scale) > limit, rest.count > 1 {
        let part = prefix(of: rest, width: limit, scale: scale)
        result.append(part)
        rest.removeFirst(part.count)
        if result.count > lines { break }
      }
      line = rest
      if result.count > lines { break }
    }
    if !line.isEmpty { result.append(line) }
    guard result.count > lines else { return result }
    guard lines > 0 else { return [] }
    return result[..<(lines - 1)] + [ellipsised(result[lines - 1], width: limit, scale: scale)]
  }

  private static func ellipsised(_ text: String, width limit: Int, scale: Int) -> String {
    let dots = "..."
    let room = limit - width(dots, scale: scale) - gap * scale
    return (width(text, scale: scale) <= room ? text : prefix(of: text, width: room, scale: scale)) + dots
  }

  /// As many characters as fit, at least one.
  private static func prefix(of text: String, width limit: Int, scale: Int) -> String {
    var part = ""
    for character in text {
      if !part.isEmpty, width(part + String(character), scale: scale) > limit { break }
      part.append(character)
    }
    return part
  }

  // MARK: - Glyphs

  private static func glyphs(_ text: String) -> [Glyph] {
    text.unicodeScalars.flatMap { scalar -> [Glyph] in
      if let ascii = substitutes[scalar] { return ascii.unicodeScalars.map { table[Int($0.value) - 32] } }
      // The last entry is the box for what is not known.
      return [32..<127 ~= scalar.value ? table[Int(scalar.value) - 32] : table[table.count - 1]]
    }
  }

  private static let substitutes: [Unicode.Scalar: String] = [
    "\u{2013}": "-", "\u{2014}": "-", "\u{2212}": "-", "\u{2018}": "'", "\u{2019}": "'", "\u{201C}": "\"",
    "\u{201D}": "\"", "\u{2026}": "...", "\u{00D7}": "x", "\u{00B7}": "-", "\n": " ", "\t": " ",
  ]

  private static let table: [Glyph] = art.split(separator: "\n\n").flatMap { band -> [Glyph] in
    let rows = band.split(separator: "\n").map { Array($0.utf8) }
    let count = ((rows.first?.count ?? 0) + 1) / (cellWidth + 1)
    return (0..<count).map { glyph(rows, from: $0 * (cellWidth + 1)) }
  }

  private static func glyph(_ rows: [[UInt8]], from column: Int) -> Glyph {
    var ink: [(x: Int, y: Int)] = []
    for (y, row) in rows.enumerated() {
      for x in 0..<cellWidth where row[column + x] == UInt8(ascii: "#") { ink.append((x, y)) }
    }
    guard let left = ink.map(\.x).min(), let right = ink.map(\.x).max() else {
      return Glyph(width: spaceWidth, ink: [])
    }
    return Glyph(width: right - left + 1, ink: ink.map { ($0.x - left, $0.y) })
  }

  /// Characters 32 to 126 and the box, 16 in a band.
  private static let art = """
    ..... ..#.. .#.#. .#.#. ..#.. ##..# .##.. ..#.. ...#. .#... ..... ..... ..... ..... ..... ....#
    ..... ..#.. .#.#. .#.#. .#### ##..# #..#. ..#.. ..#.. ..#.. ..#.. ..#.. ..... ..... ..... ...#.
    ..... ..#.. .#.#. ##### #.#.. ...#. #..#. ..#.. .#... ...#. #.#.# ..#.. ..... ..... ..... ...#.
    ..... ..#.. ..... .#.#. .###. ..#.. .##.. ..... .#... ...#. .###. ##### ..... .###. ..... ..#..
    ..... ..#.. ..... ##### ..#.# .#... #.#.# ..... .#... ...#. #.#.# ..#.. ..... ..... ..... .#...
    ..... ..... ..... .#.#. ####. #..## #..#. ..... ..#.. ..#.. ..#.. ..#.. ..#.. ..... ..... .#...
    ..... ..#.. ..... .#.#. ..#.. #..## .##.# ..... ...#. .#... ..... ..... ..#.. ..... ..#.. #....
    ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .#... ..... ..... .....
    ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .....

    .##.. ..#.. .###. .###. ...#. ##### ..##. ##### .###. .###. ..... ..... ...#. ..... .#... .###.
    #..#. .##.. #...# #...# ..##. #.... .#... ....# #...# #...# ..... ..... ..#.. ..... ..#.. #...#
    #..#. ..#.. ....# ....# .#.#. ####. #.... ...#. #...# #...# ..#.. ..#.. .#... ##### ...#. ....#
    #..#. ..#.. ...#. ..##. #..#. ....# ####. ..#.. .###. .#### ..... ..... #.... ..... ....# ...#.
    #..#. ..#.. ..#.. ....# ##### ....# #...# ..#.. #...# ....# ..... ..... .#... ##### ...#. ..#..
    #..#. ..#.. .#... #...# ...#. #...# #...# ..#.. #...# ...#. ..... ..#.. ..#.. ..... ..#.. .....
    .##.. .###. ##### .###. ...#. .###. .###. ..#.. .###. .##.. ..#.. ..#.. ...#. ..... .#... ..#..
    ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .#... ..... ..... ..... .....
    ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .....

    .###. .###. ####. .###. ####. ##### ##### .###. #...# .###. ..### #...# #.... #...# #...# .###.
    #...# #...# #...# #...# #...# #.... #.... #...# #...# ..#.. ...#. #..#. #.... ##.## ##..# #...#
    #.### #...# #...# #.... #...# #.... #.... #.... #...# ..#.. ...#. #.#.. #.... #.#.# ##..# #...#
    #.#.# ##### ####. #.... #...# ####. ####. #.### ##### ..#.. ...#. ##... #.... #.#.# #.#.# #...#
    #.### #...# #...# #.... #...# #.... #.... #...# #...# ..#.. ...#. #.#.. #.... #...# #..## #...#
    #.... #...# #...# #...# #...# #.... #.... #...# #...# ..#.. #..#. #..#. #.... #...# #..## #...#
    .#### #...# ####. .###. ####. ##### #.... .#### #...# .###. .##.. #...# ##### #...# #...# .###.
    ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .....
    ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .....

    ####. .###. ####. .#### ##### #...# #...# #...# #...# #...# ##### .###. #.... .###. ..#.. .....
    #...# #...# #...# #.... ..#.. #...# #...# #...# #...# #...# ....# .#... .#... ...#. .#.#. .....
    #...# #...# #...# #.... ..#.. #...# #...# #...# .#.#. .#.#. ...#. .#... .#... ...#. #...# .....
    ####. #...# ####. .###. ..#.. #...# #...# #.#.# ..#.. ..#.. ..#.. .#... ..#.. ...#. ..... .....
    #.... #.#.# #.#.. ....# ..#.. #...# .#.#. #.#.# .#.#. ..#.. .#... .#... ...#. ...#. ..... .....
    #.... #..#. #..#. ....# ..#.. #...# .#.#. ##.## #...# ..#.. #.... .#... ...#. ...#. ..... .....
    #.... .##.# #...# ####. ..#.. .###. ..#.. #...# #...# ..#.. ##### .###. ....# .###. ..... .....
    ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... #####
    ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .....

    .#... ..... #.... ..... ....# ..... ..##. ..... #.... ..#.. ...#. #.... .#... ..... ..... .....
    ..#.. ..... #.... ..... ....# ..... .#... ..... #.... ..... ..... #.... .#... ..... ..... .....
    ...#. .###. ####. .#### .#### .###. ####. .#### ####. ..#.. ...#. #..#. .#... ##.#. ####. .###.
    ..... ....# #...# #.... #...# #...# .#... #...# #...# ..#.. ...#. #.#.. .#... #.#.# #...# #...#
    ..... .#### #...# #.... #...# ##### .#... #...# #...# ..#.. ...#. ##... .#... #.#.# #...# #...#
    ..... #...# #...# #.... #...# #.... .#... #...# #...# ..#.. ...#. #.#.. .#... #.#.# #...# #...#
    ..... .#### ####. .#### .#### .###. .#... .#### #...# ..#.. ...#. #..#. ..#.. #.#.# #...# .###.
    ..... ..... ..... ..... ..... ..... ..... ....# ..... ..... ...#. ..... ..... ..... ..... .....
    ..... ..... ..... ..... ..... ..... ..... .###. ..... ..... .##.. ..... ..... ..... ..... .....

    ..... ..... ..... ..... .#... ..... ..... ..... ..... ..... ..... ..##. ..#.. .##.. ..... #####
    ..... ..... ..... ..... .#... ..... ..... ..... ..... ..... ..... ..#.. ..#.. ..#.. ..... #...#
    ####. .#### #.##. .#### ####. #...# #...# #...# #...# #...# ##### ..#.. ..#.. ..#.. .##.# #.#.#
    #...# #...# ##... #.... .#... #...# #...# #.#.# .#.#. #...# ...#. .#... ..#.. ...#. #.##. #...#
    #...# #...# #.... .###. .#... #...# .#.#. #.#.# ..#.. #...# ..#.. ..#.. ..#.. ..#.. ..... #.#.#
    #...# #...# #.... ....# .#... #...# .#.#. #.#.# .#.#. #...# .#... ..#.. ..#.. ..#.. ..... #...#
    ####. .#### #.... ####. ..##. .#### ..#.. .#.#. #...# .#### ##### ..##. ..#.. .##.. ..... #####
    #.... ....# ..... ..... ..... ..... ..... ..... ..... ....# ..... ..... ..#.. ..... ..... .....
    #.... ....# ..... ..... ..... ..... ..... ..... ..... .###. ..... ..... ..... ..... ..... .....
    """
}
