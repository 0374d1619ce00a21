"""Concepts on SDXL, in PyTorch over diffusers and transformers, on the small random model of `families`.

NeTI for SDXL, as docs/sdxl.md says it: the space axis is the spatial transformers, whose blocks all share one
embedding; one mapper gives each text encoder a base and a bypass, normalised together to the category's norm in that
encoder; the bypass is added to the states of the last layer but one; the pooled text has the category's word. `xti` has
a vector for each spatial transformer, `ti` one vector, which stands in the pooled text as well. For each the loss of
four samples, and the gradient of every parameter; then those of a mapper and an `xti` in one prompt.
"""
import math, tempfile
from pathlib import Path
from types import SimpleNamespace

import _sdxl
import families
import torch, torch.nn.functional as F
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from neti import PerLayer
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

PROMPTS = ["a photo of a {} on a beach!", "{} in the snow"]
WORD = "cat"
# Two concepts: a mapper and a vector for each layer.
TWO, OTHER_WORD = "a photo of a {} next to a {}!", "mug"
OF = [0, 1, 1, 0]
SIZES = [[640, 480, 0, 16, 64, 64], [64, 64, 0, 0, 64, 64]]


def model():
    models = {"unet": UNet2DConditionModel.from_config(_sdxl.UNET).eval(),
              "text_encoder": CLIPTextModel(CLIPTextConfig(**_sdxl.TEXTS[0])).eval(),
              "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(**_sdxl.TEXTS[1])).eval()}
    for component, m in models.items():
        m.requires_grad_(False)
        for name, p in m.state_dict().items():
            if component.startswith("text") and name != "text_projection.weight":
                name = f"text_model.{families.bare(name)}"
            p.copy_(families.draw(component, name, list(p.shape), {}))
    return SimpleNamespace(**models)


def transformers(unet):
    """The processors of the cross-attentions, a list for each spatial transformer, in execution order."""
    processors = {n: PerLayer() for n in unet.attn_processors}
    unet.set_attn_processor(dict(processors))
    rank, groups = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}, {}
    for n, p in processors.items():
        if "attn2" in n:
            path = n.split(".transformer_blocks.")[0].split(".")
            groups.setdefault((rank[path[0]], *[int(x) for x in path if x.isdigit()]), []).append(p)
    return [groups[k] for k in sorted(groups)]


def states(text, embeddings):
    """The states behind the last layer but one, and the pooled output's source: those behind the last, normed."""
    m = getattr(text, "text_model", text)
    n, s, _ = embeddings.shape
    x = embeddings + m.embeddings.position_embedding.weight[:s]
    mask = torch.full((s, s), float("-inf")).triu(1)
    for layer in m.encoder.layers:
        before, h, a = x, layer.layer_norm1(x), layer.self_attn
        heads = lambda t: t.view(n, s, a.num_heads, -1).transpose(1, 2)
        o = F.scaled_dot_product_attention(heads(a.q_proj(h)), heads(a.k_proj(h)), heads(a.v_proj(h)), attn_mask=mask)
        x = x + a.out_proj(o.transpose(1, 2).reshape(n, s, -1))
        x = x + layer.mlp(layer.layer_norm2(x))
    return before, m.final_layer_norm(x)


def table(text):
    return text.get_input_embeddings().weight


def mapper(p, t, l, sizes, norms):
    x = torch.stack([t, l], 1) @ p["frequencies"].T
    v = torch.cat([x.sin(), x.cos()], 1)
    h = F.linear(v / v.norm(dim=1, keepdim=True), p["input.weight"], p["input.bias"])
    for i in (1, 2):
        h = F.linear(h, p[f"hidden{i}.weight"], p[f"hidden{i}.bias"])
        h = F.leaky_relu(F.layer_norm(h, (128,), p[f"norm{i}.weight"], p[f"norm{i}.bias"]), 0.01)
    y = F.linear(h, p["output.weight"], p["output.bias"])
    pairs = [F.normalize(part, dim=-1) * n for part, n in zip(y.split([2 * d for d in sizes], 1), norms)]
    return [pair.chunk(2, 1) for pair in pairs]


def tokens(tokenizers, prompts, words):
    """For each encoder the ids of each prompt and where its placeholders are; of the last the ids with the words."""
    each = []
    for tokenizer in tokenizers:
        ids, positions = [], []
        for prompt in prompts:
            head, *rest = (tokenizer(part, add_special_tokens=False).input_ids for part in prompt.split("{}"))
            all_ids, at = [49406] + head, []
            for part in rest:
                at.append(len(all_ids))
                all_ids += [0] + part
            all_ids.append(49407)
            ids.append(all_ids + [tokenizer.pad_token_id] * (77 - len(all_ids)))
            positions.append(at)
        each.append((torch.tensor(ids), torch.tensor(positions)))
    plain = tokenizers[-1]([p.format(*words) for p in prompts], padding="max_length", max_length=77,
                           return_tensors="pt").input_ids
    return each, plain


def pooled(text, ids, embeddings):
    ends = (ids == 49407).int().argmax(-1)
    last = states(text, embeddings)[1]
    return text.text_projection(last[torch.arange(len(ids)), ends])


