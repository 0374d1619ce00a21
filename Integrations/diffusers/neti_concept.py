"""A concept of neti: its file, and the embedding that it gives for a timestep and a layer.

Needs torch and safetensors. The mathematics is that of NeTI (https://arxiv.org/abs/2305.15391); the file is
described in neti's docs/formats.md. A file is taken from strangers: nothing in it is executed, and every size in it
is checked before it is used.
"""

from __future__ import annotations

import json
import math
import os
import re
import unicodedata
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open

FORMAT_MAJOR = 2
"""The newest major version of the format that is read here."""
HIDDEN_WIDTH = 128
"""Units of the mapper's hidden layers, which nested dropout orders."""
BYPASS_SCALE = 0.2
"""The weight of the textual bypass."""
MOST_VECTORS = 16
"""Vectors that stand for one concept, each in a place of its own."""
LARGEST_FILE = 256 << 20
"""A concept has about 2 MB, and a checkpoint with its optimiser's state about 10."""

MAPPERS = ("neti", "time", "space")
VECTORS = ("ti", "xti")


class ConceptError(ValueError):
    """One line: what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Mapper:
    """The choices of a mapper, as the file has them."""

    positional_encoding: bool
    time_anchors: int
    bypass: bool
    target_norm: float | None
    nested_dropout: bool


@dataclass(frozen=True, eq=False)
class Concept:
    """What a concept file holds."""

    name: str
    """The file's."""
    kind: str
    """`neti`, `time`, `space`, `ti` or `xti`."""
    token: str
    category: str
    base_name: str
    hidden_size: int
    vectors: int
    """How many stand for the concept, one after another."""
    layers: tuple[str, ...]
    """The cross-attention layers of its base model, by diffusers' paths, in the order in which they run."""
    table_hash: str
    """SHA-256 of the base model's token table in fp16; empty where it is not known."""
    loras: tuple[str, ...]
    """What it was learned on beside the base model: names and weights."""
    clip_skip: int
    """Which layer of the text encoder it was learned with, counted from the end; 1 is the last."""
    mapper: Mapper | None
    tensors: dict[str, torch.Tensor]
    """In fp32."""

    @property
    def depends_on_layer(self) -> bool:
        return self.kind in ("neti", "space", "xti")

    @property
    def can_be_truncated(self) -> bool:
        return self.mapper is not None and self.mapper.nested_dropout

    def check_truncation(self, keep: int | None) -> None:
        if keep is None:
            return
        if self.mapper is None:
            raise ConceptError(
                f"{self.name}: a concept of the kind {self.kind} has no hidden units to keep; leave truncation out")
        if not self.can_be_truncated:
            raise ConceptError(
                f"{self.name}: the concept was trained without nested dropout and cannot be truncated; leave truncation out")
        if isinstance(keep, bool) or not isinstance(keep, int) or not 1 <= keep <= HIDDEN_WIDTH:
            raise ConceptError(f"{self.name}: truncation is {keep!r}; it must be a whole number from 1 to {HIDDEN_WIDTH}")

    def check_base(self, hidden_size: int, layers: list[str], name: str) -> None:
        """Refuses a model of another size or with other cross-attention layers."""
        if hidden_size != self.hidden_size or tuple(layers) != self.layers:
            raise ConceptError(
                f"{self.name}: the concept is for {_quoted(self.base_name)} with hidden size {self.hidden_size} and "
                f"{len(self.layers)} cross-attention layers; {name} has {hidden_size} and {len(layers)}"
                + ("" if hidden_size != self.hidden_size or len(layers) != len(self.layers) else " others")
                + ": use the model that it was trained on")

    @torch.no_grad()
    def embeddings(
        self, timestep: float, layers: int, keep: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What stands for the concept in the layers 0 … `layers` - 1 at a timestep (0 … 999, need not be whole).

        Returns v_base for the text encoder's input, and v_bypass, the direction of the residual at its output, or
        None; both [layers, n, d] in fp32 on the CPU, for the n places of its vectors. `keep` hidden units are kept.
        """
        if self.mapper is None:
            vectors = self.tensors["vectors"].reshape(-1, self.vectors, self.hidden_size)
            return (vectors[:layers] if self.kind == "xti" else vectors.expand(layers, -1, -1)), None
        t = torch.full((layers,), float(timestep) if self.kind != "space" else 0.0)
        l = torch.arange(layers, dtype=torch.float32) * (self.kind != "time")
        h = self._hidden(t, l)
        if keep is not None:
            h = h * (torch.arange(HIDDEN_WIDTH) < keep)
        y = self._linear("output", h).reshape(layers, self.vectors, -1)
        if self.mapper.target_norm is not None:
            y = y / y.norm(dim=-1, keepdim=True).clamp(min=1e-12) * self.mapper.target_norm
        d = self.hidden_size
        return (y[..., :d], y[..., d:]) if self.mapper.bypass else (y, None)

    def _hidden(self, t: torch.Tensor, l: torch.Tensor) -> torch.Tensor:
        """The mapper's last hidden layer, [N, 128], at timesteps and layers [N]."""
        if self.mapper.positional_encoding:
            angles = torch.stack([t, l], 1) @ self.tensors["frequencies"].T
            v = torch.cat([angles.sin(), angles.cos()], 1)
            x = self._linear("input", v / v.norm(dim=1, keepdim=True))
        else:
            x = torch.stack([t.floor() / 999 * 2 - 1, l / max(len(self.layers) - 1, 1) * 2 - 1], 1)
        for i in (1, 2):
            x = self._linear(f"hidden{i}", x)
            x = F.layer_norm(x, (HIDDEN_WIDTH,), self.tensors[f"norm{i}.weight"], self.tensors[f"norm{i}.bias"], 1e-5)
            x = F.leaky_relu(x, 0.01)
        return x

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])


