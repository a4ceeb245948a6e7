"""Attention from one sequence to another (Vaswani et al. 2017): what is written looks at what was read.

    attention = CrossAttention(width=128, heads=4, source=128)
    memory = attention.read(memory_BSD)             # keys and values, once
    y_BTD = attention(x_BTD, memory, mask_BS)

B rows, T steps written, S steps read, D width, H heads, E width of a head.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.choices import Activation, Normalisation, Order
from modelworks.core.errors import UserError
from modelworks.layers.attention import Attention
from modelworks.layers.cache import Span
from modelworks.layers.dropout import Dropout
from modelworks.layers.feedforward import Feedforward
from modelworks.layers.linear import Linear
from modelworks.layers.normalisation import normalisation
from modelworks.layers.position import Rotary
from modelworks.layers.units import Axis, Units

Memory = tuple[Tensor, Tensor]
"""Keys and values (B, H, S, E)."""


class CrossAttention(nn.Module):
    """Every step looks at every real step of the other sequence."""

    def __init__(self, width: int, heads: int, source: int, dropout: float = 0.0, bias: bool = True) -> None:
        """`source`: width of what is looked at."""
        super().__init__()
        if width % heads:
            raise UserError(f"a width of {width} does not divide into {heads} heads", "change width or heads")
        self.heads, self.head_width, self.dropout = heads, width // heads, dropout
        self.query = Linear(width, width, bias)
        self.kv = Linear(source, 2 * width, bias)
        self.kv.fused = 2  # type: ignore[assignment]  # two matrices to initialise, one to multiply
        self.out = Linear(width, width, bias)

    def read(self, memory_BSD: Tensor) -> Memory:
        """Keys and values of what is looked at."""
        B, S, _ = memory_BSD.shape
        k_BHSE, v_BHSE = self.kv(memory_BSD).view(B, S, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return k_BHSE, v_BHSE

    def forward(self, x_BTD: Tensor, memory: Memory, mask_BS: Tensor | None = None) -> Tensor:
        """`mask`: which steps read are real; None: all."""
        B, T, _ = x_BTD.shape
        q_BHTE = self.query(x_BTD).view(B, T, self.heads, -1).transpose(1, 2)
        y_BHTE = F.scaled_dot_product_attention(
            q_BHTE,
            *memory,
            attn_mask=None if mask_BS is None else mask_BS[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out(y_BHTE.transpose(1, 2).reshape(B, T, -1))

    def units(self) -> list[Units]:
        """Heads that can be left out."""
        one, two = (self.head_width,), (self.head_width, self.head_width)
        made = [Axis("query.weight", 0, one), Axis("kv.weight", 0, two)]
        if self.query.bias is not None:
            made += [Axis("query.bias", 0, one), Axis("kv.bias", 0, two)]
        return [Units("heads", self.heads, tuple(made), (Axis("out.weight", 1, one),))]

    def resized(self) -> None:
        """Count the heads that the matrices hold now."""
        rows, E = self.out.weight.shape[1], self.head_width
        if rows % E or self.query.weight.shape[0] != rows or self.kv.weight.shape[0] != 2 * rows:
            raise ValueError(f"{rows} rows are no heads of {E}")
        self.heads = rows // E


class DecoderBlock(nn.Module):
    """Attention to what is written so far, to what was read, and a feed-forward network, each with a norm and a
    residual connection."""

    residual_outputs = ("attention.out", "cross.out", "feedforward.down")

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        source: int,
        *,
        act: Activation = "relu",
        gated: bool = False,
        norm: Normalisation = "layer",
        order: Order = "pre",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.order = order
        self.norm1 = normalisation(norm, width, bias=bias)
        self.attention = Attention(width, heads, attention_dropout, bias)
        self.norm2 = normalisation(norm, width, bias=bias)
        self.cross = CrossAttention(width, heads, source, attention_dropout, bias)
        self.norm3 = normalisation(norm, width, bias=bias)
        self.feedforward = Feedforward(width, hidden, act, gated, bias)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x_BTD: Tensor,
        memory: Memory,
        mask_BS: Tensor | None = None,
        mask: Tensor | None = None,
        rotary: Rotary | None = None,
        causal: bool = True,
    ) -> Tensor:
        """`mask_BS`: of what was read; `mask`, `rotary`, `causal`: of what is written (see Attention)."""
        return self._through(
            x_BTD, lambda x_BTD: self.attention(x_BTD, mask, rotary, causal), memory, mask_BS
        )

    def cached(self, x_BTD: Tensor, memory: Memory, mask_BS: Tensor | None, span: Span, layer: int) -> Tensor:
        """The same for new steps at the end of a cache."""
        return self._through(x_BTD, lambda x_BTD: self.attention.cached(x_BTD, span, layer), memory, mask_BS)

    def _through(
        self, x_BTD: Tensor, attend: Callable[[Tensor], Tensor], memory: Memory, mask_BS: Tensor | None
    ) -> Tensor:
        parts: tuple[tuple[nn.Module, Callable[[Tensor], Tensor]], ...] = (
            (self.norm1, attend),
            (self.norm2, lambda x_BTD: self.cross(x_BTD, memory, mask_BS)),
            (self.norm3, self.feedforward),
        )
        for norm, part in parts:
            if self.order == "pre":
                x_BTD = x_BTD + self.dropout(part(norm(x_BTD)))
            else:
                x_BTD = norm(x_BTD + self.dropout(part(x_BTD)))
        return x_BTD
