"""Weights of words and concepts in the negative prompt, from the formulas in PyTorch over diffusers and transformers.

A prompt is given as its parts with their weights, as AUTOMATIC1111's web UI reads them; `toy` is the first concept of
the section `several`. The text encoder's output z becomes w z mean(z) / mean(w z).

- weights.safetensors: `plain`, a prompt without a concept; `keys` and `values`, one with the concept, of one layer at
  two timesteps.
- negative.safetensors: a picture of a plain prompt, led away from one with the concept and a weight in it; 8 steps of
  DPM-Solver++.
"""
from pathlib import Path
import torch
from safetensors.torch import save_file
from neti import MINI, mapper, per_layer
from several import NORMS, conditioning, parameters

PLAIN = [("a photo of a ", 1), ("red", 1.4), (" mug, ", 1), ("blue", 1 / 1.1), (" ", 1), ("sky", 1.1 * 1.1)]
CONCEPT = [("a photo of a ", 1), ("toy", 1.3), (" on a ", 1), ("beach", 0.5)]
NEGATIVE = [("a photo of a ", 1), ("toy", 1.2), (" in the snow", 1)]


def tokens(tokenizer, parts):
    """Ids [S], weights [S] and the concept's place."""
    ids, weights, places = [tokenizer.bos_token_id], [1.0], {}
    for text, weight in parts:
        if text == "toy": places["toy"] = len(ids)
        own = tokenizer("cat" if text == "toy" else text).input_ids[1:-1]
        ids += own
        weights += [weight] * len(own)
    rest = 32 - len(ids)
    return ids + [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * (rest - 1), torch.tensor(weights + [1.0] * rest), places


def weighted(z, weights):
    return torch.cat([w * (s.mean() / w.mean()) for s in z.split(1) for w in [s * weights[None, :, None]]])


def make(out: Path):
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer
    torch.set_num_threads(2)
    load = lambda kind, folder: kind.from_pretrained(MINI / folder, torch_dtype=torch.float32).eval()
    unet, vae, text = load(UNet2DConditionModel, "unet"), load(AutoencoderKL, "vae"), load(CLIPTextModel, "text_encoder")
    tokenizer = CLIPTokenizer.from_pretrained(MINI / "tokenizer")
    concept = parameters(21)
    layers = per_layer(unet)

    def sequences(parts, timesteps, l):
        """Keys and values of one layer, weighted."""
        ids, weights, places = tokens(tokenizer, parts)
        t = torch.tensor(timesteps)
        y = mapper(concept, t, torch.full_like(t, float(l)), NORMS["toy"])
        return [weighted(z, weights) for z in conditioning(text, [(ids, places)] * len(timesteps), {"toy": y})]

    with torch.no_grad():
        keys, values = sequences(CONCEPT, [3.0, 611.0], 7)
        ids, weights, _ = tokens(tokenizer, PLAIN)
        plain = weighted(text(torch.tensor([ids])).last_hidden_state, weights)
        save_file({"plain": plain, "keys": keys, "values": values}, out / "weights.safetensors")

        prompt = tokenizer("a red robot on the moon", padding="max_length", max_length=32, return_tensors="pt").input_ids
        positive = text(prompt).last_hidden_state
        scheduler = DPMSolverMultistepScheduler.from_pretrained(MINI / "scheduler")
        scheduler.set_timesteps(8)
        x = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(5))
        for t in scheduler.timesteps:
            for a in layers: a.keys = a.values = positive
            c = unet(x, t, positive).sample
            for l, a in enumerate(layers): a.keys, a.values = sequences(NEGATIVE, [float(t)], l)
            u = unet(x, t, positive).sample
            x = scheduler.step(u + 5.0 * (c - u), t, x).prev_sample
        image = vae.decode(x / vae.config.scaling_factor).sample
        picture = ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        save_file({"picture": picture[0].permute(1, 2, 0).contiguous()}, out / "negative.safetensors")
