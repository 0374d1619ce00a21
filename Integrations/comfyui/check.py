"""Runs the nodes in a real ComfyUI, on a random model of Stable Diffusion 1.5's size.

    python Integrations/comfyui/check.py --comfyui FOLDER [--steps 3] [--side 256]

FOLDER is a checkout of ComfyUI whose requirements this Python has (without the web interface's: torch, torchsde,
torchvision, einops, transformers, safetensors, pyyaml, scipy, psutil, pillow, tqdm). Nothing is downloaded. It is no part
of neti's tests.
"""

import argparse
import importlib.util
import json
import math
import sys
import tempfile
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--comfyui", required=True, type=Path)
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--side", type=int, default=256)
asked = parser.parse_args()
HERE = Path(__file__).resolve().parent
sys.argv = [sys.argv[0], "--cpu"]  # which ComfyUI reads
sys.path[:0] = [str(asked.comfyui.resolve()), str(HERE.parents[1] / "Tests/Fixtures/sections")]

import comfy.options

comfy.options.enable_args_parsing()
import comfy.model_patcher
import comfy.sample
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import folder_paths
import torch
from neti import encode_states, mapper  # the formulas of neti's golden data
from safetensors.torch import save_file

STEPS, SIDE, D = asked.steps, asked.side // 8, 768


def nodes():
    """The pack, imported as ComfyUI imports custom_nodes."""
    spec = importlib.util.spec_from_file_location("neti_pack", HERE / "__init__.py", submodule_search_locations=[str(HERE)])
    module = importlib.util.module_from_spec(spec)
    sys.modules["neti_pack"] = module
    spec.loader.exec_module(module)
    return module.NODE_CLASS_MAPPINGS


def fill(module, seed):
    g = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        if p.ndim > 1:
            p.data = torch.randn(p.shape, generator=g) / math.sqrt(p[0].numel())
        else:
            p.data = torch.ones(p.shape) if name.endswith("weight") else torch.zeros(p.shape)


def model():
    config = comfy.supported_models.SD15({
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4],
        "use_spatial_transformer": True, "context_dim": D, "transformer_depth": [1] * 6 + [0] * 2, "transformer_depth_output": [1] * 9 + [0] * 3,
        "transformer_depth_middle": 1, "use_linear_in_transformer": False, "legacy": False, "adm_in_channels": None,
        "use_temporal_attention": False, "use_temporal_resblock": False})
    config.set_inference_dtype(torch.float32, None)
    made = config.get_model({}, "", device="cpu").eval().requires_grad_(False)
    fill(made.diffusion_model, 1)
    return comfy.model_patcher.ModelPatcher(made, torch.device("cpu"), torch.device("cpu"))


def clip():
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    made = comfy.sd.CLIP(target, embedding_directory=None, model_options={"dtype": torch.float32, "load_device": torch.device("cpu"), "offload_device": torch.device("cpu")})
    fill(made.cond_stage_model, 2)
    table = made.cond_stage_model.clip_l.transformer.get_input_embeddings().weight
    table.data *= math.sqrt(D) * 0.02  # the size that words have
    return made


def concept(folder, name, seed, layers):
    """A random concept file, and its tensors."""
    g = torch.Generator().manual_seed(seed)
    p = {"frequencies": torch.randn(1024, 2, generator=g) * torch.tensor([0.03, 2.0])}
    for k, (rows, columns) in {"input": (160, 2048), "hidden1": (128, 160), "hidden2": (128, 128), "output": (2 * D, 128)}.items():
        p[f"{k}.weight"] = torch.randn(rows, columns, generator=g) / math.sqrt(columns) * (8 if k == "input" else 1)
        p[f"{k}.bias"] = torch.randn(rows, generator=g) * 0.1
    for k in ("norm1", "norm2"):
        p[f"{k}.weight"], p[f"{k}.bias"] = torch.ones(128), torch.zeros(128)
    base = {"name": "random", "hiddenSize": D, "layers": list(layers), "tokenTableHash": ""}
    settings = {"kind": "neti", "hiddenSize": D, "layerCount": 16, "usesPositionalEncoding": True, "timeAnchors": 10, "sigmaTime": 0.03, "sigmaLayer": 2.0,
                "outputBypass": True, "targetNorm": 0.45, "usesNestedDropout": True, "nestedDropoutProbability": 0.5}
    meta = {"neti.version": "1.0", "neti.representation": "neti", "neti.mapper": json.dumps(settings),
            "neti.about": json.dumps({"token": f"<{name}>", "category": "cat", "base": base, "steps": 0, "training": ""})}
    save_file({**p, "placeholder": torch.zeros(D)}, folder / f"{name}.safetensors", meta)
    return p


