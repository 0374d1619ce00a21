"""Runs the nodes in a real ComfyUI, and writes what it found to check-result.json.

    python Integrations/comfyui/check.py --comfyui FOLDER [--concept FILE]

FOLDER is a checkout of ComfyUI whose requirements this Python has. Nothing is downloaded. It is no part of neti's tests.

1. On a random model of Stable Diffusion 1.5's size, and on mini-sd: what each layer gets at each step against the
   formulas of neti's golden data, latents against a loop that knows nothing of patches, and that nothing leaks.
2. On mini-sd: the golden picture, LoRAs, a ControlNet, CLIP's last layer.
3. ComfyUI's server draws the workflow of docs/images/comfyui-workflow.png, and `neti generate` the same. With the concept
   that `neti demo` learns as --concept, the picture is that in docs; --keep FILE keeps the new one.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--comfyui", required=True, type=Path)
parser.add_argument("--steps", type=int, default=2)
parser.add_argument("--side", type=int, default=256)
parser.add_argument("--concept", type=Path, help="a concept of mini-sd for the workflow; a random one when left out")
parser.add_argument("--keep", type=Path, help="where the workflow's picture goes")
parser.add_argument("--neti", default=str(Path(__file__).resolve().parents[2] / "neti"), help="the program to compare with")
parser.add_argument("--only", choices=["random", "mini", "server"], help="one part; writes no result")
asked = parser.parse_args()
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DATA = ROOT / "Tests/Fixtures/data"
sys.argv = [sys.argv[0], "--cpu", "--force-fp32"]  # which ComfyUI reads
sys.path[:0] = [str(asked.comfyui.resolve()), str(ROOT / "Tests/Fixtures/sections"), str(HERE)]

import comfy.options

comfy.options.enable_args_parsing()
import comfy.cldm.cldm
import comfy.controlnet
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils
import folder_paths
import torch
from safetensors.torch import load_file

import check_models as models
import check_server

results = []


def say(what, value, limit, above=False):
    good = value > limit if above else value <= limit
    results.append({"check": what, "value": float(f"{value:.2g}"), "must be": f"{'above' if above else 'at most'} {limit:g}", "ok": bool(good)})
    print(f"{'ok  ' if good else 'FAIL'} {what}: {value:.1e}", flush=True)


def distance(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


class Bench:
    """One model with two concepts, and ways to draw on it."""

    def __init__(self, title, model, clip, names, side, steps):
        self.title, self.model, self.clip, self.side, self.steps = title, model, clip, side // 8, steps
        self.channels = model.get_model_object("latent_format").latent_channels
        pack = sys.modules["neti_pack"].NODE_CLASS_MAPPINGS
        self.load, self.truncate, self.prompt = (pack[n]() for n in ("LoadNeTIConcept", "NeTITruncation", "NeTIPrompt"))
        self.first, self.second = (self.load.load(f"{n}.safetensors", f"<{n}>")[0] for n in names)

    def plain(self, text, clip=None):
        clip = clip or self.clip
        embedding, pooled = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)
        return [[embedding, {"pooled_output": pooled}]]

    def noise(self, batch=1):
        return torch.cat([torch.randn(1, self.channels, self.side, self.side, generator=torch.Generator().manual_seed(3 + i)) for i in range(batch)])

    def draw(self, model, positive, negative, cfg=5.0, batch=1, steps=None):
        noise = self.noise(batch)
        return comfy.sample.sample(
            model, noise, steps or self.steps, cfg, "euler", "normal", positive, negative, torch.zeros_like(noise), disable_pbar=True, seed=3)

    def sigmas(self):
        return comfy.samplers.KSampler(
            self.model, steps=self.steps, device=torch.device("cpu"), sampler="euler", scheduler="normal", denoise=1.0, model_options={}).sigmas

    def by_hand(self, own, negative, cfg=5.0):
        """Euler's steps without ComfyUI's samplers and patches; `own(timestep)` gives keys and values [2, 16, S, d]."""
        sampling, inner = self.model.get_model_object("model_sampling"), self.model.model.diffusion_model
        projections = [m for n, m in inner.named_modules() if n.endswith(("attn2.to_k", "attn2.to_v"))]
        sigmas = self.sigmas()
        x = self.noise() * (1 + sigmas[0] ** 2).sqrt()
        for s, after in zip(sigmas[:-1], sigmas[1:]):
            t = sampling.timestep(s[None])
            scaled = x / (s**2 + 1).sqrt()
            sequences = own(float(t))
            with contextlib.ExitStack() as stack:
                for i, m in enumerate(projections):
                    given = sequences[i % 2, min(i // 2, sequences.shape[1] - 1)][None]
                    stack.callback(m.register_forward_pre_hook(lambda m, a, given=given: (given, *a[1:])).remove)
                positive = inner(scaled, t, context=negative[0][0])
            plain = inner(scaled, t, context=negative[0][0]) if cfg != 1 else positive
            x = x + (plain + cfg * (positive - plain)) * (after - s)
        return self.model.get_model_object("latent_format").process_out(x)

    def say(self, what, *more, **named):
        say(f"{self.title}: {what}", *more, **named)

    def check(self):
        base, first, second = self.model, self.first, self.second
        negative, word = self.plain("red"), self.plain("a photo of cat on a beach")
        untouched = self.draw(base, word, negative)
        patched, positive = self.prompt.encode(base, self.clip, self.truncate.truncate(first, 64)[0], "a photo of <toy> on a beach")

        # What each layer gets at each step, seen at its projections.
        seen, hooks = [], []
        for name, module in patched.model.diffusion_model.named_modules():
            if name.endswith(("attn2.to_k", "attn2.to_v")):
                hooks.append(module.register_forward_pre_hook(lambda m, a: seen.append(a[0].clone())))
        drawn = self.draw(patched, positive, negative)
        for h in hooks:
            h.remove()
        timestep = patched.get_model_object("model_sampling").timestep
        ids = [t for t, _ in self.clip.tokenize("a photo of cat on a beach")["l"][0]]
        at = ids.index(self.clip.tokenize("cat")["l"][0][1][0])
        formulas = lambda t: torch.stack(models.formulas(self.clip, first.concept, ids, at, t, 64))
        worst = 0.0
        for step, s in enumerate(self.sigmas()[:-1]):
            own = formulas(float(timestep(s[None])))
            for layer in range(16):
                keys, values = seen[2 * (16 * step + layer)], seen[2 * (16 * step + layer) + 1]
                row = min(range(len(keys)), key=lambda r: distance(keys[r], own[0, layer]))
                worst = max(worst, distance(keys[row], own[0, layer]), distance(values[row], own[1, layer]))
        self.say(f"keys and values of 16 layers at {self.steps} timesteps, against the formulas", worst, 1e-3)
        self.say("how often a layer was asked, against 32 times a step", abs(len(seen) - 32 * self.steps), 0)
        self.say("latents against the formulas and Euler's steps", distance(drawn, self.by_hand(formulas, negative)), 1e-3)
        self.say("the concept changes the latents", distance(drawn, untouched), 1e-2, above=True)
        self.say("the unpatched model after it, against before", distance(self.draw(base, word, negative), untouched), 0)
        self.say("another prompt on the patched model, against the unpatched", distance(self.draw(patched, word, negative), untouched), 1e-4)

        # Two concepts of the same words.
        other, other_positive = self.prompt.encode(base, self.clip, second, "a photo of <mug> on a beach")
        both, both_positive = self.prompt.encode(patched, self.clip, second, "a photo of <mug> on a beach")
        alone = self.draw(other, other_positive, negative)
        self.say("another concept of the same words draws otherwise", distance(alone, drawn), 1e-2, above=True)
        self.say("on a model with both, the first, against alone", distance(self.draw(both, positive, negative), drawn), 1e-4)
        self.say("on a model with both, the second, against alone", distance(self.draw(both, both_positive, negative), alone), 1e-4)

        self.say("batch 2, its first image, against alone", distance(self.draw(patched, positive, negative, batch=2)[:1], drawn), 1e-3)
        off = self.draw(patched, positive, negative, cfg=1.0)
        self.say("guidance 1, against Euler's steps", distance(off, self.by_hand(formulas, negative, cfg=1.0)), 1e-3)
        self.say("the concept in both prompts, against guidance 1", distance(self.draw(patched, positive, positive), off), 1e-3)
        long, long_positive = self.prompt.encode(base, self.clip, first, "a red cat in the snow " * 14 + "and a <toy>")
        sections = long_positive[0][0].shape[1] // len(ids)
        self.say("a long prompt has two chunks or more", sections, 1, above=True)
        encode = long.model_options["transformer_options"]["patches"]["attn2_patch"][0].encode
        self.say(f"{sections} chunks, against Euler's steps", distance(self.draw(long, long_positive, negative), self.by_hand(encode, negative)), 1e-3)
        pair, pair_positive = self.prompt.encode(base, self.clip, first, "a <toy> and a <mug>", concept_2=second)
        encode = pair.model_options["transformer_options"]["patches"]["attn2_patch"][0].encode
        self.say("two concepts in one prompt, against Euler's steps",
                 distance(self.draw(pair, pair_positive, negative), self.by_hand(encode, negative)), 1e-3)

        # Areas, in one step, after which each side has seen nothing of the other.
        half = self.side // 2
        area = lambda c, left: [[t, {**d, "area": (self.side, half, 0, 0 if left else half), "strength": 1.0, "set_area_to_bounds": False}] for t, d in c]
        sides = lambda model, l, r: self.draw(model, area(l, True) + area(r, False), negative, steps=1).split(half, -1)
        left, right = sides(both, positive, both_positive)
        one, words = sides(patched, positive, word)
        _, two = sides(other, word, both_positive)
        self.say("areas: the left concept, against alone", distance(left, one), 1e-4)
        self.say("areas: the right concept, against alone", distance(right, two), 1e-4)
        self.say("areas: words beside a concept, against the unpatched model", distance(words, sides(base, word, word)[1]), 1e-4)
        self.say("areas: the two differ", distance(left, right), 1e-2, above=True)


def check_mini(bench, vae):
    """What needs a trained, small model: the golden picture, LoRAs, a ControlNet, CLIP's last layer."""
    golden, case = load_file(DATA / "integrations/picture.safetensors"), json.loads((DATA / "integrations/cases.json").read_text())["picture"]
    model, positive = bench.prompt.encode(bench.model, bench.clip, bench.first, "a photo of <toy> on a beach")
    negative, word = bench.plain(""), bench.plain("a photo of cat on a beach")
    sigmas = model.get_model_object("model_sampling").sigmas
    times = torch.linspace(0, 999, case["steps"] + 1).round().long().flip(0)[:-1]
    noise = torch.randn(1, bench.channels, 16, 16, generator=torch.Generator().manual_seed(case["seed"]))
    drawn = comfy.sample.sample_custom(
        model, noise, float(case["guidance"]), comfy.samplers.ksampler("dpmpp_2m"), torch.cat([sigmas[times], torch.zeros(1)]), positive, negative,
        torch.zeros_like(noise), disable_pbar=True, seed=case["seed"])
    bench.say(f"latents after {case['steps']} steps of DPM-Solver++, against neti's golden ones",
              distance(model.get_model_object("latent_format").process_in(drawn), golden["latents"]), 1e-4)
    picture = (vae.decode(drawn)[0] * 255).round().int()
    bench.say("the picture, against neti's golden one, in 255ths", (picture - golden["picture"].int()).abs().max().item(), 1)

    plain = bench.draw(model, positive, negative)
    for name, needs_clip in (("kohya_unet", False), ("kohya", True)):
        lora = comfy.utils.load_torch_file(str(DATA / f"lora/{name}.safetensors"), safe_load=True)
        styled, clip = comfy.sd.load_lora_for_models(bench.model, bench.clip, lora, 0.7, 0.7)
        before, own = bench.prompt.encode(styled, clip, bench.first, "a photo of <toy> on a beach")
        after = comfy.sd.load_lora_for_models(model, bench.clip, lora, 0.7, 0.0)[0]
        a, b = bench.draw(before, own, negative), bench.draw(after, own if needs_clip else positive, negative)
        bench.say(f"Load LoRA ({name}) changes the latents", distance(a, plain), 1e-2, above=True)
        if needs_clip:
            bench.say("a LoRA of the text encoder changes the concept's words", distance(own[0][0], positive[0][0]), 1e-2, above=True)
            bench.say("the model without it, after it", distance(bench.draw(*bench.prompt.encode(bench.model, bench.clip, bench.first, "a photo of <toy> on a beach"), negative), plain), 1e-4)
        else:
            bench.say("Load LoRA before NeTI Prompt, against behind it", distance(a, b), 1e-4)

    # A random ControlNet of mini-sd's sizes.
    sizes = {k: v for k, v in bench.model.model.model_config.unet_config.items() if k not in ("out_channels", "transformer_depth_output", "use_temporal_attention", "use_temporal_resblock", "disable_unet_model_creation")}
    control = models.filled(comfy.cldm.cldm.ControlNet(hint_channels=3, **sizes).eval(), 9)
    models.set_groups(control)
    seen = []
    control.register_forward_pre_hook(lambda m, a, k: seen.append(k["context"].clone()), with_kwargs=True)
    net = comfy.controlnet.ControlNet(control, load_device=torch.device("cpu"))
    hint = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    with_net = lambda c: [[t, {**d, "control": net.copy().set_cond_hint(hint, 0.5), "control_apply_to_uncond": True}] for t, d in c]
    controlled = bench.draw(model, with_net(positive), with_net(negative))
    bench.say("a ControlNet changes the latents", distance(controlled, plain), 1e-3, above=True)
    rows = torch.cat(seen)
    theirs = min(distance(r, positive[0][0][0]) for r in rows)
    bench.say("it gets the category's word, as the conditioning has it", theirs, 1e-5)
    bench.say("which is a plain prompt's but for the mark", (positive[0][0] - word[0][0]).abs().max().item(), 0.126)

    skipped = bench.clip.clone()
    skipped.clip_layer(-2)
    layered, own = bench.prompt.encode(bench.model, skipped, bench.first, "a photo of <toy> on a beach")
    ids = [t for t, _ in bench.clip.tokenize("a photo of cat on a beach")["l"][0]]
    at = ids.index(bench.clip.tokenize("cat")["l"][0][1][0])
    got = layered.model_options["transformer_options"]["patches"]["attn2_patch"][0].encode(500.0)
    keys, values = models.formulas(bench.clip, bench.first.concept, ids, at, 500.0, 128, layers=-1)
    bench.say("CLIP Set Last Layer, −2: keys and values, against the formulas", max(distance(got[0], keys), distance(got[1], values)), 1e-3)


