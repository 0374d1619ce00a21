"""Image to image and inpainting: diffusers' pipelines in fp32 on a CPU, over mini-sd with tiny random networks.

One U-Net has 4 channels, one has 9, as models for inpainting have. diffusers inpaints with no other numbers of them, so
that the autoencoder is a tiny one, too: 4 latent channels at a quarter of the side. All weights are exact in fp16 and
kept so. All cases start from one photo and one mask of noise and blocks; what is kept are the latents that they end
with.
"""
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import (AutoencoderKL, DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler,
                       EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, LCMScheduler, LMSDiscreteScheduler,
                       PNDMScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, TCDScheduler,
                       UNet2DConditionModel, UniPCMultistepScheduler)
from PIL import Image
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[3]
PROMPT, NEGATIVE = "a photo of a red robot on the moon", "a blue cat in the snow"
SCHEDULERS = {"dpm++": DPMSolverMultistepScheduler, "ddim": DDIMScheduler, "pndm": PNDMScheduler,
              "euler": EulerDiscreteScheduler, "ddpm": DDPMScheduler, "euler-a": EulerAncestralDiscreteScheduler,
              "lms": LMSDiscreteScheduler, "unipc": UniPCMultistepScheduler, "lcm": LCMScheduler, "tcd": TCDScheduler}
STEPS, GUIDANCE = 7, 3.0
CONFIGURATION = dict(
    _class_name="UNet2DConditionModel", sample_size=16, out_channels=4, layers_per_block=1, block_out_channels=[8, 12],
    norm_num_groups=4, cross_attention_dim=128, attention_head_dim=2,
    down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"], up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"])
VAE_CONFIGURATION = dict(
    _class_name="AutoencoderKL", sample_size=64, in_channels=3, out_channels=3, latent_channels=4, layers_per_block=1,
    block_out_channels=[8, 8, 8], norm_num_groups=4, act_fn="silu", scaling_factor=0.7,
    down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3)
# kind, scheduler, strength, seeds
CASES = ([("image", s, 0.6, [7]) for s in SCHEDULERS] + [("image", s, 1.0, [7]) for s in ("dpm++", "euler", "pndm")]
         + [("image", "ddpm", 0.3, [7, 123456789])]
         + [(k, s, x, [7]) for k in ("mask4", "mask9") for s in SCHEDULERS for x in (0.6, 1.0)])


def tiny(kind, configuration, seed):
    model = kind.from_config(configuration)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            draw = torch.randn(p.shape, generator=g)
            p.copy_((draw * p[0].numel() ** -0.5 if p.dim() > 1 else 0.1 * draw + 1).half().float())
    return model.eval()


def make(out: Path):
    r = np.random.default_rng(81)
    photo = np.kron(r.integers(0, 256, (6, 8, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    photo = (photo // 2 + r.integers(0, 128, photo.shape)).astype(np.uint8)
    mask = np.kron(r.integers(0, 2, (12, 16)) * 255, np.ones((2, 2))).astype(np.uint8)
    mask[:, 20:] //= 2  # 127 is not white
    base = StableDiffusionImg2ImgPipeline.from_pretrained(
        ROOT / "Models/mini-sd", dtype=torch.float32, safety_checker=None, local_files_only=True)
    tensors = {"photo": torch.from_numpy(photo), "mask": torch.from_numpy(mask)}

    def keep(name, model, configuration):
        nonlocal tensors
        tensors |= {f"{name}.{k}": v.half() for k, v in model.state_dict().items()}
        (out / f"{name}.json").write_text(json.dumps(configuration, indent=1))

    vae = tiny(AutoencoderKL, VAE_CONFIGURATION, 83)
    keep("vae", vae, VAE_CONFIGURATION)
    for channels in (4, 9):
        configuration = CONFIGURATION | {"in_channels": channels}
        model = tiny(UNet2DConditionModel, configuration, 80 + channels)
        keep(f"unet{channels}", model, configuration)
        for kind, scheduler, strength, seeds in CASES:
            if kind.endswith("9") != (channels == 9):
                continue
            pipeline = StableDiffusionImg2ImgPipeline if kind == "image" else StableDiffusionInpaintPipeline
            pipe = pipeline(**base.components | {
                "unet": model, "vae": vae, "scheduler": SCHEDULERS[scheduler].from_config(base.scheduler.config)})
            pipe.set_progress_bar_config(disable=True)
            more = {} if kind == "image" else dict(mask_image=Image.fromarray(mask), height=24, width=32)
            if scheduler == "tcd":
                more["eta"] = 0.3  # its own default, which the pipelines' 0 replaces
            latents = pipe([PROMPT] * len(seeds), image=Image.fromarray(photo), negative_prompt=[NEGATIVE] * len(seeds),
                           strength=strength, num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="latent",
                           generator=[torch.Generator("cpu").manual_seed(s) for s in seeds], **more).images
            tensors[f"{kind} {scheduler} {strength} {len(seeds)}"] = latents
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "latents.safetensors")
