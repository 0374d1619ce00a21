#!/usr/bin/env python3
"""Lists the messages that no test provokes: every `throw` in Sources that no suite reaches.

    scripts/unprovoked.py                       all suites
    scripts/unprovoked.py --filter FilesTests   these
    scripts/unprovoked.py --from cover.json     of what `llvm-cov export` wrote

Builds with coverage in .build-coverage, apart from the other builds, and runs the suites there, which leaves some
gigabytes of profiles. What unprovoked.tsv names is known, with the reason. Exit code 1 where another is found, or where
a line of that file fits nothing any more.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from bisect import bisect_right
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build-coverage"
KNOWN = Path(__file__).resolve().parent / "unprovoked.tsv"
THROW = re.compile(r"\bthrow\b(?!\s+(?:error|e)\b\s*(?:$|[}]))")


def statement(lines, row, column):
    """The text of the statement that begins there, in one line."""
    text, depth = "", 0
    for line in [lines[row][column:], *lines[row + 1:row + 40]]:
        text += " " + line.strip()
        depth = text.count("(") - text.count(")")
        if depth <= 0 and not line.rstrip().endswith(("throw", "+", "?", ":")):
            break
    return " ".join(text.split())


def throws(source):
    """(line, column, statement) of each `throw` that makes an error, counted from 1."""
    lines = source.splitlines()
    found, is_text = [], False
    for row, line in enumerate(lines):
        was_text, is_text = is_text, is_text ^ (line.count('"""') % 2 == 1)
        if was_text:
            continue
        code = line.split("//")[0] if '"' not in line else line
        if code.lstrip().startswith("///"):
            continue
        for match in THROW.finditer(code):
            if code[:match.start()].count('"') % 2 == 0:
                found.append((row + 1, match.start() + 1, statement(lines, row, match.start())))
    return found


def reached(segments, line, column):
    """Whether the code at a place ran: the count of the last segment that begins before it."""
    at = bisect_right([(s[0], s[1]) for s in segments], (line, column)) - 1
    return at >= 0 and segments[at][3] and segments[at][2] > 0


def unprovoked(export, root):
    """(file, line, statement) of what no test reaches."""
    found = []
    for f in export["data"][0]["files"]:
        path = Path(f["filename"])
        if root / "Sources" not in path.parents or not path.exists():
            continue
        for line, column, text in throws(path.read_text()):
            if not reached(f["segments"], line, column):
                found.append((str(path.relative_to(root)), line, text))
    return sorted(found)


def known(path):
    """(file, part of the statement, reason) of the lines of a table."""
    rows = [line.split("\t") for line in path.read_text().splitlines() if line and not line.startswith("#")]
    for row in rows:
        if len(row) != 3 or not all(row):
            sys.exit(f"{path.name}: a line is FILE, PART OF THE STATEMENT and REASON with tabs between: {row}")
    return rows


def compare(found, rows):
    """What is found and not known, and rows that fit nothing."""
    def fits(row, site):
        return row[0] == site[0] and row[1] in site[2]
    new = [s for s in found if not any(fits(r, s) for r in rows)]
    stale = [r for r in rows if not any(fits(r, s) for s in found)]
    return new, stale


def measure(filters):
    """Builds, runs the suites and returns what was reached."""
    swift = ["--package-path", str(ROOT), "--scratch-path", str(BUILD), "-c", "release", "--disable-dead-strip"]
    subprocess.run(["swift", "build", *swift, "--build-tests", "--enable-code-coverage"], check=True)
    profiles = BUILD / "profiles"
    shutil.rmtree(profiles, ignore_errors=True)
    profiles.mkdir()
    # %p: a file for each process. Programs that add to one file spoil its counters.
    environment = {"GOMP_SPINCOUNT": "5000", **os.environ, "LLVM_PROFILE_FILE": str(profiles / "%p.profraw")}
    subprocess.run(["swift", "test", *swift, "--skip-build", *[w for f in filters for w in ("--filter", f)]],
                   env=environment)
    return collect(BUILD)


def collect(build):
    """What the profiles of a build say together, as `llvm-cov export` writes it."""
    data, names = build / "merged.profdata", build / "profiles.txt"
    # A process that was killed while it wrote left half a file.
    names.write_text("".join(f"{f}\n" for f in sorted((build / "profiles").glob("*.profraw")) if f.stat().st_size))
    subprocess.run([tool("llvm-profdata"), "merge", "-sparse", "-failure-mode=all", "-f", str(names), "-o", str(data)],
                   check=True, stderr=subprocess.DEVNULL)
    binaries = [build / "release/neti", next((build / "release").glob("*PackageTests.xctest"))]
    written = subprocess.run([tool("llvm-cov"), "export", "-instr-profile", str(data), *[
        w for b in binaries for w in ("-object", str(b))]], check=True, stdout=subprocess.PIPE)
    return json.loads(written.stdout)


def tool(name):
    """A tool that came with Swift: others do not know the format."""
    beside = Path(os.path.realpath(shutil.which("swift") or "swift")).parent / name
    return str(beside) if beside.exists() else name


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--filter", action="append", default=[])
    parser.add_argument("--from", dest="export", type=Path)
    options = parser.parse_args(arguments)
    export = json.loads(options.export.read_text()) if options.export else measure(options.filter)
    found = unprovoked(export, ROOT)
    new, stale = compare(found, known(KNOWN))
    for file, line, text in new:
        print(f"{file}:{line}: {text[:400]}")
    for row in stale:
        print(f"{KNOWN.name}: a test provokes this now, or it is gone: {row[0]}: {row[1]}")
    total = sum(len(throws(f.read_text())) for f in (ROOT / "Sources").rglob("*.swift"))
    print(f"{total} throws; {len(found)} that no test reaches, {len(found) - len(new)} of them known")
    return 1 if new or stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
