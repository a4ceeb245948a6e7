"""GGUF: blocks against formulas and the package `gguf` (skipped without it), and a whole file written by hand here."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.engine.exchange.blocks import BLOCKS, dequantise
from modelworks.engine.exchange.foreign import read, write
from modelworks.engine.exchange.gguf import GGUF, NAMES
from modelworks.engine.exchange.gguf_write import write as write_gguf
from modelworks.models._foreign import pairs
from modelworks.models.transformer import Transformer

torch.set_num_threads(1)


@pytest.mark.parametrize("kind", BLOCKS)
def test_blocks_are_the_package_s(kind: int) -> None:
    quants, constants = pytest.importorskip("gguf.quants"), pytest.importorskip("gguf.constants")
    name, values, size = BLOCKS[kind]
    theirs = constants.GGMLQuantizationType[name]
    assert theirs.value == kind
    assert constants.GGML_QUANT_SIZES[theirs] == (values, size)
    rng = np.random.default_rng(kind)
    if name in ("F32", "F16", "BF16"):
        packed = quants.quantize(rng.standard_normal((4, 64), np.float32), theirs)
    else:  # any bits are weights; the scales must be finite
        packed = rng.integers(0, 256, (7, size), np.uint8)
        at = {"Q6_K": [208], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q4_1": [0, 2], "Q5_1": [0, 2]}.get(name, [0])
        for column in at:
            packed[:, column : column + 2] = rng.standard_normal((7, 1)).astype("<f2").view(np.uint8)
    wanted = quants.dequantize(packed, theirs).reshape(-1)
    raw = np.frombuffer(np.ascontiguousarray(packed).tobytes(), np.uint8)
    np.testing.assert_allclose(dequantise(kind, raw), wanted, rtol=1e-6, atol=1e-6)


def test_q4_1_is_its_formula() -> None:
    packed = np.arange(16, dtype=np.uint8) * 16 + 15 - np.arange(16, dtype=np.uint8)
    block = np.concatenate((np.array([0.5, -2], "<f2").view(np.uint8), packed))
    wanted = [0.5 * (15 - i) - 2 for i in range(16)] + [0.5 * i - 2 for i in range(16)]
    assert dequantise(3, block).tolist() == wanted


# ------------------------------------------------------------------------------------------- a file
WORDS = ["<pad>", "<|im_start|>", "<|im_end|>", "a", "b", "c", "Ġ", "ab", "1", "2", "Ċ"]
MERGES = ["a b"]


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def entry(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        return text(name) + struct.pack("<I", 8) + text(value)
    if isinstance(value, bool):
        return text(name) + struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return text(name) + struct.pack("<II", 4, value)
    if isinstance(value, float):
        return text(name) + struct.pack("<If", 6, value)
    inner = b"".join(text(v) if isinstance(v, str) else struct.pack("<i", v) for v in value)
    kind = 8 if isinstance(value[0], str) else 5
    return text(name) + struct.pack("<IIQ", 9, kind, len(value)) + inner


def make(path: Path, kind: str = "llama", **changes: Any) -> tuple[Any, nn.Module]:
    """A tiny model of ours written as llama.cpp would store it."""
    torch.manual_seed(0)
    settings = Transformer(
        width=32, depth=2, heads=4, kv_heads=2, hidden=48, gated=True, activation="silu", normalisation="rms",
        positions="rope", bias=False, dropout=0.0, qk_norm=kind == "qwen3",
    )  # fmt: skip
    network: Any = nn.Module()
    network.model = settings.build({"x": Layout("tokens", size=len(WORDS), length=16)}, "next").eval()
    network.head = nn.Module()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    write(
        path.parent / "hf", network, settings, {"kind": "language", "tied": True}, size=len(WORDS), length=16
    )
    theirs = {ours: name for name, ours in NAMES.items()}
    tensors = {}
    for name, tensor in read_safetensors(path.parent / "hf" / "model.safetensors").items():
        bare = name.removeprefix("model.")
        layer = ""
        if bare.startswith("layers."):
            _, number, bare = bare.split(".", 2)
            layer = f"blk.{number}."
        stem, leaf = bare.rsplit(".", 1)
        if kind == "llama" and stem[-6:] in ("q_proj", "k_proj"):
            tensor = pairs(tensor, 4 if "q_proj" in stem else 2)
        tensors[f"{layer}{theirs[stem]}.{leaf}"] = tensor
    about = {
        "general.architecture": kind,
        f"{kind}.embedding_length": 32,
        f"{kind}.block_count": 2,
        f"{kind}.feed_forward_length": 48,
        f"{kind}.context_length": 16,
        f"{kind}.attention.head_count": 4,
        f"{kind}.attention.head_count_kv": 2,
        f"{kind}.attention.key_length": 8,
        f"{kind}.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": WORDS,
        "tokenizer.ggml.token_type": [3, 3, 3] + [1] * (len(WORDS) - 3),
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": "{{ messages }}",
        **changes,
    }
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(about))
    head += b"".join(entry(name, value) for name, value in about.items())
    offset, body = 0, b""
    for name, tensor in tensors.items():
        shape = tensor.shape[::-1]
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        raw = tensor.numpy().tobytes()
        body += raw + bytes(-len(raw) % 32)
        offset = len(body)
    path.write_bytes(head + bytes(-len(head) % 32) + body)
    return settings, network


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_file_is_the_model(kind: str, tmp_path: Path) -> None:
    _, network = make(tmp_path / "m.gguf", kind)
    foreign = read(tmp_path / "m.gguf")
    assert (foreign.kind, foreign.size, foreign.length) == (kind, len(WORDS), 16)
    back: Any = nn.Module()
    settings = Transformer(**foreign.model)
    back.model = settings.build({"x": Layout("tokens", size=len(WORDS), length=16)}, "next").eval()
    assert foreign.load(back) == []
    x = {"x": torch.arange(10)[None]}
    torch.testing.assert_close(back.model(x), network.model(x), atol=1e-5, rtol=1e-4)


def test_its_tokenizer(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    make(tmp_path / "m.gguf")
    foreign = read(tmp_path / "m.gguf")
    assert foreign.tokens == {"eos_token": "<|im_end|>", "chat_template": "{{ messages }}"}
    tokenizer = tokenizers.Tokenizer.from_str(foreign.tokenizer)
    found = tokenizer.encode("<|im_start|>abc 12<|im_end|>")
    assert found.tokens == ["<|im_start|>", "ab", "c", "Ġ", "1", "2", "<|im_end|>"]
    assert tokenizer.decode(found.ids, skip_special_tokens=True) == "abc 12"
    make(tmp_path / "n.gguf", **{"tokenizer.ggml.model": "llama"})  # sentencepiece
    assert read(tmp_path / "n.gguf").tokenizer is None


def test_mistakes_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    make(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-64])
    with pytest.raises(UserError, match="runs over the end of the file"):
        read(path)
    for end in (3, 20, 100, 300):
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match="is damaged|is no GGUF"):
            read(path)
    path.write_bytes(whole.replace(b"GGUF\x03", b"GGUF\x01", 1))
    with pytest.raises(UserError, match="GGUF version 1 is not read"):
        read(path)
    path.write_bytes(json.dumps({}).encode())
    with pytest.raises(UserError, match="is no GGUF file"):
        read(path)
    make(path, **{"general.architecture": "mamba"})
    with pytest.raises(UserError, match="architecture 'mamba' is not read"):
        read(path)
    make(path, **{"llama.rope.scaling.type": "yarn"})
    with pytest.raises(UserError, match="rope scaling is not read"):
        read(path)
    assert GGUF(path).about["tokenizer.ggml.merges"] == MERGES


# ------------------------------------------------------------------------------------------- writing
def learned(size: int) -> str:
    """A byte-level BPE tokenizer."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    pre = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<pad>", "<end>"],
        show_progress=False,
        initial_alphabet=pre.alphabet(),
    )
    tokenizer.train_from_iterator(["to be or not to be, that is the question 123"] * 9, trainer)
    return tokenizer.to_str()


