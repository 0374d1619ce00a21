"""Draws concepts of neti in pipelines of diffusers, with everything that they have.

    concepts = NeTIConcepts(pipe)
    concepts.load("toy.safetensors", token="<toy>", truncation=64)
    pipe("a photo of <toy> on a beach").images[0]
    concepts.unload()

How: `encode_prompt` notes where the concepts stand, and returns the embedding of the prompt with their categories'
words instead, which is what anything but the U-Net gets (ControlNet). Before each call of the U-Net, the rows of its
`encoder_hidden_states` that are such prompts get, for every cross-attention layer, keys and values of their own:
[B, S, d] becomes [layers, 2, B, S, d]. An attention processor in each layer takes its part. Nothing else is shared
between the two, so batches, guidance, offloading and compiling work as without concepts.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import os
import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.utils import USE_PEFT_BACKEND, scale_lora_layers, unscale_lora_layers

from neti_concept import Concept, ConceptError, add_bypass, read_concept, split_prompt

__all__ = ["ConceptError", "NeTIConcepts"]


class NeTIConcepts:
    """The concepts of one pipeline, or of several that share a U-Net and a text encoder.

    All errors are ConceptError, a ValueError with one line.
    """

    def __init__(self, *pipes):
        if not pipes:
            raise ConceptError("NeTIConcepts: give it a pipeline of diffusers")
        for pipe in pipes:
            _check_family(pipe)
            if pipe.unet is not pipes[0].unet or pipe.text_encoder is not pipes[0].text_encoder:
                raise ConceptError("NeTIConcepts: the pipelines must share one U-Net and one text encoder")
        self._pipes = pipes
        self._loaded: dict[str, _Loaded] = {}
        self._call: _Call | None = None
        self._made: list[tuple] = []  # embeddings that encode_prompt made last, and their rows
        self._undo = contextlib.ExitStack()
        self._layers: list[tuple] = []

    def load(self, path: str | os.PathLike, token: str | None = None, truncation: int | None = None) -> str:
        """Lets prompts use the concept of a file as `token`; without one as the token that the file names.

        `truncation`, 1 to 128, is the dial: a small number follows the prompt more, a large one the training images.
        Loading a file again changes its truncation. Returns the token.
        """
        concept = read_concept(path)
        token = concept.token if token is None else token
        if not token or token != token.strip() or not token.isprintable():
            raise ConceptError(f"{concept.name}: the token {token!r} is empty or has spaces around it; give another: token='<toy>'")
        concept.check_truncation(truncation)
        pipe, path = self._pipes[0], os.path.realpath(path)
        layers = _cross_attentions(_plain(pipe.unet))
        encoder = _plain(pipe.text_encoder)
        concept.check_base(encoder.config.hidden_size, [name for name, _ in layers], type(pipe).__name__)
        if token in self._loaded and self._loaded[token].path != path:
            raise ConceptError(f"{concept.name}: the token {token!r} is taken; give another one, or unload({token!r}) first")
        if concept.table_hash and _table_hash(pipe, encoder) not in (None, concept.table_hash):
            warnings.warn(
                f"{concept.name} was trained on another model; on a fine-tune of the same model that is fine", stacklevel=2)
        if concept.loras:
            warnings.warn(f"{concept.name} was learned with {', '.join(concept.loras)}; load that, too", stacklevel=2)
        if concept.clip_skip > 1:
            warnings.warn(
                f"{concept.name} was learned with CLIP skip {concept.clip_skip}; call the pipeline with "
                f"clip_skip={concept.clip_skip - 1}", stacklevel=2)
        if not self._loaded:
            self._install(layers)
        self._loaded[token] = _Loaded(concept, path, truncation)
        return token

    def unload(self, token: str | None = None) -> None:
        """Forgets a concept, or all; the pipeline is then as it was before."""
        if token is not None and token not in self._loaded:
            raise ConceptError(f"unload: no concept is loaded as {token!r}; there is {', '.join(map(repr, self._loaded)) or 'none'}")
        for key in [token] if token is not None else list(self._loaded):
            del self._loaded[key]
        if not self._loaded:
            self._undo.close()
            self._layers, self._call, self._made = [], None, []

    # Installing

    def _install(self, layers: list[tuple]) -> None:
        for name, attention in layers:
            if isinstance(attention.processor, _LayerProcessor):
                raise ConceptError(
                    "NeTIConcepts: this U-Net has concepts of another NeTIConcepts; unload() that one, or make one for both "
                    "pipelines: NeTIConcepts(pipe, other)")
            if type(attention.processor).__name__ not in _REPLACEABLE:
                raise ConceptError(
                    f"NeTIConcepts: {name} has an attention processor of its own, {type(attention.processor).__name__} "
                    "(IP-Adapter, fused projections, …); concepts do not work beside it, unload it first")
        for index, (_, attention) in enumerate(layers):
            before, ours = attention.processor, _LayerProcessor(index)
            attention.set_processor(ours)
            self._layers.append((attention, ours))
            self._undo.callback(_restore_processor, attention, ours, before)
        hook = self._pipes[0].unet.register_forward_pre_hook(self._before_unet, with_kwargs=True)
        self._undo.callback(hook.remove)
        for pipe in self._pipes:
            _replace_method(self._undo, pipe, "encode_prompt", functools.partial(self._encode_prompt, pipe))
            _replace_method(self._undo, pipe, "maybe_free_model_hooks", self._end_call)

    def _end_call(self, original) -> None:
        """diffusers calls this where a pipeline's call ends."""
        self._call = None
        original()

    # Prompts

    def _encode_prompt(self, pipe, original, *args, **kwargs):
        bound = inspect.signature(original).bind(*args, **kwargs)
        asked = bound.arguments
        images = asked.get("num_images_per_prompt") or 1
        rows = {}
        for key in ("prompt", "negative_prompt"):
            rows[key], asked_text = self._read(pipe, asked.get(key), asked.get(f"{key}_embeds"))
            rows[key] = [row for row in rows[key] for _ in range(images)]
            if key in asked:
                asked[key] = asked_text
        result = original(*bound.args, **bound.kwargs)
        positive, negative = result
        self._call = _Call(
            pipe, [(positive, rows["prompt"]), (negative, rows["negative_prompt"])],
            asked.get("lora_scale"), asked.get("clip_skip"))
        # For a caller who keeps the embeddings and gives them to the pipeline.
        self._made = [*self._made, *((e, own) for e, own in self._call.parts if e is not None)][-_MOST_MADE:]
        return result

    def _read(self, pipe, prompt, embeds) -> tuple[list, object]:
        """A row for each prompt, and the prompts with the categories' words."""
        if embeds is not None:
            return [self._known(row) for row in embeds], prompt
        if prompt is None:
            return [], prompt
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        read = [self._row(pipe, text) for text in texts]
        words = [text for _, text in read]
        return [row for row, _ in read], words[0] if isinstance(prompt, str) else words

    def _known(self, embedding: torch.Tensor) -> _Row | None:
        """The prompt that an embedding [S, d] was made of, by its values: it may be a copy, or one of several."""
        rows = [
            row for made, own in self._made if made.shape[1:] == embedding.shape
            for e, row in zip(made, own) if torch.equal(e.to(embedding), embedding)]
        if len({id(row) for row in rows}) > 1 and any(row is None for row in rows):
            warnings.warn(
                "these embeddings are those of a prompt with a concept and of one with the word in its place; the concept is "
                "left out. Give the prompt itself", stacklevel=2)
            return None
        return rows[-1] if rows else None

    def _row(self, pipe, text: str) -> tuple[_Row | None, str]:
        """Where concepts stand in a prompt, if any do, and the prompt with their categories' words."""
        tokens = list(self._loaded)
        pieces = split_prompt(text, tokens)
        if not any(isinstance(p, int) for p in pieces):
            return None, text
        tokenizer, ids, places, words = pipe.tokenizer, [], [], []
        for piece in pieces:
            if isinstance(piece, int):
                loaded = self._loaded[tokens[piece]]
                places.append((len(ids) + 1, loaded))
                ids += [tokenizer.eos_token_id] * loaded.concept.vectors  # their embeddings are replaced
                words.append(loaded.concept.category)
            else:
                converted = pipe.maybe_convert_prompt(piece, tokenizer) if hasattr(pipe, "maybe_convert_prompt") else piece
                ids += tokenizer(converted, add_special_tokens=False, truncation=False, verbose=False).input_ids
                words.append(piece)
        length = tokenizer.model_max_length
        if places[-1][0] + places[-1][1].concept.vectors - 1 > length - 2:
            token, n = tokens[[p for p in pieces if isinstance(p, int)][-1]], places[-1][1].concept.vectors
            lies = (
                f"lies beyond the model's {length} tokens" if n == 1 else
                f"has {n} vectors, which take the positions {places[-1][0]} to {places[-1][0] + n - 1} of the model's {length - 2},")
            raise ConceptError(
                f"the prompt is too long: {token!r} {lies} and would be cut off; put it nearer to the start")
        ids = [tokenizer.bos_token_id, *ids[: length - 2], tokenizer.eos_token_id]
        ids += [tokenizer.pad_token_id] * (length - len(ids))
        return _Row(tuple(ids), tuple(places)), "".join(words)

    # Before the U-Net

    @torch.compiler.disable
    @torch.no_grad()
    def _before_unet(self, unet, args, kwargs):
        call = self._call
        if call is None or not any(any(rows) for _, rows in call.parts):
            return None
        given = dict(zip(("sample", "timestep", "encoder_hidden_states"), args)) | kwargs
        states = given["encoder_hidden_states"]
        rows = call.rows_of(states)
        if not any(rows):
            return None
        for attention, ours in self._layers:
            if attention.processor is not ours:
                raise ConceptError(
                    f"something has replaced the U-Net's attention processors ({type(attention.processor).__name__}) since "
                    "concepts were loaded: unload() and load them again")
        timesteps = torch.as_tensor(given["timestep"]).flatten().tolist()
        timesteps = timesteps * len(rows) if len(timesteps) == 1 else timesteps
        if call.kept is None or call.kept[0] != timesteps or call.kept[1] is not states:
            call.kept = (timesteps, states, self._conditioning(call, rows, timesteps, states))
        if "encoder_hidden_states" in kwargs:
            return args, kwargs | {"encoder_hidden_states": call.kept[2]}
        return (*args[:2], call.kept[2], *args[3:]), kwargs

    def _conditioning(self, call: _Call, rows: list, timesteps: list[float], states: torch.Tensor) -> torch.Tensor:
        """[layers, 2, B, S, d]: keys and values of each row in each layer; one layer stands for all alike."""
        concepts = [loaded.concept for row in rows if row for _, loaded in row.places]
        layers = len(self._layers) if any(c.depends_on_layer for c in concepts) else 1
        result = states.expand(layers, 2, *states.shape).clone()
        done: dict[tuple, int] = {}
        for b, key in enumerate(zip(map(id, rows), timesteps)):
            if rows[b] is None:
                continue
            if key in done:
                result[:, :, b] = result[:, :, done[key]]
            else:
                result[:, :, b] = self._encode(call, rows[b], timesteps[b], layers, states)
                done[key] = b
        return result

    def _encode(self, call: _Call, row: _Row, timestep: float, layers: int, like: torch.Tensor) -> torch.Tensor:
        """Keys and values [layers, 2, S, d] of one prompt at one timestep."""
        outputs = [(at, *l.concept.embeddings(timestep, layers, l.truncation)) for at, l in row.places]
        encoder = _plain(call.pipe.text_encoder)
        model = getattr(encoder, "text_model", encoder)
        last = model.encoder.layers[len(model.encoder.layers) - 1 - (call.clip_skip or 0)]
        states, sequences = [], []

        def put_bases(module, args, output):
            output = output.clone()
            for at, base, _ in outputs:
                output[:, at : at + base.shape[1]] = base.to(output)
            return output

        def take_states(module, args, output):
            states.append(output[0] if isinstance(output, tuple) else output)

        def take_sequences(module, args, output):
            keys = module.forward(states[0])
            values = keys.clone()
            for at, _, bypass in outputs:
                if bypass is not None:
                    own = slice(at, at + bypass.shape[1])
                    values[:, own] = module.forward(add_bypass(states[0][:, own], bypass.to(keys.device)))
            sequences.append(torch.stack([keys, values], 1))

        ids = torch.tensor(row.ids, device=like.device).expand(layers, -1)
        with contextlib.ExitStack() as stack:
            for module, hook in (
                (encoder.get_input_embeddings(), put_bases), (last, take_states), (model.final_layer_norm, take_sequences)):
                stack.callback(module.register_forward_hook(hook).remove)
            if call.lora_scale is not None and USE_PEFT_BACKEND:
                scale_lora_layers(encoder, call.lora_scale)
                stack.callback(unscale_lora_layers, encoder, call.lora_scale)
            # Not through __call__: a compiled encoder would be compiled anew for these hooks.
            encoder.forward(ids)
        return sequences[0].to(like)


