"""Tests of ./neti with stand-ins for swift and the set-up."""
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

LAUNCHER = Path(__file__).resolve().parent.parent.parent / "neti"
TOOLS = ("sh", "dirname", "readlink", "find", "head", "cat", "mkdir", "mv", "rm", "chmod", "printf", "cp")
SWIFT = """#!/bin/sh
echo "built" >> "$NETI_TEST_LOG"
[ ! -e "$3/broken" ] || exit 1
mkdir -p "$3/.build/release"
printf '#!/bin/sh\\n[ "$1" != which ] || echo "$NETI_COMMAND"\\nfor a; do echo "<$a>"; done\\n' > "$3/.build/release/neti"
chmod +x "$3/.build/release/neti"
echo "swift's own words"
"""


class LauncherTests(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = Path(temporary.name) / "a check out"
        self.bin = Path(temporary.name) / "bin"
        self.log = Path(temporary.name) / "log"
        for folder in (self.root / "Sources", self.root / "scripts", self.bin):
            folder.mkdir(parents=True)
        shutil.copy(LAUNCHER, self.root / "neti")
        (self.root / "Package.swift").write_text("")
        (self.root / "Sources/a.swift").write_text("")
        (self.root / "scripts/setup.py").write_text(
            "import os, pathlib\n"
            "p = pathlib.Path(__file__).parent.parent / '.libtorch/lib'\n"
            "p.mkdir(parents=True, exist_ok=True); (p.parent / 'version').touch()\n")
        for tool in TOOLS:
            found = shutil.which(tool)
            if found:
                (self.bin / tool).symlink_to(found)
        (self.bin / "python3").symlink_to(sys.executable)
        (self.bin / "swift").write_text(SWIFT)
        (self.bin / "swift").chmod(0o755)

    def run_neti(self, *arguments, launcher=None, **environment):
        clean = {k: v for k, v in os.environ.items() if k != "LIBTORCH"}
        clean.update(PATH=str(self.bin), NETI_TEST_LOG=str(self.log), **environment)
        return subprocess.run([str(launcher or self.root / "neti"), *arguments], env=clean, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, cwd="/")

    def builds(self):
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0

    def test_builds_once_and_passes_arguments_on(self):
        first = self.run_neti("generate", "--prompt", "a photo of {}")
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertEqual(first.stdout, "<generate>\n<--prompt>\n<a photo of {}>\n")
        self.assertIn("building", first.stderr)
        second = self.run_neti("inspect")
        self.assertEqual((second.stdout, second.stderr), ("<inspect>\n", ""))
        self.assertEqual(self.builds(), 1)

    def test_tells_how_it_was_called(self):
        self.assertEqual(self.run_neti("which").stdout.splitlines()[0], str(self.root / "neti"))

    def test_builds_again_when_a_source_or_libtorch_changes(self):
        self.run_neti()
        time.sleep(0.02)
        (self.root / "Sources/a.swift").write_text("changed")
        self.run_neti()
        self.assertEqual(self.builds(), 2)
        other = self.root / "other"
        (other / "lib").mkdir(parents=True)
        self.run_neti(LIBTORCH=str(other))
        self.assertEqual(self.builds(), 3)
        shutil.rmtree(self.root / ".libtorch")
        self.run_neti(LIBTORCH=str(other))
        self.assertEqual(self.builds(), 3)
        self.run_neti()
        self.assertEqual(self.builds(), 4)

    def test_works_through_a_symbolic_link(self):
        link = self.bin / "link"
        link.symlink_to(self.root / "neti")
        self.assertEqual(self.run_neti("x", launcher=link).stdout, "<x>\n")

    def test_a_failed_build_is_told_and_tried_again(self):
        (self.root / "broken").touch()
        for _ in range(2):
            done = self.run_neti()
            self.assertEqual(done.returncode, 1)
            self.assertIn("neti: the build failed", done.stderr)
        self.assertEqual(self.builds(), 2)

    def test_a_missing_tool_is_one_clear_line(self):
        for tool in ("swift", "python3"):
            kept = self.bin / tool
            away = self.root / tool
            kept.rename(away)
            done = self.run_neti()
            away.rename(kept)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(tool + " was not found", done.stderr)


if __name__ == "__main__":
    unittest.main()
