"""What a prompt with concepts of neti is to ComfyUI: an embedding, and a patch of the U-Net's cross-attentions.

Knows ComfyUI by what it is handed only: a CLIP (`tokenize`, `encode_from_tokens`), `model_sampling.timestep` and the
options that an attn2 patch gets. Needs torch.

The embedding is that of the prompt with the categories' words instead of the concepts; ControlNet gets it. It is marked:
in four numbers at its end, so that the patch knows its own rows among those of other prompts, whatever ComfyUI puts into
one batch, and another prompt with the same words is not taken for it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch

if __package__:
    from .neti_concept import Concept, ConceptError, add_bypass, split_prompt
else:
    from neti_concept import Concept, ConceptError, add_bypass, split_prompt

STAND_INS = ("cat", "car", "house", "fish", "tree", "ball", "boat", "lamp", "horse", "bread", "chair", "shoe", "bird", "vase")
"""Words that stand where a concept does while a prompt is tokenised."""


@dataclass(frozen=True, eq=False)
class UsedConcept:
    """A concept, the token that prompts call it by, and how many hidden units it keeps (None: all)."""

    concept: Concept
    token: str
    truncation: int | None = None


def block_of(path: str) -> tuple[str, int]:
    """ComfyUI's name of a block of Stable Diffusion 1 or 2, from diffusers' path of its cross-attention."""
    parts = path.split(".")
    if parts[0] == "mid_block":
        return ("middle", 0)
    block, attention = int(parts[1]), int(parts[3])
    # A level has two residual blocks and a step down, or three residual blocks on the way up.
    return ("input", 3 * block + attention + 1) if parts[0] == "down_blocks" else ("output", 3 * block + attention)


LAYERS = tuple(
    [f"down_blocks.{b}.attentions.{a}.transformer_blocks.0" for b in range(3) for a in range(2)]
    + ["mid_block.attentions.0.transformer_blocks.0"]
    + [f"up_blocks.{b}.attentions.{a}.transformer_blocks.0" for b in range(1, 4) for a in range(3)])
"""The cross-attentions of Stable Diffusion 1 and 2, in the order in which they run."""
LAYER_OF_BLOCK = {block_of(path): layer for layer, path in enumerate(LAYERS)}


def check_model(context_dim, hidden_size: int) -> None:
    """Refuses a U-Net that does not take this CLIP's words; its cross-attentions would ask for no concept."""
    if context_dim != hidden_size:
        has = "has no cross-attention" if context_dim is None else f"takes words of size {context_dim}"
        raise ConceptError(
            f"the model {has}, and this CLIP gives size {hidden_size}: concepts are for Stable Diffusion 1 and 2; "
            "take model and CLIP from one checkpoint")


