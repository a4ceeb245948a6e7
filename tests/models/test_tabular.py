"""tabular: the ensemble is K separate networks, the embedding is the paper's formula, and it learns tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.engine.train.regime import resolve
from modelworks.layers.columns import Categories, Columns, Numbers
from modelworks.layers.dropout import Dropout
from modelworks.layers.head import Head
from modelworks.models.tabular import EnsembleLinear, FirstLinear, Tabular, coarser

torch.set_num_threads(1)

INPUTS = {
    "age": Layout("vector", (2,), bins=[[-1.0, 0.0, 0.5, 2.0], []]),
    "city": Layout("index", size=5),
    "fare": Layout("vector", (1,), bins=[[-2.0, 2.0]]),
    "tags": Layout("multihot", (3,), size=3),
    "day": Layout("index", size=7),
}


def rows(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        "age": torch.randn(count, 2, generator=g),
        "city": torch.randint(0, 5, (count,), generator=g),
        "fare": torch.randn(count, 1, generator=g),
        "tags": torch.randint(0, 2, (count, 3), generator=g).float(),
        "day": torch.randint(0, 7, (count,), generator=g),
    }


def stirred(module: nn.Module) -> nn.Module:
    """Every parameter away from ones and zeros, where a mistake would not show."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


# ------------------------------------------------------------------ BatchEnsemble
def test_an_ensemble_layer_is_separate_scaled_linear_layers() -> None:
    torch.manual_seed(0)
    layer, x_KBD = stirred(EnsembleLinear(3, 4, 5)), torch.randn(5, 6, 3)
    wanted = torch.stack([
        layer.scale_out_KH[k] * F.linear(layer.scale_in_KD[k] * x_KBD[k], layer.shared.weight) + layer.bias_KH[k]
        for k in range(5)
    ])  # fmt: skip
    torch.testing.assert_close(layer(x_KBD), wanted)


def test_the_first_layer_is_separate_scaled_linear_layers_of_the_same_rows() -> None:
    torch.manual_seed(0)
    layer, x_BD = stirred(FirstLinear(3, 4, 5)), torch.randn(6, 3)
    wanted = torch.stack([
        F.linear(x_BD, layer.scale_KH[k][:, None] * layer.shared.weight, layer.bias_KH[k]) for k in range(5)
    ])  # fmt: skip
    torch.testing.assert_close(layer(x_BD), wanted)


def test_a_member_alone_is_the_same_network_with_one_member() -> None:
    torch.manual_seed(0)
    whole = stirred(Tabular(members=3, depth=3, width=8).build(INPUTS)).eval()
    batch = rows(4)
    for k in range(3):
        alone = Tabular(members=1, depth=3, width=8).build(INPUTS).eval()
        own = {"scale_KH", "scale_in_KD", "scale_out_KH", "bias_KH"}
        alone.load_state_dict({
            name: value[k : k + 1] if name.rsplit(".", 1)[-1] in own else value
            for name, value in whole.state_dict().items()
        })  # fmt: skip
        features_BH = alone(batch)
        assert features_BH.shape == (4, 8)
        torch.testing.assert_close(features_BH, whole(batch)[:, k])


def test_members_differ_from_the_start_and_rows_share_their_matrices() -> None:
    torch.manual_seed(0)
    network = Tabular(members=4).build(INPUTS).eval()
    features_BKH = network(rows(9))
    assert features_BKH.shape == (9, 4, 128)
    assert (network.width, network.members) == (128, 4)
    apart = (features_BKH[:, :, None] - features_BKH[:, None]).abs().amax((0, 3))
    assert (apart + torch.eye(4) > 0.01).all()
    inputs = 16 * 3 + 8 * 2 + 3  # numbers with the missing mark, categories, labels
    wanted = (
        3 * (1 + 3 + 1) * 16 + (5 + 7) * 8  # slope, 3 bins and bias of a number; vectors of categories
        + inputs * 128 + 128 * 128  # shared matrices
        + 4 * (2 * 128) + 4 * (3 * 128)
    )  # fmt: skip
    assert sum(p.numel() for p in network.parameters()) == wanted


