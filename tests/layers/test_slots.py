"""Slots: steps of any rows in one pass give what each row gives alone, to the bit on a CPU."""

from __future__ import annotations

import platform

import pytest
import torch
from torch import nn

from modelworks.core.field import Layout
from modelworks.engine.language.pack import pack
from modelworks.layers.cache import Cache
from modelworks.layers.look import blocks
from modelworks.layers.packed import PackedHead, PackedLinear, Weights
from modelworks.layers.slots import Slots
from modelworks.layers.token_head import TokenHead
from modelworks.models.transformer import Transformer

ONEDNN = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or platform.machine() != "x86_64", reason="oneDNN on x86-64"
)


def body_of(weights: Weights | None, **changes: object) -> nn.Module:
    settings = {
        "width": 192, "heads": 6, "kv_heads": 2, "depth": 2, "hidden": 1536, "gated": True, "normalisation": "rms",
        "bias": False, "positions": "rope", "dropout": 0.0,
    } | changes  # fmt: skip
    torch.manual_seed(0)
    body = Transformer(**settings).build({"text": Layout("tokens", size=50, length=400)}, "next")
    network = nn.Module()
    network.model, network.head = body, TokenHead(192, 50)
    if weights is not None:
        network.head.softcap, network.head.table_VD = None, network.head.weight
        pack(network, weights)
    return body.eval()


def alone(body: nn.Module, ids: list[int], prompt: int) -> torch.Tensor:
    """Features of the prompt's last token and of those behind it, read one by one. (T, D)"""
    cache: Cache = body.new_cache(1, 300)
    found = [body({"text": torch.tensor([ids[:prompt]])}, cache)[0, -1:]]
    for token in ids[prompt:]:
        found.append(body({"text": torch.tensor([[token]])}, cache)[0])
    return torch.cat(found)


def together(body: nn.Module, texts: list[list[int]], prompts: list[int]) -> list[torch.Tensor]:
    """The same, prompts in pieces of 64 and texts side by side."""
    slots = Slots(body.new_cache(len(texts) + 1, 300))
    found: list[list[torch.Tensor]] = [[] for _ in texts]
    while any(slots.lengths[row] < len(ids) for row, ids in enumerate(texts)):
        pieces = []
        for row, (ids, prompt) in enumerate(zip(texts, prompts, strict=True)):
            start = slots.lengths[row]
            if start < len(ids):
                pieces.append((row, min(64, prompt - start) if start < prompt else 1))
        tokens = [[t] for row, n in pieces for t in texts[row][slots.lengths[row] : slots.lengths[row] + n]]
        slots.begin(pieces)
        features_ND = body({"text": torch.tensor(tokens)}, slots)[:, 0]
        for (row, _), part in zip(pieces, features_ND.split([n for _, n in pieces]), strict=True):
            if slots.lengths[row] >= prompts[row]:
                found[row].append(part[-1:])
    return [torch.cat(some) for some in found]


@ONEDNN
@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "changes", [{}, {"positions": "alibi", "window": 40}, {"ngrams": 3, "value_residual": True}]
)
@torch.inference_mode()
def test_features_do_not_depend_on_the_company(weights: Weights, changes: dict[str, object]) -> None:
    body = body_of(weights, **changes)
    prompts = [5, 64, 65, 130, 200, 1]
    texts = [torch.randint(0, 50, (count + 3,)).tolist() for count in prompts]
    for ids, prompt, found in zip(texts, prompts, together(body, texts, prompts), strict=True):
        assert torch.equal(found, alone(body, ids, prompt))


@torch.inference_mode()
def test_features_are_those_of_the_whole_text() -> None:
    body = body_of(None)
    ids = torch.randint(0, 50, (150,)).tolist()
    whole_TD = body({"text": torch.tensor([ids])})[0]
    (found,) = together(body, [ids], [147])
    torch.testing.assert_close(found, whole_TD[146:], atol=1e-5, rtol=1e-5)


@ONEDNN
@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
@torch.inference_mode()
def test_packed_products_of_a_row_do_not_depend_on_the_others(weights: Weights) -> None:
    torch.manual_seed(1)
    for inputs in (192, 1536):
        layer = PackedLinear(torch.randn(96, inputs), None, weights)
        x_NI = torch.randn(70, inputs)
        ones = torch.cat([layer(x_NI[row : row + 1]) for row in range(70)])
        for count in (2, 7, 16, 33, 70):
            assert torch.equal(layer(x_NI[:count]), ones[:count])
    head = PackedHead(torch.randn(300, 192), None, weights)
    x_ND = torch.randn(40, 192)
    assert torch.equal(head.logits(x_ND), torch.cat([head.logits(x_ND[row : row + 1]) for row in range(40)]))


@torch.inference_mode()
def test_steps_taken_and_given_are_the_same() -> None:
    body = body_of(None, ngrams=3)
    slots = Slots(body.new_cache(2, 300))
    ids = torch.randint(0, 50, (70, 1))
    slots.begin([(0, 64)])
    body({"text": ids[:64]}, slots)
    slots.give(1, slots.taken(0, 0, 64), ids[:64, 0].tolist())
    slots.begin([(1, 6), (0, 6)])
    features_ND = body({"text": ids[64:].repeat(2, 1)}, slots)[:, 0]
    torch.testing.assert_close(features_ND[:6], features_ND[6:])
    with pytest.raises(ValueError, match="cannot be cut"):
        slots.cut(0, 71)


def test_blocks_end_at_multiples() -> None:
    assert blocks(0, 130) == [(0, 64), (64, 128), (128, 130)]
    assert blocks(63, 64) == [(63, 64)]
    assert blocks(60, 70) == [(60, 64), (64, 70)]
