import Foundation
import Imaging
import TestSupport
import Testing

@Suite struct ResizeTests {
  @Test func resizingIsPillowsBicubicExactly() throws {
    let golden = try Golden.read()
    #expect(golden.resizes.count > 10)
    for one in golden.resizes {
      let expected = try Golden.image(one.result)
      let resized = try Golden.image(one.source).resized(width: expected.width, height: expected.height)
      #expect(difference(resized, expected) == 0, "\(one.name) to \(expected.width)×\(expected.height)")
    }
  }

  @Test func croppingResizingAndMirroringIsTheAuthorsDataSet() throws {
    for one in try Golden.read().recipes {
      let expected = try Golden.image(one.result)
      let made = try Golden.image(one.source).centreSquare()
        .resized(width: expected.width, height: expected.height).flipped()
      #expect(difference(made, expected) == 0)
    }
  }

  @Test func theSquareIsCutFromTheMiddle() throws {
    let image = try noise(7, 4)
    let square = image.centreSquare()
    #expect(square.width == 4 && square.height == 4)
    #expect(square[0, 0] == image[1, 0])
    #expect(square[3, 3] == image[4, 3])
  }

  @Test func mirroringTwiceChangesNothing() throws {
    let image = try noise(5, 3)
    #expect(image.flipped()[0, 1] == image[4, 1])
    #expect(image.flipped().flipped() == image)
  }

  @Test func theSameSizeIsACopy() throws {
    let image = try noise(9, 6)
    #expect(try image.resized(width: 9, height: 6) == image)
  }

  @Test func valuesForTheModelAreTheAuthorsToTheBit() throws {
    let golden = try Golden.read()
    let all = try Golden.bytes("expected.bin")
    let ramp = try Image(width: 256, height: 1, pixels: (0..<256).flatMap { [UInt8($0), 0, 255] })
    let floats = ramp.floats()
    for i in 0..<256 {
      let bits = (0..<4).reduce(UInt32(0)) {
        $0 | UInt32(all[golden.scaled + 4 * i + $1]) << (8 * UInt32($1))
      }
      #expect(floats[i].bitPattern == bits)
    }
    #expect(floats[256] == -1 && floats[512] == 1)
  }

  @Test func sizesOutOfBoundsAreRefused() throws {
    let image = try noise(3, 3)
    for (w, h) in [(0, 1), (1, -1), (70_000, 1), (20_000, 20_000), (Int.max, Int.max)] {
      #expect(message { _ = try image.resized(width: w, height: h) } != nil)
      #expect(message { _ = try Image(width: w, height: h, pixels: []) } != nil)
    }
    #expect(message { _ = try Image(width: 2, height: 2, pixels: [1, 2, 3]) } != nil)
  }
}
