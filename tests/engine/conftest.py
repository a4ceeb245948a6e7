"""Small language models with random weights, for the tests of generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
import torch

from modelworks.engine.network import Network, build
from modelworks.fields.corpus import Corpus
from modelworks.models.transformer import Transformer
from modelworks.tasks.language import Language

Make = Callable[..., tuple[Network, Corpus]]


def make_language_model(
    text: str = "abcdefgh",
    *,
    seed: int = 0,
    length: int = 64,
    tokens: Any = "char",
    end: bool = True,
    **changes: Any,
) -> tuple[Network, Corpus]:
    """A transformer in float64, so that rounding never decides between tokens, and its field."""
    field = Corpus(tokens=tokens, length=length, end=end).fit([pa.array([text])])
    tied = changes.pop("tied", False)
    settings = {"width": 16, "depth": 2, "heads": 2, "positions": "rope", "dropout": 0.0} | changes
    task = Language(target="text", start="normal", tied=tied)
    network = build(Transformer(**settings), task, {"text": field}, seed).double().eval()
    with torch.no_grad():  # random weights say much the same whatever came before; larger ones do not
        generator = torch.Generator().manual_seed(seed)
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.6, generator=generator)
    return network, field


@pytest.fixture(scope="session")
def language_model() -> Make:
    """`network, field = language_model("its alphabet", seed=1, depth=2)`."""
    return make_language_model
