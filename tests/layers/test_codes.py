"""Codes against numpy's own arithmetic and bit strings, and by properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modelworks.layers import codes

SHAPES = st.sampled_from([(64,), (8, 8), (3, 40), (16, 1, 3, 3), (7, 100), (33, 5), (4, 8, 32), (257, 16)])
BITS = st.sampled_from([32, 16, 8, 7, 6, 5, 4, 3, 2])


def tensor(shape, seed, zeros):
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(shape, generator=generator) * 10 ** torch.randn(1, generator=generator)
    return found * (torch.rand(shape, generator=generator) >= zeros)


@settings(deadline=None, max_examples=120)
@given(SHAPES, BITS, st.integers(0, 1000), st.sampled_from([0.0, 0.1, 0.6, 0.97, 1.0]))
def test_what_is_written_is_read_back_within_half_a_unit(shape, bits, seed, zeros):
    weight = tensor(shape, seed, zeros)
    parts = codes.encode(weight, bits)
    back = codes.decode(parts, weight.shape)
    assert back.shape == weight.shape
    assert back.dtype == torch.float32
    assert bool((back[weight == 0] == 0).all())
    if bits == 32:
        assert torch.equal(back, weight)
    elif bits == 16:
        assert torch.equal(back, weight.half().float())
    elif bits == 8:
        each = codes.span(weight.shape, 8)
        flat, got = weight.flatten().numpy(), back.flatten().numpy()
        for start in range(0, len(flat), each):
            unit = np.abs(flat[start : start + each]).max() / 127 * 1.01
            assert (
                np.abs(flat[start : start + each] - got[start : start + each]).max() <= 0.505 * unit + 1e-12
            )
    else:  # every group's error is at most that of plain rounding by its largest number
        each = codes.span(weight.shape, bits)
        flat, got, top = (
            weight.flatten().double().numpy(),
            back.flatten().double().numpy(),
            2 ** (bits - 1) - 1,
        )
        for start in range(0, len(flat), each):
            group = flat[start : start + each]
            unit = float(torch.tensor(max(np.abs(group).max() / top, 1e-30)).bfloat16())
            plain = np.clip(np.round(group / unit), -top, top) * unit
            mine = ((group - got[start : start + each]) ** 2).sum()
            assert mine <= ((group - plain) ** 2).sum() * 1.0001 + 1e-12


@settings(deadline=None, max_examples=60)
@given(SHAPES, BITS, st.integers(0, 1000))
def test_what_was_rounded_once_is_not_changed_by_8_bits_again(shape, bits, seed):
    once = codes.decode(codes.encode(tensor(shape, seed, 0.0), 8), torch.Size(shape))
    assert torch.equal(codes.decode(codes.encode(once, 8), once.shape), once)


@pytest.mark.parametrize("bits", [3, 4, 5, 6, 7])
def test_numbers_lie_in_a_string_of_bits_lowest_first(bits):
    whole = np.random.default_rng(0).integers(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1), 1000).astype(np.int8)
    packed = codes._packed(torch.from_numpy(whole), bits).numpy()
    string = "".join(f"{byte:08b}"[::-1] for byte in packed.tolist())
    read = [int(string[at * bits : (at + 1) * bits][::-1], 2) - 2 ** (bits - 1) + 1 for at in range(1000)]
    assert read == whole.tolist()
    assert len(packed) == math.ceil(1000 * bits / 8)


def test_bytes_are_what_was_promised():
    weight = torch.randn(256, 256)
    for bits, share in ((16, 0.5), (8, 0.2520), (6, 0.2032), (4, 0.1407), (3, 0.1095)):
        assert codes.size(codes.encode(weight, bits)) <= share * weight.numel() * 4
    weight[torch.rand(256, 256) < 0.9] = 0
    assert codes.size(codes.encode(weight, 8)) < 0.07 * weight.numel() * 4  # 1 bit, and 8 for a tenth


def test_a_network_reads_parts_and_plain_tensors_alike():
    torch.manual_seed(0)
    one = nn.Sequential(nn.Linear(40, 20), nn.BatchNorm1d(20), nn.Embedding(30, 16))
    two = nn.Sequential(nn.Linear(40, 20), nn.BatchNorm1d(20), nn.Embedding(30, 16))
    codes.readable(two)
    state = dict(one.state_dict())
    for name in ("0.weight", "2.weight"):
        state |= {name + suffix: part for suffix, part in codes.encode(one.state_dict()[name], 4).items()}
    two.load_state_dict(state)
    assert torch.equal(two[0].bias, one[0].bias)
    assert float((two[0].weight - one[0].weight).detach().norm() / one[0].weight.detach().norm()) < 0.15
    assert torch.equal(two[2].weight, codes.decode(codes.encode(one[2].weight, 4), (30, 16)))
    two.load_state_dict(one.state_dict())
    assert torch.equal(two[0].weight, one[0].weight)


@pytest.mark.parametrize(
    "damage",
    [
        lambda parts: {**parts, "": parts[""][:-1]},
        lambda parts: {**parts, ".scale": parts[".scale"][:-1]},
        lambda parts: {**parts, ".scale": torch.ones(10_000).bfloat16()},
        lambda parts: {**parts, "": parts[""].to(torch.int32)},
        lambda parts: {**parts, ".mask": torch.zeros(3, dtype=torch.uint8)},
        lambda parts: {**parts, ".mask": torch.zeros(100, dtype=torch.uint8)},
        lambda parts: {"": parts[""]},
    ],
)
@pytest.mark.parametrize("bits", [8, 4])
def test_parts_that_do_not_belong_together_are_refused(damage, bits):
    layer = nn.Linear(40, 20)
    codes.readable(layer)
    parts = damage(codes.encode(layer.weight, bits))
    state = {"bias": layer.bias, **{"weight" + suffix: part for suffix, part in parts.items()}}
    with pytest.raises(RuntimeError, match="weight"):
        layer.load_state_dict(state)
