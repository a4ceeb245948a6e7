"""Presets have the published parameter counts, and give way to what is said beside them."""

from __future__ import annotations

import pytest
import torch

from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.core.settings import read, to_tree
from modelworks.models.transformer import PRESETS, Transformer

# (vocabulary, context, features, parameters): tied tables; BERT and MiniLM without their poolers.
PUBLISHED = {
    "gpt2": (50_257, 1024, "next", 124_439_808),
    "llama": (49_152, 8192, "next", 134_515_008),
    "qwen": (151_936, 32_768, "next", 596_049_920),
    "nanochat": (65_536, 2048, "next", 65_536 * 768 + 12 * 12 * 768**2),
    "bert": (30_522, 512, "token", 109_482_240 - 590_592),
    "minilm": (30_522, 512, "token", 22_713_216 - 147_840),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_published_parameter_count(preset: str) -> None:
    size, length, features, count = PUBLISHED[preset]
    with torch.device("meta"):
        body = Transformer(preset=preset).build({"x": Layout("tokens", size=size, length=length)}, features)
    assert sum(p.numel() for p in body.parameters()) == count


def test_what_is_said_wins() -> None:
    small = Transformer(preset="llama", depth=2, width=64, heads=4, kv_heads=None)
    assert (small.depth, small.width, small.kv_heads, small.gated, small.hidden) == (2, 64, None, True, 1536)
    assert read(Transformer, {k: v for k, v in to_tree(small).items() if k != "kind"}) == small
    with pytest.raises(UserError, match="preset: got 'lama'; did you mean 'llama'"):
        Transformer(preset="lama")


def test_the_dial() -> None:
    for dial, heads in ((1, 1), (4, 2), (5, 3), (20, 10)):
        settings = Transformer(preset="nanochat", dial=dial)
        assert (settings.depth, settings.width, settings.heads, settings.head_width) == (
            dial,
            64 * dial,
            heads,
            128,
        )
        assert settings.activation == "relu2"
    assert Transformer(dial=4, depth=6).depth == 6
