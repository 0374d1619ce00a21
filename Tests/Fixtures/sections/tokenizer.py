"""Ids of the reference tokenizer, that of current transformers."""
from pathlib import Path

from _tokenizer_texts import MINI_SD, clip_folder, write


def load(folder, **options):
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(folder), **options)


def make(out: Path):
    write(out / "mini-sd.json", MINI_SD, load, padded=True)
    write(out / "clip.json", clip_folder(), load, padded=False)
