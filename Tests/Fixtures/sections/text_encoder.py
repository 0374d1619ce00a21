"""CLIP text encoders at tiny random configurations, and mini-sd's: transformers' CLIPTextModel in fp32."""
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

ROOT = Path(__file__).resolve().parents[3]

CASES = {
    "quick_gelu": dict(hidden_act="quick_gelu", hidden_size=24, intermediate_size=40, num_hidden_layers=3,
                       num_attention_heads=4, max_position_embeddings=12, vocab_size=50, layer_norm_eps=1e-5),
    "gelu": dict(hidden_act="gelu", hidden_size=16, intermediate_size=64, num_hidden_layers=2,
                 num_attention_heads=2, max_position_embeddings=9, vocab_size=30, layer_norm_eps=1e-3),
}


def bare(name):
    return name.removeprefix("text_model.")


def states(model, embeddings):
    """The states before the final LayerNorm, from input embeddings, caught where the norm gets them."""
    inner = getattr(model, "text_model", model)
    caught = []
    hook = inner.final_layer_norm.register_forward_pre_hook(lambda m, a: caught.append(a[0]))
    table = inner.embeddings.token_embedding
    swap = table.register_forward_hook(lambda m, a, out: embeddings)
    ids = torch.full(embeddings.shape[:2], model.config.vocab_size - 1)
    last = model(input_ids=ids).last_hidden_state
    hook.remove()
    swap.remove()
    return caught[0], last


def make(out: Path):
    for name, c in CASES.items():
        torch.manual_seed(5)
        # eos_token_id only picks the pooled token, which is not compared.
        config = CLIPTextConfig(**c, eos_token_id=c["vocab_size"] - 1, bos_token_id=0, pad_token_id=0)
        model = CLIPTextModel(config).eval().float()
        g = torch.Generator().manual_seed(6)
        with torch.no_grad():
            for p in model.parameters():  # norms and biases too: at initialisation they are ones and zeros
                p.add_(torch.randn(p.shape, generator=g) * 0.2)
        tensors = {"w." + k: v.detach().contiguous() for k, v in model.state_dict().items() if "position_ids" not in k}
        n = c["max_position_embeddings"]
        ids = torch.randint(0, c["vocab_size"], (3, n), generator=g)
        embeddings = torch.randn((3, n, c["hidden_size"]), generator=g).requires_grad_()
        before, last = states(model, embeddings)
        seed = torch.randn(before.shape, generator=g)
        gradient, = torch.autograd.grad((before * seed).sum(), embeddings)
        tensors |= {"ids": ids, "last": model(input_ids=ids).last_hidden_state, "embeddings": embeddings,
                    "states": before, "states_last": last, "seed": seed, "gradient": gradient}
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, out / f"{name}.safetensors")
        (out / f"{name}.json").write_text(json.dumps(c, indent=1))
    model = CLIPTextModel.from_pretrained(ROOT / "Models/mini-sd/text_encoder", dtype=torch.float32).eval()
    g = torch.Generator().manual_seed(7)
    ids = torch.randint(0, model.config.vocab_size, (2, 32), generator=g)
    with torch.no_grad():
        save_file({"ids": ids, "last": model(input_ids=ids).last_hidden_state}, out / "mini_sd.safetensors")