@dataclass(frozen=True, eq=False)
class _Loaded:
    concept: Concept
    path: str
    truncation: int | None


@dataclass(frozen=True, eq=False)
class _Row:
    """A prompt with concepts: token ids, padded, and where which concept stands, or begins."""

    ids: tuple[int, ...]
    places: tuple[tuple[int, _Loaded], ...]


@dataclass(eq=False)
class _Call:
    """What one call of a pipeline has asked for."""

    pipe: object
    parts: list[tuple]
    """Embeddings [B, S, d] and their rows, of the prompts and of the negative prompts."""
    lora_scale: float | None
    clip_skip: int | None
    known: tuple | None = None
    """The `encoder_hidden_states` seen last, and what its rows are."""
    kept: tuple | None = None
    """Timesteps, `encoder_hidden_states`, and the conditioning for them."""

    def rows_of(self, states) -> list:
        """Which prompts the rows of the U-Net's `encoder_hidden_states` [N, S, d] are; None for those without concepts."""
        if self.known is None or self.known[0] is not states:
            self.known = (states, self._match(states))
        return self.known[1]

    def _match(self, states) -> list:
        (positive, own), (negative, others) = self.parts
        n = len(own)
        if not isinstance(states, torch.Tensor) or states.ndim != 3 or n == 0 or len(states) % n:
            return self._lost(states)
        rows = []
        for i, chunk in enumerate(states.split(n)):
            # With guidance, the negative prompts come first.
            parts = [(negative, others), (positive, own)] if i == 0 and len(states) > n else [(positive, own), (negative, others)]
            found = next((r for e, r in parts if e is not None and e.shape == chunk.shape and torch.equal(e.to(chunk), chunk)), None)
            rows += (found or [None] * n) if found is not None else [None] * n
        return rows if any(rows) else self._lost(states)

    @staticmethod
    def _lost(states) -> list:
        warnings.warn(
            "the embeddings that reach the U-Net are not those of the prompt; concepts are left out", stacklevel=2)
        return []


