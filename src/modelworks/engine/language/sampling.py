"""Sampling: from the logits of a step to the next token, for many rows at once.

    sampler = Sampler(Sampling(temperature=0.8, top_p=0.95), rows=4, size=50_257)
    token_R = sampler.choose(logits_RV, uniform_R)

Filters follow their papers: top-k (Fan et al. 2018), top-p (Holtzman et al. 2020), min-p (Nguyen et al. 2024),
repetition penalty (CTRL, Keskar et al. 2019). The draw is the inverse of the cumulated distribution at one uniform
number a row, so that a row's tokens do not depend on what else is in the batch. R rows, V vocabulary, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field as Setting
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor

from modelworks.core.settings import Settings

FEW = 1024
"""Most likely tokens that usually hold the mass of top-p; sorting a whole vocabulary takes longer than a layer."""

GUESSES = 2
"""Reading three tokens takes hardly longer than one: a wrong guess costs nothing (docs/experiments.md)."""


class Sampling(Settings):
    """How a text is continued."""

    max_tokens: PositiveInt = 256
    """Most new tokens of a row."""
    temperature: NonNegativeFloat = 1.0
    """Divides the logits; 0 takes the most likely token."""
    top_k: NonNegativeInt = 0
    """Only the so many most likely tokens; 0: all."""
    top_p: float = Setting(default=1.0, gt=0, le=1)
    """Only the most likely tokens that together reach this probability."""
    min_p: float = Setting(default=0.0, ge=0, le=1)
    """Only tokens at least so likely, as a share of the most likely one."""
    repetition_penalty: float = Setting(default=1.0, gt=0)
    """Divides positive logits, multiplies negative ones, of tokens in the prompt or the answer; 1: none."""
    presence_penalty: float = 0.0
    """Taken from the logit of every token that the answer has."""
    frequency_penalty: float = 0.0
    """Taken from a token's logit once for each time that the answer has it."""
    logit_bias: dict[int, float] = {}
    """Token id → added to its logit; -100 bans it in effect."""
    seed: int = 0
    """Row i draws from (seed, i) alone."""
    stop: tuple[str, ...] = ()
    """Texts that end a row; they are not part of its text."""
    stop_tokens: tuple[int, ...] = ()
    """Token ids that end a row, besides the end of a document."""
    ignore_end: bool = False
    """Go on after the end of a document (for measurements)."""
    logprobs: bool = False
    """Also tell the log-probability of every token, before any filter."""
    json_schema: str | None = None
    """A JSON schema, as JSON, that every answer obeys; `{}` is any JSON (extra: constrain)."""
    regex: str | None = None
    """A regular expression that every answer matches as a whole (extra: constrain)."""
    lookup: NonNegativeInt | None = None
    """Tokens guessed a step from what followed the same words earlier; the answer stays the same, but for rounding
    where two tokens are as likely as one another. Left out: GUESSES where one row takes the likeliest tokens."""
    draft: NonNegativeInt = 4
    """Tokens guessed a step by the draft network, where the generator has one."""

    def guesses(self, rows: int) -> int:
        """Tokens to look up a step where so many rows are written."""
        if self.lookup is not None:
            return self.lookup
        return GUESSES if rows == 1 and not self.temperature else 0

    @property
    def penalised(self) -> bool:
        """Whether earlier tokens change the logits."""
        return self.repetition_penalty != 1 or bool(self.presence_penalty or self.frequency_penalty)


def uniforms(seed: int, row: int, steps: int) -> Tensor:
    """The row's random numbers in [0, 1), one a step."""
    # torch's generator on the CPU takes 32 bits of a seed; Philox takes both numbers whole.
    key = np.array([seed % (1 << 64), row], np.uint64)
    return torch.from_numpy(np.random.Generator(np.random.Philox(key=key)).random(steps))


def penalise(logits_RV: Tensor, seen_RV: Tensor, count_RV: Tensor, sampling: Sampling) -> Tensor:
    """`seen`: in the prompt or the answer; `count`: how often in the answer."""
    penalty = sampling.repetition_penalty
    if penalty != 1:
        pushed_RV = torch.where(logits_RV > 0, logits_RV / penalty, logits_RV * penalty)
        logits_RV = torch.where(seen_RV, pushed_RV, logits_RV)
    if sampling.frequency_penalty or sampling.presence_penalty:
        logits_RV = logits_RV - sampling.frequency_penalty * count_RV
        logits_RV = logits_RV - sampling.presence_penalty * (count_RV > 0)
    return logits_RV


