"""Unfilled: what is about to be loaded is not drawn first."""

from __future__ import annotations

import torch
from torch import nn

from modelworks.engine.unfilled import Unfilled


def test_nothing_is_drawn_and_a_generator_of_its_own_still_draws() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    own = torch.Generator().manual_seed(3)
    with Unfilled():
        nn.Linear(8, 8)
        nn.Embedding(5, 8)
        nn.LSTM(4, 4)
        nn.init.orthogonal_(torch.empty(4, 4))
        drawn = torch.empty(16).normal_(generator=own)
        norm = nn.LayerNorm(4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn, torch.empty(16).normal_(generator=torch.Generator().manual_seed(3)))
    assert norm.weight.tolist() == [1.0] * 4
    assert nn.Linear(8, 8).weight.std() > 0.1
