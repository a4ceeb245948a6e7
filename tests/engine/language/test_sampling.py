"""Each filter against its definition written out plainly for one row; the draw against the distribution itself."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelworks.core.errors import UserError
from modelworks.engine.language import sampling as module
from modelworks.engine.language.sampling import Sampler, Sampling, candidates, draw, penalise, uniforms


def spread(logits_RV: Tensor, sampling: Sampling) -> Tensor:
    """The filtered, normalised distribution over the whole vocabulary."""
    probability, token = candidates(logits_RV, sampling)
    if token is not None:
        probability = torch.zeros_like(logits_RV, dtype=torch.float64).scatter(1, token, probability)
    return probability / probability.sum(-1, keepdim=True)


def plain(logits: list[float], sampling: Sampling) -> list[float]:
    """The same for one row, by the definitions."""
    top = max(logits)
    weight = [math.exp((z - top) / sampling.temperature) for z in logits]
    order = sorted(range(len(logits)), key=lambda v: -weight[v])
    kept = order[: sampling.top_k or None]
    mass, total, nucleus = 0.0, sum(weight[v] for v in kept), []
    for v in kept:  # the smallest set that reaches top_p
        if mass >= sampling.top_p * total:
            break
        nucleus.append(v)
        mass += weight[v]
    nucleus = [v for v in nucleus if weight[v] >= sampling.min_p * weight[order[0]]]
    total = sum(weight[v] for v in nucleus)
    return [weight[v] / total if v in nucleus else 0.0 for v in range(len(logits))]


FILTERS = [
    {},
    {"temperature": 0.3},
    {"top_k": 5},
    {"top_p": 0.6},
    {"min_p": 0.2},
    {"top_k": 7, "top_p": 0.8, "min_p": 0.05, "temperature": 1.7},
    {"top_k": 500, "top_p": 0.999},
    {"top_p": 1e-6},
]


@pytest.mark.parametrize("changes", FILTERS, ids=str)
@pytest.mark.parametrize("few", [4, 1024])
def test_filters_follow_their_definitions(
    changes: dict[str, float], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEW", few)  # both the short way and the whole sort
    logits_RV = torch.randn(6, 40, generator=torch.Generator().manual_seed(1)) * 3
    sampling = Sampling(**changes)
    expected = torch.tensor([plain(row, sampling) for row in logits_RV.double().tolist()])
    torch.testing.assert_close(spread(logits_RV, sampling), expected.double(), atol=1e-7, rtol=1e-6)


def test_penalties_follow_their_definitions() -> None:
    sampling = Sampling(repetition_penalty=1.5, presence_penalty=0.25, frequency_penalty=0.125)
    sampler = Sampler(sampling, 1, 5)
    sampler.prompt(0, [0, 1])
    for token in (1, 3, 3):
        sampler.wrote(0, token)
    assert sampler.seen_RV is not None
    assert sampler.count_RV is not None
    changed = penalise(
        torch.tensor([[2.0, -2.0, 2.0, -2.0, -2.0]]), sampler.seen_RV, sampler.count_RV, sampling
    )
    # 0: prompt only; 1: both, once written; 2: neither; 3: written twice; 4: neither
    expected = [2 / 1.5, -3.0 - 0.25 - 0.125, 2.0, -3.0 - 0.25 - 0.25, -2.0]
    torch.testing.assert_close(changed, torch.tensor([expected]))


def test_bias_and_grammar_bound_the_choice() -> None:
    logits = torch.tensor([[5.0, 1.0, 0.0]])
    uniform = torch.tensor([0.5], dtype=torch.float64)
    assert Sampler(Sampling(temperature=0), 1, 3).choose(logits, uniform).item() == 0
    banned = Sampler(Sampling(temperature=0, logit_bias={0: -100.0}), 1, 3)
    assert banned.choose(logits, uniform).item() == 1
    only = torch.tensor([[False, False, True]])
    for temperature in (0.0, 1.0):
        sampler = Sampler(Sampling(temperature=temperature, top_p=0.9), 1, 3)
        assert sampler.choose(logits, uniform, only).item() == 2


@given(st.integers(0, 2**31), st.floats(0, 1, exclude_max=True))
@settings(max_examples=60, deadline=None)
def test_a_draw_never_takes_what_a_filter_dropped(seed: int, uniform: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    probability = torch.rand(1, 9, generator=generator, dtype=torch.float64)
    probability[torch.rand(1, 9, generator=generator) < 0.5] = 0
    probability[0, 4] = 0.1
    index = int(draw(probability, torch.tensor([uniform], dtype=torch.float64)))
    assert probability[0, index] > 0
    before = probability[0, :index].sum() / probability.sum()
    after = probability[0, : index + 1].sum() / probability.sum()
    assert before - 1e-12 <= uniform <= after + 1e-12


def test_draws_have_the_distribution() -> None:
    probability = torch.tensor([0.5, 0.2, 0.0, 0.3], dtype=torch.float64)
    uniform = uniforms(3, 0, 20_000)
    counts = torch.bincount(draw(probability.expand(len(uniform), -1).contiguous(), uniform), minlength=4)
    # Four standard deviations of a share of 0.5 among 20,000.
    torch.testing.assert_close(counts / 20_000, probability.float(), atol=4 * (0.25 / 20_000) ** 0.5, rtol=0)


def test_random_numbers_depend_on_seed_and_row_alone() -> None:
    assert torch.equal(uniforms(1, 2, 5), uniforms(1, 2, 9)[:5])
    streams = {tuple(uniforms(seed, row, 4).tolist()) for seed in (0, 1, 2**32 - 1, -2) for row in range(5)}
    assert len(streams) == 20


def test_a_choice_does_not_depend_on_the_other_rows() -> None:
    logits_RV = torch.randn(5, 30, generator=torch.Generator().manual_seed(4))
    uniform_R = torch.rand(5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    sampling = Sampling(temperature=0.9, top_p=0.9)
    together = Sampler(sampling, 5, 30).choose(logits_RV, uniform_R)
    alone = [
        int(Sampler(sampling, 1, 30).choose(logits_RV[r : r + 1], uniform_R[r : r + 1])) for r in range(5)
    ]
    assert together.tolist() == alone


def test_settings_say_what_is_wrong() -> None:
    with pytest.raises(UserError, match="top_p"):
        Sampling(top_p=0)
    with pytest.raises(UserError, match="did you mean 'temperature'"):
        Sampling(temprature=1)  # type: ignore[call-arg]
