"""Which tokens of a batch are hidden, and behind what (BERT, Devlin et al. 2019; whole words, the same authors' later
release; spans, SpanBERT, Joshi et al. 2020).

    hidden = hide(tokens_BT, may_BT, joins_BT, Drawn(tokens_BT.shape), share=0.15, …)
    hidden.tokens_BT, hidden.at_BK, hidden.target_BK

Every row hides the same number K of tokens, as BERT does, so shapes do not depend on chance; a row that has fewer to
hide fills up with targets of −1. B rows, T tokens, K hidden ones, V tokens of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modelworks.core.dataset import mix
from modelworks.layers.token_head import Scores

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FAR = 2.0  # a random key beyond every other: of what must not be hidden
Draws = Callable[[], Tensor]
"""Each call: fresh uniform numbers in [0, 1), float32 (B, T)."""


@dataclass(frozen=True)
class Hidden:
    """A batch with some of its tokens hidden."""

    tokens_BT: Tensor
    """What the model sees."""
    at_BK: Tensor
    """The hidden places, in no order."""
    target_BK: Tensor
    """What stood there; −1: this place is not hidden after all."""


def by_chance(tokens_BT: Tensor) -> Draws:
    """From torch's default generator."""
    return lambda: torch.rand(tokens_BT.shape, device=tokens_BT.device)


def by_number(row_B: Tensor, tokens_BT: Tensor) -> Draws:
    """A pure function of (row number, place): the same whatever the batch."""
    rows = row_B.detach().cpu().numpy().astype(np.uint64)
    place_T = np.arange(tokens_BT.shape[1], dtype=np.uint64)
    with np.errstate(over="ignore"):
        seeds_BT = mix(mix(rows + _GOLDEN)[:, None] + (place_T + np.uint64(1)) * _GOLDEN)
    calls = 0

    def draw() -> Tensor:
        nonlocal calls
        calls += 1
        with np.errstate(over="ignore"):
            bits_BT = mix(seeds_BT + np.uint64(calls) * _GOLDEN) >> np.uint64(40)
        return torch.from_numpy((bits_BT / 2.0**24).astype(np.float32)).to(tokens_BT.device)

    return draw


def words(joins_BT: Tensor) -> Tensor:
    """The number of each token's word within its row. int64 (B, T)."""
    return (~joins_BT).to(torch.int64).cumsum(1) - (~joins_BT[:, :1]).to(torch.int64)


def spans(word_BT: Tensor, draw: Draws, stop: float, longest: int) -> Tensor:
    """The number of each token's span: words are tiled by spans of 1 to `longest` words, each word but the longest's
    last ending its span with chance `stop`, so that lengths are geometric."""
    uniform_BT = draw().clamp(min=1e-7)
    length_BT = (1 + torch.floor(uniform_BT.log() / math.log1p(-stop))).clamp(max=longest).to(torch.int64)
    ends_BT = length_BT.cumsum(1)
    return torch.searchsorted(ends_BT, word_BT.contiguous(), right=True)


def hide(
    tokens_BT: Tensor,
    may_BT: Tensor,
    group_BT: Tensor | None,
    draw: Draws,
    *,
    share: float,
    keep: float,
    random: float,
    whole: bool,
    mask: int,
    ordinary_V: Tensor,
) -> Hidden:
    """`may`: which tokens may be hidden. `group`: tokens that are hidden together; None: each alone. `whole`: a group
    is hidden as a whole or not at all; else the last one is cut to make up K.
    Of the hidden ones a share `keep` is left as it is, a share `random` becomes any of the `ordinary` tokens, the
    rest becomes `mask`. That is drawn for each token, or, unless `whole`, for all of a group as in SpanBERT."""
    steps = tokens_BT.shape[1]
    most = max(1, round(share * steps))
    key_BT = draw()
    if group_BT is None:
        key_BK, at_BK = key_BT.masked_fill(~may_BT, _FAR).topk(most, 1, largest=False)
        chosen_BK = key_BK < 1
    else:
        key_BT = key_BT.gather(1, group_BT).masked_fill(
            ~may_BT, _FAR
        )  # the key of the place of the group's number
        order_BT = key_BT.argsort(
            stable=True, dim=1
        )  # groups one after another, each in the order of its tokens
        at_BK = order_BT[:, :most]
        sorted_BT = torch.where(key_BT < 1, group_BT, -1).gather(1, order_BT)
        group_BK, chosen_BK = sorted_BT[:, :most], sorted_BT[:, :most] >= 0
        if whole and most < steps:  # one that does not fit is left out; but something must be hidden
            last_B1 = group_BK[:, -1:]
            unfit_BK = (group_BK == last_B1) & (sorted_BT[:, most : most + 1] == last_B1)
            chosen_BK = chosen_BK & ~(unfit_BK & (group_BK != group_BK[:, :1]))
    wanted_B1 = (share * may_BT.sum(1, keepdim=True)).round().clamp(min=1)  # short rows hide fewer
    chosen_BK = chosen_BK & (torch.arange(most, device=tokens_BT.device) < wanted_B1)
    stood_BK = tokens_BT.gather(1, at_BK)
    roll_BK = draw().gather(1, at_BK if group_BT is None or whole else group_BT.gather(1, at_BK))
    other_BK = ordinary_V[(draw().gather(1, at_BK) * len(ordinary_V)).long()]
    shown_BK = torch.where(roll_BK < keep, stood_BK, torch.where(roll_BK < keep + random, other_BK, mask))
    shown_BK = torch.where(chosen_BK, shown_BK, stood_BK)
    target_BK = torch.where(chosen_BK, stood_BK, -1)
    return Hidden(tokens_BT.scatter(1, at_BK, shown_BK), at_BK, target_BK)


# ------------------------------------------------------------------------------------------- measuring
def said(scores: Scores, target_BK: Tensor) -> dict[str, Tensor]:
    """What MaskedMeter is given of a network's scores; target −1: none."""
    return {"nll": scores.nll(target_BK), "prediction": scores.best(), "target": target_BK}


def guessed(baseline: Mapping[str, np.ndarray], target_BK: np.ndarray) -> dict[str, np.ndarray]:
    """The same of one who knows only how often each token comes (`nll` a token) and the commonest."""
    return {
        "nll": np.where(target_BK >= 0, baseline["nll"][np.maximum(target_BK, 0)], 0.0),
        "prediction": np.full_like(target_BK, baseline["prediction"][0]),
        "target": target_BK,
    }
