#!/usr/bin/env python3
"""The paper's claims, measured on the embedded base: every representation and every ablation on the eight examples.

    python3 Benchmarks/reproduce.py [rates|main|guidance|curves|speed|report]... [--jobs 2] [--minutes N] [--work FOLDER]

Without a name all parts run in this order. A unit of work is one concept: it is learned with `neti train`, measured
with `neti evaluate`, and its figures are appended to Benchmarks/results/reproduce.jsonl. What stands there is not done
again, on whatever machine; figures of another base or of other examples are left alone and not used.

    rates    every method at several learning rates, on one example; each method's best one is used from then on
    main     methods x examples x seeds, at the model's own number of steps; neti at every truncation
    guidance neti's concepts of `main`, their first seed, at several guidances
    curves   the methods that are asked about x examples, one seed, measured after 25 to 1000 steps
    speed    every method's seconds a step, in turns, and its file's size: five minutes in which nothing else may run
    report   answers six questions with intervals from what is there, writes Benchmarks/results/reproduce.{json,md}
             and, where matplotlib is installed, the plots of docs/images

Needs `swift build -c release --product neti` only. Hours on two cores. --minutes ends it after that time, whole units
only. Everything but `speed` may run beside other work.
"""
import argparse, csv, hashlib, json, os, shutil, statistics, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NETI = ROOT / "neti"
RESULTS = ROOT / "Benchmarks/results/reproduce.jsonl"
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
MAPPER_RATES = (1e-3, 2e-3, 4e-3)
RATES = {m: {"ti": (3e-4, 1e-3, 3e-3), "xti": (1e-2, 3e-2, 1e-1)}.get(m, MAPPER_RATES) for m in METHODS}
RATE_EXAMPLES = ("ginger",)
CURVES = ("ti", "xti", "neti", "no bypass")
MARKS = (25, 50, 100, 250, 500, 1000)
TRUNCATIONS = (1, 2, 4, 8, 16, 32, 64)
GUIDANCES = (1.5, 2, 3, 4, 5, 7.5)
SEEDS = (0, 1, 2)
STEPS = None  # the model's own
SAME_TEXT = 0.01  # similarities of text that count as the same
IMAGE, TEXT, LOSS = "image_held_out", "text_category", "held_out_loss_change"
LABELS = {IMAGE: "image similarity", TEXT: "text similarity", LOSS: "held-out loss, where less is better"}


def examples():
    return sorted(f.stem for f in (ROOT / "Examples").glob("*.json"))


def category(name):
    return json.loads((ROOT / "Examples" / f"{name}.json").read_text())["category"]


def state(*folders):
    """A hash of what the figures depend on."""
    whole = hashlib.sha256()
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.name == "model_defaults.json":  # rates are given; what else counts is this
                defaults = json.loads(file.read_text())
                whole.update(json.dumps([defaults[k] for k in ("guidance", "max_train_steps")]).encode())
            elif file.is_file() and file.name != "README.md":
                whole.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return whole.hexdigest()[:12]


