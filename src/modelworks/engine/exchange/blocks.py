"""ggml's block formats of quantised weights → float32: `dequantise(3, bytes)` for Q4_1.

A block holds 32 or 256 weights as small whole numbers with a scale, and in some formats a minimum, of their own.
N blocks. Formats as in ggml-common.h and ggml-quants.c of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[Any]

BLOCKS: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    30: ("BF16", 1, 2),
}
"""Type → name, weights and bytes of a block."""


def dequantise(kind: int, data: Bytes) -> Floats:
    """All weights of whole blocks, in order."""
    name, _, size = BLOCKS[kind]
    if name == "F32":
        return np.frombuffer(data.tobytes(), "<f4").copy()
    if name == "F16":
        return np.frombuffer(data.tobytes(), "<f2").astype(np.float32)
    if name == "BF16":
        return (np.frombuffer(data.tobytes(), "<u2").astype(np.uint32) << 16).view(np.float32)
    return _UNPACK[name](np.ascontiguousarray(data).reshape(-1, size)).reshape(-1)


def _half(blocks: Bytes, at: int) -> Floats:
    """A float16 of each block, (N, 1)."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Floats:
    """(N, n) bytes → (N, 2n): all low halves, then all high ones."""
    return np.concatenate((packed & 15, packed >> 4), 1).astype(np.float32)


def _fifth(blocks: Bytes, at: int) -> Floats:
    """The fifth bit of 32 weights, times 16."""
    return np.unpackbits(blocks[:, at : at + 4], axis=1, bitorder="little").astype(np.float32) * 16


def _q4_0(b: Bytes) -> Floats:
    return (_nibbles(b[:, 2:]) - 8) * _half(b, 0)


def _q4_1(b: Bytes) -> Floats:
    return _nibbles(b[:, 4:]) * _half(b, 0) + _half(b, 2)


def _q5_0(b: Bytes) -> Floats:
    return (_nibbles(b[:, 6:]) + _fifth(b, 2) - 16) * _half(b, 0)


def _q5_1(b: Bytes) -> Floats:
    return (_nibbles(b[:, 8:]) + _fifth(b, 4)) * _half(b, 0) + _half(b, 2)


def _q8_0(b: Bytes) -> Floats:
    return np.ascontiguousarray(b[:, 2:]).view(np.int8).astype(np.float32) * _half(b, 0)


def _scales(b: Bytes) -> tuple[Floats, Floats]:
    """scale and minimum (N, 8) of the sub-blocks of 32: 6 bits each, in 12 bytes."""
    low, mid, high = b[:, :4], b[:, 4:8], b[:, 8:12]
    scale = np.concatenate((low & 63, (high & 15) | ((low >> 6) << 4)), 1)
    least = np.concatenate((mid & 63, (high >> 4) | ((mid >> 6) << 4)), 1)
    return scale.astype(np.float32), least.astype(np.float32)


def _sub_blocks(b: Bytes) -> NDArray[Any]:
    """128 bytes → (N, 8, 32): each 32 bytes hold two sub-blocks, low halves and high."""
    pairs = b.reshape(len(b), 4, 1, 32)
    return np.concatenate((pairs & 15, pairs >> 4), 2).reshape(len(b), 8, 32)


def _k(b: Bytes, values: Floats) -> Floats:
    """Sub-blocks (N, 8, 32) with their scales and minima."""
    scale, least = _scales(b[:, 4:16])
    return (scale * _half(b, 0))[..., None] * values - (least * _half(b, 2))[..., None]


def _q4_k(b: Bytes) -> Floats:
    return _k(b, _sub_blocks(b[:, 16:]).astype(np.float32))


def _q5_k(b: Bytes) -> Floats:
    bits = (b[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[None, :, None]) & 1
    return _k(b, (_sub_blocks(b[:, 48:]) + bits * 16).astype(np.float32))


def _q6_k(b: Bytes) -> Floats:
    N = len(b)
    low = b[:, :128].reshape(N, 2, 1, 2, 32)
    low = np.concatenate((low & 15, low >> 4), 2).reshape(N, 2, 4, 32)
    high = b[:, 128:192].reshape(N, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[None, None, :, None]
    value = (low | ((high & 3) << 4)).astype(np.float32) - 32
    scale = np.ascontiguousarray(b[:, 192:208]).view(np.int8).astype(np.float32).reshape(N, 16, 1)
    return value.reshape(N, 16, 16) * scale * _half(b, 208)[..., None]


_UNPACK: dict[str, Callable[[Bytes], Floats]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
