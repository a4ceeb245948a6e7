"""The transformer block: attention and a feed-forward network, each with a norm and a residual connection.

    x_BTD = Block(width=128, heads=4, hidden=512)(x_BTD, mask, rotary)

pre-norm: x + f(norm(x)) (Xiong et al. 2020), stable when deep; post-norm: norm(x + f(x)), the original.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from modelworks.core.choices import Activation, Normalisation, Order
from modelworks.layers.attention import Attention
from modelworks.layers.dropout import Dropout
from modelworks.layers.feedforward import Feedforward
from modelworks.layers.moe import Experts
from modelworks.layers.normalisation import normalisation
from modelworks.layers.position import Rotary

if TYPE_CHECKING:
    from modelworks.layers.cache import Span


class Block(nn.Module):
    """Attention, then the feed-forward network."""

    residual_outputs: tuple[str, ...] = ("attention.out", "feedforward.down")

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
        bias: bool | Literal["qkv"] = True,
        norm_weight: bool = True,
        kv_heads: int | None = None,
        head_width: int | None = None,
        qk_norm: bool = False,
        value_residual: bool = False,
        experts: int = 1,
        active: int = 1,
    ) -> None:
        """`experts`, `active`: see moe.py; 1 is the usual feed-forward network."""
        super().__init__()
        self.order = order
        full = bias is True
        self.norm1 = normalisation(norm, width, eps=eps, weight=norm_weight, bias=full)
        self.attention = Attention(
            width,
            heads,
            attention_dropout,
            bias,
            kv_heads=kv_heads,
            head_width=head_width,
            qk_norm=qk_norm,
            norm_weight=norm_weight,
            eps=eps,
            value_residual=value_residual,
        )
        self.norm2 = normalisation(norm, width, eps=eps, weight=norm_weight, bias=full)
        self.feedforward: nn.Module
        if experts == 1:
            self.feedforward = Feedforward(width, hidden, act, gated, full)
        else:
            self.feedforward = Experts(width, hidden, experts, active, act, gated, full)
            downs = [f"feedforward.experts.{index}.down" for index in range(experts)]
            self.residual_outputs = ("attention.out", *downs)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x_BTD: Tensor,
        mask: Tensor | None = None,
        rotary: Rotary | None = None,
        causal: bool = False,
        first: list[Tensor] | None = None,
    ) -> Tensor:
        """See Attention for what it is given."""
        if self.order == "pre":
            x_BTD = x_BTD + self.dropout(self.attention(self.norm1(x_BTD), mask, rotary, causal, first))
            return x_BTD + self.dropout(self.feedforward(self.norm2(x_BTD)))
        x_BTD = self.norm1(x_BTD + self.dropout(self.attention(x_BTD, mask, rotary, causal, first)))
        return self.norm2(x_BTD + self.dropout(self.feedforward(x_BTD)))

    def cached(self, x_BTD: Tensor, span: Span, layer: int) -> Tensor:
        """The same for new steps at the end of a cache, without dropout."""
        if self.order == "pre":
            x_BTD = x_BTD + self.attention.cached(self.norm1(x_BTD), span, layer)
            return x_BTD + self.feedforward(self.norm2(x_BTD))
        x_BTD = self.norm1(x_BTD + self.attention.cached(x_BTD, span, layer))
        return self.norm2(x_BTD + self.feedforward(x_BTD))
