import Files

extension StableDiffusion {
  /// Numbers in a component's weight files, from their headers alone.
  public func parameterCount(_ component: ModelFolder.Component) throws -> Int {
    try folder.weightFiles(component).reduce(0) { sum, file in
      try SafetensorsFile(file).entries.values.reduce(sum) { $0 + $1.shape.reduce(1, *) }
    }
  }
}