class Figures:
    """What was measured on this base by this CLIP, and in which file it stands."""

    def __init__(self, file, base, judge):
        self.file, self.base, self.judge, self.lock = file, base, judge, threading.Lock()
        self.learning = {e: threading.Lock() for e in examples()}  # concepts that several units need
        self.rows, self.earlier = [], []
        if file.exists():
            here = [r for r in map(json.loads, file.read_text().splitlines()) if r["base"] == base]
            self.rows = [r for r in here if r["judge"] == judge or r["part"] == "speed"]  # seconds have no judge
            self.earlier = [r for r in here if r["judge"] != judge and r["part"] != "speed"]

    def add(self, rows):
        with self.lock:
            rows = [r for r in rows if r not in self.rows]  # what was there before its unit was whole
            self.rows += rows
            with self.file.open("a") as file:
                file.write("".join(json.dumps(r) + "\n" for r in rows))

    def has(self, unit):
        return bool(self.select(**unit, **({"truncation": TRUNCATIONS[0]} if dialled(unit) else {})))

    def select(self, **wanted):
        return [r for r in self.rows if all(r.get(k) == v for k, v in wanted.items())]

    def choosing(self):
        """The figures that rates are chosen by, once: the first CLIP's, so that another one judges the same concepts."""
        judges = {}
        for r in self.earlier + self.rows:
            if r["part"] == "rates" and r["example"] in RATE_EXAMPLES:
                judges.setdefault(r["judge"], []).append(r)
        wanted = {(m, r) for m in METHODS for r in RATES[m]}
        for rows in judges.values():
            if wanted <= {(r["method"], r["rate"]) for r in rows}:
                return rows
        sys.exit("reproduce: learning rates are not measured yet; run the part rates first")

    def one(self, metric, **wanted):
        """The mean over seeds."""
        found = [r[metric] for r in self.select(**wanted)]
        return sum(found) / len(found)