def add_bypass(states: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """The text encoder's states [..., d] at a placeholder, before its final LayerNorm, with the textual bypass."""
    h, v = states.float(), direction.float()
    # A direction of nothing stays nothing.
    h = h + v / v.norm(dim=-1, keepdim=True).clamp(min=1e-12) * h.norm(dim=-1, keepdim=True) * BYPASS_SCALE
    return h.to(states.dtype)


# Prompts


def split_prompt(text: str, tokens: list[str]) -> list[str | int]:
    """A prompt cut at the tokens that stand in it: texts, and indices into `tokens`.

    The leftmost comes first, and of several at one place the longest. A token that begins or ends with a letter or
    digit is found as a whole word only. Both are compared in Unicode's form NFC, as neti does.
    """
    text = unicodedata.normalize("NFC", text)
    spellings = sorted(
        ((unicodedata.normalize("NFC", token), i) for i, token in enumerate(tokens) if token), key=lambda s: -len(s[0]))
    pieces: list[str | int] = []
    start = at = 0
    while at < len(text):
        token, index = next((s for s in spellings if _stands(s[0], text, at)), ("", None))
        if index is None:
            at += 1
            continue
        pieces += [text[start:at], index]
        start = at = at + len(token)
    return [p for p in pieces + [text[start:]] if p != ""]


def _stands(token: str, text: str, at: int) -> bool:
    """Whether a token stands at a place, as a whole word where it is one."""
    end = at + len(token)
    return (
        text.startswith(token, at)
        and not (at > 0 and _of_word(token[0]) and _of_word(text[at - 1]))
        and not (end < len(text) and _of_word(token[-1]) and _of_word(text[end])))


def _of_word(c: str) -> bool:
    """Whether a word goes on with a character; ideographs aside, which stand together without spaces."""
    return c == "_" or (unicodedata.category(c)[0] in "LMN" and not _IDEOGRAPH.match(unicodedata.name(c, "")))


_IDEOGRAPH = re.compile(
    "CJK (UNIFIED|COMPATIBILITY) IDEOGRAPH|IDEOGRAPHIC (CLOSING MARK|NUMBER ZERO)|HANGZHOU NUMERAL|TANGUT |NUSHU |KHITAN ")
"""The names of what Unicode's property Ideographic has."""


# The file


def read_concept(path: str | os.PathLike) -> Concept:
    """Reads a concept file; raises ConceptError, one line that names the file."""
    name = os.path.basename(os.path.normpath(path))
    if os.path.isdir(path):
        raise ConceptError(f"{name}: this is a folder; name the concept's file in it, such as concept.safetensors")
    try:
        size = os.path.getsize(path)
        if size > LARGEST_FILE:
            raise ConceptError(f"{name}: it has {size} bytes, which no concept has")
        with safe_open(path, framework="pt", device="cpu") as file:
            return _Reader(file, name).concept()
    except ConceptError:
        raise
    except OSError as error:
        raise ConceptError(f"{name}: the file cannot be read: {error.strerror or _quoted(error)}") from None
    except (SafetensorError, KeyError, ValueError, RuntimeError, RecursionError) as error:
        raise ConceptError(f"{name}: this is not a sound safetensors file of neti: {_quoted(error)}") from None


class _Reader:
    """Reads the parts of a concept file, each with its checks."""

    def __init__(self, file, name: str):
        self.file = file
        self.name = name
        self.metadata = file.metadata() or {}

    def fail(self, why: str) -> ConceptError:
        return ConceptError(f"{self.name}: {why}")

    def concept(self) -> Concept:
        vectors = self._vectors(self._version())
        kind = self.metadata.get("neti.representation", "none")
        if kind not in MAPPERS + VECTORS:
            raise self.fail(f"unknown representation {_quoted(kind)}; known are {', '.join(MAPPERS + VECTORS)}")
        about = _Fields(self, "neti.about")
        base = about.object("base")
        if base.value.get("hiddenSizes") is not None:
            raise self.fail(
                "it is a concept for a model with several text encoders (SDXL), which this module does not draw; "
                "`neti generate` does")
        layers = base.texts("layers", 1024)
        d = base.integer("hiddenSize", 1, 16_384)
        mapper = self._mapper(kind, d, len(layers)) if kind in MAPPERS else None
        tensors = self._tensors(self._shapes(kind, mapper, d, len(layers), vectors))
        tensors.pop("placeholder")
        return Concept(
            name=self.name, kind=kind, token=about.text("token"), category=about.text("category"),
            base_name=base.text("name"), hidden_size=d, vectors=vectors, layers=layers, table_hash=base.text("tokenTableHash"),
            loras=base.texts("loras", 64) if base.value.get("loras") else (), clip_skip=self._clip_skip(about),
            mapper=mapper, tensors=tensors)

    @staticmethod
    def _clip_skip(about: _Fields) -> int:
        """What the settings of its training, which are YAML, say of it."""
        training = about.value.get("training")
        found = re.search(r"^ *clip_skip: *([0-9]{1,2}) *$", training, re.MULTILINE) if isinstance(training, str) else None
        return max(int(found[1]), 1) if found else 1

    def _version(self) -> int:
        version = self.metadata.get("neti.version")
        if version is None:
            raise self.fail("this safetensors file is not a neti concept; `neti convert` makes one of other formats")
        match = re.match(r"([0-9]{1,6})(\.|$)", version)
        if not match or int(match[1]) < 1:
            raise self.fail(f"the format version {_quoted(version)} is not a version")
        if int(match[1]) > FORMAT_MAJOR:
            raise self.fail(
                f"it has format version {_quoted(version)}, newer than this module reads ({FORMAT_MAJOR}.x); "
                "update the module")
        return int(match[1])

    def _vectors(self, version: int) -> int:
        """What a file says of its vectors: from version 2 on, where there are several."""
        text = self.metadata.get("neti.vectors")
        if text is None:
            return 1
        if version < 2 or not re.fullmatch("[0-9]{1,2}", text) or not 2 <= int(text) <= MOST_VECTORS:
            raise self.fail(
                f"neti.vectors is {_quoted(text)}; files of version 2 say 2 to {MOST_VECTORS} there, and others nothing")
        return int(text)

    def _mapper(self, kind: str, hidden_size: int, layer_count: int) -> Mapper:
        s = _Fields(self, "neti.mapper")
        anchors = s.integer("timeAnchors", 1, 1000)
        mapper = Mapper(
            positional_encoding=s.flag("usesPositionalEncoding"), time_anchors=anchors, bypass=s.flag("outputBypass"),
            target_norm=s.number_or_none("targetNorm"), nested_dropout=s.flag("usesNestedDropout"))
        if mapper.positional_encoding and len(range(0, 1000, 1000 // anchors)) != anchors:
            raise self.fail(f"neti.mapper: timeAnchors {anchors} do not divide 1000 timesteps")
        if mapper.target_norm is not None and not mapper.target_norm > 0:
            raise self.fail(f"neti.mapper: targetNorm is {mapper.target_norm}; it must be a positive number")
        if (s.text("kind"), s.integer("hiddenSize", 1, 16_384), s.integer("layerCount", 1, 1024)) != (
            kind, hidden_size, layer_count):
            raise self.fail("its parts do not fit together: mapper and base model have different sizes")
        return mapper

    def _shapes(self, kind: str, mapper: Mapper | None, d: int, layers: int, n: int) -> dict[str, list[int]]:
        """The tensors that such a concept has; -1 stands for any size."""
        shapes: dict[str, list[int]] = {"placeholder": [d]}
        if mapper is None:
            own = [n] if kind == "ti" else [layers] if n == 1 else [layers, n]
            return shapes | {"vectors": [*own, d]}
        first = mapper.time_anchors * layers if mapper.positional_encoding else 2
        linear = {"hidden1": (HIDDEN_WIDTH, first), "hidden2": (HIDDEN_WIDTH, HIDDEN_WIDTH),
                  "output": (n * (2 * d if mapper.bypass else d), HIDDEN_WIDTH)}
        if mapper.positional_encoding:
            n = self._shape("frequencies")[0]
            shapes["frequencies"] = [n, 2]
            linear["input"] = (first, 2 * n)
        for name, (rows, columns) in linear.items():
            shapes |= {f"{name}.weight": [rows, columns], f"{name}.bias": [rows]}
        for name in ("norm1", "norm2"):
            shapes |= {f"{name}.weight": [HIDDEN_WIDTH], f"{name}.bias": [HIDDEN_WIDTH]}
        return shapes

    def _shape(self, name: str) -> list[int]:
        if name not in self.file.keys():
            raise self.fail(f"the tensor {name} is missing")
        shape = list(self.file.get_slice(name).get_shape())
        if not shape or 0 in shape:
            raise self.fail(f"the tensor {name} has shape {shape}")
        return shape

    def _tensors(self, shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
        # A checkpoint has its optimiser's state beside the concept.
        names = [k for k in self.file.keys() if not k.startswith("optimizer.")]
        unknown = sorted(set(names) - set(shapes))
        if unknown:
            raise self.fail(f"the tensor {_quoted(unknown[0])} is not part of such a concept")
        tensors = {}
        for name, expected in shapes.items():
            shape = self._shape(name)
            if shape != expected:
                raise self.fail(f"the tensor {name} has shape {shape}; expected {expected}")
            tensor = self.file.get_tensor(name)
            if not tensor.is_floating_point() or not tensor.isfinite().all():
                raise self.fail(f"the tensor {name} has values that are not finite numbers")
            tensors[name] = tensor.float()
        return tensors


class _Fields:
    """The fields of a JSON object in a file's metadata, each of the type that is asked for."""

    def __init__(self, reader: _Reader, key: str, value=None):
        self.reader = reader
        self.key = key
        if value is None:
            text = reader.metadata.get(key)
            if text is None:
                raise reader.fail(f"the entry {key} is missing from its metadata")
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                raise reader.fail(f"the entry {key} of its metadata is not sound JSON") from None
        if not isinstance(value, dict):
            raise reader.fail(f"the entry {key} of its metadata is not a JSON object")
        self.value = value

    def _bad(self, name: str, expected: str) -> ConceptError:
        got = "missing" if name not in self.value else _quoted(self.value[name])
        return self.reader.fail(f"{self.key}: {name} is {got}; expected {expected}")

    def object(self, name: str) -> _Fields:
        value = self.value.get(name)
        if not isinstance(value, dict):
            raise self._bad(name, "an object")
        return _Fields(self.reader, f"{self.key}.{name}", value)

    def text(self, name: str) -> str:
        value = self.value.get(name)
        if not isinstance(value, str) or len(value) > 4096:
            raise self._bad(name, "a text")
        return value

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        value = self.value.get(name)
        if not isinstance(value, list) or not 1 <= len(value) <= most or not all(isinstance(v, str) for v in value):
            raise self._bad(name, f"1 to {most} texts")
        return tuple(value)

    def integer(self, name: str, least: int, most: int) -> int:
        value = self.value.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._bad(name, f"a whole number from {least} to {most}")
        return value

    def flag(self, name: str) -> bool:
        value = self.value.get(name)
        if not isinstance(value, bool):
            raise self._bad(name, "true or false")
        return value

    def number_or_none(self, name: str) -> float | None:
        value = self.value.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e30 or math.isnan(value):
            raise self._bad(name, "a number")
        return float(value)


def _quoted(value) -> str:
    """A short text in ASCII on one line, whatever a file holds."""
    text = str(value)[:100]
    return "“" + text.encode("unicode_escape").decode("ascii") + ("…" if len(str(value)) > 100 else "") + "”"