class _LayerProcessor:
    """Cross-attention whose keys and values come from sequences of their own, where there are such."""

    def __init__(self, layer: int):
        self.layer = layer

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        keys = values = encoder_hidden_states
        if encoder_hidden_states.ndim == 5:
            keys, values = encoder_hidden_states[self.layer if len(encoder_hidden_states) > 1 else 0]
        batch, length, _ = keys.shape
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, length, batch)
            attention_mask = attention_mask.view(batch, attn.heads, -1, attention_mask.shape[-1])
        heads = (t.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for t in (
            attn.to_q(hidden_states), attn.to_k(keys), attn.to_v(values)))
        out = F.scaled_dot_product_attention(*heads, attn_mask=attention_mask).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](out))


_MOST_MADE = 16
"""Embeddings that are kept, to know copies of them again."""

_REPLACEABLE = {"AttnProcessor", "AttnProcessor2_0", "SlicedAttnProcessor", "XFormersAttnProcessor"}
"""Processors that compute plain attention, as ours does."""


def _check_family(pipe) -> None:
    name = type(pipe).__name__
    unet, encoder = getattr(pipe, "unet", None), getattr(pipe, "text_encoder", None)
    if (not isinstance(_plain(unet), UNet2DConditionModel) or not hasattr(pipe, "encode_prompt")
            or not type(_plain(encoder)).__name__.startswith("CLIPTextModel") or getattr(pipe, "text_encoder_2", None) is not None):
        raise ConceptError(f"NeTIConcepts: {name} is not a pipeline of Stable Diffusion 1 or 2, which this module is for")
    if _plain(unet).encoder_hid_proj is not None:
        raise ConceptError(f"NeTIConcepts: {name} has an IP-Adapter; concepts do not work beside it, unload it first")


