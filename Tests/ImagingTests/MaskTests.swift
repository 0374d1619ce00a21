import Foundation
import Imaging
import TestSupport
import Testing

@Suite struct MaskTests {
  private func mask(_ rows: [String]) throws -> Mask {
    Mask(
      try Image(
        width: rows[0].count, height: rows.count,
        pixels: rows.joined().flatMap { Array(repeating: $0 == "#" ? 255 : 0, count: 3) as [UInt8] }))
  }

  @Test func brightnessIsPillowsGrey() throws {
    // (R·19595 + G·38470 + B·7471 + 2¹⁵) >> 16, as Image.convert("L") gives.
    let image = try Image(
      width: 5, height: 1, pixels: [255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255, 12, 130, 201])
    #expect(Mask(image).values == [255, 76, 150, 29, 103])
  }

  @Test func aMaskInColourIsToldFromGrey() throws {
    let scratch = try Scratch()
    func isColoured(_ second: [UInt8], times: Int = 1) throws -> Bool {
      let pixels =
        [UInt8](repeating: 90, count: 3 * (100 - times)) + [[UInt8]](repeating: second, count: times).joined()
      let file = Data(try Image(width: 10, height: 10, pixels: pixels).png())
      return try Mask.load(scratch.file(file, "mask.png")).isColoured
    }
    #expect(try isColoured([255, 0, 0]) && isColoured([0, 65, 0], times: 50))
    // What JPEG makes of grey.
    #expect(try !isColoured([120, 150, 180], times: 100))
    let alpha = try Data(Golden.bytes("rgba8.png"))
    #expect(try !Mask.load(scratch.file(alpha, "mask.png")).isColoured)
  }

  @Test func aFeatherFadesInwardsAndLeavesWhatIsOff() throws {
    let line = try mask(["..######.."])
    #expect(line.feathered(0) == line)
    #expect(line.feathered(2).values == [0, 0, 85, 170, 255, 255, 170, 85, 0, 0])
    // The border of the image is no edge; a thin line stays visible.
    #expect(try mask(["####."]).feathered(2).values == [255, 255, 170, 85, 0])
    #expect(try mask(["..#.."]).feathered(2).values == [0, 0, 85, 0, 0])
    #expect(try mask(["###", "###"]).feathered(200).values.allSatisfy { $0 == 255 })
    #expect(try mask(["...", "..."]).feathered(200).values.allSatisfy { $0 == 0 })
    let square = try mask([".....", ".###.", ".###.", ".###.", "....."]).feathered(1)
    #expect(
      square.values == [
        0, 0, 0, 0, 0, 0, 127, 127, 127, 0, 0, 127, 255, 127, 0, 0, 127, 127, 127, 0, 0, 0, 0, 0, 0,
      ])
  }

  @Test func coveringChangesNothingOutsideTheMask() throws {
    let (a, b) = (try noise(6, 4, seed: 1), try noise(6, 4, seed: 2))
    let half = try mask(["###...", "###...", "......", "......"])
    let covered = try a.covered(by: b, half)
    for y in 0..<4 {
      for x in 0..<6 { #expect(covered[x, y] == (x < 3 && y < 2 ? b : a)[x, y]) }
    }
    #expect(message { _ = try a.covered(by: noise(4, 6), half) } != nil)
    #expect(message { _ = try a.covered(by: b, self.mask(["#"])) } != nil)
  }

  @Test func theAlphaChannelIsTheMaskAsPillowReadsIt() throws {
    let scratch = try Scratch()
    let alphas = try JSONDecoder().decode(
      [String: [UInt8]].self, from: Data(contentsOf: Fixtures.url("masks/alpha.json")))
    #expect(alphas.count >= 8)
    for file in try Golden.read().pictures {
      let bytes = try Golden.bytes(file.file)
      let read = try Mask.load(scratch.file(Data(bytes), file.file))
      #expect((read.mask.width, read.mask.height) == (file.width, file.height), "\(file)")
      #expect(read.isAlpha == (alphas[file.file] != nil), "\(file)")
      let expected = try alphas[file.file] ?? Mask(Image.decode(bytes, name: file.file)).values
      #expect(read.mask.values == expected, "\(file)")
    }
  }
}