def run(*words):
    subprocess.run([str(NETI), *map(str, words)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT,
                   env=dict(os.environ, GOMP_SPINCOUNT="5000"))


def dialled(unit):
    """Every representation has the dial; the question about it is neti's."""
    return unit["part"] == "main" and unit["method"] == "neti"


def place(unit, work):
    return work / "-".join(str(v).replace(" ", "-") for k, v in unit.items() if k != "judge")


def evaluate(unit, figures, folder, name, threads, *words):
    """Scores by this CLIP; images that an earlier one judged are judged anew, and not generated again."""
    own = folder / f"{name}-{figures.judge}"
    earlier = [f for f in sorted(folder.glob(f"{name}-*")) if f != own and (f / "summary.csv").exists()]
    run("evaluate", *words, "--images", folder / "images", "--references", ROOT / "Examples/held-out" / unit["example"],
        "--threads", threads, "--seeds", 1, "--output", own, *(["--generated", earlier[0]] if earlier else []))
    figures.add([{**unit, **row} for row in scores(own)])


def scores(folder):
    with open(folder / "summary.csv", newline="") as file:
        return [{"method": r["method"], "steps": int(r["steps"]), "truncation": int(r["truncation"] or 0),
                 **{k: float(r[k]) for k in (IMAGE, "image_trained", TEXT, "text_omitted", LOSS) if r[k]}}
                for r in csv.DictReader(file)]


def learn(unit, work, threads):
    """Learns one concept where that is not done here yet. Its folder, and the files to measure."""
    folder = place(unit, work)
    part, method, example = unit["part"], unit["method"], unit["example"]
    settings = {**METHODS[method], "optim.learning_rate": unit["rate"], "optim.scale_lr": False,
                "eval.validation_prompts": []}
    marks = MARKS if part == "curves" else ()
    steps = marks[-1] if marks else STEPS
    line = {"images": "images", "token": f"<{example}>", "category": category(example),
            "seed": unit["seed"], "output": "run", **settings, "log.save_steps": marks[0] if marks else 1_000_000}
    if steps:
        line["steps"] = steps
    concept = folder / "runs/run"
    if not (concept / "concept.safetensors").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # Paths in a list start at its folder and cannot leave it.
        shutil.copytree(ROOT / "Examples" / example, folder / "images")
        (folder / "list.jsonl").write_text(json.dumps(line) + "\n")
        run("train", "--manifest", folder / "list.jsonl", "--output", folder / "runs", "--threads", threads)
    files = [concept / f"checkpoints/step-{m:06}.safetensors" for m in marks] or [concept / "concept.safetensors"]
    for file in concept.glob("checkpoints/*"):
        if file not in files:
            file.unlink()
    return folder, files


def measure(unit, figures, work, threads):
    """Learns one concept and measures it. The concept and its images are kept: another CLIP only judges them anew."""
    part, method = unit["part"], unit["method"]
    if part == "guidance":
        # Those of `main`; several guidances wait for one that is learned.
        of_main = {k: "main" if k == "part" else v for k, v in unit.items() if k != "guidance"}
        with figures.learning[unit["example"]]:
            folder, files = learn(of_main, work, threads)
        evaluate(unit, figures, folder, f"guidance-{unit['guidance']}", threads,
                 "--concept", f"neti={files[0]}", "--guidance", unit["guidance"])
        return
    folder, files = learn(unit, work, threads)
    baseline = part == "main" and method == "ti" and unit["seed"] == SEEDS[0]
    evaluate(unit, figures, folder, "scores", threads, *(w for f in files for w in ("--concept", f"{method}={f}")),
             *(["--truncation", ",".join(map(str, TRUNCATIONS))] if dialled(unit) else []), *(["--baseline"] if baseline else []))


def speed(figures, work):
    """Seconds of a training step by each method on two threads, the median of three rounds in turns."""
    found = {m: [] for m in METHODS}
    for turn in range(3):
        for method, settings in METHODS.items():
            folder = work / "speed" / f"{turn}-{method}".replace(" ", "-")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            shutil.copytree(ROOT / "Examples/ginger", folder / "images")
            line = {"images": "images", "token": "<ginger>", "category": "cat", "output": "run", "steps": 40, **settings,
                    "eval.validation_prompts": []}
            (folder / "list.jsonl").write_text(json.dumps(line) + "\n")
            run("train", "--manifest", folder / "list.jsonl", "--output", folder / "runs", "--threads", 2)
            events = map(json.loads, (folder / "runs/run/events.jsonl").read_text().splitlines())
            found[method] += [e["seconds"] for e in events if e["kind"] == "step"][10:]
            size = (folder / "runs/run/concept.safetensors").stat().st_size
            if turn == 2:
                figures.add([{"base": figures.base, "judge": figures.judge, "part": "speed", "method": method,
                              "seconds": statistics.median(found[method]), "bytes": size}])
            print(f"speed: {method}, {statistics.median(found[method]):.3f} s", flush=True)


# ---- the parts


def units(part, figures):
    if part == "rates":
        return [(m, e, 0, r) for e in RATE_EXAMPLES for m in METHODS for r in RATES[m]]
    best = best_rates(figures)
    if part == "main":
        return [(m, e, seed, best[m]) for seed in SEEDS for e in examples() for m in METHODS]
    return [(m, e, SEEDS[0], best[m]) for e in examples() for m in (("neti",) if part == "guidance" else CURVES)]


def rate_table(figures):
    return {(m, r): {k: figures.one(k, part="rates", method=m, rate=r, example=e) for k in (IMAGE, TEXT, LOSS)}
            for e in RATE_EXAMPLES for m in METHODS for r in RATES[m]
            if figures.select(part="rates", method=m, rate=r, example=e)}


def best_rates(figures):
    """What a user wants: the thing, and what the prompt says. Neither by itself. Chosen by the first CLIP that judged."""
    rows = figures.choosing()

    def worth(method, rate):
        found = [r[IMAGE] + r[TEXT] for r in rows if r["method"] == method and r["rate"] == rate]
        return sum(found) / len(found)
    return {m: max(RATES[m], key=lambda r: worth(m, r)) for m in METHODS}


def work_through(part, figures, work, jobs, deadline):
    """False when the time was over before the part was whole."""
    wanted = [dict(base=figures.base, judge=figures.judge, part=part, method=m, example=e, seed=seed, rate=rate, **more)
              for m, e, seed, rate in units(part, figures)
              for more in ([{"guidance": g} for g in GUIDANCES] if part == "guidance" else [{}])]
    left = [u for u in wanted if not figures.has(u)]
    print(f"{part}: {len(wanted) - len(left)} of {len(wanted)} units are there", flush=True)
    start, done, lock = time.monotonic(), 0, threading.Lock()

    def one(unit):
        nonlocal done
        if time.monotonic() > deadline:
            return False
        measure(unit, figures, work, 1 if jobs > 1 else 2)
        with lock:
            done += 1
            each = (time.monotonic() - start) / done
            print(f"{part}: {done} of {len(left)}, about {each * (len(left) - done) / 60:.0f} min left", flush=True)
        return True

    with ThreadPoolExecutor(jobs) as pool:
        return all(list(pool.map(one, left)))


# ---- answers


# Student's t for a two-sided 95 % interval, by the number of values; a bootstrap of eight is too narrow. More values
# take that of eight, which is a little too wide for them.
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}


