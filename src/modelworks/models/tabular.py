"""tabular: TabM (Gorishniy et al. 2024), an ensemble in one network; the default for tables.

    model: {kind: tabular, members: 16, depth: 2, width: 128, embedding: piecewise}

K members share every matrix. A member's own are vectors, which scale what goes into and comes out of each
matrix, and the bias (BatchEnsemble, Wen et al. 2020). Each has its own loss and its own head, which the task
builds; their mean is the answer. B rows, K members, D inputs of a layer, H units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field as Setting
from pydantic import PositiveInt
from torch import Tensor, nn

from modelworks.core.choices import Activation, Initialisation
from modelworks.core.field import Layout
from modelworks.core.model import Features, Model
from modelworks.layers.activation import activation
from modelworks.layers.columns import Categories, Columns, Numbers
from modelworks.layers.dropout import Dropout
from modelworks.layers.features import one_a_row
from modelworks.layers.initialise import initialise
from modelworks.layers.linear import Linear
from modelworks.layers.normalisation import normalisation
from modelworks.layers.units import Axis

LARGE = 50_000
"""Training rows from which larger batches and fewer passes do."""


class Tabular(Model):
    """TabM: one multi-layer perceptron that is an ensemble."""

    forms: ClassVar[tuple[str, ...]] = ("vector", "index", "multihot")
    several: ClassVar[bool] = True

    members: PositiveInt = 16
    """Members of the ensemble; 1: a plain perceptron."""
    depth: PositiveInt = 2
    """Number of layers."""
    width: PositiveInt = 128
    """Units of each layer."""
    activation: Activation = "relu"
    """Non-linearity after each layer."""
    normalisation: Literal["layer", "rms", "none"] = "none"
    """Norm between a layer and its activation."""
    dropout: float = Setting(default=0.2, ge=0, lt=1)
    """Share of units dropped after each activation in training."""
    embedding: Literal["piecewise", "linear", "none"] = "piecewise"
    """How a number enters: as a learned piecewise-linear function of it, bent at training quantiles
    (Gorishniy et al. 2022); as a linear one; or as it is."""
    embedding_width: PositiveInt = 16
    """Width of a number's vector."""
    bins: PositiveInt = 64
    """Most bins of a number; the field offers as many as its own `bins`."""
    category_width: PositiveInt = 8
    """Width of a category's vector."""
    initialisation: Initialisation = "default"
    """How the shared matrices start; default is torch's own."""

    @classmethod
    def recognise(cls, inputs: Mapping[str, str], rows: int) -> float:
        return 0.9 if inputs and set(inputs.values()) <= set(cls.forms) else 0.0

    def regime(self, rows: int) -> dict[str, Any]:
        large = rows > LARGE
        # At least four steps a pass, down to batches of 16: a few hundred rows still want hundreds of steps.
        batch = 512 if large else max(16, min(128, 1 << (max(rows // 4, 1).bit_length() - 1)))
        return {
            "epochs": 10.0 if large else 40.0,
            "batch_size": batch,
            "optimizer": {
                "kind": "adamw",
                "lr": 4e-3,
                "weight_decay": 3e-4,
                "no_decay": ["norms_and_biases", "*scale_*", "*table*"],
            },
            "schedule": {"kind": "cosine", "warmup": 0.05},
            "clip": 1.0,
            "patience": 16,
            # A smooth judge: on a few hundred validation rows accuracy hardly tells one pass from the next.
            "metric": "loss",
        }

    def build(self, inputs: Mapping[str, Layout], features: Features = "row") -> nn.Module:
        self.check(inputs)
        one_a_row(self.kind, features)
        return initialise(Network(inputs, self), self.initialisation)


class Network(nn.Module):
    """Columns side by side, then the layers. A single member's features have no member axis."""

    def __init__(self, inputs: Mapping[str, Layout], settings: Tabular) -> None:
        super().__init__()
        columns = self.columns = Columns(inputs)
        wide = settings.embedding_width if settings.embedding != "none" else 1
        self.numbers = self.categories = None
        if columns.edges and settings.embedding != "none":
            edges = [coarser(column, settings.bins) for column in columns.edges]
            self.numbers = Numbers(edges, wide, settings.embedding == "piecewise")
        if columns.sizes:
            self.categories = Categories(columns.sizes, settings.category_width)
        width = wide * len(columns.edges) + settings.category_width * len(columns.sizes) + sum(columns.labels)
        layers: list[nn.Module] = []
        for index in range(settings.depth):
            kind = EnsembleLinear if index else FirstLinear
            layers += [
                kind(width, settings.width, settings.members),
                normalisation(settings.normalisation, settings.width),
                activation(settings.activation),
                Dropout(settings.dropout),
            ]
            width = settings.width
        self.layers = nn.Sequential(*layers)
        self.width, self.members = width, settings.members

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        columns, parts = self.columns, []
        if columns.edges:
            x_BN = columns.numbers(batch)
            parts.append(x_BN if self.numbers is None else self.numbers(x_BN).flatten(1))
        if self.categories is not None:
            parts.append(self.categories(columns.codes(batch)).flatten(1))
        parts += columns.label_sets(batch)  # the first matrix holds a vector for each label
        features_KBH = self.layers(torch.cat(parts, 1))
        return features_KBH.transpose(0, 1) if self.members > 1 else features_KBH[0]

    def chain(self) -> list[nn.Module]:
        """What the input goes through, in order (see layers/units.py)."""
        return [self.layers]


class FirstLinear(nn.Module):
    """y_k = scale_k ∘ (W x) + bias_k: members part behind the product, so that it is computed once.

    The paper scales the input of the first matrix too, which takes K products. Random scales, signs among
    them, make the members differ from the start."""

    def __init__(self, inputs: int, units: int, members: int) -> None:
        super().__init__()
        self.shared = Linear(inputs, units, bias=False)
        self.scale_KH = nn.Parameter(torch.randn(members, units))
        self.bias_KH = nn.Parameter(torch.empty(members, units).uniform_(-1, 1) * inputs**-0.5)

    def forward(self, x_BD: Tensor) -> Tensor:
        return torch.addcmul(self.bias_KH.unsqueeze(1), self.shared(x_BD), self.scale_KH.unsqueeze(1))

    def ends(self) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
        """(Where units are made, where they are read): see layers/units.py."""
        return (Axis("shared.weight"), Axis("scale_KH", 1), Axis("bias_KH", 1)), (Axis("shared.weight", 1),)


class EnsembleLinear(nn.Module):
    """y_k = scale_out_k ∘ W (scale_in_k ∘ x_k) + bias_k.

    The scales are laid on the matrix, not on the rows: it is the smaller of the two."""

    def __init__(self, inputs: int, units: int, members: int) -> None:
        super().__init__()
        self.shared = Linear(inputs, units, bias=False)
        self.scale_in_KD = nn.Parameter(torch.ones(members, inputs))
        self.scale_out_KH = nn.Parameter(torch.ones(members, units))
        self.bias_KH = nn.Parameter(torch.empty(members, units).uniform_(-1, 1) * inputs**-0.5)

    def forward(self, x_KBD: Tensor) -> Tensor:
        weight_KHD = self.scale_out_KH.unsqueeze(2) * self.shared.weight * self.scale_in_KD.unsqueeze(1)
        return torch.baddbmm(self.bias_KH.unsqueeze(1), x_KBD, weight_KHD.transpose(1, 2))

    def ends(self) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
        """(Where units are made, where they are read): see layers/units.py."""
        made = (Axis("shared.weight"), Axis("scale_out_KH", 1), Axis("bias_KH", 1))
        return made, (Axis("shared.weight", 1), Axis("scale_in_KD", 1))


def coarser(edges: list[float], bins: int) -> list[float]:
    """At most `bins` bins of these, evenly chosen, the outermost edges kept."""
    if len(edges) <= bins + 1:
        return edges
    return [edges[round(i * (len(edges) - 1) / bins)] for i in range(bins + 1)]
