/// The kinds of file that hold a concept.
public enum ConceptFormat: String, Sendable, CaseIterable {
  /// Ours: everything that a concept is.
  case neti
  /// The two files of NeTI's authors.
  case authors
  /// One vector by the name of its token.
  case diffusers
  /// What stable-diffusion-webui takes: one vector; the file's name is the word in prompts.
  case a1111
  /// kohya's `emb_params`, or one vector for each of the 16 layers.
  case kohya

  /// Whether it holds vectors only, without time, bypass and what else a concept has.
  public var holdsVectors: Bool { self != .neti && self != .authors }
}
