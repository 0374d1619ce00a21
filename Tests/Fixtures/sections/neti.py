"""NeTI from its formulas, in PyTorch over diffusers and transformers: forward, gradients, pictures.

- gradients.safetensors: on mini-sd, a mapper, four samples with prompts whose placeholders stand at
  different places, truncations per (layer, sample); the loss and the gradient of every parameter.
- pictures.safetensors: an imported concept of the authors' (hidden size 768) on a tiny random model whose
  weights both sides make from the same generator; 50 steps, final latents and the picture.
"""
import json, math, zlib
from pathlib import Path
import torch, torch.nn.functional as F
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent.parent.parent
MINI = ROOT / "Models/mini-sd"


class PerLayer:
    """Cross-attention whose keys and values come from sequences of their own."""
    def __init__(self): self.keys = self.values = None
    def __call__(self, attn, x, encoder_hidden_states=None, attention_mask=None, temb=None, **kw):
        b, n, c = x.shape
        k, v = (x, x) if encoder_hidden_states is None else (self.keys, self.values)
        q, k, v = attn.to_q(x), attn.to_k(k), attn.to_v(v)
        q, k, v = (t.view(b, -1, attn.heads, c // attn.heads).transpose(1, 2) for t in (q, k, v))
        o = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        return attn.to_out[1](attn.to_out[0](o))


def per_layer(unet):
    """Installs PerLayer everywhere; returns the cross-attentions in execution order (down, mid, up)."""
    processors = {n: PerLayer() for n in unet.attn_processors}
    unet.set_attn_processor(dict(processors))
    names = [n for n in processors if "attn2" in n]
    rank = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    names.sort(key=lambda n: (rank[n.split(".")[0]], [int(p) for p in n.split(".") if p.isdigit()]))
    return [processors[n] for n in names]


def encode_states(text, embeddings):
    """The encoder's states before its final LayerNorm, from token embeddings [N, S, d]."""
    model = getattr(text, "text_model", text)
    n, s, _ = embeddings.shape
    x = embeddings + model.embeddings.position_embedding.weight[:s]
    mask = torch.full((s, s), float("-inf")).triu(1)
    for layer in model.encoder.layers:
        h = layer.layer_norm1(x)
        a = layer.self_attn
        heads = lambda t: t.view(n, s, a.num_heads, -1).transpose(1, 2)
        o = F.scaled_dot_product_attention(heads(a.q_proj(h)), heads(a.k_proj(h)), heads(a.v_proj(h)), attn_mask=mask)
        x = x + a.out_proj(o.transpose(1, 2).reshape(n, s, -1))
        x = x + layer.mlp(layer.layer_norm2(x))
    return x


def mapper(p, t, l, norm, keep=None):
    """y(t, l) of DESIGN's formulas; p holds the tensors; keep[i] units of row i survive."""
    x = torch.stack([t, l], 1) @ p["frequencies"].T
    v = torch.cat([x.sin(), x.cos()], 1)
    h = F.linear(v / v.norm(dim=1, keepdim=True), p["input.weight"], p["input.bias"])
    for i in (1, 2):
        h = F.linear(h, p[f"hidden{i}.weight"], p[f"hidden{i}.bias"])
        h = F.leaky_relu(F.layer_norm(h, (128,), p[f"norm{i}.weight"], p[f"norm{i}.bias"]), 0.01)
    if keep is not None:
        h = h * (torch.arange(128)[None] < keep[:, None]).float()
    y = F.linear(h, p["output.weight"], p["output.bias"])
    return y if norm is None else F.normalize(y, dim=-1) * norm


def conditioning(text, ids, position, y):
    """Sequences for keys and for values: base at the placeholder, then the bypass at the output."""
    d = text.get_input_embeddings().weight.shape[1]
    base, bypass = y[:, :d], y[:, d:]
    rows = torch.arange(len(ids))
    e = text.get_input_embeddings().weight[ids].clone()
    e[rows, position] = base
    h = encode_states(text, e)
    hp = h[rows, position]
    g = h.clone()
    g[rows, position] = hp + 0.2 * bypass / bypass.norm(dim=1, keepdim=True) * hp.norm(dim=1, keepdim=True)
    ln = getattr(text, "text_model", text).final_layer_norm
    return ln(h), ln(g)


def latents(n):
    """The first images of an example, encoded."""
    import numpy as np
    from diffusers import AutoencoderKL
    from PIL import Image
    vae = AutoencoderKL.from_pretrained(MINI / "vae", torch_dtype=torch.float32).eval()
    images = [Image.open(MINI.parents[1] / f"Examples/ginger/{i + 1}.jpg").convert("RGB").resize((128, 128)) for i in range(n)]
    pixels = torch.stack([torch.from_numpy(np.array(i)).permute(2, 0, 1) / 127.5 - 1 for i in images])
    with torch.no_grad(): return (vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor).contiguous()


def gradients(out):
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel
    unet = UNet2DConditionModel.from_pretrained(MINI / "unet", torch_dtype=torch.float32).eval().requires_grad_(False)
    text = CLIPTextModel.from_pretrained(MINI / "text_encoder", torch_dtype=torch.float32).eval().requires_grad_(False)
    layers = per_layer(unet)
    L, d, n = len(layers), 128, 4
    g = torch.Generator().manual_seed(11)
    w = torch.randn(16, 2, generator=g) * torch.tensor([0.03, 2.0])
    anchors, inner = 2 * L, 32
    shapes = {"input": (anchors, inner), "hidden1": (128, anchors), "hidden2": (128, 128), "output": (2 * d, 128)}
    p = {}
    for k, s in shapes.items():
        p[f"{k}.weight"] = torch.randn(s, generator=g) / math.sqrt(s[1])
        p[f"{k}.bias"] = torch.randn(s[0], generator=g) * 0.1
    for i in (1, 2):
        p[f"norm{i}.weight"] = 1 + 0.1 * torch.randn(128, generator=g)
        p[f"norm{i}.bias"] = 0.1 * torch.randn(128, generator=g)
    for v in p.values(): v.requires_grad_(True)
    q = dict(p, frequencies=w)
    # ids are free: only the placeholder's place matters, its row is overwritten.
    ids = torch.randint(0, 808, (n, 32), generator=g)
    ids[:, 0] = 925
    position = torch.tensor([5, 2, 9, 5])
    t = torch.tensor([3, 250, 611, 999])
    keep = torch.where(torch.rand(L, n, generator=g) < 0.5, torch.randint(0, 128, (L, n), generator=g), 128)
    clean = latents(n)  # of real images: noise in their place would make gradients that rounding decides
    noise = torch.randn(n, 8, 16, 16, generator=g)
    from diffusers import DDPMScheduler
    noisy = DDPMScheduler.from_pretrained(MINI / "scheduler").add_noise(clean, noise, t)
    norm = 0.45
    first = {}
    for i, a in enumerate(layers):
        y = mapper(q, t.float(), torch.full((n,), float(i)), norm, keep[i])
        a.keys, a.values = conditioning(text, ids, position, y)
        if i in (0, 7): first[f"keys.{i}"], first[f"values.{i}"] = a.keys.detach()[:2].contiguous(), a.values.detach()[:2].contiguous()
    prediction = unet(noisy, t, torch.zeros(n, 32, d)).sample
    loss = F.mse_loss(prediction, noise)
    loss.backward()
    save_file({**{f"parameter.{k}": v.detach() for k, v in q.items()}, **{f"gradient.{k}": v.grad for k, v in p.items()}, **first,
               "ids": ids, "position": position, "timesteps": t, "keep": keep, "clean": clean, "noise": noise,
               "prediction": prediction.detach(), "loss": loss.detach(), "norm": torch.tensor(norm)}, out / "gradients.safetensors")


def fill(module):
    """Weights that another program can make too: each from a generator seeded by its name's CRC-32."""
    shapes = {}
    with torch.no_grad():
        for k, v in module.state_dict().items():
            if k.endswith("position_ids"): continue
            shapes[k] = list(v.shape)
            if v.ndim > 1:
                fan_in = v[0].numel()
                v.copy_(torch.randn(v.shape, generator=torch.Generator().manual_seed(zlib.crc32(k.encode()))) / math.sqrt(fan_in))
            else:
                v.fill_(1.0 if k.endswith("weight") else 0.0)
    return shapes


def pictures(out):
    import sys, types
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
    unet_config = dict(sample_size=8, in_channels=4, out_channels=4, layers_per_block=2, block_out_channels=[16, 32, 32, 32],
                       down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
                       cross_attention_dim=768, attention_head_dim=4, norm_num_groups=8)
    vae_config = dict(in_channels=3, out_channels=3, latent_channels=4, layers_per_block=1, block_out_channels=[8, 16], sample_size=16,
                      down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2, norm_num_groups=4, scaling_factor=0.18215)
    text_config = dict(hidden_size=768, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, vocab_size=927, max_position_embeddings=32,
                       hidden_act="quick_gelu", layer_norm_eps=1e-5, projection_dim=768, bos_token_id=925, eos_token_id=926, pad_token_id=926)
    scheduler_config = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, steps_offset=1,
                            final_sigmas_type="sigma_min", _class_name="DPMSolverMultistepScheduler")
    unet, vae = UNet2DConditionModel(**unet_config).eval(), AutoencoderKL(**vae_config).eval()
    text = CLIPTextModel(CLIPTextConfig(**text_config)).eval()
    shapes = {"unet": fill(unet), "vae": fill(vae), "text_encoder": fill(text)}
    # The authors' file: a stand-in takes the place of their encoder class.
    stub = types.ModuleType("models.positional_encoding")
    stub.NeTIPositionalEncoding = type("NeTIPositionalEncoding", (torch.nn.Module,), {})
    sys.modules["models"], sys.modules["models.positional_encoding"] = types.ModuleType("models"), stub
    folder = ROOT / "Tests/Fixtures/authors/default"
    file = torch.load(folder / "mapper-steps-5.pt", map_location="cpu", weights_only=False)
    state, names = file["state_dict"], {"input": "net.0", "hidden1": "net.1", "norm1": "net.2", "hidden2": "net.4", "norm2": "net.5", "output": "output_layer.0"}
    p = {f"{k}.{s}": state[f"{v}.{s}"] for k, v in names.items() for s in ("weight", "bias")}
    p["frequencies"] = file["encoder"].w.detach()
    norm = file["cfg"]["model"]["target_norm"]

    tokenizer = CLIPTokenizer.from_pretrained(MINI / "tokenizer")
    word = lambda s: tokenizer(s, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
    prompt = "a photo of {} on a beach"
    ids = word(prompt.format("cat"))            # the placeholder takes the place of one token
    position = int((ids[0] == word("cat")[0, 1]).nonzero()[0])
    layers = per_layer(unet)
    scheduler = DPMSolverMultistepScheduler.from_config(scheduler_config)
    scheduler.set_timesteps(50)
    seed, guidance, truncation = 5, 7.5, 64
    with torch.no_grad():
        negative = text(word("")).last_hidden_state
        x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            for a in layers: a.keys = a.values = negative
            unconditional = unet(x, t, negative).sample
            for i, a in enumerate(layers):
                y = mapper(p, t.float()[None], torch.tensor([float(i)]), norm, torch.tensor([truncation]))
                a.keys, a.values = conditioning(text, ids, torch.tensor([position]), y)
            e = unet(x, t, negative).sample
            x = scheduler.step(unconditional + guidance * (e - unconditional), t, x).prev_sample
        image = vae.decode(x / vae_config["scaling_factor"]).sample
    picture = ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    save_file({"latents": x, "picture": picture[0].permute(1, 2, 0).contiguous(), "final_image": image}, out / "pictures.safetensors")
    json.dump({"unet": unet_config, "vae": vae_config, "text_encoder": text_config, "scheduler": scheduler_config, "shapes": shapes, "prompt": prompt,
               "seed": seed, "guidance": guidance, "truncation": truncation, "steps": 50}, open(out / "pictures.json", "w"), indent=1, sort_keys=True)


def make(out: Path):
    torch.set_num_threads(2)
    gradients(out)
    pictures(out)
