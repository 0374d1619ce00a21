"""SDXL as a small random model, for the section `families`: two text encoders, a pooled text and sizes."""
import json, shutil

import numpy as np
import torch
from diffusers import (AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline,
                       StableDiffusionXLInpaintPipeline, StableDiffusionXLPipeline, UNet2DConditionModel)
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

PROMPTS = ["a red robot on the moon! wow", "a cat"]
NEGATIVE = "blurry, grey"
UNET = dict(
    down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], block_out_channels=[64, 64, 128],
    attention_head_dim=[1, 1, 2], transformer_layers_per_block=[1, 2, 3], cross_attention_dim=192, in_channels=4,
    out_channels=4, use_linear_projection=True, sample_size=128, addition_embed_type="text_time",
    addition_time_embed_dim=256, projection_class_embeddings_input_dim=96 + 6 * 256)
TEXT = dict(vocab_size=49408, max_position_embeddings=77, bos_token_id=0, eos_token_id=2, pad_token_id=1)
TEXTS = [TEXT | dict(hidden_size=64, intermediate_size=256, num_attention_heads=1, num_hidden_layers=3,
                     hidden_act="quick_gelu", projection_dim=64),
         TEXT | dict(hidden_size=128, intermediate_size=512, num_attention_heads=2, num_hidden_layers=4,
                     hidden_act="gelu", projection_dim=96)]
PADS = ["<|endoftext|>", "!"]
SCHEDULER = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
                 timestep_spacing="leading", interpolation_type="linear", use_karras_sigmas=False,
                 prediction_type="epsilon")
CONFIGURATIONS = ["model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json",
                  "text_encoder_2/config.json", "scheduler/scheduler_config.json"]
# Height and width before scaling, what is cut off, height and width.
SIZES = [[640, 480, 0, 16, 512, 384], [1024, 1024, 0, 0, 1216, 832]]


def one_file(component, name, families):
    """The name of a tensor in one file, and its part: 0, 1, 2 of a fused one, T of one that is the other way round."""
    if component == "unet" and name.startswith("add_embedding."):
        _, layer, kind = name.split(".")
        return f"model.diffusion_model.label_emb.0.{0 if layer == 'linear_1' else 2}.{kind}", None
    if component == "unet" and ".upsamplers." in name:
        block = int(name.split(".")[1])
        return f"model.diffusion_model.output_blocks.{3 * block + 2}.2.conv.{name.split('.')[-1]}", None
    if component == "text_encoder":
        return f"conditioner.embedders.0.transformer.text_model.{families.bare(name)}", None
    if component == "text_encoder_2":
        prefix = "conditioner.embedders.1.model."
        if name == "text_projection.weight":
            return f"{prefix}text_projection", "T"
        old, part = families.one_file_text(name, True)
        return old.replace("cond_stage_model.model.", prefix), part
    return families.one_file(component, name)


