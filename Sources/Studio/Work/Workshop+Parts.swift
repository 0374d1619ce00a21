import Diffusion
import Files
import Foundation
import NeTI

extension Workshop {
  /// What an order comes to, checked; nothing large is computed yet.
  func parts(of order: Order) throws -> [Part] {
    switch order {
    case .images(let request): [try part(request)]
    case .grid(let request): try parts(request)
    case .mix(let request): [try part(request)]
    case .decompose(let request): [try part(request)]
    }
  }

  /// A concept as prompts call it.
  private typealias Named = (name: String, id: ID, concept: Concept)

  private func part(_ request: GenerateRequest) throws -> Part { try part(request, named(in: request)) }

  private func part(_ asked: GenerateRequest, _ concepts: [Named]) throws -> Part {
    let only = concepts.count == 1 ? concepts[0].name : nil
    var request = asked.request(only: only, usual: facts.defaults)
    // What was chosen for several concepts means nothing for one.
    if concepts.count < 2 { (request.layout, request.regions) = (.sideBySide, nil) }
    if !concepts.isEmpty { request.truncations = [asked.truncation] }
    let generator = try ConceptGenerator(
      model, concepts: concepts.map { .init(name: only == nil ? $0.name : "", $0.concept) })
    var metadata = [
      "concept": concepts.map { $0.concept.about.token }.joined(separator: " "),
      "names": concepts.map(\.name).joined(separator: " "),
    ]
    if concepts.count > 1 {
      metadata["layout"] = request.layout.rawValue
      metadata["regions"] = (request.regions ?? []).map { String(format: "%g", $0) }.joined(separator: ",")
    }
    return Part(generation: try generator.prepare(request), metadata: metadata)
  }

  private func parts(_ request: GridRequest) throws -> [Part] {
    var opened: [ID: [Int?: Concept]] = [:]
    return try request.cells().map { cell in
      let concepts = try names(in: cell.request).map { name, id -> Named in
        let concept = try opened[id]?[cell.checkpoint] ?? open(id, after: cell.checkpoint)
        opened[id, default: [:]][cell.checkpoint] = concept
        return (name, id, concept)
      }
      guard cell.checkpoint == nil || concepts.count == 1 else {
        throw StudioError("checkpoints are compared of one concept, which stands in the prompt by its name")
      }
      var part = try part(cell.request, concepts)
      part.metadata["checkpoint"] = cell.checkpoint.map(String.init) ?? ""
      part.place = { _ in (cell.row, cell.column) }
      return part
    }
  }

  private func part(_ asked: MixRequest) throws -> Part {
    let (geometry, appearance) = (try open(asked.geometry), try open(asked.appearance))
    let kept = try LayerNames(model.unetConfiguration).indices(
      asked.layers.split(separator: ",", omittingEmptySubsequences: false).map {
        $0.trimmingCharacters(in: .whitespaces)
      })
    var request = StyleMixing.Request(prompts: [asked.prompt], geometryLayers: kept)
    request.starts = asked.starts
    request.parents = asked.parents ?? false
    request.settings = asked.settings.request(only: nil, usual: facts.defaults).settings
    let mixing = try StyleMixing(model, geometry: geometry, appearance: appearance)
    return Part(
      generation: try mixing.prepare(request), metadata: mixing.metadata(request),
      place: { ("seed \($0.seed)", $0.variant.names.label) })
  }

  private func part(_ asked: DecomposeRequest) throws -> Part {
    let view = Decomposition.View(rawValue: asked.view) ?? .frozen
    var request = Decomposition.Request(
      prompts: [asked.prompt], columns: Decomposition.columns(view, count: asked.count))
    request.settings = asked.settings.request(only: nil, usual: facts.defaults).settings
    let decomposition = try Decomposition(model, open(asked.concept))
    return Part(
      generation: try decomposition.prepare(request), metadata: decomposition.metadata(request),
      place: { ("seed \($0.seed)", $0.variant.names.label) })
  }

  // MARK: Concepts

  /// The concepts whose names stand in the request's texts.
  private func names(in request: GenerateRequest) throws -> [(name: String, id: ID)] {
    let wanted = request.names
    return library.all.compactMap { concept, progress in
      guard let plan = concept.plan, wanted.contains(plan.name), plan.base == facts.base,
        progress.state == .learned
      else { return nil }
      return (plan.name, concept.id)
    }
  }

  private func named(in request: GenerateRequest) throws -> [Named] {
    try names(in: request).map { ($0.name, $0.id, try open($0.id)) }
  }

  /// A concept that is learned on this model, as it was after `step` steps; nil is how it is now.
  func open(_ id: ID, after step: Int? = nil) throws -> Concept {
    guard try library.concept(id).plan?.base == facts.base else {
      throw StudioError("this concept is for another model; start the studio with that", .conflict)
    }
    let file = try library.file(of: id)
    guard let step else { return try Concept(contentsOf: file) }
    return try Concept(contentsOf: RunProgress.checkpoint(step: step, run: library.run(of: id)))
  }
}
