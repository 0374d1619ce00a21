"""Embeddings as diffusers, stable-diffusion-webui, kohya, OneTrainer and prompt-plus-pytorch write them, for mini-sd's
hidden size."""
import base64, json, pickle, zlib
from pathlib import Path

LAYERS = "IN01 IN02 IN04 IN05 IN07 IN08 MID OUT03 OUT04 OUT05 OUT06 OUT07 OUT08 OUT09 OUT10 OUT11".split()


def noise():
    """The numbers that stable-diffusion-webui mixes hidden data with."""
    seed = 0
    while True:
        seed = (1664525 * seed + 1013904223) % 2**32
        yield seed % 255


def pictures(out: Path, content: dict):
    """A PNG with the content as text, and one with it in its pixels: low four bits of the bytes at the left, high ones at
    the right, a black column beside each."""
    import numpy as np
    from PIL import Image, PngImagePlugin

    text = json.dumps(content).encode()
    height, rng = 32, np.random.default_rng(3)
    picture = rng.integers(1, 256, (height, 24, 3), dtype=np.uint8)
    info = PngImagePlugin.PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(text).decode())
    Image.fromarray(picture).save(out / "a1111.png", pnginfo=info)
    data = np.frombuffer(zlib.compress(text, level=9), np.uint8)
    data = np.resize(data, -(-len(data) // (height * 3)) * height * 3)
    numbers = noise()
    assert [next(numbers) for _ in range(5)] == [253, 242, 127, 44, 157]
    numbers = noise()
    mask = np.array([next(numbers) & 15 for _ in data], np.uint8)
    block = lambda half: ((half ^ mask) | 0x50).reshape(height, -1, 3)
    black = np.zeros((height, 1, 3), np.uint8)
    whole = np.concatenate([block(data & 15), black, picture, black, block(data >> 4)], 1)
    # A frame in black, as some programs add.
    whole = np.pad(whole, ((2, 1), (1, 3), (0, 0)))
    Image.fromarray(whole).save(out / "pixels.png")
    Image.fromarray(picture).save(out / "plain.png")


def make(out: Path):
    import numpy as np
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

    save_file({"emp_params": one}, out / "onetrainer.safetensors")
    # prompt-plus-pytorch: its U-Net has one for each of seven blocks, the rest stay as they began; its forks have 16.
    plus = lambda rows: {f"<toy>-{i}": row.clone() for i, row in enumerate(rows)}
    torch.save(plus(many), out / "promptplus.bin")
    torch.save(plus([*many[:7], *[many[7]] * 9]), out / "promptplus-blocks.bin")
    # Several vectors for one placeholder.
    save_file({"<two>": many[:2].clone()}, out / "two.safetensors")
    save_file({"emb_params": many}, out / "sixteen.safetensors")
    torch.save(webui | {"string_to_param": {"*": many[:3].clone()}}, out / "three.pt")
    save_file({name: torch.stack([many[i], many[15 - i]]) for i, name in enumerate(LAYERS)}, out / "xti-two.safetensors")
    # Arrays of NumPy's instead of tensors.
    arrays = {"<toy>": one.numpy()}
    torch.save(arrays, out / "numpy.bin")
    for protocol in (2, 4):
        (out / f"numpy-{protocol}.pkl").write_bytes(pickle.dumps(arrays, protocol))
    columns = {"string_to_param": {"*": np.asfortranarray(many[:2].numpy())}, "name": "toy", "step": 9}
    (out / "numpy-columns.pkl").write_bytes(pickle.dumps(columns, 2))
    pictures(out, {"string_to_token": {"*": 265}, "string_to_param": {"*": {"TORCHTENSOR": one.numpy().tolist()}},
                   "name": "toy", "step": 500, "sd_checkpoint": None})

    # What is refused.
    save_file({"<many>": torch.cat([many, one])}, out / "seventeen.safetensors")
    save_file({"emp_params": one, "emp_params_out": one.clone()}, out / "onetrainer-output.safetensors")
    save_file({"lora_unet_mid_block.alpha": one}, out / "lora.safetensors")
    (out / "numpy-big.pkl").write_bytes(pickle.dumps({"<toy>": one.numpy().astype(">f4")}, 2))
    (out / "numpy-objects.pkl").write_bytes(pickle.dumps({"<toy>": np.array([None, "x"])}, 2))
    save_file({"clip_l": one, "clip_g": one.repeat(1, 2)}, out / "sdxl.safetensors")
    save_file({"a": one, "b": one.clone()}, out / "others.safetensors")
    save_file({"<nan>": one * float("nan")}, out / "nan.safetensors")
    save_file({"<wide>": torch.zeros(1, 768)}, out / "wide.safetensors")
    torch.save([1, 2], out / "list.pt")