def make(out: Path):
    m = model()
    encoders, sizes = [m.text_encoder, m.text_encoder_2], [64, 128]
    layers = transformers(m.unet)
    L, n = len(layers), len(OF)
    with tempfile.TemporaryDirectory() as scratch:
        families.make_vocabulary(Path(scratch) / "tokenizer")
        tokenizers = [CLIPTokenizer.from_pretrained(f"{scratch}/tokenizer", pad_token=pad) for pad in _sdxl.PADS]
        each, plain = tokens(tokenizers, PROMPTS, [WORD])
        both, plain_both = tokens(tokenizers, [TWO], [WORD, OTHER_WORD])
        word = tokenizers[0](WORD, add_special_tokens=False).input_ids[-1]
    g = torch.Generator().manual_seed(21)
    clean, noise = torch.randn((2, n, 4, 8, 8), generator=g)
    t = torch.tensor([3, 250, 611, 999])
    alphas = EulerDiscreteScheduler.from_config(_sdxl.SCHEDULER).alphas_cumprod[t][:, None, None, None]
    noisy = alphas.sqrt() * clean + (1 - alphas).sqrt() * noise
    norms = [table(e)[word].norm().item() for e in encoders]
    plain_pooled = pooled(m.text_encoder_2, plain, table(m.text_encoder_2)[plain])
    of, rows = torch.tensor(OF), torch.arange(n)
    time_ids = torch.tensor([SIZES[i] for i in OF], dtype=torch.float32)
    tensors = {"clean": clean, "noise": noise, "timesteps": t, "norms": torch.tensor(norms), "pooled": plain_pooled,
               "ids": each[0][0], "ids_2": each[1][0], "plain": plain}

    def loss(embeddings, pool, each=each, of=of):
        for l, blocks in enumerate(layers):
            # Of each concept a base and a bypass for each encoder.
            parts = [embedding(l) for embedding in embeddings]
            keys, values = [], []
            for i, (encoder, (ids, positions)) in enumerate(zip(encoders, each)):
                e, places = table(encoder)[ids][of].clone(), positions[of].T
                for at, part in zip(places, parts):
                    e[rows, at] = part[i][0]
                h = states(encoder, e)[0]
                keys.append(h)
                for at, part in zip(places, parts):
                    bypass = part[i][1]
                    if bypass is not None:
                        hp, h = h[rows, at], h.clone()
                        h[rows, at] = hp + 0.2 * bypass / bypass.norm(dim=1, keepdim=True) * hp.norm(dim=1, keepdim=True)
                values.append(h)
            for a in blocks:
                a.keys, a.values = torch.cat(keys, 2), torch.cat(values, 2)
            if l in (0, 5) and len(embeddings) == 1:
                tensors[f"keys.{l}"], tensors[f"values.{l}"] = (x.detach()[:2, :12].contiguous() for x in (a.keys, a.values))
        added = {"text_embeds": pool[of], "time_ids": time_ids}
        return F.mse_loss(m.unet(noisy, t, torch.zeros(n, 77, sum(sizes)), added_cond_kwargs=added).sample, noise)

    # Learned vectors first, so that the keys and values that are kept are the mapper's.
    vectors = {k: (0.3 * torch.randn((rows_, sum(sizes)), generator=g)).requires_grad_(True) for k, rows_ in [("ti", 1), ("xti", L)]}
    split = lambda v: [(x, None) for x in v.split(sizes, 1)]
    ids, positions = each[1]
    e = table(m.text_encoder_2)[ids].clone()
    e[torch.arange(len(PROMPTS)), positions[:, 0]] = vectors["ti"][:, sizes[0]:].expand(len(PROMPTS), -1)
    ti_pooled = pooled(m.text_encoder_2, ids, e)
    tensors["ti.pooled"] = ti_pooled.detach()
    for kind, pool in [("ti", ti_pooled), ("xti", plain_pooled)]:
        v = vectors[kind]
        value = loss([lambda l: split(v[l if kind == "xti" else 0].expand(n, -1))], pool)
        value.backward()
        tensors |= {f"{kind}.vectors": v.detach(), f"{kind}.gradient": v.grad, f"{kind}.loss": value.detach()}

    p, anchors, inner = {}, 2 * L, 32
    frequencies = torch.randn(16, 2, generator=g) * torch.tensor([0.03, 2.0])
    for k, s in {"input": (anchors, inner), "hidden1": (128, anchors), "hidden2": (128, 128),
                 "output": (2 * sum(sizes), 128)}.items():
        p[f"{k}.weight"] = torch.randn(s, generator=g) / math.sqrt(s[1])
        p[f"{k}.bias"] = torch.randn(s[0], generator=g) * 0.1
    for i in (1, 2):
        p[f"norm{i}.weight"] = 1 + 0.1 * torch.randn(128, generator=g)
        p[f"norm{i}.bias"] = 0.1 * torch.randn(128, generator=g)
    for v in p.values():
        v.requires_grad_(True)
    q = dict(p, frequencies=frequencies)
    learned = lambda l: mapper(q, t.float(), torch.full((n,), float(l)), sizes, norms)
    value = loss([learned], plain_pooled)
    value.backward()
    tensors |= {f"parameter.{k}": v.detach() for k, v in q.items()} | {f"gradient.{k}": v.grad for k, v in p.items()}
    tensors["loss"] = value.detach()

    for v in [*p.values(), vectors["xti"]]:
        v.grad = None
    value = loss([learned, lambda l: split(vectors["xti"][l].expand(n, -1))],
                 pooled(m.text_encoder_2, plain_both, table(m.text_encoder_2)[plain_both]), both, torch.zeros(n, dtype=int))
    value.backward()
    tensors |= {"two.loss": value.detach(), "two.mapper.gradient": p["output.weight"].grad,
                "two.xti.gradient": vectors["xti"].grad}
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "gradients.safetensors")
