"""Codes: how a weight tensor is written in fewer bytes, and read back as float32.

    parts = encode(weight, bits=8)          # {"": int8, ".scale": bfloat16}
    weight = decode(parts, weight.shape)

bits 32, 16    float32, float16
bits 8         int8, the tensor's shape, times a bfloat16 scale for each row (the first axis; of embeddings a token)
bits 2 … 7     whole numbers of so many bits in one string of bytes, a scale for each group of GROUP neighbours; the
               scale is the one, of several that cut off the outermost, that leaves the least squared error
zeros          where they are many, one bit a weight says which are not zero, and those alone follow

Numbers are symmetric about zero: −(2^(bits−1) − 1) … 2^(bits−1) − 1. Scales are rounded to bfloat16 before the
numbers are, so that their error does not come on top. What the parts are is told by their types and lengths, so a
file needs no further word. N numbers of a tensor, S neighbours that share a scale, G scales.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping

import numpy as np
import torch
from torch import Tensor, nn

GROUP = 32
"""Neighbours that share a scale below 8 bits."""
SHORT = 16
"""Rows shorter than this would have more bytes of scales than is worth it: they share them in groups of LONG."""
LONG = 64
LEAST = 64
"""Numbers of a tensor from which encoding it is worth the bother."""
SPARSE = 0.2
"""Share of zeros from which the bits that mark them pay, at 8 bits; see `_pays`."""
TRIED = tuple(1 - 0.04 * step for step in range(12))
"""Shares of a group's largest number that are tried as the end of its range, below 8 bits."""
SUFFIXES = (".scale", ".mask")
_CHUNK = 1 << 20

Parts = dict[str, Tensor]


def largest(bits: int) -> int:
    """The largest number of so many bits."""
    return 2 ** (bits - 1) - 1


def span(shape: tuple[int, ...] | torch.Size, bits: int) -> int:
    """How many neighbours share a scale."""
    count = math.prod(shape)
    row = count // shape[0] if shape and shape[0] else count
    if bits == 8:
        wanted = row if row >= SHORT else LONG
    else:
        wanted = GROUP
    return max(1, min(wanted, count))


