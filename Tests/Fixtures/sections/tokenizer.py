"""Ids of the reference tokenizer: transformers 4.27.4's slow one with its own clean-up (no ftfy)."""
REQUIREMENTS = "requirements_old.txt"

from pathlib import Path

from _tokenizer_texts import MINI_SD, clip_folder, write


def load(folder, **options):
    from transformers import CLIPTokenizer
    from transformers.models.clip.tokenization_clip import BasicTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(str(folder), **options)
    # As if ftfy were not installed.
    tokenizer.fix_text = None
    tokenizer.nlp = BasicTokenizer(do_lower_case=True)
    return tokenizer


def make(out: Path):
    write(out / "mini-sd.json", MINI_SD, load, padded=True)
    write(out / "clip.json", clip_folder(), load, padded=False)
