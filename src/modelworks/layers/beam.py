"""Beam search: the continuations of highest probability as a whole (Graves 2012; length penalty as in Wu et al. 2016
without its constant: log-probability divided by length^alpha).

    beams = beam_search(first_BV, step, beams=4, end=3, max_tokens=80, length_penalty=1.0)
    beams[0][0].ids        # the best continuation of row 0

`step(token_R, from_R)` → log-probabilities or logits (R, V): every hypothesis goes on from hypothesis `from_R` of
the last step with `token_R`. It works for any network with a cache; Generator and translation both use it.
B prompts, K hypotheses of a prompt, R = all hypotheses alive, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Step = Callable[[Tensor, list[int]], Tensor]


@dataclass(frozen=True)
class Hypothesis:
    """One finished continuation."""

    ids: tuple[int, ...]
    """Its tokens, the end included where it has one."""
    logprob: float
    """Sum over its tokens."""
    score: float
    """What hypotheses are ranked by."""


@dataclass
class _Prompt:
    """One prompt's search."""

    alive: list[tuple[int, ...]]
    logprob_K: Tensor
    done: list[Hypothesis]

    def settled(self, beams: int, length: int, alpha: float) -> bool:
        """Whether no hypothesis alive, ended now, would be among the best."""
        if len(self.done) < beams:
            return False
        return float(self.logprob_K.max()) / length**alpha <= self.done[-1].score

    def finish(self, ids: tuple[int, ...], logprob: float, beams: int, alpha: float) -> None:
        """Keep a finished hypothesis, if it is among the best."""
        self.done.append(Hypothesis(ids, logprob, logprob / len(ids) ** alpha))
        self.done.sort(key=lambda one: -one.score)
        del self.done[beams:]


def beam_search(
    first_BV: Tensor,
    step: Step,
    *,
    beams: int,
    end: int | Sequence[int],
    max_tokens: int,
    length_penalty: float = 1.0,
    best: int = 1,
) -> list[list[Hypothesis]]:
    """The `best` hypotheses of every prompt, best first.

    `first`: logits of the first new token, a row for each prompt. `length_penalty`: alpha; 0 ranks by probability,
    which likes short answers, more likes long ones. A prompt leaves the batch when it is settled."""
    ends = torch.tensor([end] if isinstance(end, int) else list(end), dtype=torch.int64)
    prompts = [_Prompt([()], torch.zeros(1, dtype=torch.float64), []) for _ in first_BV]
    going, logits_RV = list(range(len(prompts))), first_BV
    for length in range(1, max_tokens + 1):
        log_RV = logits_RV.double().log_softmax(-1).cpu()
        tokens: list[int] = []
        origins: list[int] = []
        still, base = [], 0
        for number in going:
            prompt = prompts[number]
            count = len(prompt.alive)
            total_KV = prompt.logprob_K[:, None] + log_RV[base : base + count]
            chosen = _advance(prompt, total_KV, ends, beams, length_penalty, length == max_tokens)
            if chosen and not prompt.settled(beams, length, length_penalty):
                still.append(number)
                tokens += [token for _, token in chosen]
                origins += [base + row for row, _ in chosen]
            base += count
        going = still
        if not going:
            break
        logits_RV = step(torch.tensor(tokens), origins)
    return [prompt.done[:best] for prompt in prompts]


def _advance(
    prompt: _Prompt, total_KV: Tensor, ends: Tensor, beams: int, alpha: float, last: bool
) -> list[tuple[int, int]]:
    """One step of one prompt; the (hypothesis, token) pairs that go on."""
    size = total_KV.shape[1]
    # Enough candidates that `beams` are left if all others end.
    most = min(total_KV.numel(), beams * (1 + len(ends)))
    value_C, index_C = total_KV.flatten().topk(most)
    chosen: list[tuple[int, int]] = []
    values: list[float] = []
    stop = set(ends.tolist())
    for place, (value, index) in enumerate(zip(value_C.tolist(), index_C.tolist(), strict=True)):
        row, token = divmod(index, size)
        if value == -torch.inf:
            break
        ids = (*prompt.alive[row], token)
        if token in stop or last:
            if place < beams or last:  # an end that is not among the best now would crowd out better ones
                prompt.finish(ids, value, beams, alpha)
        elif len(chosen) < beams:
            chosen.append((row, token))
            values.append(value)
    prompt.alive = [(*prompt.alive[row], token) for row, token in chosen]
    prompt.logprob_K = torch.tensor(values, dtype=torch.float64)
    return chosen
