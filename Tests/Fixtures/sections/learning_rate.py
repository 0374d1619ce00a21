"""Multipliers of the learning-rate schedules, as diffusers' get_scheduler gives them to the optimiser."""
import json
from pathlib import Path

NAMES = ["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"]
CASES = [(0, 10), (3, 10), (10, 10), (7, 50)]  # warm-up, total
BASE = 8e-3


def make(out: Path):
    import torch
    from diffusers.optimization import get_scheduler

    rows = []
    for name in NAMES:
        for warmup, total in CASES:
            optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=BASE)
            schedule = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)
            rates = []
            for _ in range(total):
                rates.append(schedule.get_last_lr()[0])
                optimizer.step()
                if len(rates) < total:
                    schedule.step()
            rows.append(dict(name=name, warmup=warmup, total=total, rates=rates))
    (out / "schedules.json").write_text(json.dumps(dict(base=BASE, rows=rows), indent=0) + "\n")
