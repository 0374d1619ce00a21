"""What PyTorch itself gives: random numbers for seeds, and AdamW's steps."""
from pathlib import Path

import torch
from safetensors.torch import save_file


def random_numbers():
    tensors = {}
    for seed in (0, 7, 4294967295):
        g = torch.Generator().manual_seed(seed)
        # Fewer than 16 normal numbers are drawn one by one, more in vectors.
        tensors[f"{seed}.normal_few"] = torch.randn(7, generator=g)
        tensors[f"{seed}.normal_many"] = torch.randn(2, 4, 5, generator=g)
        tensors[f"{seed}.normal_float64"] = torch.randn(3, generator=g, dtype=torch.float64)
        tensors[f"{seed}.uniform"] = torch.rand(3, 11, generator=g)
        tensors[f"{seed}.integers"] = torch.randint(0, 1000, (20,), generator=g)
        tensors[f"{seed}.permutation"] = torch.randperm(19, generator=g)
    return tensors


def adamw():
    """Twelve steps on a small least-squares problem; the learning rate changes, and one step has a
    parameter without a gradient."""
    g = torch.Generator().manual_seed(1)
    w = torch.randn(3, 4, generator=g)
    b = torch.randn(3, generator=g)
    x = torch.randn(12, 5, 4, generator=g)
    y = torch.randn(12, 5, 3, generator=g)
    tensors = {"w": w.clone(), "b": b.clone(), "x": x, "y": y}
    w.requires_grad_()
    b.requires_grad_()
    optimiser = torch.optim.AdamW([w, b], lr=1, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2)
    for i in range(12):
        for group in optimiser.param_groups:
            group["lr"] = 8e-3 / (1 + i)
        optimiser.zero_grad()
        out = torch.nn.functional.linear(x[i], w, None if i == 5 else b)
        torch.nn.functional.mse_loss(out, y[i]).backward()
        optimiser.step()
        if i in (0, 5, 11):
            tensors[f"{i}.w"], tensors[f"{i}.b"] = w.detach().clone(), b.detach().clone()
    return tensors


def make(out: Path):
    save_file(random_numbers(), out / "random.safetensors")
    save_file(adamw(), out / "adamw.safetensors")
