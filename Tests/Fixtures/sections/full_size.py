"""Stable Diffusion 1.5, 2.1 and XL at their real sizes: names and shapes without numbers, and the published configurations.

The networks are those of diffusers and transformers, made without memory (PyTorch's device meta). The names of the one
file are checked by diffusers' own converters: from them they make every tensor of the networks, in its shape.
"""
import json
from pathlib import Path

import _sdxl
import families
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (convert_ldm_clip_checkpoint, convert_ldm_unet_checkpoint,
                                                 convert_ldm_vae_checkpoint, convert_open_clip_checkpoint)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

# As they are published; of the text encoders what they are made from: `projection_dim` only where there is a projection.
UNET = dict(
    act_fn="silu", attention_head_dim=8, block_out_channels=[320, 640, 1280, 1280], center_input_sample=False,
    cross_attention_dim=768, down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], downsample_padding=1,
    flip_sin_to_cos=True, freq_shift=0, in_channels=4, layers_per_block=2, mid_block_scale_factor=1, norm_eps=1e-05,
    norm_num_groups=32, out_channels=4, sample_size=64, up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3)
UNET_XL = UNET | dict(
    addition_embed_type="text_time", addition_time_embed_dim=256, attention_head_dim=[5, 10, 20],
    block_out_channels=[320, 640, 1280], cross_attention_dim=2048,
    down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    projection_class_embeddings_input_dim=2816, sample_size=128, transformer_layers_per_block=[1, 2, 10],
    up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], use_linear_projection=True)
VAE = dict(
    act_fn="silu", block_out_channels=[128, 256, 512, 512], down_block_types=["DownEncoderBlock2D"] * 4, in_channels=3,
    latent_channels=4, layers_per_block=2, norm_num_groups=32, out_channels=3, sample_size=512,
    up_block_types=["UpDecoderBlock2D"] * 4)
CLIP = dict(
    hidden_act="quick_gelu", hidden_size=768, intermediate_size=3072, layer_norm_eps=1e-05, max_position_embeddings=77,
    model_type="clip_text_model", num_attention_heads=12, num_hidden_layers=12, vocab_size=49408)
OPENCLIP_H = CLIP | dict(hidden_act="gelu", hidden_size=1024, intermediate_size=4096, num_attention_heads=16,
                         num_hidden_layers=23)
OPENCLIP_G = CLIP | dict(hidden_act="gelu", hidden_size=1280, intermediate_size=5120, num_attention_heads=20,
                         num_hidden_layers=32, projection_dim=1280)
SCHEDULER = dict(beta_end=0.012, beta_schedule="scaled_linear", beta_start=0.00085, clip_sample=False,
                 num_train_timesteps=1000, set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1)
FAMILIES = {
    "sd15": dict(unet=UNET, vae=VAE, text_encoder=CLIP, scheduler=SCHEDULER),
    "sd21": dict(
        unet=UNET | dict(attention_head_dim=[5, 10, 20, 20], cross_attention_dim=1024, sample_size=96,
                         upcast_attention=True, use_linear_projection=True),
        vae=VAE | dict(sample_size=768), text_encoder=OPENCLIP_H,
        scheduler=SCHEDULER | dict(prediction_type="v_prediction")),
    "sdxl": dict(
        unet=UNET_XL, vae=VAE | dict(sample_size=1024, scaling_factor=0.13025, force_upcast=True), text_encoder=CLIP,
        text_encoder_2=OPENCLIP_G, scheduler=SCHEDULER | dict(prediction_type="epsilon", timestep_spacing="leading")),
}


def network(component, config):
    if component == "unet":
        return UNet2DConditionModel.from_config(config)
    if component == "vae":
        return AutoencoderKL.from_config(config)
    return (CLIPTextModelWithProjection if component == "text_encoder_2" else CLIPTextModel)(CLIPTextConfig(**config))


def one_file(family, component, name):
    if family == "sdxl":
        return _sdxl.one_file(component, name, families)
    if component == "text_encoder":
        return families.one_file_text(name, family == "sd21")
    return families.one_file(component, name)


def converted(family, component, model, file):
    """What diffusers makes of the file for a network."""
    if component == "unet":
        return convert_ldm_unet_checkpoint(dict(file), model.config)
    if component == "vae":
        return convert_ldm_vae_checkpoint(dict(file), model.config)
    if family == "sd21" or component == "text_encoder_2":
        prefix = "cond_stage_model.model." if family == "sd21" else "conditioner.embedders.1.model."
        return convert_open_clip_checkpoint(model, file, prefix)
    return convert_ldm_clip_checkpoint(file)


def shortened(rows):
    """Lines of columns; of the first two, how much they begin with of what the line above has there, and the rest."""
    lines, above = [], ("", "")
    for row in rows:
        cells = []
        for text, last in zip(row, above):
            same = 0
            while same < min(len(text), len(last)) and text[same] == last[same]:
                same += 1
            cells += [str(same), text[same:]]
        lines.append("\t".join(cells + list(row[2:])) + "\n")
        above = row[:2]
    return "".join(lines)


def make(out: Path):
    out.mkdir(parents=True, exist_ok=True)
    for family, configs in FAMILIES.items():
        file, fused, rows, networks = {}, {}, [], {}
        for component in [c for c in configs if c != "scheduler"]:
            with torch.device("meta"):
                model = networks[component] = network(component, configs[component])
            for name, x in model.state_dict().items():
                if name.endswith("position_ids"):
                    continue
                assert x.is_meta, name
                if component.startswith("text") and not name.startswith("text_projection"):
                    name = f"text_model.{families.bare(name)}"
                old, part = one_file(family, component, name)
                if part == "T":
                    file[old] = x.T
                elif part is not None:
                    fused.setdefault(old, {})[part] = x
                elif component == "vae" and ".attn_1." in old and x.ndim == 2:
                    file[old] = x[:, :, None, None]
                else:
                    file[old] = x
                rows.append((old, f"{component}/{name}", "x".join(map(str, x.shape)), "" if part is None else str(part)))
        file |= {old: torch.cat([three[i] for i in range(3)]) for old, three in fused.items()}
        for component, model in networks.items():
            made = {families.bare(k): v.shape for k, v in converted(family, component, model, file).items()}
            wanted = {families.bare(k): v.shape for k, v in model.state_dict().items() if "position_ids" not in k}
            assert made == wanted, (family, component, {k: (made.get(k), wanted.get(k)) for k in made.keys() | wanted.keys()
                                                        if made.get(k) != wanted.get(k)})
        (out / f"{family}.tsv").write_text(shortened(sorted(rows)))
        (out / f"{family}.json").write_text(json.dumps(configs, indent=1) + "\n")
