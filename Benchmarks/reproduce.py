#!/usr/bin/env python3
"""The paper's claims, measured on the embedded base: every representation and every ablation on the eight examples.

    python3 Benchmarks/reproduce.py [rates|main|curves|dial|report]... [--work outputs/reproduce]

Without a name all parts run in this order. Each learns with `neti train --manifest` and measures with `neti evaluate`;
both go on where they were stopped, so the same command again continues, and nothing is done twice. What another base
model or other examples gave lies in another folder.

    rates    every method at several learning rates, on three examples; each method's best one is used from then on
    main     methods x examples x seeds, at the model's own number of steps
    curves   methods x examples, one seed, measured after 25 to 1000 steps
    dial     neti's concepts of `main`, first seed, at every truncation
    report   answers six questions with intervals, writes Benchmarks/results/reproduce.{json,md}

Needs `swift build -c release --product neti` only. Hours on two cores.
"""
import argparse, csv, hashlib, json, random, shutil, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NETI = ROOT / "neti"
METHODS = {
    "ti": {"representation": "ti"},
    "xti": {"representation": "xti"},
    "time": {"representation": "time"},
    "space": {"representation": "space"},
    "neti": {"representation": "neti"},
    "no encoding": {"representation": "neti", "model.use_positional_encoding": False},
    "no bypass": {"representation": "neti", "model.output_bypass": False},
    "no norm": {"representation": "neti", "model.normalize_mapper_output": False},
    "no dropout": {"representation": "neti", "model.use_nested_dropout": False},
}
VECTORS = ("ti", "xti")
RATES = {True: (1e-4, 3e-4, 1e-3, 3e-3), False: (5e-4, 1e-3, 2e-3, 4e-3)}  # of vectors, of mappers
RATE_EXAMPLES = ("ginger", "starmug", "stripes")
MARKS = (25, 50, 100, 250, 500, 1000)
TRUNCATIONS = (1, 2, 4, 8, 16, 32, 64)
SEEDS = (0, 1, 2)
IMAGE, TEXT, LOSS = "image_held_out", "text_category", "held_out_loss_change"


def examples():
    return sorted(f.stem for f in (ROOT / "Examples").glob("*.json"))


def category(name):
    return json.loads((ROOT / "Examples" / f"{name}.json").read_text())["category"]


def slug(*parts):
    return "-".join(str(p).replace(" ", "-") for p in parts)