def estimate(values):
    """Mean over concepts and its 95 % interval by Student's t. None without any."""
    values = list(values)
    if not values:
        return None
    mean = sum(values) / len(values)
    if len(values) == 1:
        return {"mean": mean, "low": mean, "high": mean, "concepts": 1, "values": values, "verdict": "of one concept"}
    spread = STUDENT.get(len(values), STUDENT[8]) * statistics.stdev(values) / len(values) ** 0.5
    low, high = mean - spread, mean + spread
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


def answered(value):
    """Without what has no figures yet."""
    if not isinstance(value, dict):
        return value
    inner = {k: answered(v) for k, v in value.items()}
    return {k: v for k, v in inner.items() if v is not None and v != {}}


def report(figures):
    """Answers from what is there: a question without its figures is left out, and each says how many concepts it has."""

    def measured(part, *methods, **wanted):
        return {e for e in examples()
                if all(figures.select(part=part, method=m, example=e, **wanted) for m in methods)}

    def main(method, e, metric, truncation=0):
        return figures.one(metric, part="main", method=method, example=e, truncation=truncation)

    def curve(method, e, mark, metric):
        if metric == "seconds":
            return mark * figures.one("seconds", part="speed", method=method)
        return figures.one(metric, part="curves", method=method, example=e, steps=mark, truncation=0)

    def dial(e, truncation, metric, **seed):
        return figures.one(metric, part="main", method="neti", example=e, truncation=truncation, **seed)

    def difference(a, b, metric):
        return estimate(main(a, e, metric) - main(b, e, metric) for e in sorted(measured("main", a, b)))

    dials = measured("main", "neti", truncation=TRUNCATIONS[0])

    steps = (*TRUNCATIONS, 0)

    def at_same_text(things, text, image, **seed):
        """Differences to something of those text and image similarities, the dial turned to the units at which the *other*
        things have the best image similarity, where their text similarity is in the mean higher, or lower by at most
        `SAME_TEXT`; where it never is, at those of the highest. Chosen by the thing itself, it would be too good."""
        if len(things) < 2:
            return None

        def best(others):
            def mean(value):
                return sum(map(value, others)) / len(others)
            texts = {t: mean(lambda e: dial(e, t, TEXT, **seed)) for t in steps}
            fitting = [t for t in steps if texts[t] >= mean(text) - SAME_TEXT] or [max(steps, key=texts.get)]
            return max(fitting, key=lambda t: mean(lambda e: dial(e, t, IMAGE, **seed)))
        units = {e: best([o for o in things if o != e]) for e in things}
        chosen = ", ".join(str(u or 128) for u in sorted(set(units.values()), key=lambda u: u or 128))
        return {f"with {chosen} units, as the others choose": {
            IMAGE: estimate(dial(e, units[e], IMAGE, **seed) - image(e) for e in things),
            TEXT: estimate(dial(e, units[e], TEXT, **seed) - text(e) for e in things)}}

    def at_same_time(method, other, mark, things):
        """The image similarity of neti when as many seconds have passed as `other` takes for its steps; nothing for a time
        before the first that was measured."""
        if things and curve(other, things[0], mark, "seconds") < curve(method, things[0], MARKS[0], "seconds"):
            return None

        def value(e):
            points = [(curve(method, e, m, "seconds"), curve(method, e, m, IMAGE)) for m in MARKS]
            return at(points, curve(other, e, mark, "seconds")) - curve(other, e, mark, IMAGE)
        return estimate(map(value, things))

    own = figures.select(part="main", method="neti", truncation=0)[0]["steps"]
    answers = {"base": figures.base, "judge": figures.judge, "steps": own, "rates": best_rates(figures),
               "seeds": {m: len({r["seed"] for r in figures.select(part="main", method=m)}) for m in METHODS}}
    answers["methods"] = {
        m: {k: estimate(main(m, e, k) for e in sorted(measured("main", m))) for k in (IMAGE, "image_trained", TEXT, LOSS)}
        for m in METHODS if measured("main", m)}
    answers["word"] = {k: estimate(main("word", e, k) for e in sorted(measured("main", "word"))) for k in (IMAGE, TEXT)}
    answers["speed"] = {r["method"]: {k: r[k] for k in ("seconds", "bytes")} for r in figures.select(part="speed")}
    answers["1 more like the concept where text similarity is no lower"] = {
        other: at_same_text(sorted(dials & measured("main", other)),
                            lambda e: main(other, e, TEXT), lambda e: main(other, e, IMAGE))
        for other in VECTORS}
    answers["1 and without turning the dial"] = {
        other: {k: difference("neti", other, k) for k in (IMAGE, TEXT, LOSS)} for other in VECTORS}
    timed = bool(figures.select(part="speed"))
    curved = {m: measured("curves", "neti", m) for m in CURVES}
    answers["2 fewer steps, fewer seconds"] = {
        other: {f"after {m} steps": {
            "at equal steps": estimate(curve("neti", e, m, IMAGE) - curve(other, e, m, IMAGE) for e in sorted(curved[other])),
            **({"at equal seconds": at_same_time("neti", other, m, sorted(curved[other]))} if timed else {})}
            for m in MARKS}
        for other in VECTORS if curved[other]}
    answers["3 the bypass"] = {
        "image similarity": difference("neti", "no bypass", IMAGE), "text similarity": difference("neti", "no bypass", TEXT),
        "held-out loss": difference("neti", "no bypass", LOSS),
        **{f"image similarity after {m} steps": estimate(
            curve("neti", e, m, IMAGE) - curve("no bypass", e, m, IMAGE) for e in sorted(curved["no bypass"]))
           for m in MARKS if curved["no bypass"]}}
    answers["4 time and space"] = {
        other: {k: difference("neti", other, k) for k in (IMAGE, TEXT, LOSS)} for other in ("time", "space")}

    def change(a, b, metric):
        return estimate(dial(e, b, metric) - dial(e, a, metric) for e in sorted(dials))

    both = sorted(dials & curved["neti"])
    answers["5 the dial"] = {
        "units": {str(t or 128): {k: estimate(dial(e, t, k) for e in sorted(dials)) for k in (IMAGE, TEXT)} for t in steps},
        "change": {f"{a} to {b or 128}": {m: change(a, b, m) for m in (IMAGE, TEXT)}
                   for a, b in [*zip(steps, steps[1:]), (1, 8), (8, 0), (1, 0)]},
        **({"beside stopping early, where text similarity is no lower": {
            f"after {m} steps": at_same_text(both, lambda e: curve("neti", e, m, TEXT), lambda e: curve("neti", e, m, IMAGE),
                                              seed=SEEDS[0])
            for m in MARKS}} if both else {})}
    answers["6 the norm"] = {k: difference("neti", "no norm", k) for k in (IMAGE, TEXT, LOSS)}
    answers["encoding"] = {k: difference("neti", "no encoding", k) for k in (IMAGE, TEXT, LOSS)}
    answers["nested dropout"] = {k: difference("neti", "no dropout", k) for k in (IMAGE, TEXT, LOSS)}
    answers["curves"] = {
        m: {str(s): {k: estimate(curve(m, e, s, k) for e in sorted(curved[m])) for k in (IMAGE, TEXT, LOSS)} for s in MARKS}
        for m in CURVES if curved[m]}
    answers["guidance"] = {
        str(g): {k: estimate(figures.one(k, part="guidance", example=e, guidance=g)
                             for e in sorted(measured("guidance", "neti", guidance=g))) for k in (IMAGE, TEXT)}
        for g in GUIDANCES}
    answers["learning rates"] = {f"{m} {r:g}": v for (m, r), v in rate_table(figures).items()}
    answers = answered(answers)
    results = figures.file.with_suffix(".json")
    results.write_text(json.dumps(answers, indent=1) + "\n")
    results.with_suffix(".md").write_text(markdown(answers))
    plots(answers)


