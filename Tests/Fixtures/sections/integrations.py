"""What neti and its integrations in other programs must agree on, from the formulas in PyTorch on mini-sd.

- NAME.safetensors: concept files, one for each kind and ablation, as neti writes them.
- cases.json, expected.safetensors: prompts with concepts at timesteps; of some layers the keys at the placeholder of
  the first concept, after it and at the end, and the value at it, or at its last vector: [layers, 4, d].
- picture.safetensors: latents and picture of one case after 8 steps of DPM-Solver++.
"""
import hashlib, json, math
from pathlib import Path
import torch, torch.nn.functional as F
from safetensors.torch import save_file
from neti import MINI, encode_states, mapper, per_layer

D, LAYERS = 128, [0, 5, 8, 15]
# kind, encoding, bypass, norm, nested dropout, seed; several vectors stand for those in VECTORS
CONCEPTS = {"toy": ("neti", True, True, 0.45, True, 31), "bare": ("neti", False, False, None, False, 32),
            "time": ("time", False, True, 0.4, True, 33), "space": ("space", False, False, 0.3, True, 34),
            "ti": ("ti", False, False, None, False, 35), "xti": ("xti", False, False, None, False, 36),
            "three": ("neti", True, True, 0.45, True, 37), "ti4": ("ti", False, False, None, False, 38),
            "xti2": ("xti", False, False, None, False, 39)}
VECTORS = {"three": 3, "ti4": 4, "xti2": 2}
PAIR = "a photo of {toy} next to {bare} in the snow"
CASES = [("a photo of {toy} on a beach", {}, 981), ("a photo of {toy} on a beach", {}, 500.25), ("{toy}", {"toy": 40}, 3),
         ("a drawing of {bare} in the snow", {}, 500.75), ("a photo of {time} in the snow", {"time": 1}, 700),
         ("a photo of {space} in the snow", {}, 700), ("a photo of {ti}", {}, 20), ("a photo of {xti}", {}, 20),
         (PAIR, {"toy": 64}, 611), ("a photo of {three} in the snow", {"three": 24}, 444), ("a {three}", {}, 800.5),
         ("a photo of {ti4} on a beach", {}, 20), ("a photo of {xti2} on a beach", {}, 20),
         ("a {three} and a {ti4} in the snow", {}, 300)]
WORDS = {"toy": "cat", "bare": "vase", "time": "fish", "space": "robot", "ti": "car", "xti": "house", "three": "star",
         "ti4": "cup", "xti2": "mug"}


