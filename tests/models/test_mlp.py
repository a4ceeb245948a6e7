"""mlp: without layers it is a linear model, with them it is torch's own stack."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from modelworks.core.errors import RecipeError
from modelworks.core.field import Layout
from modelworks.layers.head import Head
from modelworks.models.mlp import Mlp

torch.set_num_threads(1)


def test_no_layers_and_a_head_are_logistic_regression() -> None:
    torch.manual_seed(0)
    x_BD = torch.randn(200, 3)
    y_B = (x_BD @ torch.tensor([1.0, -2.0, 0.5]) + torch.randn(200) > 0).long()
    network = Mlp(hidden=[]).build({"x": Layout("vector", (3,))})
    assert network.width == 3
    assert not list(network.parameters())
    assert torch.equal(network({"x": x_BD}), x_BD)
    head = Head(network.width, 1)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logit_B = head(network({"x": x_BD}))[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logit_B, y_B.float())
        loss.backward()
        return loss

    optimizer.step(closure)
    reference = LogisticRegression(C=1e8, tol=1e-8).fit(x_BD.numpy(), y_B.numpy())
    torch.testing.assert_close(
        head.weight.detach().double(), torch.tensor(reference.coef_).double(), atol=5e-3, rtol=5e-3
    )


def test_an_image_goes_through_linear_layers() -> None:
    torch.manual_seed(0)
    network = Mlp(hidden=[8, 4], activation="tanh", normalisation="layer").build(
        {"x": Layout("image", (1, 4, 4))}
    )
    weights = dict(network.dense.layers.named_parameters())
    x = torch.randn(5, 1, 4, 4)
    y = x.reshape(5, 16)
    for linear, norm in ((0, 1), (3, 4)):
        y = y @ weights[f"{linear}.weight"].T + weights[f"{linear}.bias"]
        y = (y - y.mean(1, keepdim=True)) / (y.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        y = torch.tanh(y * weights[f"{norm}.weight"] + weights[f"{norm}.bias"])
    torch.testing.assert_close(network({"x": x}), y)
    assert network.width == 4


def test_width_times_depth_and_hidden_agree() -> None:
    inputs = {"x": Layout("vector", (3,))}
    shapes = [
        [p.shape for p in settings.build(inputs).parameters()]
        for settings in (Mlp(width=7, depth=2), Mlp(hidden=[7, 7]))
    ]
    assert shapes[0] == shapes[1]


def test_dropout_acts_in_training_only() -> None:
    network = Mlp(hidden=[2000], dropout=0.25, activation="identity").build({"x": Layout("vector", (1,))})
    x = torch.ones(1, 1)
    assert (network.train()({"x": x}) == 0).float().mean() == pytest.approx(0.25, abs=0.04)
    assert (network.eval()({"x": x}) == 0).sum() == 0


def test_every_problem_of_the_settings_is_reported_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        Mlp(hidden=[8, 0], activation="rellu", dropout=1.0)
    assert [problem.where for problem in caught.value.problems] == ["hidden.1", "activation", "dropout"]
    assert "did you mean 'relu'?" in str(caught.value)