class Part:
    """Runs of one part: learned from one list, measured in one folder."""

    def __init__(self, work, name, save_steps=None):
        self.folder = work / name
        self.runs, self.save_steps = [], save_steps

    def add(self, method, example, seed, rate, steps=None):
        line = {"images": f"Examples/{example}", "token": f"<{example}>", "category": category(example), "seed": seed,
                "output": slug(method, example, seed, f"{rate:g}"), **METHODS[method],
                "optim.learning_rate": rate, "optim.scale_lr": False, "eval.validation_prompts": []}
        if steps:
            line["steps"] = steps
        line["log.save_steps"] = self.save_steps or 1_000_000
        self.runs.append((method, example, rate, line))

    def learn(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        # Paths in a list start at its folder and cannot leave it.
        link = self.folder / "Examples"
        if not link.exists():
            shutil.copytree(ROOT / "Examples", link)
        text = "".join(json.dumps(line) + "\n" for *_, line in self.runs)
        (self.folder / "list.jsonl").write_text(text)
        run("train", "--manifest", self.folder / "list.jsonl", "--output", self.folder / "runs", "--precision", "bf16")

    def measure(self, files, name="scores", *options):
        out = self.folder / name
        run("evaluate", *(x for method, file in files for x in ("--concept", f"{method}={file}")), "--images",
            ROOT / "Examples", "--references", ROOT / "Examples/held-out", "--precision", "bf16", "--seeds", 1,
            "--baseline", "--output", out, *options)
        return rows(out)

    def concept(self, line, step=None):
        run = self.folder / "runs" / line["output"]
        return run / (f"checkpoints/step-{step:06}.safetensors" if step else "concept.safetensors")

    def seconds(self, line):
        """Training time after each step, without the measurements."""
        total, found = 0.0, {}
        for text in (self.folder / "runs" / line["output"] / "events.jsonl").read_text().splitlines():
            event = json.loads(text)
            if event["kind"] == "step":
                total += event["seconds"]
                found[event["step"]] = total
        return found


def run(*words):
    words = [str(w) for w in words]
    print("+ neti", *words[:1], f"… ({len(words)} words)", flush=True)
    subprocess.run([str(NETI), *words], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)


def rows(folder):
    """{(method, example, steps, truncation): figures} of an evaluation; means over prompts and training seeds."""
    with open(folder / "summary.csv", newline="") as file:
        return {(r["method"], r["concept"].strip("<>"), int(r["steps"]), int(r["truncation"] or 0)):
                {k: float(r[k]) for k in (IMAGE, "image_trained", TEXT, "text_omitted", LOSS) if r[k]}
                for r in csv.DictReader(file)}


# ---- the parts


def rates(work):
    part = Part(work, "rates")
    for method in METHODS:
        for example in RATE_EXAMPLES:
            for rate in RATES[method in VECTORS]:
                part.add(method, example, 0, rate)
    part.learn()
    figures = part.measure([(f"{m} {r:g}", part.concept(line)) for m, _, r, line in part.runs])
    table, best = {}, {}
    for method in METHODS:
        for rate in RATES[method in VECTORS]:
            found = [v for k, v in figures.items() if k[0] == f"{method} {rate:g}"]
            table[f"{method} {rate:g}"] = {k: sum(v[k] for v in found) / len(found) for k in (IMAGE, TEXT, LOSS)}
        # What a user wants: the thing, and what the prompt says. Neither by itself.
        best[method] = max(RATES[method in VECTORS],
                           key=lambda r: table[f"{method} {r:g}"][IMAGE] + table[f"{method} {r:g}"][TEXT])
    (work / "rates.json").write_text(json.dumps({"best": best, "table": table}, indent=1))
    return best


def best_rates(work):
    file = work / "rates.json"
    return json.loads(file.read_text())["best"] if file.exists() else rates(work)


def main_part(work):
    part, best = Part(work, "main"), best_rates(work)
    for seed in SEEDS:
        for method in METHODS:
            for example in examples():
                part.add(method, example, seed, best[method])
    return part


def measure_main(work):
    part = main_part(work)
    part.learn()
    return part.measure([(m, part.concept(line)) for m, _, _, line in part.runs])


def curves_part(work):
    part, best = Part(work, "curves", save_steps=MARKS[0]), best_rates(work)
    for method in METHODS:
        for example in examples():
            part.add(method, example, 0, best[method], steps=MARKS[-1])
    return part


def measure_curves(work):
    part = curves_part(work)
    part.learn()
    for *_, line in part.runs:  # only the marks are measured
        for file in (part.folder / "runs" / line["output"] / "checkpoints").glob("step-*"):
            if int(file.name[5:11]) not in MARKS:
                file.unlink()
    return part.measure([(m, part.concept(line, step)) for m, _, _, line in part.runs for step in MARKS])


def measure_dial(work):
    part = main_part(work)
    files = [(m, part.concept(line)) for m, _, _, line in part.runs if m == "neti" and line["seed"] == SEEDS[0]]
    return part.measure(files, "dial", "--truncation", ",".join(map(str, TRUNCATIONS)))


# ---- answers


def estimate(values):
    """Mean over concepts and its 95 % interval: concepts are drawn anew with replacement."""
    values = list(values)
    random_ = random.Random(0)
    means = sorted(sum(random_.choices(values, k=len(values))) / len(values) for _ in range(10_000))
    mean = sum(values) / len(values)
    low, high = means[249], means[9749]
    return {"mean": mean, "low": low, "high": high, "concepts": len(values), "values": values,
            "verdict": "more" if low > 0 else "less" if high < 0 else "within noise"}


def at(curve, x):
    """Where a curve of (x, y) is at x; straight between its points, flat outside."""
    curve = sorted(curve)
    if x <= curve[0][0]:
        return curve[0][1]
    for (a, p), (b, q) in zip(curve, curve[1:]):
        if x <= b:
            return p if a == b else p + (q - p) * (x - a) / (b - a)
    return curve[-1][1]


def report(work):
    main, curves, dial = measure_main(work), measure_curves(work), measure_dial(work)
    things = examples()
    own = max(k[2] for k in main)

    def difference(a, b, metric):
        return estimate(main[a, e, own, 0][metric] - main[b, e, own, 0][metric] for e in things)

    def dialled(e):  # (text, image) at each truncation
        return [(v[TEXT], v[IMAGE]) for k, v in sorted(dial.items()) if k[:2] == ("neti", e)]

    def at_same_text(e, text):
        return at(dialled(e), text)

    part = curves_part(work)
    clock = {(m, e): part.seconds(line) for m, e, _, line in part.runs}

    def at_same_time(method, other, mark):
        """The image similarity of neti when as many seconds have passed as `other` takes for its steps."""
        def value(e):
            time = clock[other, e][mark]
            curve = [(clock[method, e][m], curves[method, e, m, 0][IMAGE]) for m in MARKS]
            return at(curve, time) - curves[other, e, mark, 0][IMAGE]
        return estimate(value(e) for e in things)

    answers = {"base": work.name, "steps": own, "rates": best_rates(work)}
    answers["methods"] = {
        m: {k: estimate(main[m, e, own, 0][k] for e in things) for k in (IMAGE, "image_trained", TEXT, LOSS)}
        for m in METHODS}
    answers["word"] = {k: estimate(main["word", e, 0, 0][k] for e in things) for k in (IMAGE, TEXT)}
    answers["1 more like the concept at the same text similarity"] = {
        other: estimate(at_same_text(e, main[other, e, own, 0][TEXT]) - main[other, e, own, 0][IMAGE] for e in things)
        for other in VECTORS}
    answers["2 fewer steps, fewer seconds"] = {
        other: {f"after {m} steps": {
            "at equal steps": estimate(curves["neti", e, m, 0][IMAGE] - curves[other, e, m, 0][IMAGE] for e in things),
            "at equal seconds": at_same_time("neti", other, m)} for m in MARKS}
        for other in VECTORS}
    answers["3 the bypass"] = {
        "image similarity": difference("neti", "no bypass", IMAGE), "held-out loss": difference("neti", "no bypass", LOSS),
        **{f"image similarity after {m} steps": estimate(
            curves["neti", e, m, 0][IMAGE] - curves["no bypass", e, m, 0][IMAGE] for e in things) for m in MARKS}}
    answers["4 time and space"] = {
        other: {k: difference("neti", other, k) for k in (IMAGE, TEXT, LOSS)} for other in ("time", "space")}
    steps = (*TRUNCATIONS, 0)

    def change(k, metric):
        return estimate(dial["neti", e, own, steps[k + 1]][metric] - dial["neti", e, own, steps[k]][metric] for e in things)

    answers["5 the dial"] = {
        "units": {str(t or 128): {k: estimate(dial["neti", e, own, t][k] for e in things) for k in (IMAGE, TEXT)} for t in steps},
        "change from one to the next": {
            f"{steps[k]} to {steps[k + 1] or 128}": {m: change(k, m) for m in (IMAGE, TEXT)} for k in range(len(TRUNCATIONS))},
        "image similarity beside stopping early, at the same text similarity": {
            str(m): estimate(at_same_text(e, curves["neti", e, m, 0][TEXT]) - curves["neti", e, m, 0][IMAGE] for e in things)
            for m in MARKS}}
    answers["6 the norm"] = {k: difference("neti", "no norm", k) for k in (IMAGE, TEXT, LOSS)}
    answers["encoding"] = {k: difference("neti", "no encoding", k) for k in (IMAGE, TEXT, LOSS)}
    answers["nested dropout"] = {k: difference("neti", "no dropout", k) for k in (IMAGE, TEXT, LOSS)}
    answers["curves"] = {m: {str(s): {k: estimate(curves[m, e, s, 0][k] for e in things) for k in (IMAGE, TEXT, LOSS)}
                             for s in MARKS} for m in METHODS}
    answers["seconds"] = {m: {str(s): sum(clock[m, e][s] for e in things) / len(things) for s in MARKS} for m in METHODS}
    results = ROOT / "Benchmarks/results"
    (results / "reproduce.json").write_text(json.dumps(answers, indent=1) + "\n")
    (results / "reproduce.md").write_text(markdown(answers))


def markdown(answers):
    def cell(e):
        return f"{e['mean']:+.4f} ({e['low']:+.4f} … {e['high']:+.4f}), {e['verdict']}"

    lines = [f"# The paper's claims on mini-sd, {answers['steps']} steps", "",
             "Written by `python3 Benchmarks/reproduce.py report`. Means over eight concepts with 95 % intervals.", "",
             "| method | rate | image, held out | image, trained on | text | held-out loss against the word |",
             "|---|---:|---:|---:|---:|---:|"]
    word = answers["word"]
    lines.append(f"| word | | {word[IMAGE]['mean']:.3f} | | {word[TEXT]['mean']:.3f} | |")
    for name, m in answers["methods"].items():
        lines.append(f"| {name} | {answers['rates'][name]:g} | {m[IMAGE]['mean']:.3f} | {m['image_trained']['mean']:.3f} | "
                     f"{m[TEXT]['mean']:.3f} | {m[LOSS]['mean']:+.3f} |")

    def walk(value, path):
        if "verdict" in value:
            lines.append(f"| {', '.join(path)} | {cell(value)} |")
        else:
            for key, inner in value.items():
                walk(inner, [*path, key])

    for key in answers:
        if key[0].isdigit() or key in ("encoding", "nested dropout"):
            lines.extend(["", f"## {key}", "", "| | difference |", "|---|---|"])
            walk(answers[key], [])
    return "\n".join(lines) + "\n"


def state():
    """A hash of everything that the figures depend on, but the program."""
    whole = hashlib.sha256()
    for folder in ("Models", "Examples"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and file.name != "README.md":
                whole.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return whole.hexdigest()[:12]


PARTS = {"rates": rates, "main": measure_main, "curves": measure_curves, "dial": measure_dial, "report": report}

if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all when left out")
    arguments.add_argument("--work", type=Path, default=ROOT / "outputs/reproduce")
    asked = arguments.parse_args()
    folder = asked.work.resolve() / state()
    folder.mkdir(parents=True, exist_ok=True)
    for name in asked.parts or PARTS:
        try:
            PARTS[name](folder)
        except subprocess.CalledProcessError as error:
            sys.exit(f"reproduce: {' '.join(error.cmd[:2])} failed ({error.returncode}); the same command goes on")
