// swift-tools-version: 6.2
import PackageDescription

// How another package uses neti. CI builds and runs this against a tagged clone:
//
//     swift package resolve
//     python3 .build/checkouts/neti/scripts/setup.py     # libtorch, once (or set LIBTORCH)
//     swift run
let package = Package(
  name: "Consumer",
  platforms: [.macOS(.v14)],
  dependencies: [
    .package(url: Context.environment["NETI_URL"] ?? "https://example.org/neti", exact: "0.1.0")
  ],
  targets: [
    .executableTarget(
      name: "Consumer",
      dependencies: [
        .product(name: "NeTI", package: "neti"), .product(name: "Diffusion", package: "neti"),
      ])
  ]
)
