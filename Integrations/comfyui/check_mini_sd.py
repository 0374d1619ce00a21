"""Lets ComfyUI load mini-sd, neti's small model, whose sizes it does not know.

Put a link to this file into custom_nodes, and the model, which this makes of Models/mini-sd, into models/checkpoints:

    python Integrations/comfyui/check_mini_sd.py FOLDER/models/checkpoints/mini-sd.safetensors

Load Checkpoint then takes it as any other. It is here for the workflow in docs and for check.py.
"""

import json
import sys
from pathlib import Path
from unittest import mock

from safetensors.torch import load_file, save_file

MODEL = Path(__file__).resolve().parents[2] / "Models/mini-sd"
PARTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


def write(to):
    """mini-sd as one file, its parts' names after `unet.`, `vae.` and `text_encoder.`."""
    save_file({
        f"{part}.{key}": tensor for part, name in PARTS.items()
        for key, tensor in load_file(MODEL / part / f"{name}.safetensors").items()}, to, {"neti.model": "mini-sd"})


if __name__ == "__main__":
    write(sys.argv[1])
    sys.exit()

import comfy.latent_formats
import comfy.ldm.modules.diffusionmodules.model
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import torch

NODE_CLASS_MAPPINGS = {}


def config(part):
    return json.loads((MODEL / part / "config.json").read_text())


class Times(float):
    """Channels of a level by those of the first, which need not be a whole multiple."""

    def __mul__(self, channels):
        return round(float(self) * channels)

    __rmul__ = __mul__


class Latents(comfy.latent_formats.LatentFormat):
    def __init__(self):
        self.scale_factor = config("vae")["scaling_factor"]
        self.latent_channels = config("vae")["latent_channels"]


class Family(comfy.supported_models_base.BASE):
    latent_format = Latents

    @property
    def unet_extra_config(self):
        return {"num_heads": config("unet")["attention_head_dim"], "num_head_channels": -1}

    def inpaint_model(self):
        return False


class Words(comfy.sd1_clip.SDTokenizer):
    def __init__(self, **more):
        super().__init__(str(MODEL / "tokenizer"), config("text_encoder")["max_position_embeddings"],
                         embedding_size=config("text_encoder")["hidden_size"], **more)


class Tokenizer(comfy.sd1_clip.SD1Tokenizer):
    def __init__(self, **more):
        super().__init__(tokenizer=Words, **more)


class TextEncoder(comfy.sd1_clip.SDClipModel):
    def __init__(self, **more):
        c = config("text_encoder")
        super().__init__(
            max_length=c["max_position_embeddings"], textmodel_json_config=c, return_projected_pooled=False,
            special_tokens={"start": c["bos_token_id"], "end": c["eos_token_id"], "pad": c["pad_token_id"]}, **more)


class Clip(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, **more):
        super().__init__(clip_model=TextEncoder, **more)


def unet(tensors):
    c = config("unet")
    channels = c["block_out_channels"]
    family = Family({
        "image_size": 32, "in_channels": c["in_channels"], "out_channels": c["out_channels"], "model_channels": channels[0],
        "num_res_blocks": [2] * 4, "channel_mult": [Times(n / channels[0]) for n in channels], "use_spatial_transformer": True,
        "context_dim": c["cross_attention_dim"], "transformer_depth": [1] * 6 + [0] * 2, "transformer_depth_output": [1] * 9 + [0] * 3,
        "transformer_depth_middle": 1, "use_linear_in_transformer": False, "legacy": False, "adm_in_channels": None,
        "use_temporal_attention": False, "use_temporal_resblock": False})
    family.set_inference_dtype(torch.float32, None)
    names = comfy.utils.unet_to_diffusers(family.unet_config)
    model = family.get_model({}, device="cpu").eval()
    for module in model.diffusion_model.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.num_groups = c["norm_num_groups"]
    model.diffusion_model.load_state_dict({names[key]: tensor.float() for key, tensor in tensors.items()})
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(model, device, comfy.model_management.unet_offload_device())


def clip(tensors, embedding_directory):
    target = comfy.supported_models_base.ClipTarget(Tokenizer, Clip)
    made = comfy.sd.CLIP(target, embedding_directory=embedding_directory)
    text = made.cond_stage_model.clip_l.transformer
    tensors = {"text_model." + key.removeprefix("text_model."): t.float() for key, t in tensors.items() if not key.endswith("position_ids")}
    table = "text_model.embeddings.token_embedding.weight"
    # ComfyUI makes room for as many tokens as Stable Diffusion has.
    tensors[table] = torch.cat([tensors[table], torch.zeros_like(text.state_dict()[table][len(tensors[table]):]).float()])
    missing = text.load_state_dict(tensors, strict=False)
    assert missing.missing_keys == ["text_projection.weight"] and not missing.unexpected_keys, missing
    text.text_projection.weight.data = torch.eye(len(text.text_projection.weight)).to(text.text_projection.weight)
    return made


def vae(tensors):
    c = config("vae")
    widths = c["block_out_channels"]
    sizes = {
        "double_z": True, "z_channels": c["latent_channels"], "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": widths[0],
        "ch_mult": [w // widths[0] for w in widths], "num_res_blocks": c["layers_per_block"], "attn_resolutions": [], "dropout": 0.0}
    layers = comfy.ldm.modules.diffusionmodules.model.ops
    usual = layers.GroupNorm
    with mock.patch.object(layers, "GroupNorm", lambda num_groups, **more: usual(c["norm_num_groups"], **more)):
        made = comfy.sd.VAE(dict(tensors), config={"params": {"ddconfig": sizes, "embed_dim": c["latent_channels"]}}, dtype=torch.float32)
    made.latent_channels = c["latent_channels"]
    return made


known = comfy.sd.load_checkpoint_guess_config


def load(ckpt_path, output_vae=True, output_clip=True, output_clipvision=False, embedding_directory=None, output_model=True, **more):
    tensors, metadata = comfy.utils.load_torch_file(ckpt_path, return_metadata=True)
    if (metadata or {}).get("neti.model") != "mini-sd":
        return known(ckpt_path, output_vae, output_clip, output_clipvision, embedding_directory, output_model, **more)
    part = lambda name: {k.removeprefix(name + "."): t for k, t in tensors.items() if k.startswith(name + ".")}
    return (unet(part("unet")) if output_model else None, clip(part("text_encoder"), embedding_directory) if output_clip else None,
            vae(part("vae")) if output_vae else None, None)


comfy.sd.load_checkpoint_guess_config = load
