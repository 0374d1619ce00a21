#!/usr/bin/env python3
"""Trains a small LoRA for mini-sd, of a style: blueprints. It is what docs/images shows LoRAs with.

    style_lora.py TO.safetensors

Its images are the model's own, drawn again in white and blue. Minutes on one core; needs requirements.txt.
"""
import sys
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image, ImageFilter, ImageOps

ROOT = Path(__file__).resolve().parents[2]
THINGS = ["cat", "mug", "fish", "robot", "house", "monster", "bird", "mushroom"]
PLACES = ["", " on a beach", " in the snow", " on a table"]
STEPS, BATCH, RANK = 250, 4, 8


def blueprint(image):
    lines = ImageOps.autocontrast(image.convert("L").filter(ImageFilter.FIND_EDGES).crop((2, 2, 126, 126)), cutoff=2)
    return ImageOps.colorize(lines, (24, 58, 130), (235, 242, 255)).resize(image.size)


torch.manual_seed(0)
pipe = StableDiffusionPipeline.from_pretrained(ROOT / "Models/mini-sd", dtype=torch.float32, safety_checker=None, local_files_only=True)
pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
pipe.set_progress_bar_config(disable=True)
prompts = [f"a photo of a {thing}{place}" for thing in THINGS for place in PLACES]
images = [blueprint(pipe(p, num_inference_steps=12, guidance_scale=3.0).images[0]) for p in prompts]
with torch.no_grad():
    pixels = torch.stack([pipe.image_processor.preprocess(i)[0] for i in images])
    latents = pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config.scaling_factor
    contexts = torch.cat([pipe.encode_prompt(p, "cpu", 1, False)[0] for p in prompts])
pipe.unet.requires_grad_(False)
pipe.unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["to_q", "to_k", "to_v", "to_out.0", "conv1"]))
weights = [p for p in pipe.unet.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(weights, lr=2e-3)
alphas = pipe.scheduler.alphas_cumprod
for step in range(STEPS):
    chosen = torch.randint(len(prompts), (BATCH,))
    t = torch.randint(1000, (BATCH,))
    a = alphas[t].view(-1, 1, 1, 1)
    noise = torch.randn_like(latents[chosen])
    loss = (pipe.unet(a.sqrt() * latents[chosen] + (1 - a).sqrt() * noise, t, contexts[chosen]).sample - noise).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step % 50 == 0:
        print(f"step {step}, loss {loss.item():.3f}", flush=True)
target = Path(sys.argv[1])
StableDiffusionPipeline.save_lora_weights(
    target.parent, unet_lora_layers=get_peft_model_state_dict(pipe.unet), weight_name=target.name)