def parameters(kind, encoding, bypass, norm, dropout, seed, n=1):
    """In fp16, so that the files are small."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=g).half()
    if kind == "xti": return {"vectors": draw(*((16, D) if n == 1 else (16, n, D))) * 0.02}
    if kind == "ti": return {"vectors": draw(n, D) * 0.02}
    first = 32 if encoding else 2
    shapes = {"hidden1": (128, first), "hidden2": (128, 128), "output": (n * (2 * D if bypass else D), 128)}
    p = {}
    if encoding:
        shapes["input"] = (first, 32)
        p["frequencies"] = draw(16, 2) * torch.tensor([0.03, 2.0]).half()
    for k, s in shapes.items():
        p[f"{k}.weight"], p[f"{k}.bias"] = draw(*s) / math.sqrt(s[1]), draw(s[0]) * 0.1
    for i in (1, 2):
        p[f"norm{i}.weight"], p[f"norm{i}.bias"] = 1 + 0.1 * draw(128), 0.1 * draw(128)
    return p


def output(name, p, t, l, keep):
    """v_base and v_bypass or None, [N, n, d], at timesteps and layers [N]."""
    kind, encoding, bypass, norm, _, _ = CONCEPTS[name]
    n = VECTORS.get(name, 1)
    p = {k: v.float() for k, v in p.items()}
    if kind == "ti": return p["vectors"].expand(len(t), -1, -1), None
    if kind == "xti": return p["vectors"][l.long()].reshape(len(t), n, D), None
    if kind == "time": l = torch.zeros_like(l)
    if kind == "space": t = torch.zeros_like(t)
    if encoding:
        # The norm is each vector's own.
        y = mapper(p, t, l, None, torch.full_like(t, 128 if keep is None else keep)).reshape(len(t), n, -1)
    else:
        h = torch.stack([t.floor() / 999 * 2 - 1, l / 15 * 2 - 1], 1)
        for i in (1, 2):
            h = F.linear(h, p[f"hidden{i}.weight"], p[f"hidden{i}.bias"])
            h = F.leaky_relu(F.layer_norm(h, (128,), p[f"norm{i}.weight"], p[f"norm{i}.bias"]), 0.01)
        if keep is not None: h = h * (torch.arange(128) < keep).float()
        y = F.linear(h, p["output.weight"], p["output.bias"]).reshape(len(t), n, -1)
    if norm is not None: y = F.normalize(y, dim=-1) * norm
    return (y[..., :D], y[..., D:]) if bypass else (y, None)


def make(out: Path):
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer
    torch.set_num_threads(2)
    load = lambda kind, folder: kind.from_pretrained(MINI / folder, torch_dtype=torch.float32).eval()
    unet, vae, text = load(UNet2DConditionModel, "unet"), load(AutoencoderKL, "vae"), load(CLIPTextModel, "text_encoder")
    tokenizer = CLIPTokenizer.from_pretrained(MINI / "tokenizer")
    table = text.get_input_embeddings().weight
    norm = getattr(text, "text_model", text).final_layer_norm
    layers = per_layer(unet)
    names = [f"down_blocks.{b}.attentions.{a}" for b in range(3) for a in range(2)] + ["mid_block.attentions.0"] + [
        f"up_blocks.{b}.attentions.{a}" for b in (1, 2, 3) for a in range(3)]
    base = {"name": "mini-sd", "hiddenSize": D, "layers": [n + ".transformer_blocks.0" for n in names],
            "tokenTableHash": hashlib.sha256(table.detach().half().numpy().tobytes()).hexdigest()}
    concepts = {}
    for name, choices in CONCEPTS.items():
        kind, encoding, bypass, target, dropout, _ = choices
        n = VECTORS.get(name, 1)
        concepts[name] = parameters(*choices, n)
        about = {"token": f"<{name}>", "category": WORDS[name], "base": base, "steps": 0, "training": ""}
        settings = {"kind": kind, "hiddenSize": D, "layerCount": 16, "usesPositionalEncoding": encoding, "timeAnchors": 2, "sigmaTime": 0.03,
                    "sigmaLayer": 2.0, "outputBypass": bypass, "usesNestedDropout": dropout, "nestedDropoutProbability": 0.5}
        if target: settings["targetNorm"] = target
        meta = {"format": "pt", "neti.version": "1.0", "neti.representation": kind, "neti.about": json.dumps(about, sort_keys=True)}
        if n > 1: meta |= {"neti.version": "2.0", "neti.vectors": str(n)}
        if "vectors" not in concepts[name]: meta["neti.mapper"] = json.dumps(settings, sort_keys=True)
        save_file({**concepts[name], "placeholder": torch.zeros(D).half()}, out / f"{name}.safetensors", metadata=meta)

    ids = lambda s: tokenizer(s, padding="max_length", max_length=32, truncation=True).input_ids

    def sequences(prompt, keep, t):
        """Keys and values [16, S, d] of a prompt at a timestep, and where the first concept stands."""
        row = ids(prompt.format(**{c: " ".join([w] * VECTORS.get(c, 1)) for c, w in WORDS.items()}))
        places = {c: row.index(ids(w)[1]) for c, w in WORDS.items() if "{" + c + "}" in prompt}
        places = {c: range(at, at + VECTORS.get(c, 1)) for c, at in places.items()}
        e = table[torch.tensor(row)].repeat(16, 1, 1)
        given = {c: output(c, concepts[c], torch.full((16,), float(t)), torch.arange(16.0), keep.get(c)) for c in places}
        for c, at in places.items(): e[:, at] = given[c][0]
        h = encode_states(text, e)
        g = h.clone()
        for c, at in places.items():
            v = given[c][1]
            if v is not None: g[:, at] += 0.2 * v / v.norm(dim=-1, keepdim=True) * h[:, at].norm(dim=-1, keepdim=True)
        return norm(h), norm(g), min(places.values(), key=lambda r: r.start)

    with torch.no_grad():
        expected = {}
        for i, (prompt, keep, t) in enumerate(CASES):
            k, v, at = sequences(prompt, keep, t)
            rows = [k[:, at.start], k[:, at.start + 1], k[:, -1], v[:, at.stop - 1]]
            expected[str(i)] = torch.stack(rows, 1)[LAYERS].contiguous()
        save_file(expected, out / "expected.safetensors")

        prompt, keep, _ = CASES[0]
        negative = text(torch.tensor([ids("")])).last_hidden_state
        scheduler = DPMSolverMultistepScheduler.from_pretrained(MINI / "scheduler")
        scheduler.set_timesteps(8)
        x = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(5))
        for t in scheduler.timesteps:
            for a in layers: a.keys = a.values = negative
            u = unet(x, t, negative).sample
            k, v, _ = sequences(prompt, keep, float(t))
            for l, a in enumerate(layers): a.keys, a.values = k[l:l + 1], v[l:l + 1]
            x = scheduler.step(u + 3.0 * (unet(x, t, negative).sample - u), t, x).prev_sample
        image = vae.decode(x / vae.config.scaling_factor).sample
        picture = ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        save_file({"latents": x, "picture": picture[0].permute(1, 2, 0).contiguous()}, out / "picture.safetensors")
    json.dump({"layers": LAYERS, "picture": {"case": 0, "steps": 8, "guidance": 3, "seed": 5},
               "cases": [{"prompt": p, "concepts": sorted((c for c in WORDS if "{" + c + "}" in p), key=lambda c: p.index("{" + c + "}")),
                          "truncation": k, "timestep": t} for p, k, t in CASES]}, open(out / "cases.json", "w"), indent=1)
