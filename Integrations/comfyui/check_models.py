"""What check.py draws on: a random model of Stable Diffusion 1.5's size, mini-sd, random concepts, and the formulas."""

import copy
import importlib.util
import json
import math
import sys
from types import SimpleNamespace as N

import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import check_mini_sd
import torch
from neti import encode_states, mapper  # the formulas of neti's golden data
from safetensors.torch import save_file

CPU = torch.device("cpu")


def pack(folder):
    """The nodes, imported as ComfyUI imports custom_nodes."""
    spec = importlib.util.spec_from_file_location("neti_pack", folder / "__init__.py", submodule_search_locations=[str(folder)])
    module = importlib.util.module_from_spec(spec)
    sys.modules["neti_pack"] = module
    spec.loader.exec_module(module)


def filled(module, seed):
    g = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        if p.ndim > 1:
            p.data = torch.randn(p.shape, generator=g) / math.sqrt(p[0].numel())
        else:
            p.data = torch.ones(p.shape) if name.endswith("weight") else torch.zeros(p.shape)
    return module


def set_groups(module):
    for m in module.modules():
        if isinstance(m, torch.nn.GroupNorm):
            m.num_groups = check_mini_sd.config("unet")["norm_num_groups"]


def random_model():
    config = comfy.supported_models.SD15({
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4],
        "use_spatial_transformer": True, "context_dim": 768, "transformer_depth": [1] * 6 + [0] * 2, "transformer_depth_output": [1] * 9 + [0] * 3,
        "transformer_depth_middle": 1, "use_linear_in_transformer": False, "legacy": False, "adm_in_channels": None,
        "use_temporal_attention": False, "use_temporal_resblock": False})
    config.set_inference_dtype(torch.float32, None)
    made = config.get_model({}, "", device="cpu").eval().requires_grad_(False)
    filled(made.diffusion_model, 1)
    return comfy.model_patcher.ModelPatcher(made, CPU, CPU)


def random_clip():
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    made = comfy.sd.CLIP(target, embedding_directory=None, model_options={"dtype": torch.float32, "load_device": CPU, "offload_device": CPU})
    filled(made.cond_stage_model, 2)
    table = made.cond_stage_model.clip_l.transformer.get_input_embeddings().weight
    table.data *= math.sqrt(768) * 0.02  # the size that words have
    return made


def mini(scratch):
    """mini-sd's model, CLIP and VAE, as Load Checkpoint gives them."""
    check_mini_sd.write(scratch / "mini-sd.ckpt.safetensors")
    return comfy.sd.load_checkpoint_guess_config(str(scratch / "mini-sd.ckpt.safetensors"))[:3]


def concept(folder, name, seed, d):
    """A random concept file for hidden size d."""
    g = torch.Generator().manual_seed(seed)
    p = {"frequencies": torch.randn(1024, 2, generator=g) * torch.tensor([0.03, 2.0])}
    for k, (rows, columns) in {"input": (160, 2048), "hidden1": (128, 160), "hidden2": (128, 128), "output": (2 * d, 128)}.items():
        p[f"{k}.weight"] = torch.randn(rows, columns, generator=g) / math.sqrt(columns) * (8 if k == "input" else 1)
        p[f"{k}.bias"] = torch.randn(rows, generator=g) * 0.1
    for k in ("norm1", "norm2"):
        p[f"{k}.weight"], p[f"{k}.bias"] = torch.ones(128), torch.zeros(128)
    layers = list(sys.modules["neti_pack.neti_patch"].LAYERS)
    base = {"name": "random", "hiddenSize": d, "layers": layers, "tokenTableHash": ""}
    settings = {"kind": "neti", "hiddenSize": d, "layerCount": 16, "usesPositionalEncoding": True, "timeAnchors": 10, "sigmaTime": 0.03, "sigmaLayer": 2.0,
                "outputBypass": True, "targetNorm": 0.45, "usesNestedDropout": True, "nestedDropoutProbability": 0.5}
    meta = {"neti.version": "1.0", "neti.representation": "neti", "neti.mapper": json.dumps(settings),
            "neti.about": json.dumps({"token": f"<{name}>", "category": "cat", "base": base, "steps": 0, "training": ""})}
    save_file({**p, "placeholder": torch.zeros(d)}, folder / f"{name}.safetensors", meta)


def formulas(clip, concept, ids, at, timestep, keep, layers=None):
    """Keys and values [16, S, d] of token ids, from the formulas; `layers` ends the text encoder earlier."""
    text = clip.cond_stage_model.clip_l.transformer.text_model
    if text.final_layer_norm.weight.dtype != torch.float32:  # ComfyUI keeps text encoders in fp16, and computes in fp32
        text = copy.deepcopy(text).float()
    d = text.embeddings.token_embedding.weight.shape[1]
    y = mapper(concept.tensors, torch.full((16,), float(timestep)), torch.arange(16.0), concept.mapper.target_norm, torch.full((16,), keep))
    e = text.embeddings.token_embedding.weight[torch.tensor(ids)].repeat(16, 1, 1)
    e[:, at] = y[:, :d]
    layer = lambda l: N(layer_norm1=l.layer_norm1, layer_norm2=l.layer_norm2, mlp=l.mlp, self_attn=N(
        num_heads=l.self_attn.heads, q_proj=l.self_attn.q_proj, k_proj=l.self_attn.k_proj, v_proj=l.self_attn.v_proj, out_proj=l.self_attn.out_proj))
    encoder = N(layers=[layer(l) for l in list(text.encoder.layers)[:layers]])
    h = encode_states(N(embeddings=N(position_embedding=text.embeddings.position_embedding), encoder=encoder), e)
    g = h.clone()
    g[:, at] += 0.2 * y[:, d:] / y[:, d:].norm(dim=1, keepdim=True) * h[:, at].norm(dim=1, keepdim=True)
    norm = lambda x: torch.nn.functional.layer_norm(x, (d,), text.final_layer_norm.weight, text.final_layer_norm.bias, text.final_layer_norm.eps)
    return norm(h), norm(g)