def plots(answers):
    """The plane of text and image similarity, and image similarity over steps."""
    try:
        import matplotlib
    except ImportError:
        return print("report: no plots, as matplotlib is not installed", flush=True)
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "neti"})
    folder = ROOT / "docs/images"

    figure, axes = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    units = answers["5 the dial"]["units"]
    x, y = ([u[k]["mean"] for u in units.values()] for k in (TEXT, IMAGE))
    axes.plot(x, y, "-", color="#d1751f", alpha=0.5, label="neti's dial, 1 to 128 units")
    points = {"word": answers["word"], **answers["methods"]}
    # The names of ablations stand below each other, as their points may lie on each other.
    parts = sorted(set(points) - {"neti", "ti", "xti", "word"}, key=lambda n: -points[n][IMAGE]["mean"])
    places = {name: (0.82, 0.95 - 0.05 * n) for n, name in enumerate(parts)}
    for name, p in points.items():
        color = {"neti": "#d1751f", "ti": "#2b6cb0", "xti": "#2f855a", "word": "#4a5568"}.get(name, "#8a97a8")
        at = p[TEXT]["mean"], p[IMAGE]["mean"]
        if name in places:  # intervals of all would hide them all
            axes.plot(*at, "o", color=color, markersize=4)
        else:
            spread = [[[p[k]["mean"] - p[k]["low"]], [p[k]["high"] - p[k]["mean"]]] for k in (TEXT, IMAGE)]
            axes.errorbar(*at, xerr=spread[0], yerr=spread[1], fmt="o", color=color, elinewidth=1, markersize=8)
        if name in places:
            axes.annotate(name, at, places[name], textcoords="axes fraction", color="#5f6b7a", va="center", fontsize=9,
                          arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6, "shrinkB": 3,
                                                                "relpos": (0, 0.5)},
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
        else:
            axes.annotate(name, at, (-8, 6), textcoords="offset points", color=color, fontsize=12, weight="bold", ha="right")
    axes.set(xlabel="text similarity: the prompt is followed", ylabel="image similarity, held-out images")
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(folder / "plane.png", dpi=140)

    if "curves" not in answers:
        return
    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    for name, color in zip(CURVES, ("#2b6cb0", "#2f855a", "#d1751f", "#a0aec0")):
        if name in answers["curves"]:
            c = answers["curves"][name]
            axes.plot([int(s) for s in c], [v[IMAGE]["mean"] for v in c.values()], "o-", color=color, label=name)
            axes.fill_between([int(s) for s in c], [v[IMAGE]["low"] for v in c.values()],
                              [v[IMAGE]["high"] for v in c.values()], color=color, alpha=0.12)
    axes.set(xlabel="training steps", ylabel="image similarity, held-out images", xscale="log", xticks=MARKS)
    axes.set_xticks(MARKS, [str(m) for m in MARKS])
    axes.minorticks_off()
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(folder / "convergence.png", dpi=140)