def rounded(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """(whole numbers int8 (N,), scales bfloat16 (G,)) of a tensor."""
    flat_N = weight.detach().float().reshape(-1)
    each, top = span(weight.shape, bits), largest(bits)
    groups = -(-len(flat_N) // each)
    x_GS = nn.functional.pad(flat_N, (0, groups * each - len(flat_N))).view(groups, each)
    most_G = x_GS.abs().amax(1)
    best_G: Tensor | None = None
    scale_G, whole_GS = most_G, x_GS
    for share in TRIED if bits < 8 else (1.0,):
        some_G = (most_G * share / top).clamp(min=1e-30).bfloat16()
        some_GS = (x_GS / some_G.float()[:, None]).round_().clamp_(-top, top)
        if bits == 8:
            scale_G, whole_GS = some_G, some_GS
            break
        error_G = (some_GS * some_G.float()[:, None] - x_GS).square_().sum(1)
        if best_G is None:
            best_G, scale_G, whole_GS = error_G, some_G, some_GS
            continue
        better_G = error_G < best_G
        best_G = torch.where(better_G, error_G, best_G)
        scale_G = torch.where(better_G, some_G, scale_G)
        whole_GS = torch.where(better_G[:, None], some_GS, whole_GS)
    return whole_GS.to(torch.int8).reshape(-1)[: len(flat_N)], scale_G


def encode(weight: Tensor, bits: int) -> Parts:
    """The parts of a tensor, by suffix; "" is the tensor's own name."""
    if bits == 32 and not _pays(weight, 32):
        return {"": weight.detach()}
    if bits == 16 and not _pays(weight, 16):
        return {"": weight.detach().half()}
    if bits >= 16:
        flat_N = weight.detach().reshape(-1)
        kept = flat_N != 0
        values = flat_N[kept].half() if bits == 16 else flat_N[kept]
        return {"": values, ".mask": _marks(kept)}
    whole_N, scale_G = rounded(weight, bits)
    if _pays(weight, bits):
        kept = whole_N != 0
        return {"": _packed(whole_N[kept], bits), ".scale": scale_G, ".mask": _marks(kept)}
    if bits == 8:
        return {"": whole_N.view(weight.shape), ".scale": scale_G}
    return {"": _packed(whole_N, bits), ".scale": scale_G}


def decode(parts: Mapping[str, Tensor], shape: torch.Size | tuple[int, ...]) -> Tensor:
    """The float32 tensor; raises ValueError where the parts are not those of one of this shape."""
    codes, scale_G, mask = parts[""], parts.get(".scale"), parts.get(".mask")
    count = math.prod(shape)
    kept = None
    if mask is not None:
        if mask.dtype != torch.uint8 or mask.shape != (-(-count // 8),):
            raise ValueError(f"a mask of {tuple(mask.shape)} for {count:,} numbers")
        kept = torch.from_numpy(np.unpackbits(mask.numpy(), count=count, bitorder="little")).bool()
    stored = count if kept is None else int(kept.sum())
    if scale_G is None:
        if codes.dtype not in (torch.float32, torch.float16) or codes.numel() != stored:
            raise ValueError(f"{codes.numel():,} numbers of {codes.dtype} in the place of {stored:,}")
        values_N = codes.float().reshape(-1)
    else:
        values_N = _unpacked(codes.reshape(-1), stored).float()
    if kept is not None:
        whole_N = torch.zeros(count)
        whole_N[kept] = values_N
        values_N = whole_N
    if scale_G is not None:
        each = span(shape, 8 if codes.dtype == torch.int8 else 4)
        if scale_G.dim() != 1 or not scale_G.is_floating_point() or len(scale_G) != -(-count // each):
            raise ValueError(f"scales of {tuple(scale_G.shape)} for {count:,} numbers")
        values_N = values_N * scale_G.float().repeat_interleave(each)[:count]
    return values_N.view(shape)


def readable(network: nn.Module) -> None:
    """From now on `load_state_dict` also takes parts for any floating parameter or buffer of the network."""
    for module in network.modules():
        module.register_load_state_dict_pre_hook(_read)


def _read(module: nn.Module, state: MutableMapping[str, Tensor], prefix: str, *rest: object) -> None:
    errors = rest[-1]
    own = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    for name, tensor in own.items():
        found = taken(state, prefix + name)
        if found is None:
            continue
        try:
            state[prefix + name] = decode(found, tensor.shape).to(tensor.dtype)
        except (ValueError, RuntimeError) as error:
            assert isinstance(errors, list)
            errors.append(f"{prefix}{name}: {error}")


def taken(state: MutableMapping[str, Tensor], name: str) -> Parts | None:
    """The parts of a tensor, taken out of a state dict; None where it is plain."""
    plain = state.get(name)
    if plain is None:
        return None
    parts = {suffix: state.pop(name + suffix) for suffix in SUFFIXES if name + suffix in state}
    if not parts and plain.dtype not in (torch.int8, torch.uint8, torch.float16):
        return None
    return {"": plain, **parts}


def size(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _pays(weight: Tensor, bits: int) -> bool:
    """Whether a bit for each number, and only those that are not zero, are fewer."""
    zeros = int((weight == 0).sum())
    return weight.numel() - zeros >= 8 and zeros * bits > weight.numel() * 1.25


def _marks(kept_N: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(kept_N.cpu().numpy(), bitorder="little"))


def _packed(whole_N: Tensor, bits: int) -> Tensor:
    """Whole numbers in `bits` bits each, lowest bit first; 8 bits stay int8."""
    if bits == 8:
        return whole_N
    raised = (whole_N.cpu().numpy().astype(np.int16) + largest(bits)).astype(np.uint8)
    found = []
    for start in range(0, len(raised), _CHUNK):  # a multiple of 8, so that pieces join at whole bytes
        piece = raised[start : start + _CHUNK, None]
        found.append(
            np.packbits(np.unpackbits(piece, axis=1, count=bits, bitorder="little"), bitorder="little")
        )
    return torch.from_numpy(np.concatenate(found) if found else np.zeros(0, np.uint8))


def _unpacked(codes: Tensor, count: int) -> Tensor:
    """Whole numbers again, int16 or int8."""
    if codes.dtype == torch.int8:
        if codes.numel() != count:
            raise ValueError(f"{codes.numel():,} numbers in the place of {count:,}")
        return codes
    bits = 8 * codes.numel() // max(count, 1)
    if codes.dtype != torch.uint8 or not 2 <= bits < 8 or codes.numel() != -(-count * bits // 8):
        raise ValueError(f"{codes.numel():,} bytes of {codes.dtype} for {count:,} numbers")
    data, found = codes.cpu().numpy(), []
    for start in range(0, count, _CHUNK):
        some = min(_CHUNK, count - start)
        piece = data[start * bits // 8 : -(-(start + some) * bits // 8)]
        split = np.unpackbits(piece, count=some * bits, bitorder="little").reshape(some, bits)
        found.append(np.packbits(split, axis=1, bitorder="little")[:, 0])
    whole = np.concatenate(found) if found else np.zeros(0, np.uint8)
    return torch.from_numpy(whole.astype(np.int16) - largest(bits))
