"""GGUF files that llama.cpp runs: `write("model.gguf", network, model, task, size=…, length=…, tokenizer=…)`.

For models of the Llama family (llama, qwen2, qwen3) with a byte-level BPE tokenizer; float32 or float16.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modelworks.core.errors import UserError
from modelworks.engine.exchange.foreign import complete, unpacked
from modelworks.engine.exchange.gguf import NAMES, PRE_TOKENIZERS
from modelworks.engine.exchange.shapes import as_built
from modelworks.models import _foreign_llama
from modelworks.models._foreign import pairs
from modelworks.models.transformer import Transformer

_ALIGN = 32
_NORMAL, _CONTROL, _USER, _UNUSED = 1, 3, 4, 5


def write(
    path: str | Path,
    network: nn.Module,
    model: Any,
    task: Mapping[str, Any],
    *,
    size: int,
    length: int,
    tokenizer: str,
    tokens: Mapping[str, Any] | None = None,
    name: str = "modelworks",
    dtype: torch.dtype = torch.float32,
) -> None:
    """`tokenizer`: tokenizer.json, whole; `tokens`: bos_token, eos_token, pad_token and chat_template by name.
    `dtype`: of the matrices; norms and biases stay float32. Raises UserError naming what has no place."""
    if dtype not in (torch.float32, torch.float16):
        raise UserError(f"GGUF is written in float32 or float16, not {dtype}")
    model = as_built(model, network)
    if not isinstance(model, Transformer) or (odd := _foreign_llama.refusals(model, task)):
        why = ", ".join(odd) if isinstance(model, Transformer) else f"model {model.kind}"
        raise UserError(f"llama.cpp has no place for this model: {why}", "settings of preset: llama or qwen")
    tree = _foreign_llama.write(model, task, size, length)
    kind = tree["model_type"]
    if (
        kind == "mistral"
        or model.rope_scaling is not None
        or model.window
        or (kind == "llama" and model.bias)
    ):
        raise UserError("a window, rope scaling or biases of every matrix are not written to GGUF")
    about = {**_model_entries(tree, name, dtype), **_tokenizer_entries(tokenizer, size, dict(tokens or {}))}
    tensors = _tensors(network, model, bool(task.get("tied")), kind, dtype)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(about))
    head += b"".join(_text(key) + _value(value) for key, value in about.items())
    offset = 0
    for key, tensor in tensors.items():
        shape = tensor.shape[::-1]  # the fastest axis first
        form = 1 if tensor.dtype == torch.float16 else 0
        head += _text(key) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, form, offset)
        offset += -(-tensor.nbytes // _ALIGN) * _ALIGN
    partial = Path(f"{path}.partial")
    with partial.open("wb") as file:
        file.write(head + bytes(-len(head) % _ALIGN))
        for tensor in tensors.values():
            file.write(tensor.numpy().tobytes() + bytes(-tensor.nbytes % _ALIGN))
    partial.replace(path)


def _model_entries(tree: Mapping[str, Any], name: str, dtype: torch.dtype) -> dict[str, Any]:
    kind = tree["model_type"]
    return {
        "general.architecture": kind,
        "general.name": name,
        "general.file_type": int(dtype == torch.float16),
        f"{kind}.vocab_size": tree["vocab_size"],
        f"{kind}.context_length": tree["max_position_embeddings"],
        f"{kind}.embedding_length": tree["hidden_size"],
        f"{kind}.block_count": tree["num_hidden_layers"],
        f"{kind}.feed_forward_length": tree["intermediate_size"],
        f"{kind}.attention.head_count": tree["num_attention_heads"],
        f"{kind}.attention.head_count_kv": tree["num_key_value_heads"],
        f"{kind}.attention.key_length": tree["head_dim"],
        f"{kind}.attention.value_length": tree["head_dim"],
        f"{kind}.attention.layer_norm_rms_epsilon": float(tree["rms_norm_eps"]),
        f"{kind}.rope.dimension_count": tree["head_dim"],
        f"{kind}.rope.freq_base": float(tree["rope_theta"]),
    }


def _tensors(
    network: nn.Module, model: Transformer, tied: bool, kind: str, dtype: torch.dtype
) -> dict[str, Tensor]:
    """By llama.cpp's names, in its order of axes."""
    state, found = network.state_dict(), {}
    names = {theirs: ours for ours, theirs in NAMES.items()}
    parts = _foreign_llama.parts(model, tied, "language")
    complete(parts, state, "language", "--format gguf")
    for part in parts:
        for theirs, tensor in zip(part.theirs, unpacked(part, state), strict=True):
            layer = re.match(r"layers\.(\d+)\.", theirs)
            stem, leaf = (theirs[layer.end() :] if layer else theirs).rsplit(".", 1)
            if kind == "llama" and stem.endswith(("q_proj", "k_proj")):  # neighbours are pairs there too
                heads = model.heads if stem.endswith("q_proj") else model.kv_heads or model.heads
                tensor = pairs(tensor, heads)
            key = f"blk.{layer[1]}.{names[stem]}.{leaf}" if layer else f"{names[stem]}.{leaf}"
            form = dtype if tensor.ndim > 1 else torch.float32
            found[key] = tensor.detach().to("cpu", form).contiguous()
    return found


def _tokenizer_entries(tokenizer: str, size: int, tokens: dict[str, Any]) -> dict[str, Any]:
    tree = json.loads(tokenizer)
    model, cut = tree["model"], tree.get("pre_tokenizer") or {}
    parts = cut.get("pretokenizers", [cut])
    pre = next((name for name, known in PRE_TOKENIZERS.items() if _alike(parts, known)), None)
    if model.get("type") != "BPE" or pre is None:
        raise UserError(
            f"llama.cpp reads byte-level BPE tokenizers, this one is {model.get('type')}"
            + (" with rules of its own for cutting text" if pre is None else ""),
            "train with fields.NAME.tokens: bpe",
        )
    names = [f"[PAD{code}]" for code in range(size)]
    kinds = [_UNUSED] * size
    added = {token["content"]: token for token in tree.get("added_tokens", [])}
    ids = {**model["vocab"], **{word: token["id"] for word, token in added.items()}}
    for word, code in ids.items():
        if code >= size:
            raise UserError(f"token {word!r} has id {code}, the model knows {size}")
        names[code] = word
        special = added.get(word)
        kinds[code] = _NORMAL if special is None else _CONTROL if special["special"] else _USER
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    entries: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2" if pre == "default" else pre,
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.add_bos_token": tokens.get("add_bos_token", False),
    }
    if merges:
        entries["tokenizer.ggml.merges"] = merges
    for short, key in (("bos", "bos_token"), ("eos", "eos_token"), ("padding", "pad_token")):
        if (word := tokens.get(key)) in ids:
            entries[f"tokenizer.ggml.{short}_token_id"] = ids[word]
    if template := tokens.get("chat_template"):
        entries["tokenizer.chat_template"] = template
    return entries


def _alike(parts: list[dict[str, Any]], known: list[dict[str, Any]]) -> bool:
    """The same steps, whatever is said beside what they do."""
    keys = ("type", "add_prefix_space", "use_regex", "individual_digits", "pattern", "behavior", "invert")

    def plain(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: step[key] for key in keys if key in step} for step in steps]

    return plain(parts) == plain(known)


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    """A value with its type in front."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
    return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
