"""Small random LoRAs for mini-sd in every naming, and what U-Net and text encoder give with them merged: diffusers'
load_lora_weights and fuse_lora in fp32. `_lora_sdxl` has those for SDXL.

Ranks and, where the naming has them, alphas differ from layer to layer; but diffusers overlooks alphas that differ in
attention and in the text encoder, so that they are the same there. DoRAs have the length of each output's weights, too;
diffusers 0.42 does not read those of kohya's names, and gets the same numbers by PEFT's names instead.
"""
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import _lora_sdxl
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[3]
SCALE = 0.7
ATTENTION = [f"{p}.transformer_blocks.0.{a}.{m}" for p in ("down_blocks.1.attentions.0", "up_blocks.3.attentions.2")
             for a in ("attn1", "attn2") for m in ("to_q", "to_k", "to_v", "to_out.0")]
OTHERS = ["mid_block.attentions.0.proj_in", "down_blocks.0.attentions.1.transformer_blocks.0.ff.net.0.proj",
          "down_blocks.0.attentions.1.transformer_blocks.0.ff.net.2", "up_blocks.1.resnets.0.conv1",
          "up_blocks.1.resnets.0.conv_shortcut", "up_blocks.1.resnets.0.time_emb_proj", "conv_in",
          "down_blocks.0.downsamplers.0.conv"]
TEXT_ATTENTION = [f"encoder.layers.{i}.self_attn.{m}" for i in (0, 1) for m in ("q_proj", "k_proj", "v_proj", "out_proj")]
TEXT_OTHERS = ["encoder.layers.0.mlp.fc1", "encoder.layers.1.mlp.fc2"]


def layers(pipe, seed, unet, text):
    """[(component, path, A, B, alpha)]"""
    g = torch.Generator().manual_seed(seed)
    result = []
    for i, (component, path) in enumerate([("unet", p) for p in unet] + [("text_encoder", p) for p in text]):
        model = pipe.unet if component == "unet" else getattr(pipe.text_encoder, "text_model", pipe.text_encoder)
        weight = model.get_submodule(path).weight
        rank = 1 + i % 3
        a = torch.randn((rank, *weight.shape[1:]), generator=g) * 0.3
        b = torch.randn((weight.shape[0], rank) + (1,) * (weight.dim() - 2), generator=g) * 0.3
        result.append((component, path, a.half().float(), b.half().float(), 0.5 + i % 4 if path in OTHERS else 1.5))
    return result


def kohya(items):
    tensors = {}
    for component, path, a, b, alpha in items:
        name = ("lora_unet_" if component == "unet" else "lora_te_text_model_") + path.replace(".", "_")
        tensors |= {f"{name}.lora_down.weight": a, f"{name}.lora_up.weight": b, f"{name}.alpha": torch.tensor(alpha)}
    return tensors


def dotted(down, up, text_down, text_up):
    def name(items):
        tensors = {}
        for component, path, a, b, _ in items:
            is_unet = component == "unet"
            prefix = "unet." if is_unet else "text_encoder.text_model."
            tensors |= {prefix + path + (down if is_unet else text_down): a, prefix + path + (up if is_unet else text_up): b}
        return tensors
    return name


def old(items):
    tensors = {}
    for component, path, a, b, _ in items:
        head, tail = path.rsplit(".self_attn." if component != "unet" else ".to_", 1)
        tail = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "out_proj": "out", "out.0": "out"}.get(tail, tail)
        path = f"text_encoder.text_model.{head}.self_attn.to_{tail}" if component != "unet" else f"unet.{head}.processor.to_{tail}"
        tensors |= {path + "_lora.down.weight": a, path + "_lora.up.weight": b}
    return tensors


