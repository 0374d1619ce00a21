// swift-tools-version: 6.2
import PackageDescription

/// An environment variable that is set to something.
func environment(_ name: String) -> String? { Context.environment[name].flatMap { $0.isEmpty ? nil : $0 } }

// libtorch: `LIBTORCH` when it is set, else what `scripts/setup.py` put into `.libtorch`.
let libtorch = environment("LIBTORCH") ?? Context.packageDirectory + "/.libtorch"
// Where the binary looks for it; `scripts/install` has it look beside itself.
let runPath = environment("NETI_RPATH") ?? libtorch + "/lib"

// Several processes a run (docs/many-machines.md): asked for, since it leans on headers that libtorch lacks in part.
let isDistributed = environment("NETI_DISTRIBUTED") == "1"

// What C++ over libtorch is compiled with.
let overTorch: [CXXSetting] = [
  .unsafeFlags([
    "-isystem", libtorch + "/include",
    "-isystem", libtorch + "/include/torch/csrc/api/include",
    "-O2", "-g0",
  ])
]

let strict: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
  name: "neti",
  platforms: [.macOS(.v14)],
  products: [
    .executable(name: "neti", targets: ["CLI"]),
    .library(name: "NeTI", targets: ["NeTI"]),
    .library(name: "Evaluation", targets: ["Evaluation"]),
    .library(name: "Diffusion", targets: ["Diffusion"]),
    .library(name: "Hub", targets: ["Hub"]),
    .library(name: "Files", targets: ["Files"]),
    .library(name: "Torch", targets: ["Torch"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
    .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
    // `swift package generate-documentation`; nothing that is built needs it.
    .package(url: "https://github.com/swiftlang/swift-docc-plugin", exact: "1.5.0"),
  ],
  targets: [
    // A C interface over libtorch: the only C++, but for what several processes need.
    .target(
      name: "CTorch",
      cxxSettings: overTorch,
      linkerSettings: [
        .unsafeFlags([
          "-L" + libtorch + "/lib", "-Xlinker", "-rpath", "-Xlinker", runPath,
        ]),
        .linkedLibrary("torch_cpu"), .linkedLibrary("c10"), .linkedLibrary("m"),
      ]
    ),
    .target(name: "Torch", dependencies: ["CTorch"], swiftSettings: strict),

    // Images: the system's codecs, and what sets and draws text.
    .systemLibrary(
      name: "CTurboJPEG", pkgConfig: "libturbojpeg",
      providers: [.apt(["libturbojpeg0-dev"]), .brew(["jpeg-turbo"])]),
    .systemLibrary(
      name: "CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"]), .brew(["libpng"])]),
    .systemLibrary(
      name: "CWebP", pkgConfig: "libwebp", providers: [.apt(["libwebp-dev"]), .brew(["webp"])]),
    .systemLibrary(
      name: "CPango", pkgConfig: "pangocairo", providers: [.apt(["libpango1.0-dev"]), .brew(["pango"])]),
    .target(
      name: "Imaging", dependencies: ["Files", "CTurboJPEG", "CPNG", "CWebP", "CPango"],
      swiftSettings: strict),

    // File formats: safetensors, PyTorch's files, JSON; and files written whole or not at all.
    .systemLibrary(
      name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"]), .brew(["zlib"])]),
    .systemLibrary(name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .target(
      name: "Files",
      dependencies: ["Torch", "CZlib", .target(name: "COpenSSL", condition: .when(platforms: [.linux]))],
      swiftSettings: strict),

    // Models from the Hub: fetching them, and the cache that they lie in.
    .systemLibrary(
      name: "CCurl", pkgConfig: "libcurl",
      providers: [.apt(["libcurl4-openssl-dev"]), .brew(["curl"])]),
    .target(name: "Hub", dependencies: ["Files", "CCurl"], swiftSettings: strict),

    .target(name: "Diffusion", dependencies: ["Torch", "Files", "Hub"], swiftSettings: strict),
    .target(
      name: "NeTI",
      dependencies: ["Torch", "Files", "Diffusion", "Imaging", .product(name: "Yams", package: "Yams")],
      swiftSettings: strict),
    // Figures for concepts: CLIP, the paper's measurement, its report.
    .target(
      name: "Evaluation", dependencies: ["Torch", "Files", "Imaging", "Diffusion", "NeTI"],
      swiftSettings: strict),
    // The page of `neti studio` and what serves it; the page's files become a part of the program.
    .target(
      name: "Studio", dependencies: ["Torch", "Files", "Imaging", "Diffusion", "NeTI"],
      resources: [
        "index.html", "style.css", "app.js", "dom.js", "studio.js", "pictures.js", "learn.js", "generate.js",
        "concepts.js", "sheets.js", "queue.js", "regions.js", "compare.js", "look.js", "square.js",
      ].map { .embedInCode("Page/\($0)") },
      swiftSettings: strict),
    .executableTarget(
      name: "CLI",
      dependencies: [
        "Studio", "Evaluation", "NeTI", "Diffusion", "Hub", "Imaging", "Files", "Torch",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ] + (isDistributed ? ["TorchDistributed"] : []),
      swiftSettings: strict + (isDistributed ? [.define("NETI_DISTRIBUTED")] : [])),

    // Programs that measure; see Benchmarks/README.md.
    .executableTarget(
      name: "speed",
      dependencies: [
        "NeTI", "Diffusion", "Torch",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Benchmarks/Speed", swiftSettings: strict),

    .target(
      name: "TestSupport", dependencies: ["Torch", "Files", "Diffusion"], path: "Tests/TestSupport",
      swiftSettings: strict),
    // Feeds damaged files to every parser; see Benchmarks/.
    .executableTarget(
      name: "fuzz",
      dependencies: [
        "Studio", "Evaluation", "NeTI", "Diffusion", "Hub", "Imaging", "Files", "Torch", "TestSupport",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Benchmarks/Fuzz", swiftSettings: strict),
    .testTarget(
      name: "TorchTests", dependencies: ["Torch", "Files", "Diffusion", "TestSupport"], swiftSettings: strict),
    .testTarget(name: "FilesTests", dependencies: ["Files", "Torch", "TestSupport"], swiftSettings: strict),
    .testTarget(name: "HubTests", dependencies: ["Hub", "Files", "TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "ImagingTests", dependencies: ["Imaging", "Files", "TestSupport", "CTurboJPEG"],
      swiftSettings: strict),
    .testTarget(
      name: "DiffusionTests", dependencies: ["Diffusion", "Hub", "Files", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "NeTITests", dependencies: ["NeTI", "Files", "Imaging", "TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "EvaluationTests",
      dependencies: ["Evaluation", "NeTI", "Diffusion", "Files", "Imaging", "Torch", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "StudioTests", dependencies: ["Studio", "NeTI", "Diffusion", "Imaging", "Files", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "CLITests",
      dependencies: ["CLI", "NeTI", "Diffusion", "Imaging", "Files", "Torch", "TestSupport"],
      swiftSettings: strict),
  ],
  swiftLanguageModes: [.v6],
  cxxLanguageStandard: .cxx20
)

if isDistributed {
  package.targets += [
    // Gloo's declarations are not in PyTorch's wheel; those that are needed are in its folder gloo.
    .target(
      name: "CTorchDistributed", dependencies: ["CTorch"],
      cxxSettings: overTorch + [.define("USE_C10D_GLOO"), .headerSearchPath(".")]),
    .target(name: "TorchDistributed", dependencies: ["CTorchDistributed"], swiftSettings: strict),
  ]
}
