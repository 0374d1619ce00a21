import Foundation
import NeTI
import Testing

@Suite struct TemplatesTests {
  /// Draws index into the lists, so wording and order must be the authors': the checksums (CRC-32C of
  /// the lines) were computed from theirs.
  @Test func `there are the authors' 27 object and 19 style templates, in their order`() {
    #expect(Templates.object.count == 27)
    #expect(Templates.style.count == 19)
    let checksum = { (lines: [String]) in
      TensorBoardRecord.checksum(Data(lines.joined(separator: "\n").utf8))
    }
    #expect(checksum(Templates.object) == 0x963c_dca3)
    #expect(checksum(Templates.style) == 0xab7a_f82b)
  }

  @Test func `every template has one place for the concept`() {
    for template in Templates.object + Templates.style {
      #expect(template.components(separatedBy: "{}").count == 2)
    }
  }
}
