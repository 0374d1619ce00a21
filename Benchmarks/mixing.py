#!/usr/bin/env python3
"""Which layers carry shape and which colours, counted by a program: mixtures of the examples on mini-sd.

    python3 Benchmarks/mixing.py [--concepts FOLDER] [--work FOLDER]

Every ordered pair of four examples, four seeds, `a photo of a {} in the snow`, for several --layers. Mixture and
parents start from the same noise.

    shape    cosine similarity of histograms of oriented gradients (of the grey image), mixture and parent
    noun     whether mini-clip takes it for the geometry's category rather than the appearance's
    colours  intersection of histograms of hue and saturation in the middle of the image, mixture and parent

Writes Benchmarks/results/mixing.{json,md}. Ten minutes on two cores; needs
Tests/Fixtures/requirements.txt. Images are kept, so that an interrupted run goes on.
"""
import argparse, itertools, json
from pathlib import Path

import numpy as np
from PIL import Image

from learned import ROOT, Judge, category, concept, images

EXAMPLES = ("dotbot", "ginger", "starmug", "stripes")
LAYERS = ("all", "8,4,2", "8", "4,2", "16", "none")
SEEDS = 4


def gradients(image, cell=8):
    """Histograms of oriented gradients (Dalal and Triggs, 2005): 9 directions without sign in cells of 8 × 8 pixels,
    blocks of 2 × 2 cells normalised, so that neither brightness nor colour counts."""
    grey = image.astype(float) @ (0.299, 0.587, 0.114)
    dy, dx = np.gradient(grey)
    size, angle = np.hypot(dx, dy), (np.arctan2(dy, dx) % np.pi) * 9 / np.pi
    rows, columns = (n // cell for n in grey.shape)
    cells = np.zeros((rows, columns, 9))
    y, x = np.indices(grey.shape) // cell
    for offset in (0, 1):  # each gradient counts for the two nearest directions
        weight = np.abs(1 - offset - angle % 1)
        np.add.at(cells, (y, x, (angle.astype(int) + offset) % 9), size * weight)
    blocks = np.concatenate([cells[i:rows - 1 + i, j:columns - 1 + j] for i in (0, 1) for j in (0, 1)], -1)
    blocks /= np.sqrt((blocks**2).sum(-1, keepdims=True) + 100**2)  # flat parts do not count
    return blocks.ravel()


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def colours(image):
    """A histogram that sums to 1: twelve hues, and three of grey, where the thing stands."""
    h, w = image.shape[:2]
    middle = Image.fromarray(image[h // 4:-h // 4, w // 4:-w // 4]).convert("HSV")
    hue, saturation, value = np.moveaxis(np.asarray(middle).astype(int), -1, 0)
    bins = np.where(saturation < 50, 12 + np.minimum(value // 86, 2), hue * 12 // 256)
    return np.bincount(bins.ravel(), minlength=15) / bins.size


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--concepts", type=Path, default=ROOT / "outputs/concepts", help="learned there when missing")
    arguments.add_argument("--work", type=Path, default=ROOT / "outputs/mixing")
    asked = arguments.parse_args()
    judge = Judge()
    rows = {layers: [] for layers in LAYERS}
    for geometry, appearance in itertools.permutations(EXAMPLES, 2):
        files = [concept(e, asked.concepts) for e in (geometry, appearance)]
        drawn = {layers: images(
            asked.work / f"{geometry}-{appearance}-{layers}", SEEDS, "mix", "--geometry", files[0], "--appearance", files[1],
            "--layers", layers, "--prompt", "a photo of a {} in the snow", "--steps", 20, "--seed", f"0-{SEEDS - 1}")
            for layers in LAYERS}
        for layers in LAYERS:
            # A geometry that keeps all is that concept alone, and one that keeps nothing the other.
            for a, mixed, b in zip(*(drawn[key].values() for key in ("all", layers, "none"))):
                shapes, tones = [gradients(i) for i in (a, mixed, b)], [colours(i) for i in (a, mixed, b)]
                rows[layers].append({
                    "shape of the geometry": cosine(shapes[0], shapes[1]),
                    "shape of the appearance": cosine(shapes[2], shapes[1]),
                    "noun of the geometry": judge.prefers(mixed, category(geometry), category(appearance)),
                    "colours of the geometry": np.minimum(tones[0], tones[1]).sum(),
                    "colours of the appearance": np.minimum(tones[2], tones[1]).sum()})
    results = {}
    for layers, found in rows.items():
        shape = [r["shape of the geometry"] > r["shape of the appearance"] for r in found]
        tone = [r["colours of the appearance"] > r["colours of the geometry"] for r in found]
        results[layers] = {**{k: round(float(np.mean([r[k] for r in found])), 3) for k in found[0]},
                           "shape nearer to the geometry": np.mean(shape), "colours nearer to the appearance": np.mean(tone),
                           "both": np.mean([s and t for s, t in zip(shape, tone)]), "images": len(found)}
    lines = ["# Mixing, by the layers that the geometry keeps", "",
             f"Written by `python3 Benchmarks/mixing.py`, which says how it counts; {len(rows['all'])} images in each row.", "",
             "| the geometry keeps | shape: geometry | appearance | colours: geometry | appearance | the geometry's noun | "
             "shape nearer to the geometry | colours nearer to the appearance | both |", "|---|" + "---:|" * 8]
    for layers, r in results.items():
        share = [f"{100 * r[k]:.0f} %" for k in ("noun of the geometry", "shape nearer to the geometry",
                                                 "colours nearer to the appearance", "both")]
        lines.append(f"| {layers} | {r['shape of the geometry']:.2f} | {r['shape of the appearance']:.2f} | "
                     f"{r['colours of the geometry']:.2f} | {r['colours of the appearance']:.2f} | {' | '.join(share)} |")
    (ROOT / "Benchmarks/results/mixing.md").write_text("\n".join(lines) + "\n")
    (ROOT / "Benchmarks/results/mixing.json").write_text(json.dumps(results, indent=1) + "\n")
    print("\n".join(lines[4:]))


if __name__ == "__main__":
    main()
