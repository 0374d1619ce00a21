"""Files written by the reference implementation of safetensors: every element type, odd names."""
from pathlib import Path


def make(out: Path):
    import torch
    from safetensors.torch import save_file

    g = torch.Generator().manual_seed(1)
    floats = torch.randn(2, 3, generator=g)
    tensors = {t: floats.to(getattr(torch, t)) for t in ["float64", "float32", "float16", "bfloat16"]}
    whole = torch.tensor([0, 1, 2, 100])
    tensors |= {t: whole.to(getattr(torch, t)) for t in ["int64", "int32", "int16", "int8", "uint8"]}
    tensors["bool"] = torch.tensor([True, False, True])
    tensors["scalar"] = torch.tensor(2.5)
    tensors["nothing"] = torch.zeros(3, 0, 2)
    tensors['“ü”\n\t"\\\x01'] = torch.tensor([7.0])
    save_file(tensors, out / "types.safetensors", metadata={"a “key”": "a\nvalue"})
    save_file({}, out / "empty.safetensors")
