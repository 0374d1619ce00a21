extension StableDiffusion {
  /// Numbers in a component's weights, from the files' headers alone.
  public func parameterCount(_ component: ModelFolder.Component) throws -> Int {
    try folder.weights(component, dtype: dtype, device: device).count
  }
}
