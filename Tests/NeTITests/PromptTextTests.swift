import Diffusion
import Foundation
import NeTI
import TestSupport
import Testing

@Suite("The text of a prompt")
struct PromptTextTests {
  private let tokenizer: CLIPTokenizer
  private static let names: [ConceptPrompter.Name] = [
    .init(name: "", token: "<toy>"), .init(name: "mug", token: "mug"),
  ]

  init() throws { tokenizer = try CLIPTokenizer(folder: Fixtures.miniSD.appending(path: "tokenizer")) }

  /// What the prompts' parts are: words with their weight, `0` and `1` the concepts.
  private func framed(_ parts: [(String, Double)]) -> (ids: [Int], weights: [Float]) {
    var ids: [Int] = []
    var weights: [Float] = [1]
    for (text, weight) in parts {
      let own = ["0", "1"].contains(text) ? [tokenizer.vocabularySize] : tokenizer.encode(text)
      ids += own
      weights += own.map { _ in Float(weight) }
    }
    let framed = tokenizer.framed(ids).ids
    return (framed, weights + Array(repeating: 1, count: framed.count - weights.count))
  }

  private func prompt(_ text: String, _ names: [ConceptPrompter.Name], weighted: Bool = false) throws
    -> ConceptPrompt
  {
    try ConceptPrompter(tokenizer, names)(text, weighted: weighted)
  }

