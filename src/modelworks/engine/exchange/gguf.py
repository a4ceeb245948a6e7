"""GGUF files of llama.cpp: settings, de-quantised tensors and the tokenizer, read from one mapped file.

    foreign = read("SmolLM2-135M-Instruct.Q4_1.gguf")      # the same as engine/exchange/foreign.py gives of a folder
    file = GGUF("model.gguf"); file.about["general.architecture"]; file.tensor("token_embd.weight")

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelworks.core.errors import UserError
from modelworks.core.settings import read as read_settings
from modelworks.engine.exchange.blocks import BLOCKS, dequantise
from modelworks.engine.exchange.foreign import Foreign, fitting, gathered
from modelworks.models import _foreign_llama
from modelworks.models._foreign import Config, halves
from modelworks.models.transformer import Transformer

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9

NAMES = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""GGUF's part of a name → Hugging Face's."""

_GPT2_LIKE = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_BYTES = {**_GPT2_LIKE, "use_regex": False}
_DIGITS = {"type": "Digits", "individual_digits": True}
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split(digits: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": _WORDS % digits},
        "behavior": "Isolated",
        "invert": False,
    }


PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "default": [_GPT2_LIKE],
    "gpt-2": [_GPT2_LIKE],
    "smollm": [_DIGITS, _GPT2_LIKE],
    "qwen2": [_split(""), _BYTES],
    "llama-bpe": [_split("{1,3}"), _BYTES],
}
"""How text is cut before byte pairs are joined, by the name in the file."""


