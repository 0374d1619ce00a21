#!/usr/bin/env python3
"""Loads embeddings that `neti convert` wrote into diffusers, as its users do.

    python3 scripts/check_exports.py Models/mini-sd toy.safetensors ...

For each file: diffusers' load_textual_inversion takes it, its token becomes one token of the prompt, and
the text encoder's row for it is the vector in the file. Prints one line a file; exits with 1 when a file
fails. Needs diffusers, transformers and torch; the tests run it with the Python in NETI_DIFFUSERS_PYTHON.
"""
import sys
from pathlib import Path


def main(model: str, files: list[str]) -> int:
    import torch
    from diffusers import StableDiffusionPipeline
    from safetensors import safe_open

    pipe = StableDiffusionPipeline.from_pretrained(model, safety_checker=None, local_files_only=True)
    pipe.to(torch.float32)
    failures = 0
    for file in files:
        with safe_open(file, "pt") as f:
            (name,) = f.keys()
            vector = f.get_tensor(name)
        # A file without the token in it is called by its name, as in stable-diffusion-webui.
        token = None if name != "emb_params" else f"<{Path(file).stem}>"
        pipe.load_textual_inversion(file, token=token)
        ids = pipe.tokenizer(token or name, add_special_tokens=False).input_ids
        row = pipe.text_encoder.get_input_embeddings().weight[ids[0]].detach()
        good = len(ids) == 1 and torch.equal(row.float(), vector.reshape(-1).float())
        print(f"{Path(file).name}: {token or name} is token {ids}, its row {'equals' if good else 'is NOT'} the vector")
        failures += not good
    image = pipe(f"a photo of a {token or name}", num_inference_steps=2, output_type="np").images
    print(f"generated an image of {image.shape[1]}×{image.shape[2]}")
    return 1 if failures else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
