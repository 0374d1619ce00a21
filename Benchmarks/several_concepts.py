#!/usr/bin/env python3
"""How often do all concepts of a prompt appear? Counted by mini-clip, region by region, on mini-sd.

    python3 Benchmarks/several_concepts.py [--concepts FOLDER] [--work FOLDER]

Three pairs and one triple of the examples, eight seeds each, in every layout. Square windows of 80 and 128 pixels are
moved over an image. A window shows a concept when the images of its example (those learned from and those held out) are
nearer to it, in mini-clip's space, than those of the seven others, and as near as they are to nine in ten images of that
concept alone. All appear when each is shown at a place of its own, windows' middles 32 pixels apart.

Images of one concept alone tell how far the counting can be trusted: how often another one is found in them.

Writes Benchmarks/results/several-concepts.{json,md}. Fifteen minutes on two cores; needs
Tests/Fixtures/requirements.txt. Images are kept, so that an interrupted run goes on.
"""
import argparse, itertools, json
from pathlib import Path

import numpy as np
from PIL import Image

from learned import ROOT, Judge, concept, images

ALL = ("cottage", "dotbot", "ginger", "jay", "spotty", "starmug", "stripes", "toadstool")
GROUPS = (("starmug", "stripes"), ("ginger", "dotbot"), ("stripes", "ginger"), ("starmug", "stripes", "ginger"))
WAYS = {"side by side": (), "the whole prompt": ("--layout", "free"),
        "the whole prompt, as wide as side by side": ("--layout", "free", "--width", "wide")}
SEEDS = 8


def references(judge):
    """The mean embedding of each example's images [8, P]."""
    rows = []
    for e in ALL:
        files = [f for folder in (f"Examples/{e}", f"Examples/held-out/{e}") for f in sorted((ROOT / folder).iterdir())
                 if f.suffix in (".png", ".jpg")]
        rows.append(judge.look([np.asarray(Image.open(f).convert("RGB")) for f in files]).mean(0))
    return np.stack(rows)


def windows(image):
    """Squares of an image, and their middles."""
    found = [(image[y:y + s, x:x + s], (y + s // 2, x + s // 2)) for s in (80, 128)
             for y in range(0, image.shape[0] - s + 1, 16) for x in range(0, image.shape[1] - s + 1, 16)]
    return [f[0] for f in found], [f[1] for f in found]


def sights(judge, known, image):
    """For each example that some window is nearest to: (similarity, middle) of these windows."""
    squares, middles = windows(image)
    similarity = judge.look(squares) @ known.T
    found = {e: [] for e in ALL}
    for row, middle in zip(similarity, middles):
        found[ALL[int(row.argmax())]].append((float(row.max()), middle))
    return found


def best(found, e):
    return max((s for s, _ in found[e]), default=-1.0)


def shown(found, group, least):
    """Whether all of the group are shown, each at a place of its own."""
    places = [[middle for s, middle in found[e] if s >= least[e]] for e in group]
    return any(all(np.hypot(*np.subtract(a, b)) >= 32 for a, b in itertools.combinations(chosen, 2))
               for chosen in itertools.product(*places))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--concepts", type=Path, default=ROOT / "outputs/concepts", help="learned there when missing")
    arguments.add_argument("--work", type=Path, default=ROOT / "outputs/several-concepts")
    asked = arguments.parse_args()
    judge = Judge()
    known = references(judge)

    def draw(name, group, *options):
        concepts = [w for e in group for w in ("--concept", f"{e}={concept(e, asked.concepts)}")]
        prompt = "a photo of a " + " next to a ".join("{" + e + "}" for e in group)
        found = images(asked.work / name, SEEDS, "generate", *concepts, "--prompt", prompt, "--seed", f"0-{SEEDS - 1}",
                       "--steps", 20, *options)
        return [sights(judge, known, i) for i in found.values()]

    used = sorted({e for group in GROUPS for e in group})
    alone = {e: draw(f"alone-{e}", (e,)) for e in used}
    least = {e: float(np.quantile([best(f, e) for f in alone[e]], 0.1)) for e in used}
    other = np.mean([shown(f, (o,), least) for e in used for f in alone[e] for o in used if o != e])

    results = {"another found in images of one concept": round(float(other), 3)}
    for way, options in WAYS.items():
        rows = []
        for group in GROUPS:
            wide = {2: 208, 3: 288}[len(group)]
            given = [wide if o == "wide" else o for o in options]
            found = draw("-".join((*group, way.replace(" ", "-").replace(",", ""))), group, *given)
            rows.append([(shown(f, group, least), [shown(f, (e,), least) for e in group]) for f in found])
        results[way] = {
            name: {"all": sum(a for row in part for a, _ in row), "at least one": sum(any(e) for row in part for _, e in row),
                   "images": sum(map(len, part))} for name, part in (("two", rows[:3]), ("three", rows[3:]))}
    lines = ["# Several concepts", "", "Written by `python3 Benchmarks/several_concepts.py`, which says how it counts. In "
             f"images of one concept alone it finds another of the {len(used)} in {100 * other:.1f} %.", "",
             "| layout | both of two | either | all of three | any |", "|---|---:|---:|---:|---:|"]
    for way in WAYS:
        cells = [f"{r[k]} of {r['images']}" for r in results[way].values() for k in ("all", "at least one")]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    (ROOT / "Benchmarks/results/several-concepts.md").write_text("\n".join(lines) + "\n")
    (ROOT / "Benchmarks/results/several-concepts.json").write_text(json.dumps(results, indent=1) + "\n")
    print("\n".join(lines[2:]))


if __name__ == "__main__":
    main()
