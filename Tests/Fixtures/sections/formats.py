"""Files written by safetensors and by torch.save: every element type, odd names, views."""
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

    base = torch.arange(24.0)
    square = base.reshape(4, 6)
    views = {
        "square": square,
        "transposed": square.T,
        "inner": square[1:3, 2:5],
        "steps": base[1::3],
        "scalar": base[7],
        "permuted": base.reshape(2, 3, 4).permute(2, 0, 1),
        "nothing": base[:0],
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
        **{t: whole.to(getattr(torch, t)) for t in ["int64", "int32", "int16", "int8", "uint8"]},
        **{t: floats.to(getattr(torch, t)).clone() for t in ["float64", "float16", "bfloat16"]},
        "bool": torch.tensor([True, False, True]),
    }
    torch.save(views, out / "views.pt")
    save_file({k: v.detach().clone().contiguous() for k, v in views.items()}, out / "views.safetensors")
    values = {
        "none": None, "flags": (True, False), "numbers": [0, 255, 256, 65536, -1, 2**40, -(2**63), 0.5],
        "text": "“ü”", "set": {1, 2}, "nested": {"a": {3: [()]}}, "shared": [base, base],
    }
    for protocol in [2, 3, 4, 5]:
        torch.save(values, out / f"values-{protocol}.pt", pickle_protocol=protocol)
    lightning(out / "lightning.ckpt")


def lightning(path):
    """What PyTorch Lightning leaves in a checkpoint beside the weights: a class, and numbers of NumPy's."""
    import sys
    import types
    import numpy
    import torch
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint"]
    modules = {name: types.ModuleType(name) for name in names}
    kind = type("ModelCheckpoint", (), {"__module__": names[-1]})
    modules[names[-1]].ModelCheckpoint = kind
    sys.modules.update(modules)
    weights = {"betas": torch.ones(4), "logvar": torch.zeros(2)}
    state = {kind: {"monitor": None, "best": numpy.float64(0.5), "whole": numpy.int64(7)}}
    torch.save({"epoch": 3, "global_step": 470000, "callbacks": state, "state_dict": weights}, path)
