extension RunConfiguration.Model {
  /// What these settings say of the representation.
  var representationSettings: RepresentationSettings {
    var s = RepresentationSettings()
    s.kind = representation
    s.vectorCount = numVectors
    s.usesPositionalEncoding = usePositionalEncoding
    s.timeAnchors = numPeTimeAnchors
    s.sigmaTime = peSigmas.sigmaT
    s.sigmaLayer = peSigmas.sigmaL
    s.outputBypass = outputBypass
    s.normalizesOutput = normalizeMapperOutput
    s.usesNestedDropout = useNestedDropout
    s.nestedDropoutProbability = nestedDropoutProb
    return s
  }
}