def make(out, scratch, families):
    models = {"unet": UNet2DConditionModel.from_config(UNET).eval(),
              "vae": AutoencoderKL.from_config(
                  families.VAE | dict(sample_size=1024, scaling_factor=0.13025, force_upcast=True)).eval(),
              "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXTS[0])).eval(),
              "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(**TEXTS[1])).eval()}
    rows, file, fused = [], {}, {}
    with torch.no_grad():
        for component, model in models.items():
            for name, p in model.state_dict().items():
                if "position_ids" in name:
                    continue
                if component.startswith("text") and name != "text_projection.weight":
                    name = f"text_model.{families.bare(name)}"
                x = families.draw(component, name, list(p.shape), {})
                p.copy_(x)
                old, part = one_file(component, name, families)
                if part == "T":
                    file[old] = x.T.contiguous()
                elif part is not None:
                    fused.setdefault(old, {})[part] = x
                elif component == "vae" and ".attn_1." in old and x.ndim == 2:
                    file[old] = x[:, :, None, None].contiguous()
                else:
                    file[old] = x
                rows.append((component, name, "x".join(map(str, x.shape)), old, "" if part is None else str(part)))
    file |= {old: torch.cat([three[i] for i in range(3)]).contiguous() for old, three in fused.items()}

    tokenizers = []
    families.make_vocabulary(scratch / "tokenizer-sdxl")
    for i, pad in enumerate(PADS):
        folder = scratch / f"tokenizer-sdxl-{i}"
        shutil.copytree(scratch / "tokenizer-sdxl", folder)
        special = json.loads((folder / "special_tokens_map.json").read_text()) | {"pad_token": pad}
        (folder / "special_tokens_map.json").write_text(json.dumps(special))
        tokenizers.append(CLIPTokenizer.from_pretrained(str(folder), pad_token=pad))
    pipe = StableDiffusionXLPipeline(
        vae=models["vae"], text_encoder=models["text_encoder"], text_encoder_2=models["text_encoder_2"],
        tokenizer=tokenizers[0], tokenizer_2=tokenizers[1], unet=models["unet"],
        scheduler=EulerDiscreteScheduler.from_config(SCHEDULER), add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    folder = scratch / "sdxl"
    pipe.save_pretrained(folder)
    for name in CONFIGURATIONS:
        target = out / "sdxl" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((folder / name).read_text())
    (out / "sdxl.tsv").write_text("".join("\t".join(r) + "\n" for r in rows))
    check(file, folder, scratch / "sdxl.safetensors", families)
    save_file({k: v.contiguous() for k, v in outputs(pipe).items()}, out / "sdxl.safetensors")
    (out / "sdxl.json").write_text(json.dumps(
        {"prompts": PROMPTS, "negative": NEGATIVE, "pads": PADS, "scales": {}, "sizes": SIZES}))


def check(file, folder, path, families):
    """diffusers reads the one file, with the folder's configurations, as what the folder holds."""
    save_file(file, path)
    read = StableDiffusionXLPipeline.from_single_file(
        str(path), config=str(folder), local_files_only=True, torch_dtype=torch.float32, add_watermarker=False)
    for component in ["unet", "vae", "text_encoder", "text_encoder_2"]:
        kept = load_file(next((folder / component).glob("*.safetensors")))
        found = {families.bare(k): v for k, v in getattr(read, component).state_dict().items()
                 if "position_ids" not in k}
        kept = {families.bare(k): v for k, v in kept.items()}
        assert kept.keys() == found.keys(), component
        assert all(torch.equal(kept[k], found[k]) for k in kept), component


def outputs(pipe):
    def ids(tokenizer):
        return tokenizer(PROMPTS, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids

    all_ids = [ids(pipe.tokenizer), ids(pipe.tokenizer_2)]
    g = torch.Generator().manual_seed(50)
    latents, epsilon = torch.randn((2, 2, 4, 8, 8), generator=g)
    t = torch.tensor([41, 760])
    with torch.no_grad():
        states, _, pooled, _ = pipe.encode_prompt(PROMPTS, do_classifier_free_guidance=False, device="cpu")
        added = {"text_embeds": pooled, "time_ids": torch.tensor(SIZES, dtype=torch.float32)}
        noise = pipe.unet(latents, t, states, added_cond_kwargs=added).sample
        noisy = pipe.scheduler.__class__.from_config(pipe.scheduler.config)
        alpha = noisy.alphas_cumprod[t][:, None, None, None]
        loss = (pipe.unet(alpha.sqrt() * latents + (1 - alpha).sqrt() * epsilon, t, states,
                          added_cond_kwargs=added).sample - epsilon).square().mean()
        moments = pipe.vae.encode(torch.randn((1, 3, 32, 32), generator=g)).latent_dist
        decoded = pipe.vae.decode(latents[:1]).sample
    tensors = {"ids": all_ids[0], "ids_2": all_ids[1], "states": states[:, :12], "pooled": pooled, "noise": noise,
               "loss": loss, "mean": moments.mean, "decoded": decoded.half()}

    def image(pipe, negative=None, **more):
        made = pipe(PROMPTS[0], negative_prompt=negative, num_inference_steps=4, guidance_scale=5.0,
                    generator=torch.Generator().manual_seed(7), output_type="np", **more).images
        return torch.from_numpy((made * 255).round().astype("uint8"))

    size = dict(width=64, height=96)
    tensors["image"] = image(pipe, **size)
    tensors["image_negative"] = image(pipe, NEGATIVE, **size)
    # An empty text is encoded; none at all is zeros.
    tensors["image_empty"] = image(pipe, "", **size)
    tensors["image_encoded"] = image(pipe, "", **size)
    start = Image.fromarray(np.random.RandomState(3).randint(0, 255, (64, 64, 3)).astype("uint8"))
    mask = np.zeros((64, 64), "uint8")
    mask[16:48, 8:40] = 255
    parts = pipe.components
    tensors["start"] = torch.from_numpy(np.array(start))
    tensors["image_start"] = image(StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False), image=start, strength=0.6)
    tensors["image_mask"] = image(
        StableDiffusionXLInpaintPipeline(**parts, add_watermarker=False), image=start, strength=0.8,
        mask_image=Image.fromarray(mask), width=64, height=64)
    return tensors
