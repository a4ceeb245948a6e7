"""BERT (Devlin et al. 2018; MiniLM is one) in Hugging Face's tongue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelworks.models._foreign import THEIR_ACTIVATIONS, Config, Part, hidden, joined, tag_head, unlike

TYPES = {"bert": "Bert"}
HEADS = {"mask": "ForMaskedLM", "tag": "ForTokenClassification"}
CAUSAL = False
PREFIX = "bert."


def read(config: Config) -> tuple[dict[str, Any], dict[str, Any] | None, int, int]:
    width, length = config.count("hidden_size", 768), config.count("max_position_embeddings", 512)
    model = {
        "width": width,
        "depth": config.count("num_hidden_layers", 12),
        "heads": config.count("num_attention_heads", 12),
        "hidden": config.count("intermediate_size", 3072),
        "activation": config.activation("hidden_act", "gelu"),
        "eps": config.number("layer_norm_eps", 1e-12),
        "order": "post",
        "positions": "learned",
        "embedding_norm": True,
        "segments": config.count("type_vocab_size", 2),
        "dropout": config.take("hidden_dropout_prob", 0.1),
        "attention_dropout": 0.0,  # above 0 torch's fused kernel cannot be used
    }
    config.only("position_embedding_type", "absolute")
    config.only("is_decoder", False)
    config.only("add_cross_attention", False)
    tied = bool(config.take("tie_word_embeddings", True))
    return model, {"kind": "mask", "tied": tied}, config.count("vocab_size", 30522), length


def refusals(model: Any, task: Mapping[str, Any]) -> list[str]:
    wanted = {
        "positions": ["learned"], "order": ["post"], "normalisation": ["layer"], "norm_weight": [True],
        "embedding_norm": [True], "gated": [False], "kv_heads": [None, model.heads],
        "head_width": [None, model.width // model.heads], "qk_norm": [False], "window": [None],
        "experts": [1], "value_residual": [False], "ngrams": [1], "bias": [True], "activation": THEIR_ACTIVATIONS,
    }  # fmt: skip
    odd = unlike(model, wanted)
    if task.get("kind") == "mask":
        odd += [f"task.{name}: {task[name]!r}" for name in ("transform", "bias") if not task.get(name, True)]
    return odd


def write(model: Any, task: Mapping[str, Any], size: int, length: int) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "tie_word_embeddings": bool(task.get("tied", True)),
        "vocab_size": size,
        "hidden_size": model.width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.heads,
        "intermediate_size": hidden(model),
        "hidden_act": THEIR_ACTIVATIONS[model.activation],
        "max_position_embeddings": length,
        "type_vocab_size": model.segments or 1,
        "layer_norm_eps": model.eps,
        "hidden_dropout_prob": model.dropout,
        "attention_probs_dropout_prob": model.attention_dropout,
        "pad_token_id": 0,
    }


def parts(model: Any, tied: bool, kind: str) -> list[Part]:
    D = model.width
    found = [
        Part("model.embed.weight", ("embeddings.word_embeddings.weight",)),
        Part("model.position.table_TD", ("embeddings.position_embeddings.weight",)),
        Part(
            "model.segment.weight" if model.segments else "",
            ("embeddings.token_type_embeddings.weight",),
            constant=(0.0, (1, D)),
        ),
        *_both("model.norm0", "embeddings.LayerNorm"),
    ]
    for index in range(model.depth):
        ours, theirs = f"model.blocks.{index}", f"encoder.layer.{index}"
        for leaf in ("weight", "bias"):
            names = [f"{theirs}.attention.self.{part}.{leaf}" for part in ("query", "key", "value")]
            found.append(joined(f"{ours}.attention.qkv.{leaf}", names, (D, D, D)))
        found += _both(f"{ours}.attention.out", f"{theirs}.attention.output.dense")
        found += _both(f"{ours}.norm1", f"{theirs}.attention.output.LayerNorm")
        found += _both(f"{ours}.feedforward.up", f"{theirs}.intermediate.dense")
        found += _both(f"{ours}.feedforward.down", f"{theirs}.output.dense")
        found += _both(f"{ours}.norm2", f"{theirs}.output.LayerNorm")
    if kind == "mask":
        found += _both("head.dense", "cls.predictions.transform.dense")
        found += _both("head.norm", "cls.predictions.transform.LayerNorm")
        found.append(Part("head.bias", ("cls.predictions.bias",)))
        if not tied:
            found.append(Part("head.weight", ("cls.predictions.decoder.weight",)))
    return found + (tag_head("classifier") if kind == "tag" else [])


def _both(ours: str, theirs: str) -> list[Part]:
    return [Part(f"{ours}.{leaf}", (f"{theirs}.{leaf}",)) for leaf in ("weight", "bias")]