def candidates(logits_RV: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor | None]:
    """(probability_RK, token_RK): what the filters leave, not normalised, most likely first; no tokens: all, in order.

    What a filter drops has probability 0."""
    scaled_RV = logits_RV.double() / sampling.temperature
    size = scaled_RV.shape[1]
    kept = min(sampling.top_k or size, size)
    if kept == size and sampling.top_p >= 1:
        probability_RV = scaled_RV.softmax(-1)
        return _min_p(probability_RV, probability_RV.amax(-1, keepdim=True), sampling.min_p), None
    first = min(kept, FEW)
    value_RK, token_RK = scaled_RV.topk(first, sorted=True)
    # The total that top-p is a share of: all tokens, or the top-k alone.
    total_R1 = scaled_RV.logsumexp(-1, keepdim=True)
    if kept < size:
        value_all = value_RK if first == kept else scaled_RV.topk(kept, sorted=True)[0]
        total_R1 = value_all.logsumexp(-1, keepdim=True)
    probability_RK = (value_RK - total_R1).exp()
    if first < kept and bool((probability_RK.sum(-1) < sampling.top_p).any()):
        value_RK, token_RK = scaled_RV.topk(kept, sorted=True)
        probability_RK = (value_RK - total_R1).exp()
    if sampling.top_p < 1:
        before_RK = probability_RK.cumsum(-1) - probability_RK
        probability_RK = probability_RK.masked_fill(before_RK >= sampling.top_p, 0.0)
    return _min_p(probability_RK, probability_RK[:, :1], sampling.min_p), token_RK


def _min_p(probability_RK: Tensor, best_R1: Tensor, share: float) -> Tensor:
    return probability_RK.masked_fill(probability_RK < share * best_R1, 0.0) if share else probability_RK


def draw(probability_RK: Tensor, uniform_R: Tensor) -> Tensor:
    """Index of the candidate in whose part of the cumulated distribution each row's number falls."""
    upto_RK = probability_RK.cumsum(-1)
    index_R = torch.searchsorted(upto_RK, uniform_R[:, None] * upto_RK[:, -1:], right=True)[:, 0]
    # Rounding may point behind the last candidate that has any probability.
    last_R = probability_RK.shape[1] - 1 - (probability_RK > 0).flip(-1).int().argmax(-1)
    return torch.minimum(index_R, last_R)


class Sampler:
    """Chooses for a set of rows that shrinks as they finish; counts what was written where penalties need it."""

    def __init__(self, sampling: Sampling, rows: int, size: int, device: torch.device | None = None) -> None:
        self.sampling = sampling
        self.seen_RV = (
            torch.zeros(rows, size, dtype=torch.bool, device=device) if sampling.penalised else None
        )
        self.count_RV = torch.zeros(rows, size, device=device) if sampling.penalised else None
        self.bias_V = None
        if sampling.logit_bias:
            self.bias_V = torch.zeros(size, device=device)
            self.bias_V[list(sampling.logit_bias)] = torch.tensor(list(sampling.logit_bias.values()))

    def prompt(self, row: int, ids: Sequence[int]) -> None:
        """What the row begins with."""
        if self.seen_RV is not None:
            self.seen_RV[row, list(ids)] = True

    def wrote(self, row: int, token: int) -> None:
        """A token that the row has got."""
        if self.seen_RV is not None and self.count_RV is not None:
            self.seen_RV[row, token] = True
            self.count_RV[row, token] += 1

    def keep(self, index_R: Tensor) -> None:
        """Only these rows are left, in this order."""
        if self.seen_RV is not None and self.count_RV is not None:
            self.seen_RV, self.count_RV = self.seen_RV[index_R], self.count_RV[index_R]

    def choose(
        self,
        logits_RV: Tensor,
        uniform_R: Tensor,
        allowed_RV: Tensor | None = None,
        rows: Sequence[int] | None = None,
    ) -> Tensor:
        """The next token of each row. `allowed`: what a grammar leaves; `rows`: which rows the logits are of."""
        if self.bias_V is not None:
            logits_RV = logits_RV + self.bias_V
        if self.seen_RV is not None and self.count_RV is not None:
            seen, count = self.seen_RV, self.count_RV
            if rows is not None:
                seen, count = seen[list(rows)], count[list(rows)]
            logits_RV = penalise(logits_RV, seen, count, self.sampling)
        if allowed_RV is not None:
            logits_RV = logits_RV.masked_fill(~allowed_RV, -torch.inf)
        if self.sampling.temperature == 0:
            return logits_RV.argmax(-1)
        probability_RK, token_RK = candidates(logits_RV, self.sampling)
        index_R = draw(probability_RK, uniform_R.to(probability_RK.device))
        return index_R if token_RK is None else token_RK.gather(1, index_R[:, None])[:, 0]
