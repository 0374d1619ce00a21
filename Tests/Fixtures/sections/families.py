"""Stable Diffusion 1, 2 and XL as small random models: diffusers' own classes, with the names and configurations of the
real ones, and the names that the same tensors have in one file (Rombach et al.'s repository; OpenCLIP's text encoder).

Weights are not kept: each tensor is drawn from a generator seeded by the CRC-32 of its name, so that the tests draw the
same. The names of the one file are checked by diffusers' own converter: it must give back every tensor.
"""
import json, tempfile
from pathlib import Path
from types import SimpleNamespace

import _sdxl
import torch
from _drawn import drawn
from clip_vocabulary import make as make_vocabulary
from diffusers import (AutoencoderKL, DDPMScheduler, DPMSolverMultistepScheduler, PNDMScheduler,
                       StableDiffusionPipeline, UNet2DConditionModel)
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

PROMPTS = ["a red robot on the moon! wow", ""]
V_PREDICTION_BIAS = "unet/up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"
CROSS = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
UNET = dict(down_block_types=CROSS[0], up_block_types=CROSS[1], cross_attention_dim=128, in_channels=4, out_channels=4)
TEXT = dict(hidden_size=128, intermediate_size=512, num_attention_heads=2, vocab_size=49408, max_position_embeddings=77)
VAE = dict(block_out_channels=[32, 32, 64, 64], layers_per_block=2, latent_channels=4,
           down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4)
SCHEDULER = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1)
SD2 = dict(
    unet=UNET | dict(block_out_channels=[64, 64, 128, 128], attention_head_dim=[1, 1, 2, 2], use_linear_projection=True,
                     sample_size=64),
    text=TEXT | dict(num_hidden_layers=23, hidden_act="gelu", bos_token_id=0, eos_token_id=2, pad_token_id=1),
    vae=VAE | dict(sample_size=768), scheduler=SCHEDULER, pad="!", scales={})
FAMILIES = {
    "sd1": dict(
        unet=UNET | dict(block_out_channels=[32, 64, 64, 64], attention_head_dim=8, sample_size=64),
        text=TEXT | dict(num_hidden_layers=2, hidden_act="quick_gelu", bos_token_id=0, eos_token_id=2, pad_token_id=1),
        vae=VAE | dict(sample_size=512), scheduler=SCHEDULER, pad="<|endoftext|>", scales={}),
    "sd2": SD2,
    "sd2-v": SD2 | dict(
        unet=SD2["unet"] | dict(sample_size=96, upcast_attention=True),
        scheduler=SCHEDULER | dict(prediction_type="v_prediction"), scales={V_PREDICTION_BIAS: 4.0}),
}


def draw(component, name, shape, scales):
    full = f"{component}/{name}"
    return drawn(full, shape, scales.get(full, 1.0))


def bare(name):
    """transformers 5.6 and later leave out the prefix that files have."""
    return name.removeprefix("text_model.")


