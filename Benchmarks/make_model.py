#!/usr/bin/env python3
"""Makes a random model of a real one's size, in the diffusers layout, to measure with.

    python3 Benchmarks/make_model.py sd14|sd21|sdxl OUT [--fp16]

It draws noise, but its time and memory are those of the real one: the same networks, and CLIP's real vocabulary. With
--fp16 about 2 GB (sd14), 2.5 GB (sd21) or 7 GB (sdxl), twice that without. Needs Tests/Fixtures/requirements.txt; a
second run does nothing.
"""
import argparse, importlib.util, json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

HERE = Path(__file__).resolve().parent
BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
CLIP_L = dict(
    vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
    max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=768,
    bos_token_id=49406, eos_token_id=49407, pad_token_id=1,
)
OPENCLIP_H = CLIP_L | dict(
    hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, hidden_act="gelu",
    projection_dim=512,
)
OPENCLIP_G = CLIP_L | dict(
    hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, hidden_act="gelu",
    projection_dim=1280,
)
VAE = dict(
    block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
)
CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
END, BANG = "<|endoftext|>", "!"
# Networks, tokens that fill up a prompt, scheduler, and what else model_index.json says.
FAMILIES = {
    "sd14": dict(
        unet=dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        texts=[(CLIPTextModel, CLIP_L, END)], vae=VAE | dict(sample_size=512),
        scheduler=PNDMScheduler(skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False, **BETAS),
        pipeline="StableDiffusionPipeline", index={"safety_checker": [None, None], "feature_extractor": [None, None]},
    ),
    "sd21": dict(
        unet=dict(sample_size=96, cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20),
                  use_linear_projection=True, upcast_attention=True),
        texts=[(CLIPTextModel, OPENCLIP_H, BANG)], vae=VAE | dict(sample_size=768),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1,
                                prediction_type="v_prediction", **BETAS),
        pipeline="StableDiffusionPipeline", index={"safety_checker": [None, None], "feature_extractor": [None, None]},
    ),
    "sdxl": dict(
        unet=dict(sample_size=128, cross_attention_dim=2048, attention_head_dim=(5, 10, 20),
                  block_out_channels=(320, 640, 1280), down_block_types=(PLAIN, CROSS, CROSS),
                  up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                  transformer_layers_per_block=(1, 2, 10), use_linear_projection=True, addition_embed_type="text_time",
                  addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816),
        texts=[(CLIPTextModel, CLIP_L, END), (CLIPTextModelWithProjection, OPENCLIP_G, BANG)],
        vae=VAE | dict(sample_size=1024, scaling_factor=0.13025, force_upcast=True),
        scheduler=EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1, **BETAS),
        pipeline="StableDiffusionXLPipeline", index={"force_zeros_for_empty_prompt": True},
    ),
}


def save(model, folder: Path, file: str):
    """One network, in the published names."""
    tensors = {n: v.contiguous() for n, v in model.state_dict().items() if not n.endswith("position_ids")}
    if file == "model.safetensors":  # those of CLIP begin with `text_model.`
        own = ("text_model.", "text_projection.")
        tensors = {n if n.startswith(own) else "text_model." + n: v for n, v in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / file, metadata={"format": "pt"})
    # diffusers' models and transformers' each write their own.
    config = model.to_json_string() if hasattr(model, "to_json_string") else model.config.to_json_string()
    (folder / "config.json").write_text(config, encoding="utf-8")
    print(f"{folder.name}: {sum(t.numel() for t in tensors.values()) / 1e6:.1f} million parameters", flush=True)


def tokenizer(out: Path, pad: str):
    path = HERE.parent / "Tests/Fixtures/clip_vocabulary.py"
    spec = importlib.util.spec_from_file_location("clip_vocabulary", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make(out)
    (out / "ready").unlink(missing_ok=True)
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        file = out / name
        file.write_text(json.dumps(json.loads(file.read_text()) | {"pad_token": pad}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fp16", action="store_true", help="half precision files, as many models have")
    a = parser.parse_args()
    if (a.out / "model_index.json").exists():
        return print(f"{a.out} is there already")
    family = FAMILIES[a.family]
    index = {"_class_name": family["pipeline"], **family["index"], "unet": ["diffusers", "UNet2DConditionModel"],
             "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", type(family["scheduler"]).__name__]}
    torch.manual_seed(0)
    # Made in the type of the file, so that only one copy is in memory.
    torch.set_default_dtype(torch.float16 if a.fp16 else torch.float32)
    with torch.no_grad():
        save(UNet2DConditionModel(**family["unet"]), a.out / "unet", "diffusion_pytorch_model.safetensors")
        save(AutoencoderKL(**family["vae"]), a.out / "vae", "diffusion_pytorch_model.safetensors")
        for i, (kind, config, pad) in enumerate(family["texts"]):
            end = f"_{i + 1}" if i else ""
            save(kind(CLIPTextConfig(**config)), a.out / f"text_encoder{end}", "model.safetensors")
            tokenizer(a.out / f"tokenizer{end}", pad)
            index |= {f"text_encoder{end}": ["transformers", kind.__name__],
                      f"tokenizer{end}": ["transformers", "CLIPTokenizer"]}
    family["scheduler"].save_pretrained(a.out / "scheduler")
    # Last: it says that the rest is whole.
    (a.out / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
