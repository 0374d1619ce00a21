"""U-Nets at tiny random configurations, and mini-sd's: diffusers' UNet2DConditionModel in fp32.

Every cross-attention layer gets keys from one sequence and values from another, of its own.
The weights are exact in fp16 and kept so.
"""
import json
from pathlib import Path

import torch
from _drawn import drawn
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[3]

BASE = dict(
    _class_name="UNet2DConditionModel", sample_size=8, in_channels=4, out_channels=4, layers_per_block=1,
    block_out_channels=[8, 16], norm_num_groups=4, cross_attention_dim=12, attention_head_dim=2,
    down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"], up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"])

# name: (configuration, height and width of the latents); sizes that do not halve evenly are wanted.
CASES = {
    "sd1": (BASE, (8, 8)),
    "sd2": (BASE | dict(
        use_linear_projection=True, attention_head_dim=[2, 4], upcast_attention=True, only_cross_attention=False,
        dual_cross_attention=False, num_class_embeds=None, center_input_sample=True, flip_sin_to_cos=False,
        freq_shift=1, downsample_padding=0, mid_block_scale_factor=1.7, norm_eps=1e-3, act_fn="gelu",
        in_channels=3, out_channels=5, sample_size=[8, 8]), (7, 10)),
    "deep": (BASE | dict(
        block_out_channels=[9, 12, 12], norm_num_groups=3, attention_head_dim=3, act_fn="mish",
        layers_per_block=[1, 2, 1], transformer_layers_per_block=[2, 1, 1], time_embedding_dim=20,
        mid_block_type=None, down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]), (9, 5)),
    "relu": (BASE | dict(block_out_channels=[8], norm_num_groups=2, attention_head_dim=1, act_fn="relu",
                         cross_attention_dim=6, down_block_types=["DownBlock2D"],
                         up_block_types=["CrossAttnUpBlock2D"], layers_per_block=2), (4, 6)),
    "guided": (BASE | dict(block_out_channels=[8], norm_num_groups=2, attention_head_dim=1, time_cond_proj_dim=9,
                           cross_attention_dim=6, down_block_types=["DownBlock2D"],
                           up_block_types=["CrossAttnUpBlock2D"]), (4, 6)),
}

# One switch of the configuration at a time; their weights are drawn, not kept.
SWITCHES = {
    "none": {}, "heads": dict(attention_head_dim=[2, 4]), "heads reversed": dict(attention_head_dim=[4, 2]),
    "linear projection": dict(use_linear_projection=True), "upcast attention": dict(upcast_attention=True),
    "no upcast": dict(upcast_attention=False), "centred input": dict(center_input_sample=True),
    "sines first": dict(flip_sin_to_cos=False), "frequency shift": dict(freq_shift=1),
    "padding at the end": dict(downsample_padding=0), "scaled middle": dict(mid_block_scale_factor=1.7),
    "norm epsilon": dict(norm_eps=1e-2), "groups": dict(norm_num_groups=2), "swish": dict(act_fn="swish"),
    "mish": dict(act_fn="mish"), "gelu": dict(act_fn="gelu"), "relu": dict(act_fn="relu"),
    "layers": dict(layers_per_block=[2, 1]), "depth": dict(transformer_layers_per_block=2),
    "depths": dict(transformer_layers_per_block=[2, 1]), "time": dict(time_embedding_dim=20),
    "context": dict(cross_attention_dim=[12, 12]), "no middle": dict(mid_block_type=None),
    "every block": dict(down_block_types=["CrossAttnDownBlock2D"] * 2, up_block_types=["CrossAttnUpBlock2D"] * 2),
    "size": dict(sample_size=96), "classes": dict(num_class_embeds=None, only_cross_attention=[False, False]),
    "Stable Diffusion 2": dict(use_linear_projection=True, attention_head_dim=[2, 4], upcast_attention=True,
                               dual_cross_attention=False, only_cross_attention=False, num_class_embeds=None)}


class Pair:
    """Attention whose keys and values come from the given sequences."""

    def __init__(self, keys, values):
        self.keys, self.values = keys, values

    def __call__(self, attn, x, encoder_hidden_states=None, attention_mask=None, **_):
        split = lambda t: t.reshape(t.shape[0], t.shape[1], attn.heads, -1).transpose(1, 2)
        q, k, v = split(attn.to_q(x)), split(attn.to_k(self.keys)), split(attn.to_v(self.values))
        w = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
        return attn.to_out[0]((w @ v).transpose(1, 2).reshape(x.shape))


