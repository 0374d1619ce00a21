"""Embeddings as diffusers, stable-diffusion-webui and kohya write them, for mini-sd's hidden size."""
from pathlib import Path

LAYERS = "IN01 IN02 IN04 IN05 IN07 IN08 MID OUT03 OUT04 OUT05 OUT06 OUT07 OUT08 OUT09 OUT10 OUT11".split()


def make(out: Path):
    import torch
    from safetensors.torch import save_file

    g = torch.Generator().manual_seed(4)
    one = torch.randn(1, 128, generator=g)
    many = torch.randn(16, 128, generator=g)
    save_file({"one": one, "many": many}, out / "expected.safetensors")

    save_file({"<toy>": one}, out / "diffusers.safetensors")
    torch.save({"<toy>": one[0]}, out / "diffusers.bin")
    torch.save({"<toy>": torch.nn.Parameter(one)}, out / "parameter.bin")
    save_file({"<toy>": one[0].half()}, out / "half.safetensors")
    webui = {
        "string_to_token": {"*": 265}, "string_to_param": {"*": one.clone().requires_grad_()}, "name": "toy",
        "step": 500, "sd_checkpoint": "7460a6fa", "sd_checkpoint_name": "sd-v1-4",
    }
    torch.save(webui, out / "a1111.pt")
    # The first textual inversion: a module as dictionary, the token as a tensor.
    first = {
        "string_to_token": {"*": torch.tensor(265)},
        "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(one)}),
    }
    torch.save(first, out / "first.pt")
    save_file({"emb_params": one}, out / "kohya.safetensors")
    xti = {name: many[i : i + 1].clone() for i, name in enumerate(LAYERS)}
    save_file(xti, out / "xti.safetensors")
    torch.save(xti, out / "xti.pt")

    # What is refused.
    save_file({"<two>": many[:2].clone()}, out / "two.safetensors")
    save_file({"clip_l": one, "clip_g": one.repeat(1, 2)}, out / "sdxl.safetensors")
    save_file({"a": one, "b": one.clone()}, out / "others.safetensors")
    save_file({"<nan>": one * float("nan")}, out / "nan.safetensors")
    save_file({"<wide>": torch.zeros(1, 768)}, out / "wide.safetensors")
    torch.save([1, 2], out / "list.pt")