@torch.inference_mode()
def main():
    models.pack(HERE)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        folder_paths.folder_names_and_paths["neti"] = ([str(scratch), str(DATA / "integrations")], {".safetensors"})
        if asked.only in (None, "mini"):
            models.concept(scratch, "mug", 6, 128)
            model, clip, vae = models.mini(scratch)
            bench = Bench("mini-sd", model, clip, ("toy", "mug"), 128, 4)
            bench.check()
            check_mini(bench, vae)
        if asked.only in (None, "random"):
            for name, seed in (("toy", 5), ("mug", 6)):
                models.concept(scratch, name, seed, 768)
            model, clip = models.random_model(), models.random_clip()
            Bench("random SD 1.5", model, clip, ("toy", "mug"), asked.side, asked.steps).check()
        if asked.only in (None, "server"):
            check_server.check(asked, scratch, say)


import comfyui_version

commit = subprocess.run(["git", "-C", str(asked.comfyui), "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
print(f"ComfyUI {comfyui_version.__version__} ({commit[:8]}), PyTorch {torch.__version__}", flush=True)
main()
failed = sum(not r["ok"] for r in results)
if asked.only is None:
    (HERE / "check-result.json").write_text(json.dumps({
        "comfyui": comfyui_version.__version__, "commit": commit, "torch": torch.__version__, "python": sys.version.split()[0],
        "steps": asked.steps, "side": asked.side, "failed": failed, "checks": results}, indent=1, ensure_ascii=False) + "\n")
print("all as it should be" if not failed else f"{failed} failed")
sys.exit(bool(failed))
