"""CLIP at tiny random configurations, mini-clip, and the image processor: transformers' in fp32, with Pillow."""
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

ROOT = Path(__file__).resolve().parents[3]

# The second ends its texts with the largest id, as configurations before transformers 4.31 mean by 2.
CASES = {
    "quick_gelu": dict(projection_dim=12,
                       text_config=dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
                                        max_position_embeddings=9, vocab_size=40, hidden_act="quick_gelu",
                                        eos_token_id=38, bos_token_id=0, pad_token_id=38),
                       vision_config=dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2,
                                          num_attention_heads=3, image_size=16, patch_size=4, hidden_act="quick_gelu")),
    "gelu": dict(projection_dim=8,
                 text_config=dict(hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4,
                                  max_position_embeddings=7, vocab_size=30, hidden_act="gelu", layer_norm_eps=1e-3,
                                  eos_token_id=2, bos_token_id=0, pad_token_id=1),
                 vision_config=dict(hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
                                    image_size=14, patch_size=7, hidden_act="gelu", layer_norm_eps=1e-3)),
}
MEAN = dict(image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711])
PROCESSORS = {
    "numbers": dict(size=16, crop_size=16, resample=3, do_resize=True, do_center_crop=True, do_normalize=True, **MEAN),
    "objects": dict(size={"shortest_edge": 20}, crop_size={"height": 15, "width": 15}, resample=3,
                    image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.5]),
    "square": dict(size={"height": 18, "width": 18}, crop_size={"height": 18, "width": 18}, resample=3, **MEAN),
}
SIZES = {"tall": (33, 61), "wide": (90, 17), "small": (9, 12), "same": (16, 16)}
TEXTS = ["a photo of a cat", "a watercolor painting of a red mug with a blue star on a beach", "",
         "pixel art of a striped monster " * 8]


def picture(width, height, seed):
    """Smooth colours and some noise, so that every filter shows."""
    g = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 11
    smooth = np.stack([np.sin(x + k) * np.cos(y * (k + 1) / 2) for k in range(3)], -1)
    return ((smooth * 0.4 + 0.5 + g.normal(0, 0.08, smooth.shape)).clip(0, 1) * 255).round().astype(np.uint8)


def features(model, pixels, ids):
    with torch.no_grad():
        image, text = model.get_image_features(pixel_values=pixels), model.get_text_features(input_ids=ids)
    return {"image": getattr(image, "pooler_output", image), "text": getattr(text, "pooler_output", text)}


def make(out: Path):
    for name, c in CASES.items():
        torch.manual_seed(5)
        model = CLIPModel(CLIPConfig(**c)).eval().float()
        g = torch.Generator().manual_seed(6)
        with torch.no_grad():
            for p in model.parameters():  # norms and biases too: at initialisation they are ones and zeros
                p.add_(torch.randn(p.shape, generator=g) * 0.2)
        text, side = c["text_config"], c["vision_config"]["image_size"]
        ids = torch.randint(3, text["vocab_size"] - 3, (4, text["max_position_embeddings"]), generator=g)
        end = text["eos_token_id"] if text["eos_token_id"] != 2 else text["vocab_size"] - 1
        for row, place in enumerate([1, 3, text["max_position_embeddings"] - 1, 2]):
            ids[row, place] = end
        ids[3, 4] = end  # the first one counts
        pixels = torch.randn((3, 3, side, side), generator=g)
        folder = out / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(c, indent=1))
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
        save_file({"pixels": pixels, "ids": ids, **features(model, pixels, ids)}, out / f"{name}.safetensors")

    images = {k: picture(*size, seed) for seed, (k, size) in enumerate(SIZES.items())}
    tensors = {k: torch.from_numpy(v) for k, v in images.items()}
    for name, c in PROCESSORS.items():
        (out / f"{name}.json").write_text(json.dumps(c, indent=1))
        processor = CLIPImageProcessorPil(**c)
        for k, v in images.items():
            tensors[f"{name}.{k}"] = torch.from_numpy(np.asarray(processor(Image.fromarray(v))["pixel_values"][0]))
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "processor.safetensors")

    folder = ROOT / "Models/mini-clip"
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    images = [picture(128, 128, 7), picture(100, 70, 8)]
    pixels = torch.from_numpy(np.stack([processor(Image.fromarray(i))["pixel_values"][0] for i in images]))
    ids = tokenizer(TEXTS, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
    found = {k: v / v.norm(dim=-1, keepdim=True) for k, v in features(model, pixels, ids).items()}
    save_file({"image0": torch.from_numpy(images[0]), "image1": torch.from_numpy(images[1]), **found},
              out / "mini_clip.safetensors")
    (out / "mini_clip.json").write_text(json.dumps(TEXTS))
