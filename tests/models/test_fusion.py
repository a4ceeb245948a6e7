"""fusion: which encoder reads what, and the three ways to combine them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.core.model import Model
from modelworks.core.settings import Settings, read, to_tree
from modelworks.models.fusion import Fusion, Network, default_encoder
from modelworks.models.mlp import Mlp

torch.set_num_threads(1)
INPUTS = {
    "age": Layout("vector", (1,), bins=[[0.0, 1.0, 2.0]]),
    "city": Layout("index", (), size=5),
    "photo": Layout("image", (1, 16, 16)),
    "story": Layout("tokens", (), size=20, length=6),
}
BATCH = {
    "age": torch.tensor([[0.5], [1.0], [-1.0]]),
    "city": torch.tensor([1, 2, 4]),
    "photo": torch.rand(3, 1, 16, 16),
    "story": torch.tensor([[3, 4, 5], [6, 0, 0], [7, 8, 0]]),
    "story.length": torch.tensor([3, 1, 2]),
}


class Recipe(Settings):
    """A tree with a model in it."""

    model: Model


class Given(nn.Module):
    """An encoder whose features stand in the batch."""

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        self.name, self.width = name, width

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return batch[self.name]


def test_table_columns_share_an_encoder_and_the_rest_have_their_own() -> None:
    groups = Fusion().groups(INPUTS)
    assert {name: list(group) for name, group in groups.items()} == {
        "table": ["age", "city"],
        "photo": ["photo"],
        "story": ["story"],
    }
    groups = Fusion(encoders={"city": Mlp()}).groups(INPUTS)
    assert list(groups) == ["table", "city", "photo", "story"]


@pytest.mark.parametrize("combine", ["concat", "gated", "attention"])
def test_defaults_from_a_recipe(combine: str) -> None:
    torch.manual_seed(0)
    tree = {"kind": "fusion", "combine": combine, "hidden": [12], "encoders": {"photo": {"kind": "mlp"}}}
    model = read(Recipe, {"model": tree}).model
    assert read(Recipe, {"model": to_tree(model)}).model == model
    network = model.build(INPUTS).eval()
    assert isinstance(network.encoders[1], type(Mlp().build({"photo": INPUTS["photo"]})))
    features = network(BATCH)
    assert features.shape == (3, 12)
    assert features.isfinite().all()


def test_default_encoders_are_the_best_of_their_form() -> None:
    assert default_encoder({"photo": INPUTS["photo"]}).kind == "cnn"
    assert default_encoder({"story": INPUTS["story"]}).kind == "bag"
    table = default_encoder({"age": INPUTS["age"], "city": INPUTS["city"]})
    assert table.several


def parts(network: Network, batch: Mapping[str, Tensor]) -> list[Tensor]:
    return [project(batch[name]) for name, project in zip("ab", network.project, strict=True)]


@pytest.mark.parametrize("combine", ["concat", "gated"])
def test_the_combination_is_what_it_says(combine: str) -> None:
    torch.manual_seed(0)
    network = Network([Given("a", 3), Given("b", 5)], Fusion(combine=combine, width=4)).eval()
    batch = {"a": torch.randn(2, 3), "b": torch.randn(2, 5)}
    a_BD, b_BD = parts(network, batch)
    wanted = torch.cat((a_BD, b_BD), 1)
    if combine == "gated":  # Arevalo et al. 2017: h = Σ σ(W [a; b])_m · tanh(V_m x_m)
        gate = (wanted @ network.gate.weight.T + network.gate.bias).sigmoid()
        wanted = gate[:, :4] * a_BD + gate[:, 4:] * b_BD
        assert a_BD.abs().max() < 1
    torch.testing.assert_close(network(batch), wanted)


def test_an_ensemble_counts_as_the_mean_of_its_members() -> None:
    torch.manual_seed(0)
    network = Network([Given("a", 3), Given("b", 5)], Fusion(width=4)).eval()
    a_BKD, b_BD = torch.randn(2, 6, 3), torch.randn(2, 5)
    torch.testing.assert_close(network({"a": a_BKD, "b": b_BD}), network({"a": a_BKD.mean(1), "b": b_BD}))


def test_an_encoder_for_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"encoders\.foto.*did you mean 'photo'"):
        Fusion(encoders={"foto": Mlp()}).build(INPUTS)
