"""ViT (Dosovitskiy et al. 2021) in Hugging Face's tongue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from modelworks.models._foreign import THEIR_ACTIVATIONS, Config, Part, joined, label_tree, unlike
from modelworks.models.vit import SIZES

TYPES = {"vit": "ViT"}
HEADS = {"classify": "ForImageClassification"}
CAUSAL = False
PREFIX = "vit."
BODY = "vit"
_PROJECTION = "embeddings.patch_embeddings.projection"


def read(config: Config) -> tuple[dict[str, Any], dict[str, Any] | None, int, int]:
    """As the other architectures; instead of a vocabulary the number of labels, of a context the image's side."""
    width = config.count("hidden_size", 768)
    model = {
        "width": width,
        "depth": config.count("num_hidden_layers", 12),
        "heads": config.count("num_attention_heads", 12),
        "ratio": config.count("intermediate_size", 3072) / width,
        "patch": config.count("patch_size", 16),
        "activation": config.activation("hidden_act", "gelu"),
        "eps": config.number("layer_norm_eps", 1e-12),
        "pooling": "cls",
        "positions": "learned",
        "dropout": config.take("hidden_dropout_prob", 0.0),
    }
    config.only("qkv_bias", True)
    for name in (
        "num_channels",
        "encoder_stride",
        "pooler_act",
        "pooler_output_size",
    ):  # in tensors, or unused
        config.take(name)
    labels = len(config.take("id2label", {"0": "", "1": ""}))
    return model, {"kind": "classify", "tied": False}, labels, config.count("image_size", 224)


def refusals(model: Any, task: Mapping[str, Any]) -> list[str]:
    wanted = {
        "pooling": ["cls"],
        "positions": ["learned"],
        "normalisation": ["layer"],
        "activation": THEIR_ACTIVATIONS,
    }
    odd = ["task.units: one"] if task.get("units") == "one" else []
    odd += [f"task.threshold: {task['threshold']}"] if task.get("threshold") else []
    return unlike(model, wanted) + odd


def write(model: Any, task: Mapping[str, Any], size: int, length: int) -> dict[str, Any]:
    width, depth, heads = _sizes(model)
    return {
        "model_type": "vit",
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": round(width * model.ratio),
        "hidden_act": THEIR_ACTIVATIONS[model.activation],
        "layer_norm_eps": model.eps,
        "hidden_dropout_prob": model.dropout,
        "image_size": length,
        **label_tree([f"LABEL_{code}" for code in range(size)]),
    }


def shapes(theirs: Mapping[str, Tensor]) -> dict[str, Any]:
    """What of the config the tensors alone know."""
    weight = next(tensor for name, tensor in theirs.items() if name.endswith(f"{_PROJECTION}.weight"))
    return {"num_channels": weight.shape[1], "patch_size": weight.shape[2]}


def parts(model: Any, tied: bool, kind: str) -> list[Part]:
    D, depth, _ = _sizes(model)
    found = [
        *_both("model.project", _PROJECTION),
        Part("model.cls", ("embeddings.cls_token",)),
        Part(
            "model.position.table_TD",
            ("embeddings.position_embeddings",),
            lambda t: t[0][0],
            lambda t: [t[None]],
        ),
    ]
    for index in range(depth):
        ours, theirs = f"model.blocks.{index}", f"encoder.layer.{index}"
        for leaf in ("weight", "bias"):
            names = [f"{theirs}.attention.attention.{part}.{leaf}" for part in ("query", "key", "value")]
            found.append(joined(f"{ours}.attention.qkv.{leaf}", names, (D, D, D)))
        found += _both(f"{ours}.attention.out", f"{theirs}.attention.output.dense")
        found += _both(f"{ours}.norm1", f"{theirs}.layernorm_before")
        found += _both(f"{ours}.norm2", f"{theirs}.layernorm_after")
        found += _both(f"{ours}.feedforward.up", f"{theirs}.intermediate.dense")
        found += _both(f"{ours}.feedforward.down", f"{theirs}.output.dense")
    found += _both("model.norm", "layernorm")
    if kind == "classify":
        found += _both("head", "classifier")
    return found


def _both(ours: str, theirs: str) -> list[Part]:
    return [Part(f"{ours}.{leaf}", (f"{theirs}.{leaf}",)) for leaf in ("weight", "bias")]


def _sizes(model: Any) -> tuple[int, int, int]:
    """Width, depth, heads, as vit.py takes them."""
    width, depth, heads = SIZES[model.size]
    known = max(1, model.width // 64) if model.width else heads
    return model.width or width, model.depth or depth, model.heads or known
