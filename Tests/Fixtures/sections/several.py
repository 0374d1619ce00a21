"""Several concepts in one prompt, from the formulas in PyTorch over diffusers and transformers, on mini-sd.

Two mappers, whose parameters both sides draw from a generator (`parameters`), of norms of their own.

- sequences.safetensors: two prompts with both placeholders, in either order; the first concept truncated; one
  layer's sequences for keys and for values at two timesteps.
- side_by_side.safetensors: both concepts side by side, each in a region of the width that mini-sd was trained on,
  under its own prompt; the guided predictions are blended linearly where the regions overlap; 8 steps of DPM-Solver++.
"""
import math
from pathlib import Path
import torch
from safetensors.torch import save_file
from neti import MINI, encode_states, mapper, per_layer

NORMS = {"toy": 0.45, "mug": 0.3}
SHAPES = [("frequencies", (16, 2)), ("input", (32, 32)), ("hidden1", (128, 32)), ("hidden2", (128, 128)),
          ("output", (256, 128)), ("norm1", (128,)), ("norm2", (128,))]


def parameters(seed):
    g = torch.Generator().manual_seed(seed)
    p = {}
    for name, shape in SHAPES:
        draw = torch.randn(shape, generator=g)
        if name == "frequencies": p[name] = draw * torch.tensor([0.03, 2.0])
        elif len(shape) == 1: p[f"{name}.weight"], p[f"{name}.bias"] = 1 + 0.1 * draw, 0.1 * torch.randn(shape, generator=g)
        else: p[f"{name}.weight"], p[f"{name}.bias"] = draw / math.sqrt(shape[1]), 0.1 * torch.randn(shape[:1], generator=g)
    return p


def tokens(tokenizer, prompt):
    """Ids [S] of a prompt with {toy} and {mug}, and where they stand; a word stands in for each."""
    ids = lambda s: tokenizer(s, padding="max_length", max_length=32, truncation=True).input_ids
    words = {"toy": "cat", "mug": "vase"}
    row = ids(prompt.format(**words))
    return row, {c: row.index(ids(w)[1]) for c, w in words.items() if "{" + c + "}" in prompt}


def conditioning(text, rows, outputs):
    """Keys and values [N, S, d]. rows: N times (ids, positions); outputs[c] [N, 2d]: v_base, v_bypass of concept c."""
    table = text.get_input_embeddings().weight
    d = table.shape[1]
    e = table[torch.tensor([ids for ids, _ in rows])].clone()
    for n, (_, positions) in enumerate(rows):
        for c, p in positions.items(): e[n, p] = outputs[c][n, :d]
    h = encode_states(text, e)
    g = h.clone()
    for n, (_, positions) in enumerate(rows):
        for c, p in positions.items():
            v = outputs[c][n, d:]
            g[n, p] = h[n, p] + 0.2 * h[n, p].norm() * v / v.norm()
    norm = getattr(text, "text_model", text).final_layer_norm
    return norm(h), norm(g)


def make(out: Path):
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer
    torch.set_num_threads(2)
    load = lambda kind, folder: kind.from_pretrained(MINI / folder, torch_dtype=torch.float32).eval()
    unet, vae, text = load(UNet2DConditionModel, "unet"), load(AutoencoderKL, "vae"), load(CLIPTextModel, "text_encoder")
    tokenizer = CLIPTokenizer.from_pretrained(MINI / "tokenizer")
    concepts = {"toy": parameters(21), "mug": parameters(22)}
    layers = per_layer(unet)

    def outputs(t, l, keep={}):
        """What each mapper gives at timesteps t [N] and one layer."""
        l = torch.full_like(t, float(l))
        return {c: mapper(p, t, l, NORMS[c], torch.full_like(t, keep[c]) if c in keep else None) for c, p in concepts.items()}

    with torch.no_grad():
        rows = [tokens(tokenizer, p) for p in ("a photo of {toy} next to {mug}", "{mug} and a {toy} in the snow")]
        keys, values = conditioning(text, rows, outputs(torch.tensor([3.0, 611.0]), 7, {"toy": 40}))
        save_file({"keys": keys, "values": values}, out / "sequences.safetensors")

        parts = {c: tokens(tokenizer, f"a photo of {{{c}}} in the snow") for c in concepts}
        width, overlap = 16, 6
        total = 2 * width - overlap
        rise = torch.cat([torch.zeros(width - overlap), (torch.arange(overlap) + 0.5) / overlap, torch.ones(width - overlap)])
        regions = {"toy": (slice(0, width), (1 - rise)[:width]), "mug": (slice(total - width, total), rise[total - width:])}
        empty = tokenizer("", padding="max_length", max_length=32, return_tensors="pt").input_ids
        negative = text(empty).last_hidden_state
        scheduler = DPMSolverMultistepScheduler.from_pretrained(MINI / "scheduler")
        scheduler.set_timesteps(8)
        x = torch.randn(1, unet.config.in_channels, 16, total, generator=torch.Generator().manual_seed(5))
        for t in scheduler.timesteps:
            blended = torch.zeros_like(x)
            for c, row in parts.items():
                columns, shares = regions[c]
                for a in layers: a.keys = a.values = negative
                u = unet(x[..., columns], t, negative).sample
                for l, a in enumerate(layers):
                    a.keys, a.values = conditioning(text, [row], outputs(t.float()[None], l))
                e = unet(x[..., columns], t, negative).sample
                blended[..., columns] += shares * (u + 5.0 * (e - u))
            x = scheduler.step(blended, t, x).prev_sample
        image = vae.decode(x / vae.config.scaling_factor).sample
        picture = ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        save_file({"picture": picture[0].permute(1, 2, 0).contiguous()}, out / "side_by_side.safetensors")
