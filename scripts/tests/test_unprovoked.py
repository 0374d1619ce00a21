"""Tests of scripts/unprovoked.py."""
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import unprovoked  # noqa: E402

SOURCE = '''let text = """
  throw words
  """
/// A line of words that throw nothing.
func a(_ n: Int) throws {
  guard n > 0 else { throw NeTIError("n is \\(n)") }
  do { try b() } catch { throw error }
  print("do not throw this")
  throw NeTIError(
    "the \\(first(n)) is "
      + "wrong")
}
'''


class UnprovokedTests(unittest.TestCase):
    def test_finds_throws_and_their_words(self):
        self.assertEqual(
            unprovoked.throws(SOURCE),
            [(6, 22, 'throw NeTIError("n is \\(n)") }'),
             (9, 3, 'throw NeTIError( "the \\(first(n)) is " + "wrong")')])

    def test_a_place_has_the_count_of_the_segment_around_it(self):
        # line, column, count, has a count, begins a region, is a gap
        segments = [[2, 1, 5, True, True, False], [3, 20, 0, True, True, False], [3, 50, 5, True, False, False],
                    [9, 2, 0, False, False, False]]
        self.assertTrue(unprovoked.reached(segments, 2, 7))
        self.assertFalse(unprovoked.reached(segments, 3, 22))
        self.assertTrue(unprovoked.reached(segments, 6, 3))
        self.assertFalse(unprovoked.reached(segments, 10, 1))
        self.assertFalse(unprovoked.reached(segments, 1, 1))

    def test_only_sources_count(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for name in ("Sources/a.swift", "Tests/a.swift"):
                (root / name).parent.mkdir()
                (root / name).write_text(SOURCE)
            segments = [[5, 1, 1, True, True, False], [6, 20, 0, True, True, False], [6, 50, 1, True, False, False]]
            export = {"data": [{"files": [{"filename": str(root / n), "segments": segments}
                                          for n in ("Sources/a.swift", "Tests/a.swift")]}]}
            found = unprovoked.unprovoked(export, root)
        self.assertEqual([f[:2] for f in found], [("Sources/a.swift", 6)])

    def test_what_is_known_is_not_told_and_what_is_stale_is(self):
        found = [("Sources/a.swift", 3, 'throw NeTIError("n is 1")'), ("Sources/b.swift", 7, 'throw NeTIError("m")')]
        rows = [["Sources/a.swift", "n is", "a reason"], ["Sources/a.swift", "gone", "a reason"]]
        self.assertEqual(unprovoked.compare(found, rows), ([found[1]], [rows[1]]))

    def test_the_table_can_be_read(self):
        for file, _, _ in unprovoked.known(unprovoked.KNOWN):
            self.assertTrue((unprovoked.ROOT / file).exists(), file)


if __name__ == "__main__":
    unittest.main()