class ConceptPrompt:
    """A prompt in which concepts stand. Called as an attn2 patch, it gives each layer its own keys and values."""

    def __init__(self, clip, model_sampling, concepts: list[UsedConcept], text: str):
        self.clip = clip
        self.model_sampling = model_sampling
        self.used = []
        self.sections, self.places, words = self._read(clip, concepts, text)
        for used in self.used:
            if used.concept.layers != LAYERS:
                raise ConceptError(f"{used.concept.name}: the concept is for another kind of model than Stable Diffusion 1 or 2")
            used.concept.check_truncation(used.truncation)
        embedding, self.pooled = clip.encode_from_tokens(clip.tokenize(words), return_pooled=True)
        for used in self.used:
            used.concept.check_base(embedding.shape[-1], list(LAYERS), "this CLIP's model")
        # The categories' words may fill other sections than the concepts do; repeated, which changes nothing in an
        # attention, both are equally long.
        length = math.lcm(embedding.shape[1], len(self.sections) * len(self.sections[0]))
        self.embedding = self._marked(embedding.repeat(1, length // embedding.shape[1], 1), text)
        self._rows: tuple | None = None
        self._kept: tuple | None = None

    def _read(self, clip, concepts: list[UsedConcept], text: str) -> tuple[list, list, str]:
        """The prompt's tokens, in sections as long as CLIP's sequences; places (section, position, used concept, which
        of its vectors); and the prompt with the categories' words."""
        tokens = [c.token for c in concepts]
        if len(set(tokens)) < len(tokens):
            raise ConceptError(f"two concepts have the token {next(t for t in tokens if tokens.count(t) > 1)}; give one another")
        pieces = split_prompt(text, tokens)
        self.used = [concepts[i] for i in dict.fromkeys(p for p in pieces if isinstance(p, int))]
        if not self.used:
            raise ConceptError(f"the prompt has none of the concepts' tokens: {', '.join(tokens)}")
        plain = self._tokens(clip, "".join(p if isinstance(p, str) else " " for p in pieces))
        taken = {t[0] for section in plain for t in section if isinstance(t[0], int)}
        stand_ins = {}
        for used in self.used:
            word = next((w for w in STAND_INS if w not in stand_ins.values() and self._id(clip, w) not in taken), None)
            if word is None:
                raise ConceptError("the prompt has too many concepts")
            stand_ins[used] = word
        sections = self._tokens(
            clip, "".join(
                p if isinstance(p, str) else f" {stand_ins[concepts[p]]} " * concepts[p].concept.vectors for p in pieces))
        by_id = {self._id(clip, word): used for used, word in stand_ins.items()}
        found = [
            (s, at, by_id[t[0]]) for s, section in enumerate(sections) for at, t in enumerate(section)
            if isinstance(t[0], int) and t[0] in by_id]
        places, counts = [], dict.fromkeys(self.used, 0)
        for s, at, used in found:
            vector = counts[used] % used.concept.vectors
            if vector and (s, at - 1) != places[-1][:2]:
                raise ConceptError(
                    f"the {used.concept.vectors} vectors of {used.token} do not fit into one of CLIP's sequences where they "
                    "stand in the prompt; put the token nearer to the start")
            counts[used] += 1
            places.append((s, at, used, vector))
        return sections, places, "".join(p if isinstance(p, str) else concepts[p].concept.category for p in pieces)

    @staticmethod
    def _tokens(clip, text: str) -> list:
        tokens = clip.tokenize(text)
        if len(tokens) != 1:
            raise ConceptError("concepts are for models with one text encoder, Stable Diffusion 1 and 2")
        return next(iter(tokens.values()))

    def _id(self, clip, word: str) -> int:
        return self._tokens(clip, word)[0][1][0]

    def _marked(self, embedding: torch.Tensor, text: str) -> torch.Tensor:
        """The embedding with its last four numbers changed by at most 1/8, by what the prompt says and shows."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
        for used in self.used:
            digest.update(f"{used.token}\0{used.truncation}\0".encode("utf-8", "surrogatepass"))
            for name, tensor in sorted(used.concept.tensors.items()):
                digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        embedding = embedding.clone()
        embedding[:, -1, -4:] += torch.tensor([(b - 127.5) / 1020 for b in digest.digest()[:4]]).to(embedding)
        return embedding

    # The patch

    def __deepcopy__(self, memo):
        """ComfyUI copies a model's options with all that is in them; a patch is one, with its CLIP."""
        return self

    @torch.no_grad()
    def __call__(self, queries, keys, values, options):
        layer = LAYER_OF_BLOCK.get(tuple(options.get("block") or ()))
        if layer is None or keys.ndim != 3:
            return queries, keys, values
        rows = self._own_rows(keys)
        if not rows:
            return queries, keys, values
        sigma = options["sigmas"].flatten()[:1]
        own = self._sequences(float(self.model_sampling.timestep(sigma)), keys)[:, min(layer, self.distinct_layers - 1)]
        own = own.repeat(1, keys.shape[1] // own.shape[1], 1)  # as ComfyUI makes sequences of one batch equally long
        keys, values = keys.clone(), values.clone()
        keys[rows], values[rows] = own[0], own[1]
        return queries, keys, values

    @property
    def distinct_layers(self) -> int:
        return len(LAYERS) if any(u.concept.depends_on_layer for u in self.used) else 1

    def _own_rows(self, keys: torch.Tensor) -> list[int]:
        """The rows [S, d] of a batch that are this prompt's embedding; the same for all layers of a U-Net's call."""
        if self._rows is None or self._rows[0] is not keys:
            mine = self.embedding[0].to(keys)
            fits = keys.shape[1] % len(mine) == 0 and keys.shape[2] == mine.shape[1]
            same = (keys[:, : len(mine)] == mine).flatten(1).all(1).tolist() if fits else []
            self._rows = (keys, [i for i, s in enumerate(same) if s])
        return self._rows[1]

    def _sequences(self, timestep: float, like: torch.Tensor) -> torch.Tensor:
        """Keys and values of all distinct layers, [2, layers, S, d]; kept for one timestep."""
        if self._kept is None or self._kept[0] != (timestep, like.dtype, like.device):
            self._kept = ((timestep, like.dtype, like.device), self.encode(timestep).to(like))
        return self._kept[1]

    @torch.no_grad()
    def encode(self, timestep: float) -> torch.Tensor:
        """[2, layers, S, d]: all layers go through the text encoder as sections of one long prompt."""
        layers = self.distinct_layers
        outputs = {u: u.concept.embeddings(timestep, layers, u.truncation) for u in self.used}
        sections = []
        for layer in range(layers):
            own = [list(section) for section in self.sections]
            for s, at, used, vector in self.places:
                own[s][at] = (outputs[used][0][layer, vector], *own[s][at][1:])
            sections += own
        bypassed: dict[tuple[int, int], torch.Tensor] = {}

        def take_bypassed(norm, args, output):
            states = args[0]
            for s, at, used, vector in self.places:
                if outputs[used][1] is not None:
                    rows = torch.arange(layers, device=states.device) * len(self.sections) + s
                    moved = norm.forward(add_bypass(states[rows, at], outputs[used][1][:, vector].to(states.device)))
                    weight = self.sections[s][at][1]
                    if weight != 1.0:  # as ComfyUI weighs words: against the empty prompt, which is the last row
                        moved = output[-1, at] + (moved - output[-1, at]) * weight
                    bypassed[s, at] = moved

        name = next(iter(self.clip.tokenize("")))
        hook = _final_norm(self.clip).register_forward_hook(take_bypassed)
        try:
            keys = self.clip.encode_from_tokens({name: sections})
        finally:
            hook.remove()
        keys = keys.reshape(layers, -1, keys.shape[-1])
        values = keys.clone()
        length = keys.shape[1] // len(self.sections)
        for (s, at), moved in bypassed.items():
            values[:, s * length + at] = moved.to(values)
        return torch.stack([keys, values])


def _final_norm(clip) -> torch.nn.Module:
    found = [m for n, m in clip.cond_stage_model.named_modules() if n.split(".")[-1] == "final_layer_norm"]
    if len(found) != 1:
        raise ConceptError("concepts are for models with one CLIP text encoder, Stable Diffusion 1 and 2")
    return found[0]
