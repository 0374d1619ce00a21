"""VAEs at tiny random configurations, and mini-sd's: diffusers' AutoencoderKL in fp32.

The weights are exact in fp16 and kept so.
"""
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[3]


def blocks(n):
    return dict(down_block_types=["DownEncoderBlock2D"] * n, up_block_types=["UpDecoderBlock2D"] * n)


# name: (configuration, height and width of the pictures)
CASES = {
    "plain": (dict(block_out_channels=[8, 12], norm_num_groups=4, sample_size=16, **blocks(2)), (16, 12)),
    "bare": (dict(block_out_channels=[4, 8, 8], norm_num_groups=2, layers_per_block=2, latent_channels=3, act_fn="relu",
                  in_channels=2, out_channels=1, scaling_factor=0.5, mid_block_add_attention=False,
                  use_quant_conv=False, use_post_quant_conv=False, force_upcast=False, shift_factor=None,
                  **blocks(3)), (14, 9)),
}


def make(out: Path):
    for i, (name, (c, size)) in enumerate(CASES.items()):
        torch.manual_seed(50 + i)
        model = AutoencoderKL(**c).eval()
        g = torch.Generator().manual_seed(60 + i)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=g) * 0.1)
            if model.quant_conv is not None:  # the log-variance meets both of its bounds
                model.quant_conv.bias[c.get("latent_channels", 4):][:2] = torch.tensor([25.0, -40.0])
            for p in model.parameters():
                p.copy_(p.half().float())
            images = torch.rand((2, c.get("in_channels", 3), *size), generator=g) * 2 - 1
            latents = torch.randn((2, c.get("latent_channels", 4), 4, 3), generator=g)
            posterior = model.encode(images).latent_dist
            tensors = {"w." + k: v.half() for k, v in model.state_dict().items()}
            tensors |= {"images": images, "mean": posterior.mean, "log_variance": posterior.logvar,
                        "latents": latents, "decoded": model.decode(latents).sample}
        save_file({k: v.contiguous() for k, v in tensors.items()}, out / f"{name}.safetensors")
        (out / f"{name}.json").write_text(json.dumps(c, indent=1))
    model = AutoencoderKL.from_pretrained(ROOT / "Models/mini-sd/vae", torch_dtype=torch.float32).eval()
    g = torch.Generator().manual_seed(70)  # the test draws the same
    images = torch.rand((2, 3, 128, 128), generator=g) * 2 - 1
    latents = torch.randn((1, 8, 16, 16), generator=g)
    with torch.no_grad():
        posterior = model.encode(images).latent_dist
        decoded = model.decode(latents).sample
    save_file({"mean": posterior.mean.contiguous(), "log_variance": posterior.logvar.contiguous(), "decoded": decoded},
              out / "mini_sd.safetensors")
