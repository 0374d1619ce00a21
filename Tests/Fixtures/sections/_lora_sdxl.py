"""Small random LoRAs for the random SDXL of `families`, in every naming, for the section `lora`: U-Net and both text
encoders with them merged by diffusers' load_lora_weights and fuse_lora in fp32.

kohya's files have the U-Net's original names (`lora_unet_input_blocks_4_1_…`), as its scripts train that U-Net; LCM's and
others have kohya's endings behind diffusers' names (`kohya_blocks`). Convolutions, embeddings and the projection of the
pooled text have LoRAs where diffusers takes them. Every layer counts: without it, what the model gives is another.
"""
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from safetensors.torch import save_file

import _sdxl
import families
import sdxl_concept

SCALE = 0.7
ATTENTION = [f"{p}.{a}.{m}" for p in ("down_blocks.1.attentions.0.transformer_blocks.1",
                                      "up_blocks.0.attentions.2.transformer_blocks.2")
             for a in ("attn1", "attn2") for m in ("to_q", "to_k", "to_v", "to_out.0")]
OTHERS = ["mid_block.attentions.0.proj_in", "up_blocks.1.attentions.1.proj_out",
          "down_blocks.2.attentions.1.transformer_blocks.0.ff.net.0.proj",
          "down_blocks.2.attentions.1.transformer_blocks.0.ff.net.2", "conv_in", "conv_out", "time_embedding.linear_1",
          "time_embedding.linear_2", "add_embedding.linear_1", "add_embedding.linear_2",
          "down_blocks.2.resnets.0.conv_shortcut", "down_blocks.0.resnets.1.conv1", "up_blocks.2.resnets.2.conv2",
          "mid_block.resnets.1.time_emb_proj", "down_blocks.0.downsamplers.0.conv", "up_blocks.0.upsamplers.0.conv"]
# The last layer of the first encoder is not used.
TEXT = {"text_encoder": [f"encoder.layers.{i}.{m}" for i, m in (
            (0, "self_attn.q_proj"), (1, "self_attn.k_proj"), (0, "self_attn.v_proj"), (1, "self_attn.out_proj"),
            (0, "mlp.fc1"), (1, "mlp.fc2"))],
        "text_encoder_2": [f"encoder.layers.{i}.{m}" for i, m in (
            (0, "self_attn.q_proj"), (1, "self_attn.k_proj"), (2, "self_attn.v_proj"), (3, "self_attn.out_proj"),
            (3, "mlp.fc1"), (0, "mlp.fc2"))]}
KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te1_text_model_", "text_encoder_2": "lora_te2_text_model_"}


def part(model, component, path):
    whole = getattr(model, component)
    return (whole if component == "unet" else getattr(whole, "text_model", whole)).get_submodule(path)


def layers(model, seed):
    """[(component, path, A, B, alpha)]; as for Stable Diffusion 1, diffusers overlooks other alphas of attention and text
    encoders."""
    g = torch.Generator().manual_seed(seed)
    result = []
    paths = [("unet", p) for p in ATTENTION + OTHERS] + [(c, p) for c in TEXT for p in TEXT[c]]
    for i, (component, path) in enumerate(paths):
        weight = part(model, component, path).weight
        rank = 1 + i % 3
        a = torch.randn((rank, *weight.shape[1:]), generator=g) * 0.3
        b = torch.randn((weight.shape[0], rank) + (1,) * (weight.dim() - 2), generator=g) * 0.3
        result.append((component, path, a.half().float(), b.half().float(), 0.5 + i % 4 if path in OTHERS else 1.5))
    return result


def original(path):
    """The U-Net's name of a module in one file, with `_` for each dot."""
    name, _ = _sdxl.one_file("unet", f"{path}.weight", families)
    return name.removeprefix("model.diffusion_model.").removesuffix(".weight").replace(".", "_")


def kohya(items, naming=original):
    tensors = {}
    for component, path, a, b, alpha in items:
        name = KOHYA[component] + (naming(path) if component == "unet" else path.replace(".", "_"))
        tensors |= {f"{name}.lora_down.weight": a, f"{name}.lora_up.weight": b, f"{name}.alpha": torch.tensor(alpha)}
    return tensors


def kohya_blocks(items):
    # diffusers 0.42 takes the two of the added embedding for something else, and warns.
    return kohya([i for i in items if not i[1].startswith("add_embedding.")], lambda path: path.replace(".", "_"))


def dotted(endings, text_endings):
    def name(items):
        tensors = {}
        for component, path, a, b, _ in items:
            root = f"{component}." if component == "unet" else f"{component}.text_model."
            down, up = endings if component == "unet" else text_endings
            tensors |= {root + path + down: a, root + path + up: b}
        return tensors
    return name


