#!/usr/bin/env python3
"""Times neti against a modern PyTorch, in turns, on one machine and one model.

    python3 Benchmarks/compare.py MODEL [--precision fp32 bf16] [--threads N] [--rounds 3] [--output DIR]

The opponent is what PyTorch does best today: diffusers and transformers, scaled_dot_product_attention,
the text encoder's passes for all cross-attention layers as one batch, one pair of sequences for each
layer, every stage in the faster of the contiguous and the channels-last layout. Both run as processes
of their own, one after the other, `rounds` times; the medians go to a Markdown table and a JSON file in
the output folder. Needs Tests/Fixtures/requirements.txt and `swift build -c release --product speed`.
"""
import argparse, json, os, statistics, subprocess, sys, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENCODE, DECODE = "VAE encoding, one image", "VAE decoding, one image"
TEXT, TEXT_BACK = "text encoder, forward", "text encoder, backward"
UNET, UNET_BACK = "U-Net, forward", "U-Net, backward"
CONDITIONING, DENOISING = "conditioning of a prompt, per timestep", "denoising step, both branches"
STEP = (TEXT, UNET, UNET_BACK, TEXT_BACK)
STAGES = (ENCODE, *STEP, CONDITIONING, DENOISING, DECODE)


# ---- the opponent, in a process of its own


class Peak:
    """Resident memory as Linux counts it, like the program `speed`."""

    @staticmethod
    def reset():
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            pass

    @staticmethod
    def read():
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10


def modern(a):
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    import torch.nn.functional as F
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[a.precision[0]]
    now = time.process_time if a.processor_time else time.perf_counter
    times = {}

    class TwoSequences:
        """Attention whose keys and values come from different sequences."""

        keys = values = None

        def __call__(self, attention, x, encoder_hidden_states=None, attention_mask=None, temb=None, **_):
            cross = encoder_hidden_states is not None
            q = attention.to_q(x)
            k = attention.to_k(self.keys if cross else x)
            v = attention.to_v(self.values if cross else x)
            heads = attention.heads
            split = [t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v)]
            mixed = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
            return attention.to_out[1](attention.to_out[0](mixed))

    def frozen(cls, part):
        return cls.from_pretrained(a.model, subfolder=part, torch_dtype=dtype).eval().requires_grad_(False)

    def record(stage, start, share=1):
        times.setdefault(stage, []).append((now() - start) / share)

    def repeat(body):
        """Once to warm up, unmeasured; returns what the measured runs took."""
        kept = {k: list(v) for k, v in times.items()}
        body()
        times.clear()
        times.update(kept)
        for _ in range(a.repeats):
            body()

    def best_layout(module, body):
        """Each stage in its faster layout."""
        found = []
        for layout in (torch.contiguous_format, torch.channels_last):
            module.to(memory_format=layout)
            before = dict(times)
            times.clear()
            repeat(lambda: body(layout))
            found.append(dict(times))
            times.clear()
            times.update(before)
        for stage in found[0]:
            times[stage] = min((f[stage] for f in found), key=statistics.median)

    text = frozen(CLIPTextModel, "text_encoder")
    unet = frozen(UNet2DConditionModel, "unet")
    processors = {name: TwoSequences() for name in unet.attn_processors}
    unet.set_attn_processor(dict(processors))
    layers = [p for name, p in processors.items() if "attn2" in name]
    side, width, tokens = unet.config.sample_size, unet.config.cross_attention_dim, text.config.max_position_embeddings
    embed = text.get_input_embeddings()
    leaf = []

    def as_leaf(_module, _input, output):
        if torch.is_grad_enabled():
            leaf[:] = [output.detach().requires_grad_()]
            return leaf[0]

    embed.register_forward_hook(as_leaf)

    def ids(rows):
        return torch.randint(0, text.config.vocab_size - 1, (rows, tokens))

    def training(layout):
        start = now()
        states = text(input_ids=ids(len(layers) * a.batch)).last_hidden_state
        record(TEXT, start, a.batch)
        rows = states.detach().unflatten(0, (len(layers), a.batch))
        for p, r in zip(layers, rows):
            p.keys, p.values = r.clone().requires_grad_(), r.clone().requires_grad_()
        x = torch.randn(a.batch, unet.config.in_channels, side, side).to(dtype).to(memory_format=layout)
        t = torch.randint(0, 1000, (a.batch,))
        start = now()
        prediction = unet(x, t, torch.zeros(a.batch, tokens, width, dtype=dtype)).sample
        loss = F.mse_loss(prediction.float(), torch.randn(prediction.shape))
        record(UNET, start, a.batch)
        start = now()
        loss.backward()
        record(UNET_BACK, start, a.batch)
        gradient = torch.cat([p.keys.grad + p.values.grad for p in layers])
        start = now()
        states.backward(gradient)
        record(TEXT_BACK, start, a.batch)
        assert leaf[0].grad is not None

    def denoising(layout):
        for p in layers:
            p.keys, p.values = (torch.randn(2, tokens, width).to(dtype) for _ in range(2))
        x = torch.randn(2, unet.config.in_channels, side, side).to(dtype).to(memory_format=layout)
        with torch.no_grad():
            start = now()
            unet(x, torch.tensor([500]), torch.zeros(2, tokens, width, dtype=dtype))
            record(DENOISING, start)

    def conditioning():
        with torch.no_grad():
            start = now()
            text(input_ids=ids(len(layers) * 8))
            record(CONDITIONING, start, 8)

    Peak.reset()
    best_layout(unet, training)
    training_peak = Peak.read()
    if not a.training_only:
        repeat(conditioning)
        best_layout(unet, denoising)
        del unet, text
        vae = frozen(AutoencoderKL, "vae")

        def encoding(layout):
            x = (torch.rand(1, 3, side * 8, side * 8) * 2 - 1).to(dtype).to(memory_format=layout)
            with torch.no_grad():
                start = now()
                vae.encode(x)
                record(ENCODE, start)

        def decoding(layout):
            z = torch.randn(1, vae.config.latent_channels, side, side).to(dtype).to(memory_format=layout)
            with torch.no_grad():
                start = now()
                vae.decode(z)
                record(DECODE, start)

        best_layout(vae, encoding)
        best_layout(vae, decoding)
    rows = [{"stage": s, "seconds": statistics.median(t)} for s, t in times.items()]
    print(json.dumps({"rows": rows, "trainingPeak": training_peak}))


