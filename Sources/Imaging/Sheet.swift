/// A labelled sheet of pictures: sections one below the other, each a grid of rows with labels under column
/// headings. For example the training pictures in one row, then prompts × seeds.
public struct Sheet: Sendable {
  /// One line of pictures; `nil` leaves a cell empty.
  public struct Row: Sendable {
    public var label: String
    public var pictures: [Picture?]
    public init(label: String = "", pictures: [Picture?]) {
      self.label = label
      self.pictures = pictures
    }
  }

  /// A grid with an optional heading and optional column headings.
  public struct Section: Sendable {
    public var heading: String
    public var columns: [String]
    public var rows: [Row]
    public init(heading: String = "", columns: [String] = [], rows: [Row]) {
      self.heading = heading
      self.columns = columns
      self.rows = rows
    }
  }

  /// How small pictures become visible.
  public enum Enlargement: Sendable {
    /// Bicubic.
    case smooth
    /// Each pixel a square.
    case pixels
  }

  public var title: String
  /// One or two small lines below the title.
  public var subtitle: String
  public var sections: [Section]
  public var enlargement = Enlargement.smooth
  /// The side of a cell in pixels. `nil`: the smallest picture's longer side times 1 to 4, within 96…256.
  public var cell: Int?

  public init(title: String, subtitle: String = "", sections: [Section]) {
    self.title = title
    self.subtitle = subtitle
    self.sections = sections
  }

  /// Draws the sheet. Throws when there is no picture on it, `cell` is not in 8…4096, or it is larger than
  /// `PictureLimits` allow.
  public func draw() throws -> Picture {
    let layout = try Layout(self)
    var page = try Picture(width: layout.width, height: layout.height, colour: Palette.paper)
    var y = Layout.margin
    for line in layout.title {
      Font.draw(line, on: &page, x: Layout.margin, y: y, scale: 3, Palette.ink)
      y += Font.lineHeight * 3
    }
    for line in layout.subtitle {
      Font.draw(line, on: &page, x: Layout.margin, y: y, scale: 2, Palette.quiet)
      y += Layout.line
    }
    for (section, place) in zip(sections, layout.sections) {
      try draw(section, place, layout, on: &page, y: &y)
    }
    return page
  }

  private func draw(
    _ section: Section, _ place: Layout.Place, _ layout: Layout, on page: inout Picture, y: inout Int
  ) throws {
    y += Layout.sectionGap
    if !place.heading.isEmpty {
      page.fill(x: Layout.margin, y: y, width: page.width - 2 * Layout.margin, height: 1, Palette.rule)
      y += 12
    }
    for line in place.heading {
      Font.draw(line, on: &page, x: Layout.margin, y: y, scale: 2, Palette.ink)
      y += Layout.line
    }
    for (column, lines) in place.columns.enumerated() {
      let x = layout.left + column * (layout.cell + Layout.gap)
      // Short headings stand on the pictures.
      var top = y + (place.columnLines - lines.count) * Layout.line
      for line in lines {
        let inset = max(0, layout.cell - Font.width(line, scale: 2)) / 2
        Font.draw(line, on: &page, x: x + inset, y: top, scale: 2, Palette.quiet)
        top += Layout.line
      }
    }
    y += place.columnLines * Layout.line
    for (row, lines) in zip(section.rows, place.labels) {
      var top = y + max(0, layout.cell - lines.count * Layout.line + 6) / 2
      for line in lines {
        Font.draw(line, on: &page, x: Layout.margin, y: top, scale: 2, Palette.ink)
        top += Layout.line
      }
      for (column, picture) in row.pictures.enumerated() {
        guard let picture else { continue }
        let shown = try fitted(picture, layout.cell)
        let x = layout.left + column * (layout.cell + Layout.gap) + (layout.cell - shown.width) / 2
        page.draw(shown, x: x, y: y + (layout.cell - shown.height) / 2)
      }
      y += layout.cell + Layout.gap
    }
    y -= Layout.gap
  }

  /// The picture as large as fits in a square of `side`, in its proportions.
  private func fitted(_ picture: Picture, _ side: Int) throws -> Picture {
    let longer = max(picture.width, picture.height)
    if enlargement == .pixels, longer < side { return try picture.enlarged(side / longer) }
    return try picture.resized(
      width: max(1, picture.width * side / longer), height: max(1, picture.height * side / longer))
  }
}

/// Where everything goes; all lengths in pixels.
private struct Layout {
  static let margin = 28
  static let gap = 8
  static let sectionGap = 20
  static let line = Font.lineHeight * 2
  static let widestLabel = 230

  struct Place {
    var heading: [String]
    var columns: [[String]]
    var columnLines: Int
    var labels: [[String]]
  }

  let cell: Int
  /// Left edge of the first column.
  let left: Int
  let width: Int
  let height: Int
  let title: [String]
  let subtitle: [String]
  let sections: [Place]

  init(_ sheet: Sheet) throws {
    let rows = sheet.sections.flatMap(\.rows)
    let sides = rows.flatMap(\.pictures).compactMap { $0.map { max($0.width, $0.height) } }
    guard let smallest = sides.min() else {
      throw ImagingError("sheet \"\(sheet.title)\": no picture to draw; give at least one")
    }
    let side = sheet.cell ?? min(max(smallest * min(max(192 / smallest, 1), 4), 96), 256)
    guard 8...4096 ~= side else {
      throw ImagingError("sheet \"\(sheet.title)\": cells of \(side) pixels; use 8 to 4096")
    }
    cell = side

    let labelWidth = min(rows.map { Font.width($0.label, scale: 2) }.max() ?? 0, Layout.widestLabel)
    left = Layout.margin + (labelWidth == 0 ? 0 : labelWidth + 16)
    let columns = max(
      rows.map(\.pictures.count).max() ?? 0, sheet.sections.map(\.columns.count).max() ?? 0)
    let grid = left - Layout.margin + columns * (side + Layout.gap) - Layout.gap
    let inner = max(grid, min(Font.width(sheet.title, scale: 3), 480))
    width = inner + 2 * Layout.margin
    title = Font.wrap(sheet.title, width: inner, lines: 2, scale: 3)
    subtitle = Font.wrap(sheet.subtitle, width: inner, lines: 3, scale: 2)

    sections = sheet.sections.map { section in
      let headings = section.columns.map { Font.wrap($0, width: side, lines: 2, scale: 2) }
      return Place(
        heading: Font.wrap(section.heading, width: inner, lines: 2, scale: 2), columns: headings,
        columnLines: headings.map(\.count).max() ?? 0,
        labels: section.rows.map {
          Font.wrap($0.label, width: Layout.widestLabel, lines: max(1, side / Layout.line), scale: 2)
        })
    }
    let heights = zip(sheet.sections, sections).map { section, place in
      Layout.sectionGap + (place.heading.isEmpty ? 0 : 12) + (place.heading.count + place.columnLines)
        * Layout.line
        + section.rows.count * (side + Layout.gap) - Layout.gap
    }
    height =
      2 * Layout.margin + title.count * Font.lineHeight * 3 + subtitle.count * Layout.line
      + heights.reduce(0, +)
  }
}
