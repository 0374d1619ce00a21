/// A labelled sheet of images: sections one below the other, each a grid of rows with labels under column
/// headings. For example the training images in one row, then prompts × seeds.
public struct Sheet: Sendable {
  /// One line of images; `nil` leaves a cell empty.
  public struct Row: Sendable {
    public var label: String
    public var images: [Image?]
    public init(label: String = "", images: [Image?]) {
      self.label = label
      self.images = images
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

  public var title: String
  /// One or two small lines below the title.
  public var subtitle: String
  public var sections: [Section]

  public init(title: String, subtitle: String = "", sections: [Section]) {
    self.title = title
    self.subtitle = subtitle
    self.sections = sections
  }

  /// Draws the sheet.
  ///
  /// - Throws: `ImagingError` when there is no image on it, or it is larger than `ImageLimits` allow.
  public func draw() throws -> Image {
    let layout = try Layout(self)
    var page = try Image(width: layout.width, height: layout.height, colour: Palette.paper)
    var y = Layout.margin
    layout.title.draw(on: &page, x: Layout.margin, y: y, Palette.ink)
    y += layout.title.height
    layout.subtitle.draw(on: &page, x: Layout.margin, y: y, Palette.quiet)
    y += layout.subtitle.height
    for (section, place) in zip(sections, layout.sections) {
      try draw(section, place, layout, on: &page, y: &y)
    }
    return page
  }

  private func draw(
    _ section: Section, _ place: Layout.Place, _ layout: Layout, on page: inout Image, y: inout Int
  ) throws {
    y += Layout.sectionGap
    if place.hasRule {
      page.fill(x: Layout.margin, y: y, width: page.width - 2 * Layout.margin, height: 1, Palette.rule)
      y += Layout.ruleGap
      place.heading.draw(on: &page, x: Layout.margin, y: y, Palette.ink)
      y += place.heading.height + Layout.textGap
    }
    if place.columnHeight > 0 {
      for (column, heading) in place.columns.enumerated() {
        let x = layout.left + column * (layout.cell + Layout.gap) + (layout.cell - heading.width) / 2
        // Short headings stand on the images.
        heading.draw(on: &page, x: x, y: y + place.columnHeight - heading.height, Palette.quiet)
      }
      y += place.columnHeight + Layout.textGap
    }
    for (row, line) in zip(section.rows, place.rows) {
      line.label.draw(on: &page, x: Layout.margin, y: y + (line.height - line.label.height) / 2, Palette.ink)
      for (column, image) in row.images.enumerated() {
        guard let image else { continue }
        let size = image.size(fitting: layout.cell)
        let shown = try image.resized(width: size.width, height: size.height)
        let x = layout.left + column * (layout.cell + Layout.gap) + (layout.cell - shown.width) / 2
        page.draw(shown, x: x, y: y + (line.height - shown.height) / 2)
      }
      y += line.height + Layout.gap
    }
    y -= Layout.gap
  }

}

/// Where everything goes; all lengths in pixels.
private struct Layout {
  static let margin = 28
  static let gap = 8
  static let sectionGap = 20
  static let ruleGap = 12
  /// Between a line of text and the images below it.
  static let textGap = 4
  static let widestLabel = 230
  /// Sheets of few or small images become wider for their texts, up to this.
  static let widestForText = 480

  struct Row {
    let label: Text
    let height: Int
  }

  struct Place {
    let heading: Text
    let columns: [Text]
    let columnHeight: Int
    let rows: [Row]

    var hasRule: Bool { heading.height > 0 }
    var height: Int {
      sectionGap + (hasRule ? ruleGap + heading.height + textGap : 0)
        + (columnHeight > 0 ? columnHeight + textGap : 0)
        + rows.reduce(0) { $0 + $1.height + gap } - gap
    }
  }

  /// The side of a cell: the smallest image's longer side times 1 to 4, within 96…256.
  let cell: Int
  /// Left edge of the first column.
  let left: Int
  let width: Int
  let height: Int
  let title: Text
  let subtitle: Text
  let sections: [Place]

  init(_ sheet: Sheet) throws {
    let rows = sheet.sections.flatMap(\.rows)
    let sides = rows.flatMap(\.images).compactMap { $0.map { max($0.width, $0.height) } }
    guard let smallest = sides.min() else {
      throw ImagingError("sheet \"\(sheet.title)\": no image to draw; give at least one")
    }
    let side = min(max(smallest * min(max(192 / smallest, 1), 4), 96), 256)
    cell = side

    let labels = sheet.sections.map { section in
      section.rows.map { Text($0.label, width: Layout.widestLabel, lines: max(2, side / 20)) }
    }
    let labelWidth = labels.joined().map(\.width).max() ?? 0
    left = Layout.margin + (labelWidth == 0 ? 0 : labelWidth + 16)
    let columns = max(
      rows.map(\.images.count).max() ?? 0, sheet.sections.map(\.columns.count).max() ?? 0)
    let grid = left - Layout.margin + columns * (side + Layout.gap) - Layout.gap

    func title(_ width: Int) -> Text { Text(sheet.title, .title, width: width, lines: 2) }
    func subtitle(_ width: Int) -> Text { Text(sheet.subtitle, width: width, lines: 3) }
    func heading(_ section: Sheet.Section, _ width: Int) -> Text {
      Text(section.heading, width: width, lines: 2)
    }
    let widestText = Layout.widestForText
    let inner =
      ([grid, title(widestText).width, subtitle(widestText).width]
      + sheet.sections.map { heading($0, widestText).width }).max() ?? grid
    width = inner + 2 * Layout.margin
    self.title = title(inner)
    self.subtitle = subtitle(inner)

    sections = zip(sheet.sections, labels).map { section, labels in
      let columns = section.columns.map { Text($0, width: side, lines: 3, isCentred: true) }
      return Place(
        heading: heading(section, inner), columns: columns, columnHeight: columns.map(\.height).max() ?? 0,
        rows: zip(section.rows, labels).map { row, label in
          let tallest = row.images.compactMap { $0?.size(fitting: side).height }.max() ?? 0
          return Row(label: label, height: max(tallest, label.height))
        })
    }
    height =
      2 * Layout.margin + self.title.height + self.subtitle.height
      + sections.reduce(0) { $0 + $1.height }
  }
}
