import ArgumentParser
import Diffusion
import Files
import Foundation
import Hub
import NeTI

/// `neti model`: base models from the Hugging Face Hub.
struct ModelCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "model",
    abstract: "Get base models from the Hugging Face Hub, list and remove them.",
    discussion: """
      Models lie in the cache that Hugging Face's libraries use, too: what one program fetched, the others find.

        neti model get CompVis/stable-diffusion-v1-4
        neti model list
        neti model remove CompVis/stable-diffusion-v1-4

      HF_TOKEN holds the token for gated and private models, HF_HOME says where the cache lies, HF_ENDPOINT names another \
      Hub, and HF_HUB_OFFLINE=1 forbids the network.
      """,
    subcommands: [Get.self, List.self, Remove.self])

  /// The name of a model on the Hub.
  private static func name(_ text: String) throws -> RepositoryName {
    if text == "mini-sd" {
      throw NeTIError("mini-sd comes with neti: there is nothing to fetch, list or remove")
    }
    guard let name = RepositoryName(text) else {
      if text.contains("://"), let reason = ModelFolder.absence(text) { throw NeTIError(reason) }
      throw NeTIError(
        "model \(quoted(text)) is no name on the Hub: ORGANISATION/NAME, or ORGANISATION/NAME@REVISION")
    }
    return name
  }

  struct Get: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Fetch a model, or what is missing of it.",
      discussion: """
          neti model get CompVis/stable-diffusion-v1-4
          neti model get org/name@v2
          neti model get org/name/model.safetensors
          neti model get stabilityai/stable-diffusion-xl-base-1.0 --variant fp16

        Of a model in the diffusers layout only what neti needs is fetched: configurations, tokenizer, and one file or set of shards for each part's weights; \
        no pickles, no safety checker. With a file's name after the repository's, that file is. Stopped or cut off, the same command goes on. Every file is checked against its hash \
        when it is fetched; --verify checks again, and what other programs fetched.
        """)

    @Argument(
      help: ArgumentHelp(
        "Organisation and name, with @REVISION for a branch, tag or commit; then perhaps a file's name.",
        valueName: "name"))
    var model: String

    @Option(
      help: ArgumentHelp(
        "Which variant of the weights, such as fp16, which is half as large; the plain ones when left out, and for parts without it.",
        valueName: "name"))
    var variant: String?

    @Flag(
      help:
        "Check all that is here of the revision against the Hub's hashes, too, whoever fetched it: what is damaged is named, and fetched again."
    )
    var verify = false

    @Flag(help: "Print what was fetched as JSON.")
    var json = false

    func run() throws {
      let file = RepositoryFileName(model)
      if file != nil, variant != nil {
        throw ValidationError("--variant has no place beside the name of a file; leave one of them out")
      }
      let name = try file?.repository ?? ModelCommand.name(model)
      let order = try ModelFetching.Order(
        name, file: file?.path, variant: variant, verifying: verify, into: HubCache())
      try order.run()
      let (folder, commit, size) = (order.download.folder, order.download.commit, order.download.size)
      let used = (try? ModelFolder(folder.path))?.variants.map(\.variant) ?? []
      if let variant, !used.isEmpty, !used.contains(variant) {
        warn("other weights of \(name) are here, too, and are used instead of the variant \(quoted(variant))")
      }
      if json {
        struct Report: Encodable { let model: String, commit: String, bytes: Int, folder: String }
        return try tellJSON(
          Report(model: file?.description ?? "\(name)", commit: commit, bytes: size, folder: folder.path))
      }
      tell("\(file?.description ?? "\(name)") is here: \(byteText(size)) in \(folder.path)")
    }
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List the models in the Hugging Face cache.")

    @Flag(help: "Print the list as JSON.")
    var json = false

    struct Row: Encodable {
      let model: String, revision: String, commit: String, bytes: Int, family: String, isComplete: Bool
      let lastUsed: String?
    }

    func run() throws {
      let cache = try HubCache()
      let rows = cache.models().map { model in
        let file = ModelFolder.onlyFile(in: model.folder)
        return Row(
          model: model.name.id, revision: model.references.joined(separator: ", "), commit: model.commit,
          bytes: model.size, family: file.map { "one file, \($0)" } ?? ModelFolder.family(of: model.folder),
          isComplete: model.isWhole && (file != nil || ModelFileChoice.isComplete(model.folder)),
          lastUsed: model.lastUsed?.formatted(.iso8601.year().month().day()))
      }
      if json { return try tellJSON(rows) }
      guard !rows.isEmpty else { return note("there is no model in \(cache.folder.path)") }
      let lines =
        [["model", "revision", "size", "family", "", "last used"]]
        + rows.map { row in
          let revision = row.revision.isEmpty ? String(row.commit.prefix(12)) : row.revision
          return [
            row.model, revision, byteText(row.bytes), row.family,
            row.isComplete ? "complete" : "not complete",
            row.lastUsed ?? "",
          ].map(\.oneLine)
        }
      let widths = lines[0].indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
      for line in lines {
        let cells = zip(line, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
        tell(cells.joined(separator: "  ").trimmingSuffixSpaces)
      }
    }
  }

  struct Remove: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Remove a model from the Hugging Face cache.",
      discussion: """
          neti model remove org/name
          neti model remove org/name@v2 --yes

        With @REVISION, only that revision goes, with the files that no other one uses.
        """)

    @Argument(
      help: ArgumentHelp("Organisation and name, with @REVISION for one revision.", valueName: "name"))
    var model: String

    @Flag(help: "Remove without asking.")
    var yes = false

    func run() throws {
      let name = try ModelCommand.name(model)
      let cache = try HubCache()
      let doomed = cache.models(name)
      if !yes, let whole = cache.size(of: name) {
        guard isatty(STDIN_FILENO) == 1 else {
          throw NeTIError("\(name) is removed with --yes, or when a question on the terminal is answered")
        }
        let size = byteText(name.revision == nil ? whole : doomed.reduce(0) { $0 + $1.size })
        let count = doomed.count == 1 ? "1 revision" : "\(doomed.count) revisions"
        guard Question.agrees("Remove \(name), \(count), \(size), from \(cache.folder.path)?") else {
          return note("nothing was removed")
        }
      }
      let bytes = try cache.remove(name)
      tell("\(name) is removed; \(byteText(bytes)) became free")
    }
  }
}

extension String {
  fileprivate var trimmingSuffixSpaces: String {
    var text = self
    while text.last == " " { text.removeLast() }
    return text
  }
}
