import CPango

/// Text set in lines by Pango, in any script and direction.
///
/// Texts come from anybody. This one is never markup, has no control characters, and draws nothing outside its block.
package final class Text {
  package enum Style {
    case title, body

    fileprivate var pixels: Double {
      switch self {
      case .title: 24
      case .body: 17
      }
    }
  }

  /// The size of the block in pixels; 0 for an empty text, and where the system has no font.
  package let width: Int
  package let height: Int
  private let layout: OpaquePointer?
  /// Where Pango starts the lines; it moves those from right to left.
  private let start: Int

  /// Lines no wider than `width` pixels, at most `lines` of them, the last with an ellipsis when something is left
  /// out.
  package init(
    _ string: String, _ style: Style = .body, width limit: Int, lines: Int = 1, isCentred: Bool = false
  ) {
    let text = Text.plain(string)
    let limit = max(1, min(limit, Text.widest))
    guard !text.isEmpty, let layout = Text.emptyLayout(style) else {
      (self.layout, width, height, start) = (nil, 0, 0, 0)
      return
    }
    pango_layout_set_text(layout, text, Int32(text.utf8.count))
    pango_layout_set_width(layout, Int32(limit) * PANGO_SCALE)
    pango_layout_set_wrap(layout, PANGO_WRAP_WORD_CHAR)
    pango_layout_set_ellipsize(layout, PANGO_ELLIPSIZE_END)
    // Less than 0: a number of lines.
    pango_layout_set_height(layout, -Int32(max(1, lines)))
    if isCentred { pango_layout_set_alignment(layout, PANGO_ALIGN_CENTER) }
    var box = PangoRectangle()
    pango_layout_get_pixel_extents(layout, nil, &box)
    self.layout = layout
    start = Int(box.x)
    width = min(Int(box.width), limit)
    height = Int(box.height)
  }

  deinit { if let layout { g_object_unref(UnsafeMutableRawPointer(layout)) } }

  /// Draws the block with its upper left corner at (x, y).
  package func draw(on image: inout Image, x: Int, y: Int, _ colour: Colour) {
    guard let layout else { return }
    // Letters may reach a little out of their line.
    image.paint(x: x - Text.overhang, y: y, width: width + 2 * Text.overhang, height: height, colour) {
      cairo_move_to($0, Double(Text.overhang - start), 0)
      pango_cairo_show_layout($0, layout)
    }
  }

  /// Draws the block turned to the left, to be read from below; (x, y) is the upper left corner of what is seen.
  package func drawUpwards(on image: inout Image, x: Int, y: Int, _ colour: Colour) {
    guard let layout else { return }
    image.paint(x: x, y: y - Text.overhang, width: height, height: width + 2 * Text.overhang, colour) {
      cairo_translate($0, 0, Double(width + Text.overhang))
      cairo_rotate($0, -Double.pi / 2)
      cairo_move_to($0, Double(-start), 0)
      pango_cairo_show_layout($0, layout)
    }
  }

  // MARK: - Setting

  /// No line needs more pixels.
  private static let widest = 8192
  /// Bounds what a long text costs; all of it is never seen.
  private static let mostScalars = 1000
  private static let overhang = 3

  private static func emptyLayout(_ style: Style) -> OpaquePointer? {
    // Pango has one of these for each thread.
    guard let context = pango_font_map_create_context(pango_cairo_font_map_get_default()) else { return nil }
    defer { g_object_unref(UnsafeMutableRawPointer(context)) }
    // Else a desktop's settings for its screen decide.
    let options = cairo_font_options_create()
    cairo_font_options_set_antialias(options, CAIRO_ANTIALIAS_GRAY)
    cairo_font_options_set_hint_style(options, CAIRO_HINT_STYLE_SLIGHT)
    pango_cairo_context_set_font_options(context, options)
    cairo_font_options_destroy(options)

    let font = pango_font_description_new()
    defer { pango_font_description_free(font) }
    pango_font_description_set_family(font, "sans-serif")
    pango_font_description_set_absolute_size(font, style.pixels * Double(PANGO_SCALE))
    if style == .title { pango_font_description_set_weight(font, PANGO_WEIGHT_BOLD) }
    // Without any font Pango's measures are of no use.
    guard let found = pango_context_load_font(context, font) else { return nil }
    g_object_unref(found)
    let layout = pango_layout_new(context)
    pango_layout_set_font_description(layout, font)
    // A hyphen where a name was too long for its line would look like a part of it.
    let attributes = pango_attr_list_new()
    pango_attr_list_insert(attributes, pango_attr_insert_hyphens_new(0))
    pango_layout_set_attributes(layout, attributes)
    pango_attr_list_unref(attributes)
    return layout
  }

  /// One paragraph: white space is one space, and what controls a terminal or turns the direction of writing goes.
  private static func plain(_ string: String) -> String {
    var kept = String.UnicodeScalarView()
    var count = 0
    var isAfterSpace = false
    for scalar in string.unicodeScalars {
      if scalar.properties.isWhitespace {
        isAfterSpace = true
      } else if scalar.properties.generalCategory != .control, !scalar.properties.isBidiControl {
        if isAfterSpace, count > 0 { kept.append(" ") }
        isAfterSpace = false
        kept.append(scalar)
        count += 1
        if count == mostScalars { return String(kept) + "…" }
      }
    }
    return String(kept)
  }
}
