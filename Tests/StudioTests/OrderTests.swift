import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import Studio
import TestSupport
import Testing

/// Tables, mixtures, strips and files of concepts, as the page asks for them.
@Suite("The studio's tables and files", .serialized)
struct OrderTests {
  /// A studio with two concepts of two steps, `one` and `two`.
  private func learned() throws -> (studio: TestStudio, ids: [String]) {
    let studio = try TestStudio()
    let ids = try ["one", "two"].map { name in
      let id = try studio.example()
      let plan = #"{"title": "\#(name)", "kind": "cat", "quality": "quick", "steps": 2, "seed": 1}"#
      #expect(try studio.ask("POST", "/api/concepts/\(id)/learn", json: plan).status == 200)
      return id
    }
    for id in ids { _ = try #require(try studio.wait(for: "learned", of: id)) }
    return (studio, ids)
  }

  /// The images of an order, when all of them are there, with what their files say.
  private func images(_ studio: TestStudio, _ path: String, _ json: String, count: Int) throws
    -> (sheet: String, settings: [[String: String]])
  {
    let response = try studio.ask("POST", path, json: json)
    #expect(response.status == 200, "\(response.text)")
    let id = try JSONDecoder().decode([String: String].self, from: response.body)["id"] ?? ""
    let folder = studio.scratch.folder.appending(path: "studio/images")
    let end = ContinuousClock.now + .seconds(300)
    while ContinuousClock.now < end {
      let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter {
        $0.hasSuffix(".png") && !$0.hasPrefix(".")
      }
      let all = try names.map { name in
        let text = try PNGText.read([UInt8](Data(contentsOf: folder.appending(path: name))), name: name)
        return Dictionary(text.map { ($0.0, $0.1) }) { a, _ in a }
      }.filter { $0["sheet"] == id }
      if all.count >= count { return (id, all) }
      Thread.sleep(forTimeInterval: 0.1)
    }
    return (id, [])
  }

  @Test("tables, mixtures and strips come from the library's calls, and say what they are")
  func tables() throws {
    let (studio, ids) = try learned()
    let base = #""base": {"prompt": "a {one}", "seeds": [3], "steps": 2}"#
    let grid = try images(
      studio, "/api/grids",
      #"{\#(base), "columns": {"kind": "dial", "values": ["8", "all"]}, "rows": {"kind": "guidance", "values": ["2", "5"]}}"#,
      count: 4)
    #expect(Set(grid.settings.map { $0["column"] }) == ["dial 8", "all of it"])
    #expect(Set(grid.settings.map { $0["row"] }) == ["guidance 2", "guidance 5"])
    #expect(grid.settings.allSatisfy { $0["seed"] == "3" })
    let sheet = try studio.ask("GET", "/api/sheets/\(grid.sheet)")
    #expect(sheet.status == 200)
    #expect(try Image.decode(sheet.body, name: "sheet").width > 256)
    #expect(try studio.ask("GET", "/api/sheets/nothing").status == 404)

    let checkpoints = try images(
      studio, "/api/grids", #"{\#(base), "columns": {"kind": "checkpoint", "values": ["2", "all"]}}"#,
      count: 2)
    #expect(Set(checkpoints.settings.map { $0["column"] }) == ["after 2 steps", "learned"])

    let mixture = try images(
      studio, "/api/mixtures",
      #"{"geometry": "\#(ids[0])", "appearance": "\#(ids[1])", "prompt": "a {}", "starts": [999, -1], "layers": "coarse", "seed": 0, "steps": 2}"#,
      count: 2)
    #expect(Set(mixture.settings.map { $0["mixed from"] }) == ["999", "never"])
    #expect(mixture.settings.allSatisfy { $0["geometry"] == "<one>" && $0["appearance"] == "<two>" })

    let strip = try images(
      studio, "/api/decompositions",
      #"{"concept": "\#(ids[0])", "prompt": "a {}", "view": "frozen", "count": 2, "seed": 0, "steps": 2}"#,
      count: 3)
    #expect(Set(strip.settings.map { $0["frozen at"] ?? "" }) == ["750", "250", ""])

    let regions = try studio.ask(
      "POST", "/api/generations",
      json:
        #"{"prompt": "{one} by {two}", "seeds": [0], "steps": 1, "layout": "side-by-side", "regions": [2, 1]}"#
    )
    #expect(regions.status == 200)
  }

  @Test("images have the size that is asked for, and say it when they come back")
  func sizes() throws {
    let studio = try TestStudio()
    let made = try images(
      studio, "/api/grids",
      #"{"base": {"prompt": "a mug", "seeds": [3], "steps": 1, "width": 192, "height": 64}, "#
        + #""columns": {"kind": "seed", "values": ["1", "2"]}}"#, count: 2)
    #expect(made.settings.count == 2)
    let folder = studio.scratch.folder.appending(path: "studio/images")
    for name in try FileManager.default.contentsOfDirectory(atPath: folder.path) where name.hasSuffix(".png")
    {
      let data = try Data(contentsOf: folder.appending(path: name))
      let image = try Image.decode(data, name: name)
      #expect((image.width, image.height) == (192, 64))
      let answer = try studio.ask("POST", "/api/settings", data)
      let settings = try JSONDecoder().decode([String: String].self, from: answer.body)
      #expect(settings["width"] == "192" && settings["height"] == "64" && settings["prompt"] == "a mug")
    }
    // The page's list has it, too, before and after a restart.
    let moved = studio.scratch.folder.appending(path: "moved")
    try FileManager.default.copyItem(at: studio.scratch.folder.appending(path: "studio"), to: moved)
    for one in [studio, try TestStudio { $0.folder = moved }] {
      let list = try one.images()
      #expect(list.count == 2 && list.allSatisfy { $0["width"] == "192" && $0["height"] == "64" }, "\(list)")
    }
  }

  @Test("what runs and what waits is one list, and each can be taken out")
  func queue() throws {
    let studio = try TestStudio()
    func ask(_ prompt: String, steps: Int) throws -> String {
      let json = #"{"prompt": "\#(prompt)", "seeds": [0], "steps": \#(steps)}"#
      let response = try studio.ask("POST", "/api/generations", json: json)
      return try JSONDecoder().decode([String: String].self, from: response.body)["id"] ?? ""
    }
    let first = try ask("one", steps: 200)
    let end = ContinuousClock.now + .seconds(60)
    while try studio.work().queue.first?.isRunning != true, ContinuousClock.now < end {
      Thread.sleep(forTimeInterval: 0.02)
    }
    let (second, third) = (try ask("two", steps: 200), try ask("three", steps: 1))
    let id = try studio.example()
    let plan = #"{"title": "it", "kind": "cat", "quality": "quick", "steps": 2}"#
    #expect(try studio.ask("POST", "/api/concepts/\(id)/learn", json: plan).status == 200)
    let queue = try studio.work().queue
    #expect(queue.map(\.id) == [first, second, third, id])
    #expect(queue.map(\.kind) == ["generate", "generate", "generate", "learn"])
    #expect(queue.map(\.isRunning) == [true, false, false, false])
    #expect(queue.map(\.prompt) == ["one", "two", "three", nil])

    #expect(try studio.ask("DELETE", "/api/generations/\(second)").status == 200)
    #expect(try studio.work().queue.map(\.id) == [first, third, id])
    #expect(try studio.ask("POST", "/api/concepts/\(id)/stop").status == 200)
    #expect(try studio.work().queue.map(\.id) == [first, third])
    // The one that runs stops at its next step.
    #expect(try studio.ask("DELETE", "/api/generations/\(first)").status == 200)
    while try !studio.work().queue.isEmpty, ContinuousClock.now < end + .seconds(60) {
      Thread.sleep(forTimeInterval: 0.05)
    }
    #expect(try studio.images().map { $0["prompt"] } == ["three"])
    let late = try studio.ask("DELETE", "/api/generations/\(third)")
    #expect(late.status == 404 && late.line == "no such generation waits or runs; perhaps it is done")
    #expect(try studio.ask("DELETE", "/api/generations/..").status == 404)
  }

  @Test("refuses tables, mixtures and strips that are out of bounds")
  func hostileOrders() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    let base = #""base": {"prompt": "a cat", "seeds": [0], "steps": 1}"#
    func axis(_ kind: String, _ values: String) -> String {
      #"{\#(base), "columns": {"kind": "\#(kind)", "values": [\#(values)]}}"#
    }
    /// A table over the same thing twice, and one over two things of `count` values.
    func two(_ kind: String, _ other: String, _ count: Int) -> String {
      let values = (1...count).map { "\"\($0)\"" }.joined(separator: ",")
      return
        #"{\#(base), "columns": {"kind": "\#(kind)", "values": [\#(values)]}, "rows": {"kind": "\#(other)", "#
        + #""values": [\#(values)]}}"#
    }
    func images(_ more: String) -> String { #"{"prompt": "a", "seeds": [0], \#(more)}"# }
    let unread = "what the page sent cannot be read; load the page anew"
    for (path, json, words) in [
      ("/api/grids", axis("dial", ""), "0 values of the dial: from 1 to 8"),
      ("/api/grids", axis("dial", #""1","1""#), "one value of the dial stands there twice"),
      ("/api/grids", axis("dial", #""x""#), "the dial must be a number of at most 20 digits, not “x”"),
      ("/api/grids", axis("dial", #""999""#), "the dial is at 999; it goes from 1 to 128"),
      ("/api/grids", axis("guidance", #""nan""#), "guidance nan: between 0 and 100"),
      ("/api/grids", axis("guidance", #""1e9""#), "guidance 1000000000.0: between 0 and 100"),
      ("/api/grids", axis("seed", #""-1""#), "a seed is a whole number from 0 on"),
      (
        "/api/grids", axis("seed", #""99999999999999999999999""#),
        "the seed must be a number of at most 20 digits"
      ),
      ("/api/grids", axis("prompt", #"" ""#), "the prompt is empty: say what to show"),
      ("/api/grids", axis("model", #""/etc/passwd""#), unread),
      (
        "/api/grids", axis("seed", (0..<50).map { "\"\($0)\"" }.joined(separator: ",")),
        "50 values of the seed: from 1 to 8"
      ),
      ("/api/grids", two("seed", "seed", 1), "rows and columns both change the seed; choose another for one"),
      ("/api/grids", two("seed", "guidance", 8), "64 images; a table has at most 36"),
      (
        "/api/mixtures",
        #"{"geometry": "../x", "appearance": "b", "prompt": "a {}", "starts": [1], "layers": "coarse", "seed": 0}"#,
        unread
      ),
      (
        "/api/mixtures",
        #"{"geometry": "a", "appearance": "b", "prompt": "a {}", "starts": [1], "seed": 0, "#
          + #""layers": "\#(String(repeating: "1,", count: 150))"}"#,
        "the list of layers has 300 letters; at most 200 are read"
      ),
      (
        "/api/mixtures",
        #"{"geometry": "a", "appearance": "a", "prompt": "a {}", "starts": [1], "layers": "coarse", "seed": 0}"#,
        "choose two different concepts to mix"
      ),
      (
        "/api/mixtures",
        #"{"geometry": "a", "appearance": "b", "prompt": "a {}", "starts": [1000], "layers": "coarse", "seed": 0}"#,
        "the mixing starts at 1 to 8 different timesteps, from 999 to 0, or never"
      ),
      (
        "/api/decompositions", #"{"concept": "a", "prompt": "a {}", "view": "magic", "count": 2, "seed": 0}"#,
        "there is no view “magic”; there are frozen, cumulative, windows"
      ),
      (
        "/api/decompositions",
        #"{"concept": "a", "prompt": "a {}", "view": "frozen", "count": 1000, "seed": 0}"#,
        "1000 parts of the strip: from 1 to 10"
      ),
      (
        "/api/generations", images(#""layout": "round""#),
        "no layout “round”; there are side-by-side and free"
      ),
      (
        "/api/generations", images(#""regions": [0, 1]"#),
        "the widths of the parts are 2 to 8 numbers from 0.01"
      ),
      ("/api/generations", images(#""scheduler": "x""#), "there is no scheduler “x”; there are dpm++, ddim"),
      ("/api/generations", images(#""steps": 0"#), "0 steps: between 1 and 200"),
      (
        "/api/generations", images(#""width": 100"#),
        "the width is 100: a multiple of 8 from 64 to 512 pixels"
      ),
      ("/api/generations", images(#""height": 0"#), "the height is 0: a multiple of 8"),
      ("/api/generations", images(#""height": 4096"#), "the height is 4096: a multiple of 8"),
      ("/api/generations", images(#""width": 1e300"#), unread),
      (
        "/api/grids",
        #"{"base": {"prompt": "a", "seeds": [0], "width": 65}, "columns": {"kind": "seed", "values": ["1"]}}"#,
        "the width is 65: a multiple of 8"
      ),
      (
        "/api/generations", images(#""negative": "\#(String(repeating: "a", count: 2001))""#),
        "the prompt has 2001 letters; at most 2000 are read"
      ),
      ("/api/generations", #"{"prompt": "a", "seeds": []}"#, "0 seeds are asked for; 1 to 16 can be"),
      ("/api/generations", #"{"prompt": "a", "seeds": "#, unread),
    ] as [(String, String, String)] {
      let response = try studio.ask("POST", path, json: json)
      #expect([400, 422].contains(response.status), "\(response.status) \(path) \(json)")
      #expect(response.text.contains(words), "\(response.text) \(path) \(json)")
    }
    let form = try studio.ask(
      "POST", "/api/generations", Data("a=b".utf8), headers: ["Content-Type": "text/plain"])
    #expect(form.status == 415 && form.line == "this must be JSON, sent with Content-Type: application/json")
    let removal = try studio.ask("DELETE", "/api/generations")
    #expect(removal.status == 405 && removal.line == "DELETE is not answered here; what is: POST")
    // What is not learned has no file, and no plot.
    #expect(try studio.ask("GET", "/api/concepts/\(id)/importance").status == 409)
    #expect(try studio.ask("GET", "/api/concepts/\(id)/file?format=a1111").status == 409)
    #expect(try studio.ask("GET", "/api/concepts/\(id)/file?format=exe").status == 404)
  }

  @Test("says of a table of checkpoints why it comes to nothing, and has no pictures that there are none of")
  func checkpoints() throws {
    let studio = try TestStudio()
    let id = try studio.imported()
    for (prompt, words) in [
      ("a mug", "checkpoints are compared of one concept, which stands in the prompt by its name"),
      ("a {toy}", "the concept after 7 steps is not kept"),
    ] {
      let response = try studio.ask(
        "POST", "/api/grids",
        json:
          #"{"base": {"prompt": "\#(prompt)", "seeds": [0], "steps": 1}, "columns": {"kind": "checkpoint", "values": ["7"]}}"#
      )
      #expect(response.status == 200, "\(response.text)")
      #expect(try studio.wait { $0.generating == nil && $0.toGenerate == 0 }.problem == words)
    }
    let preview = try studio.ask("GET", "/api/concepts/\(id)/previews/1/0")
    #expect(preview.status == 404 && preview.line == "there is no such picture")
  }

  @Test("writes concepts for other programs and takes them back, as the commands do")
  func files() throws {
    let (studio, ids) = try learned()
    let place = studio.scratch.folder.appending(path: "studio/concepts/\(ids[0])/one/concept.safetensors")
    let concept = try Concept(contentsOf: place)
    let plot = try studio.ask("GET", "/api/concepts/\(ids[0])/importance")
    #expect(try plot.body == Data(concept.importanceChart().draw().png()))

    let written = studio.scratch.folder.appending(path: "one.safetensors")
    for format in [ConceptFormat.diffusers, .a1111] {
      try concept.export(format, to: written, timestep: 300)
      let file = try studio.ask("GET", "/api/concepts/\(ids[0])/file?format=\(format.rawValue)&timestep=300")
      #expect(try file.body == Data(contentsOf: written))
    }
    #expect(
      try studio.ask("GET", "/api/concepts/\(ids[0])/file?format=diffusers&timestep=5000").status == 422)

    for (name, data) in [
      ("mine.safetensors", try Data(contentsOf: place)),
      ("theirs.safetensors", try Data(contentsOf: written)),
    ] {
      let made = try studio.ask("POST", "/api/imports?name=\(name)", data)
      #expect(made.status == 200, "\(made.text)")
      let id = try JSONDecoder().decode([String: String].self, from: made.body)["id"] ?? ""
      let view = try #require(try studio.concepts().first { $0.id == id })
      #expect(view.progress.state == "learned" && view.commandLine == nil)
      #expect(["one-2", "one-3"].contains(view.name ?? ""))
    }
    // What came is used as what was learned.
    let used = try images(
      studio, "/api/grids",
      #"{"base": {"prompt": "a {one-2}", "seeds": [0], "steps": 1}, "columns": {"kind": "seed", "values": ["0"]}}"#,
      count: 1)
    #expect(used.settings.first?["names"] == "one-2")
  }

  @Test("exports the folder of the command as an archive, whatever a concept calls itself")
  func folders() throws {
    let studio = try TestStudio()
    for (token, name) in [("<toy>", "toy"), ("<../../etc/x\\y>", "etc-x-y"), ("<…>", "concept")] {
      var concept = try Concept(contentsOf: Fixtures.url("integrations/toy.safetensors"))
      concept.about.token = token
      let file = studio.scratch.folder.appending(path: "sent.safetensors")
      try concept.write(to: file)
      let made = try studio.ask("POST", "/api/imports?name=sent.safetensors", Data(contentsOf: file))
      guard made.status == 200 else {
        // A token that is refused is told in a line; the usual one is taken.
        #expect(made.status == 422 && name != "toy", "\(made.text)")
        continue
      }
      let id = try JSONDecoder().decode([String: String].self, from: made.body)["id"] ?? ""
      for program in ExportFolder.Program.allCases {
        let response = try studio.ask("GET", "/api/concepts/\(id)/folder?for=\(program.rawValue)")
        #expect(response.status == 200, "\(response.text)")
        let folder = "\(name)-\(program.rawValue)"
        #expect(response.header("Content-Disposition") == "attachment; filename=\"\(folder).zip\"")
        #expect(response.header("Content-Type") == "application/zip")
        let archive = try ZipArchive([UInt8](response.body))
        let wanted = try ExportFolder(concept, for: program, thumbnail: nil) {
          Fixtures.repository.appending(path: $0)
        }
        #expect(archive.names == wanted.files.map { "\(folder)/\($0.path)" }.sorted())
        for file in wanted.files {
          #expect(try Data(archive.contents("\(folder)/\(file.path)")) == file.data, "\(file.path)")
        }
        #expect(archive.names.allSatisfy { !$0.contains("..") && !$0.contains("\\") && !$0.hasPrefix("/") })
      }
    }
    let id = try studio.example()
    #expect(try studio.ask("GET", "/api/concepts/\(id)/folder?for=comfyui").status == 409)
    for program in ["", "../comfyui", "web"] {
      #expect(try studio.ask("GET", "/api/concepts/\(id)/folder?for=\(program)").status == 404)
    }
  }

  @Test("refuses files that are no concept, in one line, and keeps nothing of them")
  func hostileFiles() throws {
    let studio = try TestStudio()
    func status(_ data: Data, _ name: String = "x.safetensors") throws -> Client.Response {
      try studio.ask("POST", "/api/imports?name=\(name)", data)
    }
    let evil = Data("\u{80}\u{2}cos\nsystem\n(S'touch /tmp/x'\ntR.".utf8)
    for data in [Data(), Data("no".utf8), evil, Data(repeating: 255, count: 100_000)] {
      let response = try status(data, "%2e%2e%2fevil.pt")
      #expect([400, 422].contains(response.status))
      #expect(
        !response.text.contains(studio.scratch.folder.path) && !response.text.contains(".tmp"),
        "\(response.text)")
    }
    #expect(try studio.ask("POST", "/api/imports", headers: ["Content-Length": "999999999"]).status == 413)
    let good = try Data(contentsOf: Fixtures.url("community/a1111.pt"))
    for mutation in Mutations(of: good, count: 100, seed: 17) {
      #expect(try [200, 422].contains(status(mutation, "x.pt").status))
    }
    let trash = studio.scratch.folder.appending(path: "studio/trash")
    #expect(try FileManager.default.contentsOfDirectory(atPath: trash.path).isEmpty)
  }

  @Test("tells the models of this machine and what they take")
  func models() throws {
    struct Model: Decodable {
      struct Part: Decodable { let name: String, bytes: Int }
      let name: String, isOpen: Bool, parts: [Part]
    }
    let studio = try TestStudio()
    let all = try JSONDecoder().decode([Model].self, from: studio.ask("GET", "/api/models").body)
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    #expect(all[0].isOpen && all.dropFirst().allSatisfy { !$0.isOpen })
    #expect(all[0].parts.map(\.name) == ["text encoder", "U-Net", "VAE"])
    #expect(try all[0].parts[1].bytes == model.parameterCount(.unet) * 4)
  }
}
