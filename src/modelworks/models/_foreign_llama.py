"""Llama (Touvron et al. 2023; SmolLM2 is one), Mistral, Qwen2 and Qwen3 in Hugging Face's tongue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelworks.core.errors import UserError
from modelworks.models._foreign import (
    THEIR_ACTIVATIONS,
    Config,
    Part,
    decoder_tree,
    halves,
    hidden,
    joined,
    pairs,
    rotated,
    shape,
    tag_head,
    unlike,
)

TYPES = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
}
HEADS = {"language": "ForCausalLM", "tag": "ForTokenClassification"}
CAUSAL = True
PREFIX = "model."
_EPS = {"llama": 1e-6, "mistral": 1e-6, "qwen2": 1e-6, "qwen3": 1e-6}


def read(config: Config) -> tuple[dict[str, Any], dict[str, Any] | None, int, int]:
    kind = config.type
    width, heads, depth = (
        config.count(name) for name in ("hidden_size", "num_attention_heads", "num_hidden_layers")
    )
    length = config.count("max_position_embeddings", 32768 if kind in ("qwen2", "qwen3") else 2048)
    model = {
        "width": width,
        "depth": depth,
        "heads": heads,
        "kv_heads": config.count("num_key_value_heads", heads),
        "head_width": config.count("head_dim", 128 if kind == "qwen3" else width // heads),
        "hidden": config.count("intermediate_size"),
        "gated": True,
        "activation": config.activation("hidden_act", "silu"),
        "normalisation": "rms",
        "eps": config.number("rms_norm_eps", _EPS[kind]),
        "positions": "rope",
        **config.rope(length),
        "bias": _bias(config, kind),
        "qk_norm": kind == "qwen3",
        "window": _window(config, kind, depth),
        "dropout": 0.0,
    }
    tied = bool(config.take("tie_word_embeddings", False))
    return model, {"kind": "language", "tied": tied}, config.count("vocab_size"), length


def _bias(config: Config, kind: str) -> Any:
    if kind == "qwen2":
        return "qkv"
    attention = config.only("attention_bias", False, *([True] if kind == "llama" else []))
    feedforward = config.only("mlp_bias", False, *([True] if kind == "llama" else []))
    if attention != feedforward:
        raise UserError(
            f"{config.where}: attention_bias: {attention} with mlp_bias: {feedforward} is not supported",
            "what is: both or neither",
        )
    return attention


def _window(config: Config, kind: str, depth: int) -> int | None:
    window = config.take("sliding_window")
    if kind == "mistral":
        config.only("layer_types", None, ["sliding_attention"] * depth, ["full_attention"] * depth)
        return window
    used = config.take("use_sliding_window", False) and kind != "llama"
    first = config.take("max_window_layers", 28)
    kinds = config.take("layer_types") or [
        "sliding_attention" if used and window and layer >= first else "full_attention"
        for layer in range(depth)
    ]
    if len(set(kinds)) > 1:
        raise UserError(f"{config.where}: layer_types that differ are not supported", "what is: all alike")
    return window if kinds[0] == "sliding_attention" else None


def _type(model: Any) -> str:
    if model.qk_norm:
        return "qwen3"
    if model.bias == "qkv":
        return "qwen2"
    return "mistral" if model.window else "llama"


def refusals(model: Any, task: Mapping[str, Any]) -> list[str]:
    kind = _type(model)
    wanted = {
        "positions": ["rope"], "order": ["pre"], "normalisation": ["rms"], "embedding_norm": [False],
        "gated": [True], "experts": [1], "value_residual": [False], "ngrams": [1], "segments": [0],
        "activation": THEIR_ACTIVATIONS, "bias": {"llama": [True, False], "qwen2": ["qkv"]}.get(kind, [False]),
    }  # fmt: skip
    return unlike(model, wanted) + ([f"task.softcap: {task['softcap']}"] if task.get("softcap") else [])


def write(model: Any, task: Mapping[str, Any], size: int, length: int) -> dict[str, Any]:
    kind = _type(model)
    tree: dict[str, Any] = {
        "model_type": kind,
        **decoder_tree(model, size, length),
        "attention_dropout": model.attention_dropout,
        "tie_word_embeddings": bool(task.get("tied")),
    }
    if kind in ("llama", "qwen3"):
        tree["attention_bias"] = model.bias
    if kind == "llama":
        tree["mlp_bias"] = model.bias
    if kind == "mistral":
        tree["sliding_window"] = model.window
    elif kind != "llama":
        tree |= {"use_sliding_window": bool(model.window), "sliding_window": model.window}
        tree["max_window_layers"] = 0 if model.window else model.depth
    return tree


def parts(model: Any, tied: bool, kind: str) -> list[Part]:
    E, M = shape(model)[2], hidden(model)

    def norm(ours: str, theirs: str, width: int) -> Part:
        name = f"{ours}.weight" if model.norm_weight else ""
        return Part(name, (f"{theirs}.weight",), constant=(1.0, (width,)))

    found = [Part("model.embed.weight", ("embed_tokens.weight",))]
    for index in range(model.depth):
        ours, theirs = f"model.blocks.{index}", f"layers.{index}"
        own, self_ = f"{ours}.attention", f"{theirs}.self_attn"
        found.append(norm(f"{ours}.norm1", f"{theirs}.input_layernorm", model.width))
        found.append(norm(f"{ours}.norm2", f"{theirs}.post_attention_layernorm", model.width))
        for leaf in ("weight", *(["bias"] if model.bias else [])):
            names = [f"{self_}.{part}_proj.{leaf}" for part in "qkv"]
            found.append(rotated(f"{own}.qkv.{leaf}", names, model))
        for leaf in ("weight", *(["bias"] if model.bias is True else [])):
            found.append(Part(f"{own}.out.{leaf}", (f"{self_}.o_proj.{leaf}",)))
            names = [f"{theirs}.mlp.{part}_proj.{leaf}" for part in ("gate", "up")]
            found.append(joined(f"{ours}.feedforward.up.{leaf}", names, (M, M)))
            found.append(Part(f"{ours}.feedforward.down.{leaf}", (f"{theirs}.mlp.down_proj.{leaf}",)))
        if model.qk_norm:
            for name, short in (("query_norm", "q_norm"), ("key_norm", "k_norm")):
                found.append(
                    Part(
                        f"{own}.{name}.weight" if model.norm_weight else "",
                        (f"{self_}.{short}.weight",),
                        lambda t: pairs(t[0], 1),
                        lambda t: [halves(t, 1)],
                        (1.0, (E,)),
                    )
                )
    found.append(norm("model.norm", "norm", model.width))
    if not tied and kind == "language":
        found.append(Part("head.weight", ("lm_head.weight",)))
    return found + (tag_head("score") if kind == "tag" else [])