PEFT = dotted((".lora_A.weight", ".lora_B.weight"), (".lora_A.weight", ".lora_B.weight"))
DIFFUSERS = dotted((".lora.down.weight", ".lora.up.weight"),
                   (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"))
CASES = {"kohya": kohya, "kohya_blocks": kohya_blocks, "peft": PEFT, "peft_alphas": PEFT, "diffusers": DIFFUSERS,
         "peft_dora": PEFT}


def magnitudes(model, items):
    """DoRA's, by PEFT's names: of each output's weights, changed by up to a half."""
    g = torch.Generator().manual_seed(7)
    tensors = {}
    for component, path, *_ in items:
        weight = part(model, component, path).weight
        m = (weight.flatten(1).norm(dim=1) * (0.5 + torch.rand(len(weight), generator=g))).half().float()
        root, end = (f"{component}.", "") if component == "unet" else (f"{component}.text_model.", ".weight")
        tensors[f"{root}{path}.lora_magnitude_vector{end}"] = m.view(1, -1, 1, 1) if weight.dim() == 4 else m
    return tensors


def metadata(items):
    """As PEFT's configurations are kept, of each component."""
    result = {}
    for n, component in enumerate(("unet", *TEXT)):
        own = [i for i in items if i[0] == component]
        result |= {f"{component}.r": 2, f"{component}.lora_alpha": 3 + n, f"{component}.use_rslora": n == 2,
                   f"{component}.target_modules": [i[1] for i in own], f"{component}.peft_type": "LORA",
                   f"{component}.rank_pattern": {i[1]: i[2].shape[0] for i in own},
                   f"{component}.alpha_pattern": {"attn2.to_k": 5} if component == "unet" else {}}
    return {"lora_adapter_metadata": json.dumps(result, sort_keys=True), "format": "pt"}


def merged(file):
    model = sdxl_concept.model()
    pipe = StableDiffusionXLPipeline(
        vae=None, text_encoder=model.text_encoder, text_encoder_2=model.text_encoder_2, tokenizer=None, tokenizer_2=None,
        unet=model.unet, scheduler=EulerDiscreteScheduler.from_config(_sdxl.SCHEDULER), add_watermarker=False)
    pipe.load_lora_weights(file.parent, weight_name=file.name)
    pipe.fuse_lora(lora_scale=SCALE)
    return pipe


def outputs(pipe, ids):
    g = torch.Generator().manual_seed(99)  # the test draws the same
    latents = torch.randn((1, 4, 8, 8), generator=g)
    states, pooled = torch.randn((1, 8, 192), generator=g), torch.randn((1, 96), generator=g)
    with torch.no_grad():
        first = pipe.text_encoder(ids, output_hidden_states=True)
        second = pipe.text_encoder_2(ids, output_hidden_states=True)
        added = {"text_embeds": pooled, "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]])}
        noise = pipe.unet(latents, torch.tensor([500.0]), states, added_cond_kwargs=added).sample
    return {"states": torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)[:, :12],
            "pooled": second.text_embeds, "unet": noise}


def make(out):
    expected = {}
    # A prompt's ids without a tokenizer; the test has the same.
    ids = torch.tensor([[49406, 320, 736, 8797] + [49407] * 73])
    for n, (name, naming) in enumerate(CASES.items()):
        model = sdxl_concept.model()
        items = layers(model, 190 + n)
        tensors = naming(items) | (magnitudes(model, items) if "dora" in name else {})
        file = out / f"sdxl_{name}.safetensors"
        save_file({k: v.half() for k, v in tensors.items()}, file,
                  metadata=metadata(items) if name == "peft_alphas" else {"format": "pt"})
        made = outputs(merged(file), ids)
        expected |= {f"{name}.{k}": v.contiguous() for k, v in made.items()}
        if name == "kohya":
            check(tensors, made, ids)
    save_file(expected, out / "sdxl_expected.safetensors")


def check(tensors, made, ids):
    """Each layer of a LoRA changes what the model gives, by far more than the test's tolerance."""
    with TemporaryDirectory() as folder:
        for layer in sorted({k.split(".")[0] for k in tensors}):
            file = Path(folder) / "without.safetensors"
            save_file({k: v.half() for k, v in tensors.items() if k.split(".")[0] != layer}, file)
            others = outputs(merged(file), ids)
            change = max(float((others[k] - made[k]).abs().max() / made[k].abs().max()) for k in made)
            assert change > 1e-3, (layer, change)
