import Foundation
import Imaging
import TestSupport
import Testing

@Suite struct ResizeTests {
  @Test func resizingIsPillowsBicubicExactly() throws {
    let golden = try Golden.read()
    #expect(golden.resizes.count > 10)
    for one in golden.resizes {
      let expected = try Golden.picture(one.result)
      let resized = try Golden.picture(one.source).resized(width: expected.width, height: expected.height)
      #expect(difference(resized, expected) == 0, "\(one.name) to \(expected.width)×\(expected.height)")
    }
  }

  @Test func croppingResizingAndMirroringIsTheAuthorsDataSet() throws {
    for one in try Golden.read().recipes {
      let expected = try Golden.picture(one.result)
      let made = try Golden.picture(one.source).centreSquare()
        .resized(width: expected.width, height: expected.height).flipped()
      #expect(difference(made, expected) == 0)
    }
  }

  @Test func theSquareIsCutFromTheMiddle() throws {
    let picture = try noise(7, 4)
    let square = picture.centreSquare()
    #expect(square.width == 4 && square.height == 4)
    #expect(square[0, 0] == picture[1, 0])
    #expect(square[3, 3] == picture[4, 3])
  }

  @Test func mirroringTwiceChangesNothing() throws {
    let picture = try noise(5, 3)
    #expect(picture.flipped()[0, 1] == picture[4, 1])
    #expect(picture.flipped().flipped() == picture)
  }

  @Test func theSameSizeIsACopy() throws {
    let picture = try noise(9, 6)
    #expect(try picture.resized(width: 9, height: 6) == picture)
  }

  @Test func valuesForTheModelAreTheAuthorsToTheBit() throws {
    let golden = try Golden.read()
    let all = try Golden.bytes("expected.bin")
    let ramp = try Picture(width: 256, height: 1, pixels: (0..<256).flatMap { [UInt8($0), 0, 255] })
    let floats = ramp.floats()
    for i in 0..<256 {
      let bits = (0..<4).reduce(UInt32(0)) {
        $0 | UInt32(all[golden.scaled + 4 * i + $1]) << (8 * UInt32($1))
      }
      #expect(floats[i].bitPattern == bits)
    }
    #expect(floats[256] == -1 && floats[512] == 1)
  }

  @Test func floatsComeBackAsTheSamePicture() throws {
    let picture = try noise(6, 5)
    #expect(try Picture(floats: picture.floats(), width: 6, height: 5) == picture)
    let far = try Picture(floats: [-7, .infinity, 0], width: 1, height: 1)
    #expect(far.pixels == [0, 255, 128])
    #expect(message { _ = try Picture(floats: [0, .nan, 0], width: 1, height: 1) } != nil)
    #expect(message { _ = try Picture(floats: [0], width: 1, height: 1) } != nil)
  }

  @Test func sizesOutOfBoundsAreRefused() throws {
    let picture = try noise(3, 3)
    for (w, h) in [(0, 1), (1, -1), (70_000, 1), (20_000, 20_000), (Int.max, Int.max)] {
      #expect(message { _ = try picture.resized(width: w, height: h) } != nil)
      #expect(message { _ = try Picture(width: w, height: h, pixels: []) } != nil)
    }
    #expect(message { _ = try Picture(width: 2, height: 2, pixels: [1, 2, 3]) } != nil)
    #expect(message { _ = try picture.enlarged(0) } != nil)
  }
}
