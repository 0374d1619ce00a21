"""What people combine on SDXL, by diffusers' XL pipelines on the small random model of `families`: two learned vectors
of concepts in one prompt, a negative prompt with one of them in it, a LoRA (the section `lora`'s), sizes that are no
squares, images from an image and into a mask. `sizes` are the same images, without concepts, of a U-Net that is told of
another original size and of a crop.

A concept is a token of both tokenizers with its vector in both text encoders, as diffusers loads it. SDXL's own
configuration has the end token as 2, for which transformers pools where the largest id is: with new tokens, at one of
them. It says itself that this "can't work correctly with extra new tokens"; here the end is the end token.
"""
import tempfile
from pathlib import Path

import _lora_sdxl
import _sdxl
import families
import numpy as np
import sdxl_concept
import torch
from diffusers import (AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline,
                       StableDiffusionXLInpaintPipeline, StableDiffusionXLPipeline)
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTokenizer

PROMPT = "a photo of a <toy> next to a <mug> on a beach!"
LORA = Path(__file__).parent.parent / "data/lora/sdxl_kohya.safetensors"


def pipeline(scratch, vectors):
    m = sdxl_concept.model()
    vae = AutoencoderKL.from_config(
        families.VAE | dict(sample_size=1024, scaling_factor=0.13025, force_upcast=True)).eval()
    with torch.no_grad():
        for name, p in vae.state_dict().items():
            p.copy_(families.draw("vae", name, list(p.shape), {}))
    if not (scratch / "tokenizer").exists():
        families.make_vocabulary(scratch / "tokenizer")
    tokenizers = [CLIPTokenizer.from_pretrained(f"{scratch}/tokenizer", pad_token=pad) for pad in _sdxl.PADS]
    for tokenizer, text, part in zip(tokenizers, [m.text_encoder, m.text_encoder_2], [slice(0, 64), slice(64, 192)]):
        for name, vector in vectors.items():
            assert tokenizer.add_tokens(name) == 1
            text.resize_token_embeddings(len(tokenizer))
            with torch.no_grad():
                text.get_input_embeddings().weight[-1] = vector[part]
    for text in (m.text_encoder, m.text_encoder_2):
        for module in text.modules():
            if getattr(module, "eos_token_id", None) == 2:
                module.eos_token_id = 49407
    pipe = StableDiffusionXLPipeline(
        vae=vae, text_encoder=m.text_encoder, text_encoder_2=m.text_encoder_2, tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1], unet=m.unet, scheduler=EulerDiscreteScheduler.from_config(_sdxl.SCHEDULER),
        add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def image(pipe, **more):
    with torch.no_grad():
        made = pipe(PROMPT, num_inference_steps=4, guidance_scale=5.0, generator=torch.Generator().manual_seed(7),
                    output_type="np", **more).images
    return torch.from_numpy((made * 255).round().astype("uint8"))


def make_sizes(pipe, pixels, mask, file):
    # diffusers writes height before width, and top before left.
    original, crop = {"original_size": (300, 420)}, {"crops_coords_top_left": (40, 12)}
    size = dict(width=96, height=64)
    parts = pipe.components
    start = StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False)
    into = StableDiffusionXLInpaintPipeline(**parts, add_watermarker=False)
    photo = Image.fromarray(pixels)
    tensors = {
        "original": image(pipe, **size, **original), "crop": image(pipe, **size, **crop),
        "text": image(pipe, **size, **original, **crop),
        "start.image": image(start, image=photo, strength=0.9, **original, **crop),
        "mask.image": image(into, image=photo, mask_image=Image.fromarray(mask), strength=0.9, **size, **original, **crop)}
    save_file({k: v.contiguous() for k, v in tensors.items()}, file)


def make(out: Path):
    g = torch.Generator().manual_seed(31)
    vectors = {name: 0.3 * torch.randn(192, generator=g) for name in ("<toy>", "<mug>")}
    pixels = np.random.RandomState(4).randint(0, 255, (64, 96, 3)).astype("uint8")
    mask = np.zeros((64, 96), "uint8")
    mask[8:40, 16:72] = 255
    tensors = {"toy": vectors["<toy>"], "mug": vectors["<mug>"], "start": torch.from_numpy(pixels)}
    with tempfile.TemporaryDirectory() as folder:
        def make_all(pipe, suffix):
            parts = pipe.components
            start = StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False)
            into = StableDiffusionXLInpaintPipeline(**parts, add_watermarker=False)
            negative = {"negative_prompt": "a <mug>, blurry"}
            tensors["text" + suffix] = image(pipe, width=96, height=64, **negative)
            tensors["start" + suffix + ".image"] = image(start, image=Image.fromarray(pixels), strength=0.6, **negative)
            tensors["mask" + suffix + ".image"] = image(
                into, image=Image.fromarray(pixels), mask_image=Image.fromarray(mask), strength=0.8, width=96,
                height=64, **negative)

        make_sizes(pipeline(Path(folder), {}), pixels, mask, out / "sizes.safetensors")
        make_all(pipeline(Path(folder), vectors), "")
        pipe = pipeline(Path(folder), vectors)
        pipe.load_lora_weights(LORA.parent, weight_name=LORA.name)
        pipe.fuse_lora(lora_scale=_lora_sdxl.SCALE)
        make_all(pipe, ".lora")
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "images.safetensors")
