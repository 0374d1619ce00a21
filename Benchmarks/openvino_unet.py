#!/usr/bin/env python3
"""Times the U-Net of a denoising step, both branches as one batch, with OpenVINO.

    python3 Benchmarks/openvino_unet.py MODEL [--threads N] [--repeats 3]

MODEL is a folder in the diffusers layout. The U-Net goes through OpenVINO's own converter and is compiled for
latency, in fp32 and in bf16; one context serves all layers, which is less work than NeTI's one for each. Prints the
median of the repeats, after one that is not counted, and the largest deviation from PyTorch in fp32, relative
to the largest value. Needs Tests/Fixtures/requirements.txt and openvino from PyPI.
"""
import argparse, os, statistics, tempfile, time
from pathlib import Path

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("model", type=Path)
p.add_argument("--threads", type=int, default=os.cpu_count())
p.add_argument("--repeats", type=int, default=3)
a = p.parse_args()
os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np
import openvino as ov
import torch
from diffusers import UNet2DConditionModel

torch.manual_seed(0)
torch.set_num_threads(a.threads)
unet = UNet2DConditionModel.from_pretrained(a.model, subfolder="unet", torch_dtype=torch.float32).eval().requires_grad_(False)
c = unet.config
inputs = (torch.randn(2, c.in_channels, c.sample_size, c.sample_size), torch.tensor([500]), torch.randn(2, 77, c.cross_attention_dim))


class Plain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.unet = unet

    def forward(self, x, t, context):
        return self.unet(x, t, context, return_dict=False)[0]


with tempfile.TemporaryDirectory() as folder, torch.no_grad():
    expected = Plain()(*inputs).numpy()
    path = f"{folder}/unet.xml"
    ov.save_model(ov.convert_model(Plain(), example_input=inputs, input=[tuple(i.shape) for i in inputs]), path)
    for precision in ("f32", "bf16"):
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": a.threads,
                    "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        request = ov.Core().compile_model(path, "CPU", settings).create_infer_request()
        seconds = []
        for _ in range(a.repeats + 1):
            start = time.perf_counter()
            found = next(iter(request.infer([i.numpy() for i in inputs]).values()))
            seconds.append(time.perf_counter() - start)
        error = float(np.abs(found - expected).max() / np.abs(expected).max())
        print(f"{precision}: {statistics.median(seconds[1:]):.2f} s, deviation {error:.1e}", flush=True)
        del request
