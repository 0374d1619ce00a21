"""What the programs that look at images share: concepts of the examples, learned once, and neti's images of them."""
import json, os, subprocess
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def neti(*words):
    subprocess.run([str(ROOT / "neti"), *map(str, words)], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, env=dict(os.environ, GOMP_SPINCOUNT="5000"))


def category(example):
    return json.loads((ROOT / "Examples" / f"{example}.json").read_text())["category"]


def concept(example, folder):
    """The concept of an example with the model's defaults, as `./neti demo` learns it."""
    file = folder / example / "concept.safetensors"
    if not file.exists():
        neti("train", "--images", ROOT / "Examples" / example, "--token", f"<{example}>", "--category", category(example),
             "--output", folder / example)
    return file


def images(folder, count, *words):
    """`count` images of a command of neti without --output, as arrays [height, width, 3]; kept in `folder`."""
    def files():
        return sorted(f for f in folder.glob("*.png") if not f.name.startswith("sheet"))
    if len(files()) != count:
        neti(*words, "--output", folder)
    found = files()
    assert len(found) == count, f"{folder} has {len(found)} images instead of {count}"
    return {f.stem: np.asarray(Image.open(f).convert("RGB")) for f in found}


class Judge:
    """mini-clip by transformers."""

    def __init__(self):
        import torch
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast
        self.torch = torch
        torch.set_grad_enabled(False)
        folder = str(ROOT / "Models/mini-clip")
        self.model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor, self.tokenizer = CLIPImageProcessor.from_pretrained(folder), CLIPTokenizerFast.from_pretrained(folder)

    def look(self, images):
        """Embeddings of length 1 [N, P] of arrays [height, width, 3]."""
        pixels = self.processor(images=[Image.fromarray(i) for i in images], return_tensors="pt").pixel_values
        return self._unit(self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output))

    def read(self, texts):
        ids = self.tokenizer(texts, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
        return self._unit(self.model.text_projection(self.model.text_model(input_ids=ids).pooler_output))

    def _unit(self, x):
        return (x / x.norm(dim=-1, keepdim=True)).numpy()

    def prefers(self, image, noun, other):
        """Whether an image is one of `noun` rather than of `other`."""
        a, b = self.read([f"a photo of a {n} in the snow" for n in (noun, other)]) @ self.look([image])[0]
        return bool(a > b)