# ------------------------------------------------------------------ columns
def piecewise(x: float, edges: list[float], weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Gorishniy et al. 2022, equation 1, with a linear term."""
    total = bias + x * weight[0]
    for t in range(1, len(edges)):
        share = (x - edges[t - 1]) / (edges[t] - edges[t - 1])
        total = total + min(max(share, 0.0), 1.0) * weight[t]
    return total


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(-40, 40), max_size=7, unique=True), min_size=1, max_size=4),
    st.lists(st.floats(-60, 60, width=32), min_size=1, max_size=6),
)
def test_numbers_are_piecewise_linear(quantiles: list[list[int]], values: list[float]) -> None:
    edges = [sorted(v / 4 for v in column) for column in quantiles]
    numbers = stirred(Numbers(edges, width=3)).double()
    x_BN = torch.tensor(values, dtype=torch.float64)[:, None].expand(-1, len(edges))
    e_BNE = numbers(x_BN).detach().numpy()
    weight, bias = (p.detach().numpy() for p in (numbers.weight_NME, numbers.bias_NE))
    for b, value in enumerate(values):
        for n, column in enumerate(edges):
            wanted = piecewise(value, column, weight[n], bias[n])
            np.testing.assert_allclose(e_BNE[b, n], wanted, rtol=1e-4, atol=1e-4)


def test_linear_numbers_have_no_bins() -> None:
    numbers = Numbers([[0.0, 1.0, 2.0], []], width=4, piecewise=False)
    x_BN = torch.randn(5, 2)
    wanted = x_BN[..., None] * numbers.weight_NME[:, 0] + numbers.bias_NE
    assert numbers.weight_NME.shape == (2, 1, 4)
    torch.testing.assert_close(numbers(x_BN), wanted)


def test_each_category_column_has_vectors_of_its_own() -> None:
    tables = Categories([3, 2], width=4)
    code_BC = torch.tensor([[2, 0], [0, 1]])
    split = tables.table.weight.split([3, 2])
    for row in range(2):
        for column in range(2):
            assert torch.equal(tables(code_BC)[row, column], split[column][code_BC[row, column]])


def test_columns_keep_their_order() -> None:
    columns, batch = Columns(INPUTS), rows(3)
    assert columns.edges == [[-1.0, 0.0, 0.5, 2.0], [], [-2.0, 2.0]]
    assert (columns.sizes, columns.labels) == ([5, 7], [3])
    assert torch.equal(columns.numbers(batch), torch.cat((batch["age"], batch["fare"]), 1))
    assert torch.equal(columns.codes(batch)[:, 1], batch["day"])


def test_bins_are_thinned_evenly() -> None:
    assert coarser([0.0, 1.0, 2.0, 3.0, 4.0], 2) == [0.0, 2.0, 4.0]
    assert coarser([0.0, 1.0], 5) == [0.0, 1.0]
    assert coarser([], 1) == []
    thin = Tabular(bins=2).build({"x": Layout("vector", (1,), bins=[[0.0, 1.0, 2.0, 3.0, 4.0]])})
    assert thin.numbers.weight_NME.shape == (1, 3, 16)


# ------------------------------------------------------------------ dropout
@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_dropout_drops_the_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(1001, 257, requires_grad=True)  # a count that four does not divide
    y = Dropout(p)(x)
    kept = y != 0
    sigma = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(float((~kept).float().mean()) - p) < 5 * sigma + 1 / 65536
    assert y[kept].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-3)
    pairs = kept.flatten()[:-1] & kept.flatten()[1:]  # neighbours, of the same draw too, are independent
    assert abs(float(pairs.float().mean()) - (1 - p) ** 2) < 6 * sigma
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert torch.equal(Dropout(p).eval()(x), x)
    torch.manual_seed(0)
    assert torch.equal(Dropout(p)(x), y)


# ------------------------------------------------------------------ the whole
@pytest.mark.parametrize("members", [1, 4])
@pytest.mark.parametrize("embedding", ["piecewise", "linear", "none"])
@pytest.mark.parametrize("normalisation", ["layer", "rms", "none"])
def test_gradients_reach_everything(members: int, embedding: str, normalisation: str) -> None:
    torch.manual_seed(0)
    network = Tabular(members=members, embedding=embedding, normalisation=normalisation, width=32).build(
        INPUTS
    )
    features = network(rows(64))
    (features * torch.randn_like(features)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    table = network.categories.table.weight.grad
    assert (table.abs().sum(1) > 0).all()  # of every category that occurs
    if normalisation == "none" and members > 1:
        for layer in network.layers[::4]:
            assert (layer.bias_KH.grad.abs().sum(1) > 0).all()  # of every member


def test_a_step_can_be_captured_as_a_graph() -> None:
    torch.manual_seed(0)
    network = Tabular(members=3, width=8).build(INPUTS).train()
    batch = rows(8)
    names = list(batch)
    graph = make_fx(lambda *tensors: network(dict(zip(names, tensors, strict=True))))(*batch.values())
    other = rows(8, seed=1)
    torch.manual_seed(1)
    wanted = network(other)
    torch.manual_seed(1)
    assert torch.equal(graph(*other.values()), wanted)


def test_it_learns_a_bent_function_of_a_number_and_a_category() -> None:
    torch.manual_seed(0)
    edges = torch.linspace(-2, 2, 17).tolist()
    network = Tabular(members=4, width=32, dropout=0.0).build(
        {"x": Layout("vector", (1,), bins=[edges]), "c": Layout("index", size=3)}
    )
    head = Head(network.width, 1, network.members)
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=1e-2)

    def draw() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        batch = {"x": torch.rand(256, 1) * 4 - 2, "c": torch.randint(0, 3, (256,))}
        return batch, torch.sin(4 * batch["x"][:, 0]) * (batch["c"] - 1)

    for _ in range(150):
        batch, y_B = draw()
        loss = (head(network(batch))[..., 0] - y_B[:, None]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batch, y_B = draw()
    with torch.no_grad():
        error = (head(network(batch))[..., 0].mean(1) - y_B).square().mean() / y_B.var()
    assert error < 0.05


def test_its_regime_is_one_that_training_takes() -> None:
    few, some, many = (resolve({}, Tabular().regime(rows), rows) for rows in (105, 700, 200_000))
    assert (few.batch_size, some.batch_size, many.batch_size) == (16, 128, 512)
    assert (few.epochs, some.epochs, many.epochs) == (40, 40, 10)
    network = Tabular(width=8).build(INPUTS)
    groups = some.optimizer.build(network.named_parameters()).param_groups
    decayed = {name for group in groups if group["weight_decay"] for name in group["param_names"]}
    assert decayed == {"numbers.weight_NME", "layers.0.shared.weight", "layers.4.shared.weight"}


def test_steps_are_refused() -> None:
    with pytest.raises(UserError, match="one vector a row"):
        Tabular().build(INPUTS, "token")
