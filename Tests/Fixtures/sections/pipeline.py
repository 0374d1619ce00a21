"""Pictures of mini-sd: diffusers' StableDiffusionPipeline in fp32 on a CPU, and what its schedulers say."""
from pathlib import Path

import numpy as np
import torch
from diffusers import (DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler, LCMScheduler, PNDMScheduler, StableDiffusionPipeline)
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[3]
PROMPT = "a photo of a red robot on the moon"
SCHEDULERS = {"dpm": DPMSolverMultistepScheduler, "ddim": DDIMScheduler, "pndm": PNDMScheduler,
              "euler": EulerDiscreteScheduler, "ddpm": DDPMScheduler, "euler-a": EulerAncestralDiscreteScheduler,
              "lcm": LCMScheduler}
# name: scheduler, steps, guidance, seeds, negative prompt, (width, height)
CASES = {
    "dpm50_g7.5": ("dpm", 50, 7.5, [7], None, None),
    "dpm20_g5": ("dpm", 20, 5.0, [7], None, None),
    "ddim20": ("ddim", 20, 5.0, [7], None, None),
    "pndm20": ("pndm", 20, 5.0, [7], None, None),
    "euler20": ("euler", 20, 5.0, [7], None, None),
    "ddpm20": ("ddpm", 20, 5.0, [7], None, None),
    "no_guidance": ("dpm", 10, 1.0, [7], None, None),
    "negative_batch": ("dpm", 10, 5.0, [7, 123456789], "a blue cat in the snow", None),
    "wide": ("dpm", 10, 5.0, [7], None, (208, 144)),
    "euler_a10": ("euler-a", 10, 5.0, [7, 8], None, None),
    "sde10": ("dpm", 10, 5.0, [7, 8], None, None),
    "karras10": ("euler", 10, 5.0, [7], None, None),
    "lcm4": ("lcm", 4, 1.0, [7], None, None),
    "clip_skip": ("dpm", 10, 1.0, [7], None, None),
}
# What is put over the scheduler's JSON; clip_skip is of the pipeline.
CHANGES = {"sde10": {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
           "karras10": {"use_karras_sigmas": True}}


def make(out: Path):
    pipe = StableDiffusionPipeline.from_pretrained(
        ROOT / "Models/mini-sd", dtype=torch.float32, safety_checker=None, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    config = dict(pipe.scheduler.config)
    # Its clip_skip asks for the norm where transformers 4 had it.
    object.__setattr__(pipe.text_encoder, "text_model", getattr(pipe.text_encoder, "text_model", pipe.text_encoder))
    tensors = {}
    for name, (scheduler, steps, guidance, seeds, negative, size) in CASES.items():
        pipe.scheduler = SCHEDULERS[scheduler].from_config({**config, **CHANGES.get(name, {})})
        images = pipe([PROMPT] * len(seeds), num_inference_steps=steps, guidance_scale=guidance,
                      negative_prompt=[negative] * len(seeds) if negative else None,
                      clip_skip=1 if name == "clip_skip" else None,
                      width=size[0] if size else None, height=size[1] if size else None,
                      generator=[torch.Generator("cpu").manual_seed(s) for s in seeds], output_type="np").images
        tensors[name] = torch.from_numpy((images * 255).round().astype("uint8"))
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "pictures.safetensors")