PEFT = dotted(".lora_A.weight", ".lora_B.weight", ".lora_A.weight", ".lora_B.weight")
DIFFUSERS = dotted(".lora.down.weight", ".lora.up.weight", ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight")
ALL, TEXT = ATTENTION + OTHERS, TEXT_ATTENTION + TEXT_OTHERS
CASES = {"kohya": (kohya, ALL, TEXT), "kohya_unet": (kohya, OTHERS, []), "peft": (PEFT, ALL, TEXT),
         "peft_alphas": (PEFT, ALL, TEXT), "diffusers": (DIFFUSERS, ALL, TEXT), "diffusers_old": (old, ATTENTION, TEXT_ATTENTION),
         "peft_dora": (PEFT, ALL, TEXT), "kohya_dora": (kohya, ALL, TEXT)}


def magnitudes(pipe, items, naming):
    """The tensors of a naming with DoRA's magnitudes: of each output's weights, changed by up to a half."""
    g = torch.Generator().manual_seed(7)
    tensors = naming(items)
    for component, path, a, b, _ in items:
        model = pipe.unet if component == "unet" else getattr(pipe.text_encoder, "text_model", pipe.text_encoder)
        weight = model.get_submodule(path).weight
        m = (weight.flatten(1).norm(dim=1) * (0.5 + torch.rand(len(weight), generator=g))).half().float()
        if naming is kohya:
            name = ("lora_unet_" if component == "unet" else "lora_te_text_model_") + path.replace(".", "_")
            tensors[f"{name}.dora_scale"] = m.view(-1, *[1] * (weight.dim() - 1))
        else:
            name = ("unet." if component == "unet" else "text_encoder.text_model.") + path
            # PEFT leaves the last word out, and transformers wants it.
            end = "" if component == "unet" else ".weight"
            tensors[f"{name}.lora_magnitude_vector{end}"] = m.view(1, -1, 1, 1) if weight.dim() == 4 else m
    return tensors


def metadata(items):
    """As PEFT's configurations are kept: alphas by the ends of paths, and rsLoRA."""
    result = {}
    for component in ("unet", "text_encoder"):
        own = [i for i in items if i[0] == component]
        result |= {f"{component}.r": 2, f"{component}.lora_alpha": 3, f"{component}.use_rslora": component == "unet",
                   f"{component}.target_modules": [i[1] for i in own], f"{component}.peft_type": "LORA",
                   f"{component}.rank_pattern": {i[1]: i[2].shape[0] for i in own},
                   f"{component}.alpha_pattern": {"attn2.to_k": 5, "up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_k": 6}
                   if component == "unet" else {}}
    return {"lora_adapter_metadata": json.dumps(result, sort_keys=True), "format": "pt"}


def make(out: Path):
    expected = {}
    for n, (name, (naming, unet, text)) in enumerate(CASES.items()):
        pipe = StableDiffusionPipeline.from_pretrained(ROOT / "Models/mini-sd", dtype=torch.float32, safety_checker=None,
                                                       local_files_only=True)
        items = layers(pipe, 90 + n, unet, text)
        tensors = magnitudes(pipe, items, naming) if "dora" in name else naming(items)
        save_file({k: v.half() for k, v in tensors.items()}, out / f"{name}.safetensors",
                  metadata=metadata(items) if name == "peft_alphas" else {"format": "pt"})
        with TemporaryDirectory() as folder:
            read = out / f"{name}.safetensors"
            if name == "kohya_dora":
                read = Path(folder) / "named.safetensors"
                scaled = [(c, p, a, b * alpha / len(a), None) for c, p, a, b, alpha in items]
                save_file(magnitudes(pipe, scaled, PEFT), read)
            pipe.load_lora_weights(read.parent, weight_name=read.name)
        pipe.fuse_lora(lora_scale=SCALE)
        ids = pipe.tokenizer("a photo of a red robot", padding="max_length", return_tensors="pt").input_ids
        g = torch.Generator().manual_seed(99)  # the test draws the same
        latents = torch.randn((1, 8, 16, 16), generator=g)
        contexts = torch.randn((1, 8, 128), generator=g)
        with torch.no_grad():
            expected[f"{name}.text"] = pipe.text_encoder(ids).last_hidden_state
            expected[f"{name}.unet"] = pipe.unet(latents, torch.tensor([500.0]), contexts).sample
    save_file({k: v.contiguous() for k, v in expected.items()}, out / "expected.safetensors")
    _lora_sdxl.make(out)
