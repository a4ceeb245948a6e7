"""nanochat's GPT (Karpathy 2025) in Hugging Face's tongue: QK-norm, ReLU², weightless norms, soft-cap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelworks.models._foreign import (
    THEIR_ACTIVATIONS,
    Config,
    Part,
    decoder_tree,
    rotated,
    unlike,
)

TYPES = {"nanochat": "NanoChat"}
HEADS = {"language": "ForCausalLM"}
CAUSAL = True
PREFIX = "model."


def read(config: Config) -> tuple[dict[str, Any], dict[str, Any] | None, int, int]:
    width, heads = config.count("hidden_size", 768), config.count("num_attention_heads", 6)
    length = config.count("max_position_embeddings", 2048)
    config.only("attention_bias", False)
    model = {
        "width": width,
        "depth": config.count("num_hidden_layers", 12),
        "heads": heads,
        "kv_heads": config.count("num_key_value_heads", heads),
        "head_width": config.count("head_dim", width // heads),
        "hidden": config.count("intermediate_size", 8192),
        "activation": config.activation("hidden_act", "relu2"),
        "normalisation": "rms",
        "norm_weight": False,
        "eps": config.number("rms_norm_eps", 1e-6),
        "embedding_norm": True,
        "qk_norm": True,
        "bias": False,
        "positions": "rope",
        **config.rope(length),
        "dropout": 0.0,
    }
    tied = bool(config.take("tie_word_embeddings", False))
    # Null means that there is none; the key's absence means transformers' default.
    softcap = config.take("final_logit_softcapping") if "final_logit_softcapping" in config.tree else 15.0
    config.take("final_logit_softcapping")
    task = {"kind": "language", "tied": tied, "softcap": softcap}
    return model, task, config.count("vocab_size", 50304), length


def refusals(model: Any, task: Mapping[str, Any]) -> list[str]:
    wanted = {
        "positions": ["rope"], "order": ["pre"], "normalisation": ["rms"], "norm_weight": [False],
        "embedding_norm": [True], "qk_norm": [True], "gated": [False], "bias": [False], "window": [None],
        "experts": [1], "value_residual": [False], "ngrams": [1], "segments": [0], "activation": THEIR_ACTIVATIONS,
    }  # fmt: skip
    return unlike(model, wanted)


def write(model: Any, task: Mapping[str, Any], size: int, length: int) -> dict[str, Any]:
    return {
        "model_type": "nanochat",
        **decoder_tree(model, size, length),
        "final_logit_softcapping": task.get("softcap"),
        "tie_word_embeddings": bool(task.get("tied")),
    }


def parts(model: Any, tied: bool, kind: str) -> list[Part]:
    found = [Part("model.embed.weight", ("embed_tokens.weight",))]
    for index in range(model.depth):
        ours, theirs = f"model.blocks.{index}", f"layers.{index}"
        names = [f"{theirs}.self_attn.{part}_proj.weight" for part in "qkv"]
        found.append(rotated(f"{ours}.attention.qkv.weight", names, model, flip=True))
        found.append(Part(f"{ours}.attention.out.weight", (f"{theirs}.self_attn.o_proj.weight",)))
        found.append(Part(f"{ours}.feedforward.up.weight", (f"{theirs}.mlp.fc1.weight",)))
        found.append(Part(f"{ours}.feedforward.down.weight", (f"{theirs}.mlp.fc2.weight",)))
    if not tied and kind == "language":
        found.append(Part("head.weight", ("lm_head.weight",)))
    return found
