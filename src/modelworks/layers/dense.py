"""Fully connected layers: `Dense(784, [128])` is Linear → norm → activation → dropout for each width.

With no widths it is the identity, so that the head on top of it is a linear model.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from modelworks.core.choices import Activation, Normalisation
from modelworks.layers.activation import activation
from modelworks.layers.linear import Linear
from modelworks.layers.normalisation import normalisation


class Dense(nn.Module):
    """features_BD → features_BD through layers of these widths."""

    def __init__(
        self,
        width: int,
        hidden: Sequence[int],
        *,
        act: Activation = "relu",
        norm: Normalisation = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for size in hidden:
            parts.append(Linear(width, size))
            if norm != "none":
                parts.append(normalisation(norm, size))
            parts.append(activation(act))
            if dropout:
                parts.append(nn.Dropout(dropout))
            width = size
        self.layers = nn.Sequential(*parts)
        self.width = width

    def forward(self, x_BD: Tensor) -> Tensor:
        return self.layers(x_BD)

    def chain(self) -> list[nn.Module]:
        """Its parts, in order (see units.py)."""
        return [self.layers]
