#!/usr/bin/env python3
"""Time and memory of one step at the real models' sizes: generates one, and trains one, in bf16.

    python3 Benchmarks/full_size.py [sdxl] [sd21] [sd14] [--work FOLDER] [--steps 1]

Makes each model once in --work with make_model.py: random weights, as large as the real one's (7, 2.5 and 2 GB). A
command is measured from its start to its end: loading and, of training, encoding one image straight and mirrored; of
generating, the VAE's decoding. Batch and accumulation are 1. Writes Benchmarks/results/full-size.md; a quarter of an hour,
in which nothing else may run. Needs Tests/Fixtures/requirements.txt and `swift build -c release --product neti`.
"""
import argparse, os, shutil, subprocess, sys, tempfile, time
from pathlib import Path

from campaign import ROOT, machine, table, write

SIZES = {"sdxl": ("SDXL", 1024), "sd21": ("Stable Diffusion 2.1", 768), "sd14": ("Stable Diffusion 1.4", 512)}


def measured(words):
    """Seconds by the clock, seconds of the processor, and peak memory in GiB."""
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([str(w) for w in words], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        _, status, use = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
        said.seek(0)
        text = said.read()
    if status:
        sys.exit(f"{' '.join(map(str, words))}\nended with {os.waitstatus_to_exitcode(status)}:\n{text}")
    return seconds, use.ru_utime + use.ru_stime, use.ru_maxrss / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help=", ".join(SIZES) + "; sdxl and sd21 when left out")
    parser.add_argument("--neti", type=Path, default=ROOT / ".build/release/neti")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs/full-size", help="where the models lie")
    parser.add_argument("--steps", type=int, default=1)
    options = parser.parse_args()
    families = options.families or ["sdxl", "sd21"]
    if unknown := set(families) - set(SIZES):
        parser.error(f"no such family: {', '.join(sorted(unknown))}; there are {', '.join(SIZES)}")
    rows = []
    for family in families:
        name, size = SIZES[family]
        model = options.work / family
        subprocess.run([sys.executable, ROOT / "Benchmarks/make_model.py", family, model, "--fp16"], check=True)
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            (place / "images").mkdir()
            shutil.copy(ROOT / "Examples/ginger/1.jpg", place / "images")
            steps = ["--model", model, "--steps", options.steps, "--precision", "bf16"]
            generate = ["generate", *steps, "--prompt", "a photo of a cat", "--width", size, "--height", size, "--output"]
            commands = {
                "generating": [*generate, place / "image.png"],
                "generating without guidance": [*generate, place / "plain.png", "--guidance", 1],
                "training": ["train", *steps, "--images", place / "images", "--token", "<toy>", "--category", "cat",
                             "--output", place / "run", "--optim.train_batch_size", 1,
                             "--optim.gradient_accumulation_steps", 1],
            }
            for what, words in commands.items():
                seconds, processor, peak = measured([options.neti, *words])
                rows.append([f"{name}, {size}×{size}", what, f"{seconds:.0f}", f"{processor:.0f}", f"{peak:.1f}"])
                print("| " + " | ".join(rows[-1]) + " |", flush=True)
    head = ["model", f"{options.steps} step{'s' * (options.steps > 1)}", "seconds", "of the processor",
            "peak memory, GiB"]
    write("full-size", f"full_size.py, bf16, {os.cpu_count()} cores, {machine()}", table(head, rows))


if __name__ == "__main__":
    main()