def formulas(clip, tensors, ids, at, timestep, keep):
    """Keys and values [16, S, d] of token ids, from the formulas."""
    text = clip.cond_stage_model.clip_l.transformer.text_model
    y = mapper(tensors, torch.full((16,), float(timestep)), torch.arange(16.0), 0.45, torch.full((16,), keep))
    e = text.embeddings.token_embedding.weight[torch.tensor(ids)].repeat(16, 1, 1)
    e[:, at] = y[:, :D]
    h = encode_comfy(text, e)
    g = h.clone()
    g[:, at] += 0.2 * y[:, D:] / y[:, D:].norm(dim=1, keepdim=True) * h[:, at].norm(dim=1, keepdim=True)
    norm = lambda x: torch.nn.functional.layer_norm(x, (D,), text.final_layer_norm.weight, text.final_layer_norm.bias, text.final_layer_norm.eps)
    return norm(h), norm(g)


def encode_comfy(text, embeddings):
    """`encode_states` for the names of ComfyUI's text encoder."""
    from types import SimpleNamespace as N
    layer = lambda l: N(layer_norm1=l.layer_norm1, layer_norm2=l.layer_norm2, mlp=l.mlp, self_attn=N(
        num_heads=l.self_attn.heads, q_proj=l.self_attn.q_proj, k_proj=l.self_attn.k_proj, v_proj=l.self_attn.v_proj, out_proj=l.self_attn.out_proj))
    return encode_states(N(embeddings=N(position_embedding=text.embeddings.position_embedding), encoder=N(layers=[layer(l) for l in text.encoder.layers])), embeddings)


def plain(clip, text):
    embedding, pooled = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)
    return [[embedding, {"pooled_output": pooled}]]


