"""The transformer block: attention and a feed-forward network, each with a norm and a residual connection.

    x_BTD = Block(width=128, heads=4, hidden=512)(x_BTD, mask, rotary)

pre-norm: x + f(norm(x)) (Xiong et al. 2020), stable when deep; post-norm: norm(x + f(x)), the original.
"""

from __future__ import annotations

from torch import Tensor, nn

from modelworks.core.choices import Activation, Normalisation, Order
from modelworks.layers.activation import activation
from modelworks.layers.attention import Attention
from modelworks.layers.normalisation import normalisation
from modelworks.layers.position import Rotary


class Feedforward(nn.Module):
    """down(act(up(x))), or down(act(gate(x)) · up(x)) when gated (Shazeer 2020)."""

    def __init__(self, width: int, hidden: int, act: Activation = "gelu", gated: bool = False) -> None:
        super().__init__()
        self.gated = gated
        self.up = nn.Linear(width, hidden * (2 if gated else 1))
        self.up.fused = 2 if gated else 1  # type: ignore[assignment]  # see initialise.py
        self.act = activation(act)
        self.down = nn.Linear(hidden, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        if self.gated:
            gate, up = self.up(x_BTD).chunk(2, -1)
            return self.down(self.act(gate) * up)
        return self.down(self.act(self.up(x_BTD)))


class Block(nn.Module):
    """Attention, then the feed-forward network."""

    residual_outputs = ("attention.out", "feedforward.down")

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        act: Activation = "gelu",
        gated: bool = False,
        norm: Normalisation = "layer",
        order: Order = "pre",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.order = order
        self.norm1 = normalisation(norm, width, eps=eps)
        self.attention = Attention(width, heads, attention_dropout)
        self.norm2 = normalisation(norm, width, eps=eps)
        self.feedforward = Feedforward(width, hidden, act, gated)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, mask: Tensor | None = None, rotary: Rotary | None = None) -> Tensor:
        if self.order == "pre":
            x_BTD = x_BTD + self.dropout(self.attention(self.norm1(x_BTD), mask, rotary))
            return x_BTD + self.dropout(self.feedforward(self.norm2(x_BTD)))
        x_BTD = self.norm1(x_BTD + self.dropout(self.attention(x_BTD, mask, rotary)))
        return self.norm2(x_BTD + self.dropout(self.feedforward(x_BTD)))