def markdown(answers):
    def cell(e):
        few = "" if e["concepts"] in (1, len(examples())) else f", {e['concepts']} concepts"
        return f"{e['mean']:+.3f} ({e['low']:+.3f} … {e['high']:+.3f}), {e['verdict']}{few}"

    lines = [f"# The paper's claims on mini-sd, {answers['steps']} steps", "",
             "Written by `python3 Benchmarks/reproduce.py report`. Means over eight concepts, where nothing else is said, "
             f"with 95 % intervals over concepts; seeds: {answers['seeds']['neti']}. Base {answers['base']}, judge {answers['judge']}.", "",
             "| method | rate | image, held out | image, trained on | text | held-out loss against the word | seconds a step | KiB |",
             "|---|---:|---:|---:|---:|---:|---:|---:|"]
    word = answers["word"]
    lines.append(f"| word | | {word[IMAGE]['mean']:.3f} | | {word[TEXT]['mean']:.3f} | | | |")
    for name, m in answers["methods"].items():
        lines.append(f"| {name} | {answers['rates'][name]:g} | {m[IMAGE]['mean']:.3f} | {m['image_trained']['mean']:.3f} | "
                     f"{m[TEXT]['mean']:.3f} | {100 * m[LOSS]['mean']:+.1f} % | " +
                     ("{seconds:.3f} | {kib:.0f} |".format(**answers["speed"][name], kib=answers["speed"][name]["bytes"] / 1024)
                      if name in answers.get("speed", {}) else "| |"))

    def walk(value, path):
        if "verdict" in value:
            lines.append(f"| {', '.join(LABELS.get(p, p) for p in path)} | {cell(value)} |")
        else:
            for key, inner in value.items():
                walk(inner, [*path, key])

    def levels(title, rows):
        """Means that are no differences."""
        lines.extend(["", f"| {title} | image similarity | text similarity |", "|---|---:|---:|"])
        for name, v in rows.items():
            lines.append(f"| {name} | {v[IMAGE]['mean']:.3f} | {v[TEXT]['mean']:.3f} |")

    for key in answers:
        if key[0].isdigit() or key in ("encoding", "nested dropout"):
            lines.extend(["", f"## {key}"])
            if "units" in answers[key]:
                levels("units", answers[key]["units"])
            lines.extend(["", "| | difference |", "|---|---|"])
            walk({k: v for k, v in answers[key].items() if k != "units"}, [])
    if "guidance" in answers:
        lines.extend(["", "## guidance"])
        levels("guidance", answers["guidance"])
    return "\n".join(lines) + "\n"