  @Test(
    "braces without a concept are words, doubled ones single ones",
    arguments: [
      ("a {} in {red|blue}", ["a ", "0", " in {red|blue}"]), ("{{a}} {}", ["{a} ", "0"]),
      ("a {} in {{cozy}}", ["a ", "0", " in {cozy}"]), ("{{{}}}", ["{", "0", "}"]),
      ("} {} {", ["} ", "0", " {"]), ("{{}} {}", ["{} ", "0"]), ("a {}s", ["a ", "0", "s"]),
      (#"\{cozy\} {}"#, [#"\{cozy\} "#, "0"]), ("{ } {toy} {}", ["{ } {toy} ", "0"]),
      ("a {} and <toy>", ["a ", "0", " and <toy>"]), ("<|endoftext|> {}", ["<|endoftext|> ", "0"]),
      ("{}\u{FE0F}\u{301}", ["0", "\u{FE0F}\u{301}"]), ("a {<toy>} here", ["a ", "0", " here"]),
      ("{} {{<toy>}}", ["0", " {<toy>}"]),
    ])
  func braces(_ text: String, _ parts: [String]) throws {
    let found = try prompt(text, Array(Self.names.prefix(1)))
    #expect(found.ids == framed(parts.map { ($0, 1) }).ids)
    #expect(found.weights == nil)
  }

  @Test(
    "a token is found whatever its Unicode form, and as a whole word where it is a word",
    arguments: [
      ("mug", "a mug, a mugful and smug mugs", "a |0|, a mugful and smug mugs"),
      ("mug", "mugs mug_ mug1 my-mug", "mugs mug_ mug1 my-|0"), ("mug", "mug's", "0|'s"),
      ("mug*", "a mug*ful", "a |0|ful"), ("*mug", "a*mug, a*mugs", "a|0|, a*mugs"),
      ("<mug>", "a<mug>b", "a|0|b"), ("b\u{E9}b\u{E9}", "a be\u{301}be\u{301} e\u{301}", "a |0| \u{E9}"),
      ("be\u{301}be\u{301}", "a b\u{E9}b\u{E9}", "a |0"), ("\u{732B}", "\u{767D}\u{732B}", "\u{767D}|0"),
      ("be", "be\u{301} be", "b\u{E9} |0"),
    ])
  func tokens(_ token: String, _ text: String, _ parts: String) throws {
    let expected = parts.split(separator: "|").map { (String($0), 1.0) }
    #expect(try prompt(text, [.init(token: token)]).ids == framed(expected).ids)
  }

  @Test("the longest token counts, and braces before tokens")
  func longest() throws {
    let names = [ConceptPrompter.Name(name: "a", token: "<cat>"), .init(name: "b", token: "<cat>s")]
    #expect(try prompt("<cat>s and <cat>", names).positions == [3, 1])
    #expect(try prompt("{a} and <cat>s", names).positions == [1, 3])
    let same = [ConceptPrompter.Name(name: "a", token: "<cat>"), .init(name: "b", token: "<cat>")]
    #expect(try prompt("<cat> and {a}", same).positions == [3, 1])
  }

  /// The rows with `((` are the examples of the web UI itself.
  @Test(
    "weights are read as AUTOMATIC1111's web UI reads them",
    arguments: [
      ("a cat", [("a cat", 1)]), ("an (important) cat", [("an ", 1), ("important", 1.1), (" cat", 1)]),
      ("(unbalanced", [("unbalanced", 1.1)]), (#"\(literal\]"#, [("(literal]", 1)]),
      ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
      (
        "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
        [
          ("a ", 1), ("house", 1.573), (" ", 1.1), ("on", 1), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1),
          ("sky", 1.4641), (".", 1.1),
        ]
      ),
      ("[blue] mug]", [("blue", 1 / 1.1), (" mug]", 1)]), ("a) b:1.3)", [("a) b:1.3)", 1)]),
      ("(a: -.5 )b", [("a", -0.5), ("b", 1)]), ("(a:b:2)", [("a:b", 2)]), ("(:2)a", [("a", 1)]),
      (#"\a \\ (b)"#, [(#"a \ "#, 1), ("b", 1.1)]), ("(re:2)d", [("re", 2), ("d", 1)]),
      ("a <lora:soft:0.8>(b:2)", [("a ", 1), ("b", 2)]), ("(a:+1e2)", [("a:+1e2", 1.1)]),
    ] as [(String, [(String, Double)])])
  func weights(_ text: String, _ parts: [(String, Double)]) throws {
    let found = try prompt(text, [], weighted: true)
    let expected = framed(parts)
    #expect(found.ids == expected.ids)
    for (a, b) in zip(found.weights ?? expected.ids.map { _ in 1 }, expected.weights) {
      #expect(abs(a - b) < 1e-6, "\(text): \(found.weights ?? [])")
    }
  }

  @Test("a weight reaches over concepts")
  func weightedConcept() throws {
    let found = try prompt("(a {}:1.5) of (mug)", Self.names, weighted: true)
    #expect(found.positions == [2, 4])
    #expect(found.weights?.prefix(6) == [1, 1.5, 1.5, 1, 1.1, 1])
  }

  @Test("without being asked for, weights are words, as in diffusers")
  func plain() throws {
    let text = "a photo (old) of a ((cat:1.2)) [x]"
    let found = try prompt(text, [])
    #expect(found.ids == tokenizer(text).ids && found.weights == nil)
  }

  @Test("a weight that is no number or too large is refused", arguments: ["(a:1.2.3)", "(a:.)", "(a:101)"])
  func badWeight(_ text: String) throws {
    #expect { try prompt(text, [], weighted: true) } throws: {
      ($0 as? NeTIError)?.isWrongUsage == true && "\($0)".contains(text)
    }
    let deep = String(repeating: "(", count: 20_000) + "a"
    #expect(throws: NeTIError.self) { try prompt(deep, [], weighted: true) }
  }

  @Test("{} without a concept is refused, and the line says how braces are written")
  func noConcept() throws {
    #expect { try prompt("a {} mug", []) } throws: {
      "\($0)".contains("`concept FILE`") && "\($0)".contains("{{}}")
    }
    #expect { try prompt("{} {mug}", [Self.names[1]]) } throws: { "\($0)".contains("there is {mug}") }
    #expect(try prompt("a {mug} cat", []).ids == tokenizer("a {mug} cat").ids)
  }
}
