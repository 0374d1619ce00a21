#!/usr/bin/env python3
"""Numbers that are not finite: learning rates from 1e-6 to 1e30, in fp32 and bf16, with previews.

    python3 Benchmarks/rates.py [--representation ti]... [--precision bf16]... [--every 2]

Without options ti, xti and neti learn in both precisions, at every power of ten: 222 runs of 4 steps, each on one core,
about five minutes in all. --every 2 takes every second power.

A run either ends well, or with exit code 1 and one line that names the step and the rate. Whatever lies in its folder
afterwards holds no NaN and no infinity: checkpoints, the concept, the log; a preview is a picture. Needs
`swift build -c release --product neti`. Writes Benchmarks/results/rates.md.
"""
import json, re, sys, time
from campaign import Place, arguments, events, machine, not_finite, table, train, write

REPRESENTATIONS, PRECISIONS = ("ti", "xti", "neti"), ("fp32", "bf16")
PREVIEWS = ["--validate-every", "2", "--validation-prompt", "a {}", "--eval.num_validation_images", "1",
            "--eval.num_denoising_steps", "1"]
STEPS = 4


def attempt(place, rate, precision, representation):
    """(how it ended, what is wrong with that)"""
    name = f"{representation}-{precision}-{rate:g}"
    result = place.run(train(
        "--optim.learning_rate", f"{rate:g}", "--optim.scale_lr", "false", "--representation", representation,
        "--precision", precision, *PREVIEWS, steps=STEPS, output=name))
    run = place / name
    found, said = result.problems((0, 1)), None
    if result.code == 1:
        said = re.search(r"became (\S+) in step (\d+),.*step's was ([^\s)]+)\)", result.line)
        if not said:
            found.append(f"no step or rate in “{result.line}”")
        else:
            last = int(said[2]) - 1
            if float(said[3]) != rate:
                found.append(f"the rate is said to be {said[3]}")
            kept = f"step {last} is saved" if last else "no step is saved"
            if kept not in result.line or (last > 0) != (run / f"checkpoints/step-{last:06}.safetensors").exists():
                found.append(f"“{kept}” is not said, or not so: {result.line}")
    for file in run.rglob("*.safetensors"):
        bad = not_finite(file)
        found += [f"{file.name} holds numbers that are not finite: {', '.join(bad)}"] if bad else []
    for event in events(run):
        if any(isinstance(v, str) for v in (event.get("loss", 0), event.get("lr", 0))):
            found.append(f"the log holds {json.dumps(event)}")
    pictures = sorted(run.glob("samples/*.png"))
    found += [f"{p.name} is no picture" for p in pictures if p.read_bytes()[:8] != b"\x89PNG\r\n\x1a\n"]
    flat = [x for x in result.error.splitlines() if "warning: no validation images" in x]
    how = "learned" if result.code == 0 else f"refused step {said[2]}" if said else f"exit code {result.code}"
    return how + (f", {len(flat)} previews refused" if flat else ""), found


def main():
    parser = arguments(__doc__)
    parser.add_argument("--representation", action="append", choices=REPRESENTATIONS, help="all three when left out")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="both when left out")
    parser.add_argument("--every", type=int, default=1, help="the factor between two rates, in powers of ten")
    options = parser.parse_args()
    # Not 10.0 ** n: that is not 1e23 where n is 23.
    rates = [float(f"1e{n}") for n in range(-6, 31, max(1, options.every))]
    rows, problems, runs, begin = [], [], 0, time.monotonic()
    for representation in options.representation or REPRESENTATIONS:
        for precision in options.precision or PRECISIONS:
            spans = []
            with Place(options.neti) as place:
                for rate in rates:
                    how, found = attempt(place, rate, precision, representation)
                    runs += 1
                    seconds = time.monotonic() - begin
                    print(f"{seconds:.0f} s: {representation} {precision} {rate:g}: {how} {found or ''}", flush=True)
                    problems += [f"- {representation}, {precision}, {rate:g}: {p}" for p in found]
                    if spans and spans[-1][2] == how:
                        spans[-1][1] = rate
                    else:
                        spans.append([rate, rate, how])
            rows += [[representation, precision, f"{a:g} to {b:g}" if a != b else f"{a:g}", how] for a, b, how in spans]
            title = (f"Learning rates, {STEPS} steps, {len(rates)} rates each from {rates[0]:g} to {rates[-1]:g}, "
                     f"{machine()}; {runs} runs, {len(problems)} problems")
            write("rates", title, [*table(["representation", "precision", "rate", "what became of it"], rows),
                                   *([""] + problems if problems else [])])
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
