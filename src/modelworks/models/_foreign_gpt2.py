"""GPT-2 (Radford et al. 2019) in Hugging Face's tongue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelworks.models._foreign import THEIR_ACTIVATIONS, Config, Part, hidden, tag_head, transposed, unlike

TYPES = {"gpt2": "GPT2"}
HEADS = {"language": "LMHeadModel", "tag": "ForTokenClassification"}
CAUSAL = True
PREFIX = "transformer."


def read(config: Config) -> tuple[dict[str, Any], dict[str, Any] | None, int, int]:
    width, length = config.count("n_embd", 768), config.count("n_positions", 1024)
    model = {
        "width": width,
        "depth": config.count("n_layer", 12),
        "heads": config.count("n_head", 12),
        "hidden": config.count("n_inner", 4 * width),
        "activation": config.activation("activation_function", "gelu_new"),
        "eps": config.number("layer_norm_epsilon", 1e-5),
        "positions": "learned",
        "dropout": 0.0,
    }
    config.only("scale_attn_weights", True)
    config.only("scale_attn_by_inverse_layer_idx", False)
    config.only("add_cross_attention", False)
    tied = bool(config.take("tie_word_embeddings", True))
    return model, {"kind": "language", "tied": tied}, config.count("vocab_size", 50257), length


def refusals(model: Any, task: Mapping[str, Any]) -> list[str]:
    wanted = {
        "positions": ["learned"], "order": ["pre"], "normalisation": ["layer"], "norm_weight": [True],
        "embedding_norm": [False], "gated": [False], "kv_heads": [None, model.heads],
        "head_width": [None, model.width // model.heads], "qk_norm": [False], "window": [None],
        "experts": [1], "value_residual": [False], "ngrams": [1], "segments": [0], "bias": [True, False],
        "activation": THEIR_ACTIVATIONS,
    }  # fmt: skip
    return unlike(model, wanted) + ([f"task.softcap: {task['softcap']}"] if task.get("softcap") else [])


def write(model: Any, task: Mapping[str, Any], size: int, length: int) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "vocab_size": size,
        "n_positions": length,
        "n_embd": model.width,
        "n_layer": model.depth,
        "n_head": model.heads,
        "n_inner": hidden(model),
        "activation_function": THEIR_ACTIVATIONS[model.activation],
        "layer_norm_epsilon": model.eps,
        "resid_pdrop": model.dropout,
        "embd_pdrop": model.dropout,
        "attn_pdrop": model.attention_dropout,
        "tie_word_embeddings": bool(task.get("tied")),
    }


def parts(model: Any, tied: bool, kind: str) -> list[Part]:
    D, M = model.width, hidden(model)
    found = [
        Part("model.embed.weight", ("wte.weight",)),
        Part("model.position.table_TD", ("wpe.weight",)),
    ]
    for index in range(model.depth):
        ours, theirs = f"model.blocks.{index}", f"h.{index}"
        for norm, name in (("norm1", "ln_1"), ("norm2", "ln_2")):
            found += _norm(model, f"{ours}.{norm}", f"{theirs}.{name}")
        for own, name, rows in (
            ("attention.qkv", "attn.c_attn", 3 * D),
            ("attention.out", "attn.c_proj", D),
            ("feedforward.up", "mlp.c_fc", M),
            ("feedforward.down", "mlp.c_proj", D),
        ):
            found.append(transposed(f"{ours}.{own}.weight", f"{theirs}.{name}.weight"))
            found.append(_bias(model, f"{ours}.{own}.bias", f"{theirs}.{name}.bias", rows))
    found += _norm(model, "model.norm", "ln_f")
    if not tied and kind == "language":
        found.append(Part("head.weight", ("lm_head.weight",)))
    return found + (tag_head("classifier") if kind == "tag" else [])


def _norm(model: Any, ours: str, theirs: str) -> list[Part]:
    return [
        Part(f"{ours}.weight", (f"{theirs}.weight",)),
        _bias(model, f"{ours}.bias", f"{theirs}.bias", model.width),
    ]


def _bias(model: Any, ours: str, theirs: str, rows: int) -> Part:
    return Part(ours if model.bias is True else "", (theirs,), constant=(0.0, (rows,)))
