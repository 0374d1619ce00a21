"""Random weights that need not be kept: the tests draw the same."""
import math, zlib

import torch


def drawn(name, shape, scale=1.0):
    """A tensor from a generator seeded by the CRC-32 of its name, exact in fp16: matrices keep the size of what they
    multiply, norms are near one, biases near zero."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if len(shape) > 1:
        x = x * (scale / math.sqrt(math.prod(shape[1:])))
    else:
        x = x * (0.05 * scale) + (1.0 if name.endswith("weight") else 0.0)
    return x.half()
