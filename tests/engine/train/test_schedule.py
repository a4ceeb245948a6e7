"""Schedules against torch.optim.lr_scheduler, and properties of those that torch lacks."""

import json
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import RecipeError
from modelworks.engine.train.schedule import KINDS, Plateau, Schedule

warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
lrs = torch.optim.lr_scheduler
TOTAL = 40


def torchs(make, lr=1.0, steps=TOTAL):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


CASES = {
    "cosine": (
        Schedule(kind="cosine", warmup=0, floor=0.1),
        lambda o: lrs.CosineAnnealingLR(o, TOTAL, eta_min=0.1),
    ),
    "restarts": (
        Schedule(kind="cosine", warmup=0, cycles=4),
        lambda o: lrs.CosineAnnealingWarmRestarts(o, TOTAL // 4),
    ),
    "one_cycle": (
        Schedule(kind="one_cycle"),
        lambda o: lrs.OneCycleLR(o, max_lr=1.0, total_steps=TOTAL, cycle_momentum=False),
    ),
    "one_cycle_late": (
        Schedule(kind="one_cycle", peak=0.55, start=0.1, floor=0.001),
        lambda o: lrs.OneCycleLR(
            o,
            max_lr=1.0,
            total_steps=TOTAL,
            pct_start=0.55,
            div_factor=10,
            final_div_factor=100,
            cycle_momentum=False,
        ),
    ),
    "step": (Schedule(kind="step", every=7, gamma=0.3), lambda o: lrs.StepLR(o, 7, 0.3)),
    "step_share": (Schedule(kind="step", every=0.25, gamma=0.3), lambda o: lrs.StepLR(o, 10, 0.3)),
    "milestones": (
        Schedule(kind="step", at=[5, 0.5, 30], gamma=0.3),
        lambda o: lrs.MultiStepLR(o, [5, 20, 30], 0.3),
    ),
    "exponential": (Schedule(kind="exponential", every=1, gamma=0.9), lambda o: lrs.ExponentialLR(o, 0.9)),
    "triangular": (
        Schedule(kind="cyclic", every=10, floor=0.2),
        lambda o: lrs.CyclicLR(o, 0.2, 1.0, step_size_up=5, cycle_momentum=False),
    ),
    "triangular2": (
        Schedule(kind="cyclic", every=0.25, floor=0.2, gamma=0.5),
        lambda o: lrs.CyclicLR(o, 0.2, 1.0, step_size_up=5, mode="triangular2", cycle_momentum=False),
    ),
    "linear": (Schedule(kind="linear", warmup=0, floor=0.25), lambda o: lrs.LinearLR(o, 1.0, 0.25, TOTAL)),
    "polynomial": (Schedule(kind="polynomial", warmup=0, power=3), lambda o: lrs.PolynomialLR(o, TOTAL, 3)),
    "warmup": (Schedule(kind="constant", warmup=9), lambda o: lrs.LinearLR(o, 0.1, 1.0, 9)),
}


@pytest.mark.parametrize("name", CASES)
def test_course_is_torchs(name):
    schedule, make = CASES[name]
    assert [schedule.factor(step, TOTAL) for step in range(TOTAL)] == pytest.approx(
        torchs(make), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("minimise", [True, False])
@pytest.mark.parametrize("patience,cooldown", [(0, 0), (2, 0), (1, 3)])
def test_plateau_is_torchs_also_after_a_resume(minimise, patience, cooldown):
    settings_ = Schedule(
        kind="plateau", gamma=0.5, patience=patience, cooldown=cooldown, threshold=0.01, floor=0.05
    )
    values = torch.randn(60, generator=torch.Generator().manual_seed(patience)).abs().add(1).tolist()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = lrs.ReduceLROnPlateau(
        optimizer, "min" if minimise else "max", 0.5, patience, threshold=0.01, cooldown=cooldown, min_lr=0.05
    )
    plateau = Plateau(settings_, minimise)
    for value in values:
        reference.step(value)
        plateau.update(value)
        assert plateau.factor == pytest.approx(optimizer.param_groups[0]["lr"])
        state = json.loads(json.dumps(plateau.state))
        plateau = Plateau(settings_, minimise)
        plateau.load(state)
    assert plateau.factor < 1


def test_plateau_counts_nan_as_no_improvement():
    plateau = Plateau(Schedule(kind="plateau", patience=1), True)
    assert [plateau.update(v) for v in (1.0, float("nan"), float("nan"))] == [False, False, True]


def test_wsd_rises_stays_and_falls():
    schedule = Schedule(kind="wsd", warmup=0.1, decay=0.25, shape="linear", floor=0.1)
    factors = [schedule.factor(step, 100) for step in range(101)]
    assert factors[:10] == pytest.approx([(s + 1) / 11 for s in range(10)])
    assert factors[10:76] == [1.0] * 66
    assert factors[75:] == pytest.approx([1 - 0.9 * (s / 25) for s in range(26)])
    assert Schedule(kind="wsd", shape="sqrt").factor(85, 100) == pytest.approx(1 - (5 / 20) ** 0.5)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(list(KINDS)),
    st.integers(1, 500),
    st.integers(0, 600),
    st.sampled_from([0.0, 0.3, 5.0, 1000.0]),
)
def test_factors_stay_between_the_floor_and_one(kind, total, step, warmup):
    more = {} if kind == "one_cycle" else {"warmup": warmup}
    schedule = Schedule(kind=kind, **more)
    factor = schedule.factor(step, total)
    low = (
        KINDS[kind].get("floor", 0.0)
        if not more or step >= (warmup if warmup >= 1 else warmup * total)
        else 0.0
    )
    assert low - 1e-12 <= factor <= 1 + 1e-12
    assert factor == schedule.factor(step, total)


def test_both_ways_of_falling_are_refused():
    with pytest.raises(RecipeError, match="not both"):
        Schedule(kind="step", every=10, at=[5])