def draw(model, positive, negative, cfg=5.0, batch=1, seed=3):
    noise = torch.randn(batch, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return comfy.sample.sample(
        model, noise, STEPS, cfg, "euler", "normal", positive, negative, torch.zeros(batch, 4, SIDE, SIDE), disable_pbar=True, seed=seed)


def area(conditioning, left):
    half = SIDE // 2
    return [[t, {**d, "area": (SIDE, half, 0, 0 if left else half), "strength": 1.0, "set_area_to_bounds": False}] for t, d in conditioning]


def distance(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


failed = 0


def say(what, value, good):
    global failed
    failed += not good
    print(f"{'ok  ' if good else 'FAIL'} {what}: {value:.1e}", flush=True)


@torch.inference_mode()
def main():
    pack = nodes()
    load, truncate, prompt = (pack[n]() for n in ("LoadNeTIConcept", "NeTITruncation", "NeTIPrompt"))
    layers = sys.modules["neti_pack.neti_patch"].LAYERS
    base, text = model(), clip()
    with tempfile.TemporaryDirectory() as d:
        folder_paths.folder_names_and_paths["neti"] = ([d], {".safetensors"})
        tensors = {n: concept(Path(d), n, s, layers) for n, s in (("toy", 5), ("mug", 6))}
        toy, = load.load("toy.safetensors", "")
        mug, = load.load("mug.safetensors", "")
        toy64, = truncate.truncate(toy, 64)
    negative, word = plain(text, "blurry"), plain(text, "a photo of cat on a beach")
    untouched = draw(base, word, negative)

    # What each layer gets at each step, seen at its projections.
    patched, positive = prompt.encode(base, text, toy64, "a photo of <toy> on a beach")
    seen, hooks = [], []
    for name, module in patched.model.diffusion_model.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            hooks.append(module.register_forward_pre_hook(lambda m, a: seen.append(a[0].clone())))
    timestep = patched.model.model_sampling.timestep
    drawn = draw(patched, positive, negative)
    for h in hooks:
        h.remove()
    sampler = comfy.samplers.KSampler(base, steps=STEPS, device=torch.device("cpu"), sampler="euler", scheduler="normal", denoise=1.0, model_options={})
    times = [float(timestep(s[None])) for s in sampler.sigmas[:-1]]
    ids = [t for t, _ in text.tokenize("a photo of cat on a beach")["l"][0]]
    at = ids.index(text.tokenize("cat")["l"][0][1][0])
    worst = 0.0
    for step, t in enumerate(times):
        k, v = formulas(text, tensors["toy"], ids, at, t, 64)
        for layer in range(16):
            keys, values = seen[2 * (16 * step + layer)], seen[2 * (16 * step + layer) + 1]
            row = max(range(len(keys)), key=lambda r: -distance(keys[r], k[layer]))
            worst = max(worst, distance(keys[row], k[layer]), distance(values[row], v[layer]))
    say(f"keys and values of 16 layers at {STEPS} timesteps against the formulas", worst, worst < 1e-3 and len(seen) == 32 * STEPS)
    say("the concept changes the latents", distance(drawn, untouched), distance(drawn, untouched) > 1e-2)
    say("the unpatched model draws as before", distance(draw(base, word, negative), untouched), torch.equal(draw(base, word, negative), untouched))
    say("the patched model draws other prompts as before", distance(draw(patched, word, negative), untouched), distance(draw(patched, word, negative), untouched) < 1e-5)

    other, other_positive = prompt.encode(base, text, mug, "a photo of <mug> on a beach")
    second = draw(other, other_positive, negative)
    say("another concept of the same words draws otherwise", distance(second, drawn), distance(second, drawn) > 1e-2)
    say("the first then draws as before", distance(draw(patched, positive, negative), drawn), distance(draw(patched, positive, negative), drawn) < 1e-5)
    both, both_positive = prompt.encode(patched, text, mug, "a photo of <mug> on a beach")
    say("on a model with both, the first", distance(draw(both, positive, negative), drawn), distance(draw(both, positive, negative), drawn) < 1e-4)
    say("on a model with both, the second", distance(draw(both, both_positive, negative), second), distance(draw(both, both_positive, negative), second) < 1e-4)

    two = draw(patched, positive, negative, batch=2)
    one = torch.randn(2, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(3))[:1]
    alone = comfy.sample.sample(patched, one, STEPS, 5.0, "euler", "normal", positive, negative, torch.zeros_like(one), disable_pbar=True, seed=3)
    say("batch 2, its first image against itself alone", distance(two[:1], alone), distance(two[:1], alone) < 1e-3)
    off = draw(patched, positive, negative, cfg=1.0)
    say("guidance 1 draws the concept", distance(off, draw(base, word, negative, cfg=1.0)), distance(off, draw(base, word, negative, cfg=1.0)) > 1e-2)
    inside = draw(patched, word, positive)
    say("a concept in the negative prompt", distance(inside, draw(base, word, word)), distance(inside, draw(base, word, word)) > 1e-2)
    long, long_positive = prompt.encode(base, text, toy, "a very long prompt with many words " * 12 + "<toy>")
    say("a prompt of two sections", long_positive[0][0].shape[1], long_positive[0][0].shape[1] == 154 and bool(draw(long, long_positive, negative).isfinite().all()))
    pair, pair_positive = prompt.encode(base, text, toy, "a <toy> and a <mug>", concept_2=mug)
    say("two concepts in one prompt", distance(draw(pair, pair_positive, negative), untouched), distance(draw(pair, pair_positive, negative), untouched) > 1e-2)

    # Two concepts of the same words, each in an area: both at once equal each one's patch with the other's words.
    left_right = area(positive, True) + area(both_positive, False)
    areas = draw(both, left_right, negative)
    swapped = draw(both, area(both_positive, True) + area(positive, False), negative)
    plain_areas = draw(base, area(word, True) + area(word, False), negative)
    say("areas: two concepts, against the words alone", distance(areas, plain_areas), distance(areas, plain_areas) > 1e-2)
    say("areas: swapped, they differ", distance(areas, swapped), distance(areas, swapped) > 1e-2)
    mixed = draw(patched, area(word, True) + area(word, False), negative)
    say("areas: other prompts as before", distance(mixed, plain_areas), distance(mixed, plain_areas) < 1e-5)


print(f"ComfyUI {getattr(__import__('comfyui_version'), '__version__', '?')}, PyTorch {torch.__version__}, {STEPS} steps at {asked.side}×{asked.side}")
main()
print("all as it should be" if not failed else f"{failed} failed")
sys.exit(bool(failed))