def _plain(module):
    """A module without the wrapper of torch.compile."""
    return getattr(module, "_orig_mod", module)


def _cross_attentions(unet) -> list[tuple]:
    """The cross-attentions by the names of their blocks, in the order in which they run."""
    found = [(name.removesuffix(".attn2"), m) for name, m in unet.named_modules() if name.endswith(".attn2")]
    parts = ("down_blocks", "mid_block", "up_blocks")
    return sorted(found, key=lambda f: (parts.index(f[0].split(".")[0]), [int(p) for p in f[0].split(".") if p.isdigit()]))


def _table_hash(pipe, encoder) -> str | None:
    """SHA-256 of the token table in fp16, of the tokens that the model came with; None where it cannot be known."""
    table = encoder.get_input_embeddings().weight.detach()
    if table.device.type == "meta" or table.dtype == torch.bfloat16:
        return None
    return hashlib.sha256(table[: pipe.tokenizer.vocab_size].half().cpu().numpy().tobytes()).hexdigest()


def _restore_processor(attention, ours, before) -> None:
    if attention.processor is ours:
        attention.set_processor(before)


def _replace_method(stack: contextlib.ExitStack, target, name: str, replacement) -> None:
    """Calls replacement(original, …) instead of a method, until the stack is closed."""
    original = getattr(target, name)

    @functools.wraps(original)
    def wrapped(*args, **kwargs):
        return replacement(original, *args, **kwargs)

    had = target.__dict__.get(name)
    setattr(target, name, wrapped)
    stack.callback(setattr, target, name, had) if had is not None else stack.callback(delattr, target, name)
