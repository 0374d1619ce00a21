#!/usr/bin/env python3
"""Should the pooled text of SDXL follow the timestep? Both ways are learned on a small random model, in PyTorch.

    python3 Benchmarks/pooled.py [--seeds 2] [--steps 60]

The pooled text has the category's word in the concept's place (what neti does), or the mean over the layers of what the
mapper gives for the second text encoder at that timestep. All else is that of Tests/Fixtures/sections/sdxl_concept.py,
without nested dropout. Four latents are learned, drawn for each seed as the mapper is; the loss is that on 64 noises and
timesteps which are not learned from. Writes Benchmarks/results/pooled.md. Needs Tests/Fixtures/requirements.txt.
"""
import argparse, math, statistics, sys, tempfile
from pathlib import Path

import torch, torch.nn.functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "Tests/Fixtures"), str(ROOT / "Tests/Fixtures/sections")]
import _sdxl, families, sdxl_concept as concept  # noqa: E402
from campaign import machine  # noqa: E402
from diffusers import EulerDiscreteScheduler  # noqa: E402
from transformers import CLIPTokenizer  # noqa: E402

WAYS = {"the category's word": False, "what the mapper gives at the timestep": True}
PROMPT, HELD_OUT = "a photo of a {}", 64


class Trial:
    """The model with one prompt, and a mapper for it."""

    def __init__(self):
        self.model = concept.model()
        self.encoders, self.sizes = [self.model.text_encoder, self.model.text_encoder_2], [64, 128]
        self.layers = concept.transformers(self.model.unet)
        with tempfile.TemporaryDirectory() as scratch:
            families.make_vocabulary(Path(scratch) / "tokenizer")
            words = [CLIPTokenizer.from_pretrained(f"{scratch}/tokenizer", pad_token=pad) for pad in _sdxl.PADS]
            self.each, plain = concept.tokens(words, [PROMPT], [concept.WORD])
            word = words[0](concept.WORD, add_special_tokens=False).input_ids[-1]
        self.norms = [concept.table(e)[word].norm().item() for e in self.encoders]
        second = self.model.text_encoder_2
        self.pooled = concept.pooled(second, plain, concept.table(second)[plain])
        self.alphas = EulerDiscreteScheduler.from_config(_sdxl.SCHEDULER).alphas_cumprod

    def mapper(self, g):
        anchors = 2 * len(self.layers)
        p = {"frequencies": torch.randn(16, 2, generator=g) * torch.tensor([0.03, 2.0])}
        for k, s in {"input": (anchors, 32), "hidden1": (128, anchors), "hidden2": (128, 128),
                     "output": (2 * sum(self.sizes), 128)}.items():
            p[f"{k}.weight"] = (torch.randn(s, generator=g) / math.sqrt(s[1])).requires_grad_(True)
            p[f"{k}.bias"] = torch.zeros(s[0], requires_grad=True)
        for i in (1, 2):
            p[f"norm{i}.weight"] = torch.ones(128, requires_grad=True)
            p[f"norm{i}.bias"] = torch.zeros(128, requires_grad=True)
        return p

    def loss(self, p, follows, clean, noise, t):
        n = len(t)
        rows = torch.arange(n)
        parts = [concept.mapper(p, t.float(), torch.full((n,), float(l)), self.sizes, self.norms)
                 for l in range(len(self.layers))]
        for part, blocks in zip(parts, self.layers):
            keys, values = [], []
            for (base, bypass), encoder, (ids, places) in zip(part, self.encoders, self.each):
                at, e = places[0, 0], concept.table(encoder)[ids].repeat(n, 1, 1)
                e[rows, at] = base
                h = concept.states(encoder, e)[0]
                keys.append(h)
                here, h = h[rows, at], h.clone()
                h[rows, at] = here + 0.2 * F.normalize(bypass, dim=1) * here.norm(dim=1, keepdim=True)
                values.append(h)
            for a in blocks:
                a.keys, a.values = torch.cat(keys, 2), torch.cat(values, 2)
        pool = self.pooled.expand(n, -1)
        if follows:
            (ids, places), second = self.each[1], self.model.text_encoder_2
            e = concept.table(second)[ids].repeat(n, 1, 1)
            e[rows, places[0, 0]] = torch.stack([part[1][0] for part in parts]).mean(0)
            pool = concept.pooled(second, ids.expand(n, -1), e)
        alpha = self.alphas[t][:, None, None, None]
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        added = {"text_embeds": pool, "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(n, -1)}
        return F.mse_loss(self.model.unet(noisy, t, torch.zeros(n, 77, sum(self.sizes)), added_cond_kwargs=added).sample,
                          noise)

    def learn(self, follows, seed, steps):
        """The held-out loss before and after; what is drawn is the same both ways."""
        g = torch.Generator().manual_seed(seed)
        latents, p = torch.randn((4, 4, 8, 8), generator=g), self.mapper(g)
        held = (latents.repeat(HELD_OUT // 4, 1, 1, 1), torch.randn((HELD_OUT, 4, 8, 8), generator=g),
                torch.randint(1000, (HELD_OUT,), generator=g))

        @torch.no_grad()
        def measure():
            return statistics.fmean(self.loss(p, follows, *[x[i:i + 16] for x in held]).item()
                                    for i in range(0, HELD_OUT, 16))
        before = measure()
        optimizer = torch.optim.AdamW([v for v in p.values() if v.requires_grad], lr=1e-3)
        for _ in range(steps):
            value = self.loss(p, follows, latents, torch.randn((4, 4, 8, 8), generator=g),
                              torch.randint(1000, (4,), generator=g))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        return before, measure()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    a = parser.parse_args()
    trial, rows, means = Trial(), [], {way: [] for way in WAYS}
    for seed in range(a.seeds):
        cells = []
        for way, follows in WAYS.items():
            before, after = trial.learn(follows, seed, a.steps)
            means[way].append(after)
            cells.append(f"{before:.4f} → {after:.4f}")
            print(f"seed {seed}, {way}: {cells[-1]}", flush=True)
        rows.append(f"| {seed} | " + " | ".join(cells) + " |")
        # After each, so that a run that is stopped has given something.
        lines = [f"{a.steps} steps, held-out loss before → after, {machine()}", "",
                 "| seed | " + " | ".join(WAYS) + " |", "|---|" + "---:|" * len(WAYS), *rows,
                 "| mean after | " + " | ".join(f"{statistics.fmean(v):.4f}" for v in means.values()) + " |"]
        (ROOT / "Benchmarks/results/pooled.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