# ---- the comparison


def last_line(command, threads):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(a, precision):
    """Medians over all rounds, per opponent: stage to seconds, and the peak of resident memory."""
    flags = ["--precision", precision, "--threads", a.threads, "--batch", a.batch, "--repeats", a.repeats]
    flags += ["--training-only"] * a.training_only + ["--processor-time"] * a.processor_time
    flags = [str(f) for f in flags]
    commands = {
        "neti": [str(a.speed), "--model", str(a.model), *flags],
        "PyTorch": [sys.executable, __file__, str(a.model), "--modern", *flags],
    }
    runs = {name: [] for name in commands}
    for i in range(a.rounds):
        for name, command in commands.items():
            print(f"{precision}, round {i + 1} of {a.rounds}: {name}", file=sys.stderr, flush=True)
            runs[name].append(last_line(command, a.threads))
    result = {}
    for name, all_runs in runs.items():
        seconds = {}
        for run in all_runs:
            for row in run["rows"]:
                seconds.setdefault(row["stage"], []).append(row["seconds"])
        result[name] = {
            "seconds": {s: statistics.median(t) for s, t in seconds.items()},
            "trainingPeak": statistics.median(r["trainingPeak"] for r in all_runs),
        }
    return result


def table(results):
    """neti, PyTorch and their ratio for each precision."""
    head, line = "| |", "|---|"
    for precision in results:
        head += f" neti, {precision} | PyTorch, {precision} | ratio |"
        line += "---:|---:|---:|"
    lines = [head, line]

    def add(name, value, unit="{:.2f}"):
        cells = []
        for r in results.values():
            ours, theirs = value(r["neti"]), value(r["PyTorch"])
            cells += [unit.format(ours), unit.format(theirs), f"{ours / theirs:.2f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")

    for stage in STAGES:
        if all(stage in side["seconds"] for r in results.values() for side in r.values()):
            add(stage, lambda side: side["seconds"][stage])
    add("**training sample, latents known**", lambda side: sum(side["seconds"][s] for s in STEP))
    add("peak memory of training, GiB", lambda side: side["trainingPeak"] / 2**30, "{:.1f}")
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=Path, help="a folder in the diffusers layout; make_model.py makes one")
    p.add_argument("--precision", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--batch", type=int, default=1, help="samples that are trained together")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--repeats", type=int, default=1, help="timed repeats in each round, after one that is not")
    p.add_argument("--training-only", action="store_true")
    p.add_argument("--processor-time", action="store_true", help="with one thread, to compare beside other work")
    p.add_argument("--speed", type=Path, default=ROOT / ".build/release/speed")
    p.add_argument("--output", type=Path, default=ROOT / "Benchmarks/results")
    p.add_argument("--modern", action="store_true", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.modern:
        return modern(a)
    if not a.speed.exists():
        sys.exit(f"there is no {a.speed}: swift build -c release --product speed")
    results = {precision: measure(a, precision) for precision in a.precision}
    clock = "processor time" if a.processor_time else "time"
    title = f"{a.model.name}, batch {a.batch}, {a.threads} threads, {clock} in seconds"
    text = f"{title}\n\n{table(results)}\n"
    a.output.mkdir(parents=True, exist_ok=True)
    name = f"compare-{a.model.name}-batch{a.batch}-threads{a.threads}"
    (a.output / f"{name}.md").write_text(text, encoding="utf-8")
    record = {"title": title, "results": results}
    (a.output / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