class GGUF:
    """A file's metadata, and its tensors when they are asked for."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._data = np.memmap(self.path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path}: {getattr(error, 'strerror', None) or error}") from None
        self._view = self._data.data  # a hundred thousand slices of it cost less than an array's
        self._at = 0
        try:
            self._head()
        except UserError:
            raise
        except (struct.error, ValueError, LookupError, TypeError, ArithmeticError) as error:
            raise UserError(f"{self.path} is damaged: {type(error).__name__}: {error}") from None

    def _head(self) -> None:
        if bytes(self._data[:4]) != b"GGUF":
            raise UserError(f"{self.path} is no GGUF file", "it does not begin with GGUF")
        self._at = 4
        version, tensors, entries = self._take("<IQQ")
        if version not in (2, 3):
            raise UserError(f"{self.path}: GGUF version {version} is not read", "versions 2 and 3 are")
        self.about: dict[str, Any] = {}
        for _ in range(entries):
            name = self._text()
            self.about[name] = self._value(self._take("<I")[0])
        self.tensors: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for _ in range(tensors):
            name = self._text()
            axes = self._take("<I")[0]
            if axes > 4:
                raise KeyError(f"{axes} axes of {name}")
            shape = self._take(f"<{axes}Q")[::-1]  # the fastest axis comes first there
            self.tensors[name] = (shape, *self._take("<IQ"))
        align = self.about.get("general.alignment", 32)
        if type(align) is not int or not 0 < align <= 1 << 20:
            raise ValueError(f"an alignment of {align!r}")
        self._start = -(-self._at // align) * align

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(form, self._view, self._at)
        self._at += struct.calcsize(form)
        return values

    def _text(self) -> str:
        (size,) = self._take("<Q")
        if size > len(self._data) - self._at:
            raise IndexError("a text runs over the end of the file")
        text = str(self._view[self._at : self._at + size], "utf-8", "replace")
        self._at += size
        return text

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            return self._take("<" + _SCALARS[kind])[0]
        inner, count = self._take("<IQ")
        if count > len(self._data) - self._at or inner == _ARRAY:
            raise IndexError("a list runs over the end of the file")
        if inner == _STRING:
            return [self._text() for _ in range(count)]
        return list(self._take(f"<{count}{_SCALARS[inner]}"))

    def tensor(self, name: str) -> Tensor:
        """De-quantised, float32."""
        shape, kind, offset = self.tensors[name]
        if kind not in BLOCKS:
            raise UserError(
                f"{self.path}: {name} is of type {kind}, which is not read",
                f"what is: {', '.join(label for label, *_ in BLOCKS.values())}",
            )
        _, values, size = BLOCKS[kind]
        count = math.prod(shape)
        begin, length = self._start + offset, count // values * size
        if count % values or begin + length > len(self._data):
            raise UserError(f"{self.path} is damaged: {name} runs over the end of the file")
        return torch.from_numpy(dequantise(kind, self._data[begin : begin + length])).view(shape)


def read(path: str | Path) -> Foreign:
    """The model of a GGUF file of the Llama family (llama, qwen2, qwen3)."""
    file = GGUF(path)
    kind = str(file.about.get("general.architecture", ""))
    if kind not in ("llama", "qwen2", "qwen3"):
        raise UserError(f"{file.path}: architecture {kind!r} is not read", "what is: llama, qwen2, qwen3")
    config = Config(_config(file, kind), str(file.path))
    model, task, size, length = _foreign_llama.read(config)
    settings = read_settings(Transformer, model, str(file.path))
    found = {}
    for name in file.tensors:
        theirs, tensor = _renamed(name, file), file.tensor(name)
        turned = re.search(r"[qk]_proj\.(weight|bias)$", theirs)
        if turned and kind == "llama":  # llama.cpp keeps a pair's channels side by side there
            heads = model["heads"] if "q_proj" in theirs else model["kv_heads"]
            if len(tensor) != heads * model["head_width"]:
                raise UserError(f"{file.path}: {name} has {len(tensor):,} rows, not those of {heads:,} heads")
            tensor = halves(tensor, heads)
        found[theirs] = tensor
    task, tensors, left = gathered(_foreign_llama, settings, task, found, str(file.path))
    fitting(settings, tensors, size, length, str(file.path))
    text, tokens = tokenizer(file)
    return Foreign(str(file.path), kind, model, task, size, length, tensors, text, tokens, tuple(left))


def _renamed(name: str, file: GGUF) -> str:
    found = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
    if not found or found[2] not in NAMES:
        raise UserError(f"{file.path}: tensor {name!r} has no place in this architecture")
    layer = f"layers.{found[1]}." if found[1] is not None else ""
    return f"{layer}{NAMES[found[2]]}.{found[3]}"


def _config(file: GGUF, kind: str) -> dict[str, Any]:
    """The metadata in the words of config.json."""

    def take(name: str, default: Any = None) -> Any:
        value = file.about.get(f"{kind}.{name}", default)
        if value is None:
            raise UserError(f"{file.path}: has no {kind}.{name}")
        return value

    scaling = file.about.get(f"{kind}.rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in file.tensors:
        raise UserError(f"{file.path}: rope scaling is not read")
    heads, width = take("attention.head_count"), take("embedding_length")
    for name, value in (("attention.head_count", heads), ("embedding_length", width)):
        if type(value) is not int or value < 1:
            raise UserError(f"{file.path}: {kind}.{name} wants a positive whole number, got {value!r:.80}")
    head_width = take("attention.key_length", width // heads)
    if take("rope.dimension_count", head_width) != head_width:
        raise UserError(f"{file.path}: rope over a part of each head is not read")
    if "token_embd.weight" not in file.tensors:
        raise UserError(f"{file.path}: has no tensor 'token_embd.weight'")
    return {
        "model_type": kind,
        "hidden_size": width,
        "num_hidden_layers": take("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": take("attention.head_count_kv", heads),
        "head_dim": head_width,
        "intermediate_size": take("feed_forward_length"),
        "rms_norm_eps": take("attention.layer_norm_rms_epsilon"),
        "rope_theta": take("rope.freq_base", 10_000.0),
        "max_position_embeddings": take("context_length"),
        "vocab_size": file.tensors["token_embd.weight"][0][0],
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": kind == "llama" and "blk.0.attn_q.bias" in file.tensors,
        "mlp_bias": kind == "llama" and "blk.0.ffn_up.bias" in file.tensors,
    }


def _texts(file: GGUF, about: dict[str, Any], name: str) -> list[str]:
    """A list of texts of the tokenizer."""
    found = about.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise UserError(f"{file.path} is damaged: tokenizer.ggml.{name} is no list of texts")
    return found


def tokenizer(file: GGUF) -> tuple[str | None, dict[str, Any]]:
    """(tokenizer.json or None where its kind is not known here, special tokens and the chat template)."""
    about = {k.removeprefix("tokenizer.ggml."): v for k, v in file.about.items() if "tokenizer." in k}
    names = _texts(file, about, "tokens")
    tokens: dict[str, Any] = {}
    for short, key in (("bos", "bos_token"), ("eos", "eos_token"), ("padding", "pad_token")):
        code = about.get(f"{short}_token_id")
        if isinstance(code, int) and 0 <= code < len(names):
            tokens[key] = names[code]
    if about.get("add_bos_token") is True:
        tokens["add_bos_token"] = True
    if isinstance(template := file.about.get("tokenizer.chat_template"), str):
        tokens["chat_template"] = template
    pre = PRE_TOKENIZERS.get(str(about.get("pre", "default")))
    if about.get("model") != "gpt2" or pre is None:
        return None, tokens
    kinds = about.get("token_type") or [1] * len(names)
    if not isinstance(kinds, list) or len(kinds) != len(names):
        raise UserError(f"{file.path} is damaged: its {len(names):,} tokens have other types")
    added = [
        {"id": code, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": kind == 3}
        for code, (name, kind) in enumerate(zip(names, kinds, strict=True)) if kind in (3, 4)
    ]  # fmt: skip
    tree = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if about.get("pre") == "qwen2" else None,
        "pre_tokenizer": pre[0] if len(pre) == 1 else {"type": "Sequence", "pretokenizers": pre},
        "post_processor": None,
        "decoder": _BYTES,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": about.get("pre") == "llama-bpe",
            "vocab": {name: code for code, name in enumerate(names)},
            "merges": [merge.split(" ", 1) for merge in _texts(file, about, "merges")],
        },
    }
    return json.dumps(tree, ensure_ascii=False), tokens
