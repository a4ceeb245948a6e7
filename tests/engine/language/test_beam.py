"""Beam search against all continuations written out, and against greedy decoding."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import UserError
from modelworks.engine.language.generate import Generator
from modelworks.engine.language.sampling import Sampling
from modelworks.layers.beam import beam_search


def table(seed: int, size: int) -> dict[tuple[int, ...], torch.Tensor]:
    """Logits of the next token after every beginning of up to three tokens."""
    generator = torch.Generator().manual_seed(seed)
    return {
        ids: torch.randn(size, generator=generator, dtype=torch.float64) * 2
        for length in range(4)
        for ids in itertools.product(range(size), repeat=length)
    }


def all_of(
    logits: dict[tuple[int, ...], torch.Tensor], size: int, end: int, most: int, alpha: float
) -> list[Any]:
    """(score, ids) of every continuation, best first."""
    found = []
    for length in range(1, most + 1):
        for ids in itertools.product(range(size), repeat=length):
            if end in ids[:-1] or (length < most and ids[-1] != end):
                continue
            total = sum(float(logits[ids[:at]].log_softmax(-1)[ids[at]]) for at in range(length))
            found.append((total / length**alpha, ids))
    return sorted(found, reverse=True)


class Hypotheses:
    """The step function over such tables, one table a prompt."""

    def __init__(self, tables: list[dict[tuple[int, ...], torch.Tensor]]) -> None:
        self.tables = tables
        self.rows: list[tuple[int, tuple[int, ...]]] = [(number, ()) for number in range(len(tables))]

    def first(self) -> torch.Tensor:
        return torch.stack([one[()] for one in self.tables])

    def __call__(self, token_R: torch.Tensor, from_R: list[int]) -> torch.Tensor:
        rows = [self.rows[row] for row in from_R]
        self.rows = [
            (number, (*ids, token)) for (number, ids), token in zip(rows, token_R.tolist(), strict=True)
        ]
        return torch.stack([self.tables[number][ids] for number, ids in self.rows])


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.6, 1.0]))
@settings(max_examples=25, deadline=None)
def test_with_enough_beams_it_finds_the_best_of_all(seed: int, alpha: float) -> None:
    size, end, most = 4, 1, 3
    tables = [table(seed, size), table(seed + 1, size)]
    # All beginnings alive at once: 3 · 3 · 4; nothing can be lost, except by settling early.
    found = beam_search(
        Hypotheses(tables).first(), Hypotheses(tables), beams=40, end=end, max_tokens=most,
        length_penalty=alpha, best=5,
    )  # fmt: skip
    for one, hypotheses in zip(tables, found, strict=True):
        expected = all_of(one, size, end, most, alpha)[:5]
        assert [hypothesis.ids for hypothesis in hypotheses] == [ids for _, ids in expected]
        for hypothesis, (score, _) in zip(hypotheses, expected, strict=True):
            assert math.isclose(hypothesis.score, score, rel_tol=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_settling_loses_nothing_without_a_length_penalty(seed: int) -> None:
    """Probabilities only fall, so what is settled is final: few beams, stopped early or not, agree."""
    one = table(seed, 4)
    rows = Hypotheses([one])
    (found,) = beam_search(rows.first(), rows, beams=16, end=1, max_tokens=3, length_penalty=0.0, best=16)
    assert [h.ids for h in found[:3]] == [ids for _, ids in all_of(one, 4, 1, 3, 0.0)[:3]]


def test_a_prompts_beams_do_not_depend_on_the_others() -> None:
    tables = [table(seed, 4) for seed in range(6)]
    together = Hypotheses(tables)
    options: Any = {"beams": 3, "end": 1, "max_tokens": 3, "best": 2}
    found = beam_search(together.first(), together, **options)
    for number, one in enumerate(tables):
        alone = Hypotheses([one])
        assert beam_search(alone.first(), alone, **options)[0] == found[number]


def test_one_beam_over_a_network_is_greedy_and_more_are_no_worse(language_model: Any) -> None:
    for seed in range(4):
        network, field = language_model(seed=seed)
        generator = Generator(network, field)
        prompts = [[3, 4, 5], [6, 7]]
        greedy = generator.generate(prompts, Sampling(temperature=0, max_tokens=8, logprobs=True))
        one = generator.beam(prompts, beams=1, max_tokens=8, length_penalty=0.0)
        four = generator.beam(prompts, beams=4, max_tokens=8, length_penalty=0.0, best=4)
        for answer, (single,), several in zip(greedy, one, four, strict=True):
            assert single.ids == answer.ids
            assert math.isclose(single.logprob, sum(answer.logprobs), rel_tol=1e-5)
            assert len(several) == 4
            assert [h.score for h in several] == sorted((h.score for h in several), reverse=True)
            assert len({h.ids for h in several}) == 4


def test_beams_score_what_they_say(language_model: Any) -> None:
    network, field = language_model()
    (hypotheses,) = Generator(network, field).beam([[3, 4]], beams=3, max_tokens=6, best=3)
    for hypothesis in hypotheses:
        with torch.no_grad():
            logits = network.head.logits(network.model({"text": torch.tensor([[3, 4, *hypothesis.ids]])}))
        log = logits[0, 1:-1].log_softmax(-1).gather(1, torch.tensor(hypothesis.ids)[:, None])
        assert math.isclose(float(log.sum()), hypothesis.logprob, rel_tol=1e-4)
        assert math.isclose(hypothesis.score, hypothesis.logprob / len(hypothesis.ids), rel_tol=1e-9)


def test_more_answers_than_beams_are_refused(language_model: Any) -> None:
    network, field = language_model()
    with pytest.raises(UserError, match="the best 5 of 4 beams"):
        Generator(network, field).beam([[3]], beams=4, best=5)
