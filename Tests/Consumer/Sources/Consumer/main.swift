import Diffusion
import NeTI
import Torch

let noise = try RandomSource(seed: 7).normal([1, 4, 16, 16])
let representations = RepresentationKind.allCases.map(\.rawValue)
print("libtorch \(Runtime.version) on \(Device.available): latents \(noise.shape), \(representations)")
