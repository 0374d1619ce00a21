"""Ids of current transformers' tokenizer for the same texts, to list where the two differ."""
from pathlib import Path

from _tokenizer_texts import MINI_SD, write


def load(folder, **options):
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(folder), **options)


def make(out: Path):
    write(out / "mini-sd.json", MINI_SD, load, padded=False)
