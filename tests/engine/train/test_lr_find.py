"""The range test where the right answer is known: a quadratic's is 2/λ, and a logistic regression must learn at it."""

import math

import pytest
import torch

from modelworks.engine.train.lr_find import find_lr

torch.set_num_threads(1)


@pytest.mark.parametrize("curvature", [0.1, 1.0, 30.0])
def test_quadratic(curvature):
    """Gradient descent on λx²/2 diverges beyond 2/λ: the suggestion lies below it, and not by orders of magnitude."""
    x = 10.0

    def step(lr):
        nonlocal x
        loss = 0.5 * curvature * x * x
        x -= lr * curvature * x
        return loss

    curve = find_lr(step, 1e-5, 1e3, 120)
    assert curve.diverged
    for rate in (curve.suggestion, curve.steepest):
        assert 1e-3 / curvature < rate < 2 / curvature


def test_logistic_regression_learns_at_the_suggestion():
    torch.manual_seed(0)
    x = torch.randn(256, 5)
    y = (x @ torch.tensor([2.0, -1.0, 0.5, 0.0, 3.0]) > 0).float()
    w = torch.zeros(5, requires_grad=True)

    def step(lr):
        batch = torch.randperm(256)[:64]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(x[batch] @ w, y[batch])
        (gradient,) = torch.autograd.grad(loss, w)
        with torch.no_grad():
            w.sub_(lr * gradient)
        return loss.item()

    curve = find_lr(step, 1e-5, 1e3, 100)
    with torch.no_grad():
        w.zero_()
    first = step(curve.suggestion)
    last = [step(curve.suggestion) for _ in range(100)][-1]
    assert first == pytest.approx(math.log(2))
    assert last < 0.5 * first
    # The same budget at the lowest rate tried goes nowhere, so the finder's choice matters.
    with torch.no_grad():
        w.zero_()
    assert [step(1e-5) for _ in range(100)][-1] > 0.95 * first


def test_no_suggestion_where_nothing_falls():
    curve = find_lr(lambda lr: 1.0 + lr)
    assert curve.suggestion is None
    assert curve.steepest is None


def test_a_loss_that_is_not_finite_ends_the_test():
    losses = iter([3.0, 2.5, 2.0, 1.5, 1.0, 0.8, 0.7, math.nan])
    curve = find_lr(lambda lr: next(losses), steps=50)
    assert curve.diverged
    assert len(curve.losses) == len(curve.rates) == 7
    assert curve.rates[0] <= curve.suggestion <= curve.rates[-1]


def test_rates_are_evenly_spaced_by_log():
    curve = find_lr(lambda lr: -lr, 1e-4, 1.0, 41)
    assert curve.rates[0] == pytest.approx(1e-4)
    assert curve.rates[-1] == pytest.approx(1.0)
    assert curve.rates[20] == pytest.approx(1e-2)
    with pytest.raises(ValueError, match="lo"):
        find_lr(lambda lr: 1.0, 1.0, 0.1)
