import Foundation

/// The page's files, which are inside the program.
package enum Page {
  private static let files: [String: (type: String, bytes: [UInt8])] = [
    "index.html": ("text/html; charset=utf-8", PackageResources.index_html),
    "style.css": ("text/css; charset=utf-8", PackageResources.style_css),
    "app.js": (script, PackageResources.app_js),
    "dom.js": (script, PackageResources.dom_js),
    "studio.js": (script, PackageResources.studio_js),
    "pictures.js": (script, PackageResources.pictures_js),
    "learn.js": (script, PackageResources.learn_js),
    "generate.js": (script, PackageResources.generate_js),
    "concepts.js": (script, PackageResources.concepts_js),
    "sheets.js": (script, PackageResources.sheets_js),
    "regions.js": (script, PackageResources.regions_js),
    "compare.js": (script, PackageResources.compare_js),
    "look.js": (script, PackageResources.look_js),
    "queue.js": (script, PackageResources.queue_js),
    "square.js": (script, PackageResources.square_js),
  ]
  private static let script = "text/javascript; charset=utf-8"

  package static var names: [String] { Array(files.keys) }

  static func file(_ name: String) -> HTTPResponse {
    guard let file = files[name] else { return .text(.notFound, "there is nothing here") }
    return HTTPResponse(.ok, file.type, Data(file.bytes))
  }
}