def one_file(component, name):
    """The name of a tensor in one file, and the part of a fused one that it is (0, 1, 2)."""
    p = name.split(".")
    if component == "unet":
        top = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in":
               "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
        stem = name.rsplit(".", 1)[0]
        if stem in top:
            return f"model.diffusion_model.{top[stem]}.{p[-1]}", None
        inner = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
                 "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
        if p[0] == "mid_block":
            place, kind, rest = "middle_block", p[1], p[3:]
            slot = "1" if kind == "attentions" else str(2 * int(p[2]))
        else:
            block, kind, index, rest = int(p[1]), p[2], int(p[3]), p[4:]
            if p[0] == "down_blocks":
                place, slot = f"input_blocks.{1 + 3 * block + index}", "1" if kind == "attentions" else "0"
                if kind == "downsamplers":
                    place, rest = f"input_blocks.{3 * block + 3}", ["op"] + rest[1:]
            else:
                place, slot = f"output_blocks.{3 * block + index}", "1" if kind == "attentions" else "0"
                if kind == "upsamplers":
                    place, slot = f"output_blocks.{3 * block + 2}", "2" if block else "1"
        if kind == "resnets":
            rest = [inner[rest[0]]] + rest[1:]
        return ".".join(["model.diffusion_model", place, slot] + rest), None
    if component == "vae":
        if p[0] in ("quant_conv", "post_quant_conv"):
            return f"first_stage_model.{name}", None
        rest = p[1:]
        if rest[0] == "conv_norm_out":
            rest[0] = "norm_out"
        elif rest[0] == "mid_block":
            attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}
            if rest[1] == "resnets":
                rest = ["mid", f"block_{int(rest[2]) + 1}"] + rest[3:]
            else:
                rest = ["mid", "attn_1", attention[rest[3]], rest[-1]]
        elif rest[0] in ("down_blocks", "up_blocks"):
            way = rest[0].split("_")[0]
            level = int(rest[1]) if way == "down" else 3 - int(rest[1])
            rest = [way, str(level)] + (
                ["block"] + rest[3:] if rest[2] == "resnets" else [f"{way}sample"] + rest[4:])
        rest = ["nin_shortcut" if r == "conv_shortcut" else r for r in rest]
        return ".".join(["first_stage_model", p[0]] + rest), None
    raise ValueError(component)


def one_file_text(name, is_open):
    if not is_open:
        return f"cond_stage_model.transformer.text_model.{bare(name)}", None
    p = bare(name).split(".")
    prefix = "cond_stage_model.model."
    if p[0] == "embeddings":
        return prefix + ("token_embedding.weight" if p[1] == "token_embedding" else "positional_embedding"), None
    if p[0] == "final_layer_norm":
        return f"{prefix}ln_final.{p[1]}", None
    start = f"{prefix}transformer.resblocks.{p[2]}."
    if p[3] == "self_attn" and p[4] != "out_proj":
        return f"{start}attn.in_proj_{p[5]}", "qkv".index(p[4][0])
    place = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn": "attn.out_proj", "mlp": "mlp"}[p[3]]
    if p[3] == "mlp":
        place = {"fc1": "mlp.c_fc", "fc2": "mlp.c_proj"}[p[4]]
    return f"{start}{place}.{p[-1]}", None


def parts(f):
    unet = UNet2DConditionModel.from_config(f["unet"]).eval()
    vae = AutoencoderKL.from_config(f["vae"]).eval()
    text = CLIPTextModel(CLIPTextConfig(**f["text"])).eval()
    return {"unet": unet, "vae": vae, "text_encoder": text}


def fill(models, scales):
    rows = []
    with torch.no_grad():
        for component, model in models.items():
            for name, p in model.state_dict().items():
                if "position_ids" in name:
                    continue
                name, q = (f"text_model.{bare(name)}" if component == "text_encoder" else name), p
                q.copy_(draw(component, name, list(p.shape), scales))
                rows.append((component, name, list(p.shape)))
    return rows


def named_as_one_file(rows, scales, is_open):
    """Every tensor under the name of one file, and the table of names."""
    file, table, fused = {}, [], {}
    for component, name, shape in rows:
        x = draw(component, name, shape, scales)
        old, part = one_file_text(name, is_open) if component == "text_encoder" else one_file(component, name)
        if part is not None:
            fused.setdefault(old, {})[part] = x
        elif component == "vae" and ".attn_1." in old and x.ndim == 2:
            file[old] = x[:, :, None, None]
        else:
            file[old] = x
        table.append((component, name, "x".join(map(str, shape)), old, "" if part is None else str(part)))
    file |= {old: torch.cat([three[i] for i in range(3)]) for old, three in fused.items()}
    return {k: v.contiguous() for k, v in file.items()}, table


def make(out: Path):
    with tempfile.TemporaryDirectory() as scratch:
        for family, f in FAMILIES.items():
            make_family(out, Path(scratch), family, f)
        _sdxl.make(out, Path(scratch), SimpleNamespace(**globals()))


