#!/usr/bin/env python3
"""Makes a random model of Stable Diffusion 1.4's size, in the diffusers layout, to measure with.

    python3 Benchmarks/make_sd14.py OUT [--fp16]

It draws noise, but its time and memory are those of the real one: the same three networks and CLIP's
real vocabulary. About 4 GB, or 2 GB with --fp16. Needs Tests/Fixtures/requirements.txt; a second run
does nothing.
"""
import argparse, importlib.util, json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

HERE = Path(__file__).resolve().parent
UNET = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
TEXT = dict(
    vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
    max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=768,
    bos_token_id=49406, eos_token_id=49407, pad_token_id=1,
)
VAE = dict(
    sample_size=512, block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
)
NOISE = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000,
    skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False,
)


def save(model, folder: Path, file: str, half: bool, prefix: str = ""):
    """One network, in the published names: those of CLIP begin with `text_model.`."""
    tensors = {}
    for name, value in model.state_dict().items():
        if name.endswith("position_ids"):
            continue
        name = name if name.startswith(prefix) else prefix + name
        tensors[name] = value.half().contiguous() if half else value.contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / file, metadata={"format": "pt"})
    # diffusers' models and transformers' each write their own.
    config = model.to_json_string() if hasattr(model, "to_json_string") else model.config.to_json_string()
    (folder / "config.json").write_text(config, encoding="utf-8")
    print(f"{folder.name}: {sum(t.numel() for t in tensors.values()) / 1e6:.1f} million parameters", flush=True)


def tokenizer(out: Path):
    path = HERE.parent / "Tests/Fixtures/clip_vocabulary.py"
    spec = importlib.util.spec_from_file_location("clip_vocabulary", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make(out)
    (out / "ready").unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fp16", action="store_true", help="half precision files, as many models have")
    a = parser.parse_args()
    if (a.out / "model_index.json").exists():
        return print(f"{a.out} is there already")
    torch.manual_seed(0)
    with torch.no_grad():
        save(UNet2DConditionModel(**UNET), a.out / "unet", "diffusion_pytorch_model.safetensors", a.fp16)
        save(AutoencoderKL(**VAE), a.out / "vae", "diffusion_pytorch_model.safetensors", a.fp16)
        text = CLIPTextModel(CLIPTextConfig(**TEXT))
        save(text, a.out / "text_encoder", "model.safetensors", a.fp16, prefix="text_model.")
    PNDMScheduler(**NOISE).save_pretrained(a.out / "scheduler")
    tokenizer(a.out / "tokenizer")
    # Last: it says that the rest is whole.
    index = {
        "_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "safety_checker": [None, None], "feature_extractor": [None, None],
    }
    (a.out / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
