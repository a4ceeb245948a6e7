"""The feed-forward half of a transformer block: `Feedforward(width=128, hidden=512, act="relu2")(x_BTD)`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelworks.core.choices import Activation
from modelworks.layers.activation import activation
from modelworks.layers.linear import Linear
from modelworks.layers.units import Axis, Units


class Feedforward(nn.Module):
    """down(act(up(x))), or down(act(gate(x)) · up(x)) when gated (Shazeer 2020)."""

    def __init__(
        self, width: int, hidden: int, act: Activation = "gelu", gated: bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        self.gated = gated
        self.up = Linear(width, hidden * (2 if gated else 1), bias)
        self.up.fused = 2 if gated else 1  # type: ignore[assignment]  # see initialise.py
        self.act = activation(act)
        self.down = Linear(hidden, width, bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        if self.gated:
            gate, up = self.up(x_BTD).chunk(2, -1)
            # torch has one GELU for rows that lie apart and another for one row: a step's must not depend on the others
            if isinstance(self.act, nn.GELU) and not torch.is_grad_enabled():
                gate = gate.contiguous()
            return self.down(self.act(gate) * up)
        return self.down(self.act(self.up(x_BTD)))

    def units(self) -> list[Units]:
        """What can be left out."""
        runs = (1, 1) if self.gated else (1,)
        made = [Axis("up.weight", 0, runs)] + ([Axis("up.bias", 0, runs)] if self.up.bias is not None else [])
        return [Units("units", self.down.in_features, tuple(made), (Axis("down.weight", 1),))]