def cross_attention_layers(model):
    """In execution order: found by running, not by name."""
    order, hooks = [], []
    for name, module in model.named_modules():
        if name.endswith(".attn2"):
            path = name.removesuffix(".attn2")
            hooks.append(module.register_forward_pre_hook(lambda m, a, path=path: order.append(path)))
    c = model.config
    size = 2 ** (len(c.block_out_channels) - 1)
    with torch.no_grad():
        model(torch.zeros(1, c.in_channels, size, size), 0, torch.zeros(1, 1, c.cross_attention_dim))
    for h in hooks:
        h.remove()
    return order


def transformers(paths):
    """The layers by the spatial transformers that they are in: all blocks of one share a context."""
    groups = {}
    for path in paths:
        groups.setdefault(path.split(".transformer_blocks.")[0], []).append(path)
    return {(name if len(all_) > 1 else all_[0]): all_ for name, all_ in groups.items()}


def run(model, layers, latents, timesteps, contexts, guidance=None):
    """contexts: [L, 2, B, S, d]"""
    for paths, pair in zip(layers.values(), contexts):
        for path in paths:
            model.get_submodule(path + ".attn2").set_processor(Pair(pair[0], pair[1]))
    if guidance is not None:
        w = torch.tensor(guidance - 1).repeat(len(latents))
        guidance = StableDiffusionPipeline.get_guidance_scale_embedding(None, w, model.config.time_cond_proj_dim)
    return model(latents, timesteps, contexts[0][0], timestep_cond=guidance).sample


def randomized(model, seed):
    """Weights exact in fp16; norms and biases too, which are ones and zeros at initialisation."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_((p + torch.randn(p.shape, generator=g) * 0.1).half().float())
    return model.eval()


def make_switches(out):
    g = torch.Generator().manual_seed(41)
    inputs = {"latents": torch.randn((2, 4, 7, 10), generator=g), "timesteps": torch.tensor([7.0, 831.25]),
              "context": torch.randn((2, 5, 12), generator=g)}
    tensors, described = dict(inputs), {}
    for name, change in SWITCHES.items():
        c = BASE | change
        model = UNet2DConditionModel.from_config({k: v for k, v in c.items() if k != "_class_name"}).eval()
        with torch.no_grad():
            for key, p in model.state_dict().items():
                p.copy_(drawn(f"{name}/{key}", list(p.shape)))
            tensors["output " + name] = model(inputs["latents"], inputs["timesteps"], inputs["context"]).sample
        described[name] = {"configuration": c, "shapes": {k: list(p.shape) for k, p in model.state_dict().items()}}
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "switches.safetensors")
    (out / "switches.json").write_text(json.dumps(described))


def make(out: Path):
    make_switches(out)
    paths = {}
    for i, (name, (c, size)) in enumerate(CASES.items()):
        torch.manual_seed(10 + i)
        model = randomized(UNet2DConditionModel.from_config({k: v for k, v in c.items() if k != "_class_name"}), 20 + i)
        layers = transformers(cross_attention_layers(model))
        paths[name] = list(layers)
        g = torch.Generator().manual_seed(30 + i)
        latents = torch.randn((2, c["in_channels"], *size), generator=g).requires_grad_()
        timesteps = torch.tensor([7.0, 831.25])
        contexts = torch.randn((len(layers), 2, 2, 5, c["cross_attention_dim"]), generator=g).requires_grad_()
        output = run(model, layers, latents, timesteps, contexts)
        seed = torch.randn(output.shape, generator=g)
        gradients = torch.autograd.grad((output * seed).sum(), [contexts, latents])
        one = run(model, layers, latents, timesteps, [contexts[0]] * len(layers))
        tensors = {"w." + k: v.half() for k, v in model.state_dict().items()}
        tensors |= {"latents": latents, "timesteps": timesteps, "contexts": contexts, "output": output, "seed": seed,
                    "gradient": gradients[0], "latents_gradient": gradients[1], "output_one": one}
        if "time_cond_proj_dim" in c:
            tensors["guided"] = run(model, layers, latents, timesteps, contexts, 8.5)
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, out / f"{name}.safetensors")
        (out / f"{name}.json").write_text(json.dumps(c, indent=1))
    model = UNet2DConditionModel.from_pretrained(ROOT / "Models/mini-sd/unet", torch_dtype=torch.float32).eval()
    layers = transformers(cross_attention_layers(model))
    paths["mini_sd"] = list(layers)
    g = torch.Generator().manual_seed(40)  # the test draws the same
    latents = torch.randn((2, 8, 16, 16), generator=g)
    contexts = torch.randn((len(layers), 2, 2, 8, model.config.cross_attention_dim), generator=g)
    with torch.no_grad():
        output = run(model, layers, latents, torch.tensor([41.0, 760.0]), contexts)
    save_file({"output": output}, out / "mini_sd.safetensors")
    (out / "layers.json").write_text(json.dumps(paths, indent=1))