@pytest.mark.parametrize("change", [{}, {"bias": "qkv"}, {"qk_norm": True, "head_width": 16}])
def test_written_and_read_back(change: dict[str, Any], tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = learned(300)
    size = tokenizers.Tokenizer.from_str(tokenizer).get_vocab_size() + 3  # a table with rows to spare
    torch.manual_seed(0)
    settings = Transformer(preset="llama", width=32, depth=2, heads=4, kv_heads=2, hidden=48, **change)
    network: Any = nn.Module()
    network.model = settings.build({"x": Layout("tokens", size=size, length=16)}, "next").eval()
    network.head = nn.Module()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    told = {"eos_token": "<end>", "pad_token": "<pad>", "chat_template": "{{ messages }}"}
    say = {"size": size, "length": 16, "tokenizer": tokenizer, "tokens": told}
    write_gguf(tmp_path / "m.gguf", network, settings, {"kind": "language", "tied": True}, **say)
    foreign = read(tmp_path / "m.gguf")
    back: Any = nn.Module()
    back.model = (
        Transformer(**foreign.model).build({"x": Layout("tokens", size=size, length=16)}, "next").eval()
    )
    assert foreign.load(back) == []
    x = {"x": torch.arange(3, 13)[None]}
    assert torch.equal(back.model(x), network.model(x))
    assert foreign.tokens == told
    text = "to be, 123 or not? <end>"
    ours = tokenizers.Tokenizer.from_str(tokenizer).encode(text).ids
    assert tokenizers.Tokenizer.from_str(foreign.tokenizer).encode(text).ids == ours
    write_gguf(
        tmp_path / "h.gguf", network, settings, {"kind": "language", "tied": True}, dtype=torch.float16, **say
    )
    assert (tmp_path / "h.gguf").stat().st_size < (tmp_path / "m.gguf").stat().st_size
    torch.testing.assert_close(
        read(tmp_path / "h.gguf").tensors["model.embed.weight"],
        network.model.embed.weight,
        atol=1e-3,
        rtol=1e-3,
    )
    package = pytest.importorskip("gguf")
    theirs = package.GGUFReader(tmp_path / "m.gguf")
    assert {t.name for t in theirs.tensors} == set(GGUF(tmp_path / "m.gguf").tensors)


def test_what_llama_cpp_cannot_hold_is_named(tmp_path: Path) -> None:
    settings = Transformer(preset="llama", value_residual=True)
    say = {"size": 9, "length": 9, "tokenizer": "{}"}
    with pytest.raises(UserError, match="no place for this model: value_residual: True"):
        write_gguf(tmp_path / "m.gguf", nn.Module(), settings, {"tied": True}, **say)
    say["tokenizer"] = json.dumps({"model": {"type": "WordPiece"}})
    with pytest.raises(UserError, match="byte-level BPE tokenizers, this one is WordPiece"):
        write_gguf(tmp_path / "m.gguf", nn.Module(), Transformer(preset="llama"), {"tied": True}, **say)