PARTS = ("rates", "main", "guidance", "curves", "speed", "report")

if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all when left out")
    arguments.add_argument("--jobs", type=int, default=2, help="concepts at once; with one, it takes two threads")
    arguments.add_argument("--minutes", type=float, default=1e6, help="begin nothing new after that time")
    arguments.add_argument("--work", type=Path, default=ROOT / "outputs/reproduce", help="for what is being measured")
    arguments.add_argument("--results", type=Path, default=RESULTS, help="the file of figures")
    arguments.add_argument("--steps", type=int, help="at most so many training steps, to try the program")
    asked = arguments.parse_args()
    for part in asked.parts:
        if part not in PARTS:
            arguments.error(f"there is no part {part}; there are {', '.join(PARTS)}")
    STEPS = asked.steps
    if STEPS:
        MARKS = tuple(m for m in MARKS if m < STEPS) + (STEPS,)
    deadline = time.monotonic() + 60 * asked.minutes
    figures = Figures(asked.results, state("Models/mini-sd", "Examples") + (f" {STEPS} steps" if STEPS else ""),
                      state("Models/mini-clip"))
    try:
        for part in asked.parts or PARTS:
            if part == "report":
                report(figures)
            elif part == "speed":
                if not figures.select(part="speed"):
                    speed(figures, asked.work.resolve())
            elif not work_through(part, figures, asked.work.resolve(), asked.jobs, deadline):
                sys.exit("reproduce: the time is over; the same command goes on")
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        sys.exit(f"reproduce: neti {error.cmd[1]} failed ({error.returncode}): {said[-1] if said else ''}; "
                 "the same command goes on")
