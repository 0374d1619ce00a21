/// The nearest of the candidates by edits, when few enough are needed; a candidate's last dotted part
/// may stand for the whole.
package func nearest(to unknown: String, among candidates: [String]) -> String? {
  let longestName = 80
  guard unknown.utf8.count <= longestName else { return nil }
  func tail(_ name: String) -> Substring {
    name[(name.lastIndex(of: ".").map(name.index(after:)) ?? name.startIndex)...]
  }
  let scored = candidates.map { candidate in
    let whole = editDistance(unknown, candidate)
    let part = editDistance(String(tail(unknown)), String(tail(candidate)))
    return (candidate, part, whole)
  }
  guard let best = scored.min(by: { ($0.1, $0.2) < ($1.1, $1.2) }) else { return nil }
  return best.1 <= max(2, tail(unknown).count / 3) ? best.0 : nil
}

/// Insertions, deletions and substitutions between two words (Levenshtein).
func editDistance(_ a: String, _ b: String) -> Int {
  let b = Array(b.lowercased().utf8)
  var row = Array(0...b.count)
  for (i, x) in a.lowercased().utf8.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, y) in b.enumerated() {
      let above = row[j + 1]
      row[j + 1] = min(above + 1, row[j] + 1, diagonal + (x == y ? 0 : 1))
      diagonal = above
    }
  }
  return row[b.count]
}