def make_family(out, scratch, family, f):
    models = parts(f)
    rows = fill(models, f["scales"])
    vocabulary = scratch / f"tokenizer-{family}"
    make_vocabulary(vocabulary)
    special = json.loads((vocabulary / "special_tokens_map.json").read_text()) | {"pad_token": f["pad"]}
    (vocabulary / "special_tokens_map.json").write_text(json.dumps(special))
    tokenizer = CLIPTokenizer.from_pretrained(str(vocabulary), pad_token=f["pad"])
    scheduler = PNDMScheduler.from_config(f["scheduler"])
    pipe = StableDiffusionPipeline(
        vae=models["vae"], text_encoder=models["text_encoder"], tokenizer=tokenizer, unet=models["unet"],
        scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    folder = scratch / family
    pipe.save_pretrained(folder)
    for file in ["model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json",
                 "scheduler/scheduler_config.json"]:
        target = out / family / file
        target.parent.mkdir(parents=True, exist_ok=True)
        # Real models do not name a spacing, so that each scheduler has its own.
        lines = (folder / file).read_text().splitlines(keepends=True)
        target.write_text("".join(line for line in lines if '"timestep_spacing"' not in line))
    if family != "sd2-v":
        file, table = named_as_one_file(rows, f["scales"], family != "sd1")
        (out / f"{family}.tsv").write_text("".join("\t".join(r) + "\n" for r in table))
        check(file, folder, scratch / f"{family}.safetensors")
    save_file(outputs(pipe), out / f"{family}.safetensors")
    (out / f"{family}.json").write_text(json.dumps({"prompts": PROMPTS, "pads": [f["pad"]], "scales": f["scales"]}))


def check(file, folder, path):
    """diffusers reads the one file, with the folder's configurations, as what the folder holds."""
    save_file(file, path)
    read = StableDiffusionPipeline.from_single_file(
        str(path), config=str(folder), local_files_only=True, torch_dtype=torch.float32, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False)
    for component in ["unet", "vae", "text_encoder"]:
        kept = load_file(next((folder / component).glob("*.safetensors")))
        found = {bare(k): v for k, v in getattr(read, component).state_dict().items() if "position_ids" not in k}
        kept = {bare(k): v for k, v in kept.items()}
        assert kept.keys() == found.keys(), component
        assert all(torch.equal(kept[k], found[k]) for k in kept), component


def outputs(pipe):
    pipe.set_progress_bar_config(disable=True)
    ids = pipe.tokenizer(PROMPTS, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
    g = torch.Generator().manual_seed(50)
    latents, epsilon = torch.randn((2, 2, 4, 8, 8), generator=g)
    schedule, t = DDPMScheduler.from_config(pipe.scheduler.config), torch.tensor([41, 760])
    is_v = schedule.config.prediction_type == "v_prediction"
    with torch.no_grad():
        states = pipe.text_encoder(ids).last_hidden_state
        noise = pipe.unet(latents, t, states).sample
        target = schedule.get_velocity(latents, epsilon, t) if is_v else epsilon
        loss = (pipe.unet(schedule.add_noise(latents, epsilon, t), t, states).sample - target).square().mean()
        moments = pipe.vae.encode(torch.randn((1, 3, 32, 32), generator=g)).latent_dist
        decoded = pipe.vae.decode(latents[:1]).sample
        pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
        image = pipe(PROMPTS[0], num_inference_steps=4, guidance_scale=5.0, width=64, height=64,
                     generator=torch.Generator().manual_seed(7), output_type="np").images
    tensors = {"ids": ids, "states": states[:, :12], "noise": noise, "loss": loss, "mean": moments.mean,
               "decoded": decoded.half(), "image": torch.from_numpy((image * 255).round().astype("uint8"))}
    return {k: v.contiguous() for k, v in tensors.items()}
