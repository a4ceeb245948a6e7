"""Multi-head self-attention (Vaswani et al. 2017) on torch's fused kernels.

    y_BTD = Attention(width=128, heads=4)(x_BTD, mask, rotary)
    y_BTD = Attention(width=128, heads=8, kv_heads=2, qk_norm=True)(x_BTD, rotary=rotary, causal=True)

B rows, T steps, D width, H query heads, G key and value heads, E width of a head. Without padding, give no mask:
the kernels are faster then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.errors import UserError
from modelworks.layers.linear import Linear
from modelworks.layers.normalisation import normalisation
from modelworks.layers.position import Rotary, rotate, rotate_
from modelworks.layers.units import Axis, Units

if TYPE_CHECKING:
    from modelworks.layers.cache import Span


class Attention(nn.Module):
    """Every step looks at every real step, or at those that the mask allows."""

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        bias: bool | Literal["qkv"] = True,
        *,
        kv_heads: int | None = None,
        head_width: int | None = None,
        qk_norm: bool = False,
        norm_weight: bool = True,
        eps: float = 1e-5,
        value_residual: bool = False,
    ) -> None:
        """`bias`: of all matrices, or of queries, keys and values alone. `kv_heads`: keys and values are shared by
        as many query heads each (Shazeer 2019; Ainslie et al. 2023). `qk_norm`: rms over each head's queries and
        keys (Henry et al. 2020). `value_residual`: each layer's values are blended with the first layer's by a
        learned share (Zhou et al. 2024)."""
        super().__init__()
        if head_width is None:
            if width % heads:
                raise UserError(
                    f"a width of {width} does not divide into {heads} heads",
                    "change width or heads, or give head_width",
                )
            head_width = width // heads
        kv_heads = kv_heads or heads
        if heads % kv_heads:
            raise UserError(f"{heads} heads cannot share {kv_heads} kv_heads evenly", "choose a divisor")
        self.heads, self.kv_heads, self.head_width, self.dropout = heads, kv_heads, head_width, dropout
        rows = (heads * head_width, kv_heads * head_width, kv_heads * head_width)
        self.qkv = Linear(width, sum(rows), bool(bias))
        self.qkv.fused = rows  # type: ignore[assignment]  # three matrices to initialise, one to multiply
        self.out = Linear(heads * head_width, width, bias is True)
        self.query_norm = normalisation("rms", head_width, eps=eps, weight=norm_weight) if qk_norm else None
        self.key_norm = normalisation("rms", head_width, eps=eps, weight=norm_weight) if qk_norm else None
        self.joint_norm = qk_norm and not norm_weight
        self.share = nn.Parameter(torch.tensor(0.5)) if value_residual else None

    def forward(
        self,
        x_BTD: Tensor,
        mask: Tensor | None = None,
        rotary: Rotary | None = None,
        causal: bool = False,
        first: list[Tensor] | None = None,
    ) -> Tensor:
        """`mask`: bool (True: look) or float bias, broadcast to (B, H, T, T). `rotary`: RoPE's turns. `causal`:
        each step sees itself and the past; only without a mask. `first`: holds the first layer's values; the
        layer built without `value_residual` puts its own there."""
        B, T, _ = x_BTD.shape
        H, G = self.heads, self.kv_heads
        qkv_BTAE = self.qkv(x_BTD).view(B, T, H + 2 * G, self.head_width)
        if rotary is None and self.query_norm is None:
            q_BTHE, k_BTGE, v_BTGE = qkv_BTAE.split((H, G, G), 2)
        else:
            qk_BTAE, v_BTGE = qkv_BTAE.split((H + G, G), 2)
            qk_BTAE = self._normed(qk_BTAE)
            if rotary is not None:
                qk_BTAE = rotate(qk_BTAE, rotary)
            q_BTHE, k_BTGE = qk_BTAE.split((H, G), 2)
        if first is not None:
            if self.share is None:
                first.append(v_BTGE)
            else:
                v_BTGE = torch.lerp(v_BTGE, first[0], self.share)
        y_BHTE = F.scaled_dot_product_attention(
            q_BTHE.transpose(1, 2),
            k_BTGE.transpose(1, 2),
            v_BTGE.transpose(1, 2),
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
            enable_gqa=G != H,
        )
        return self.out(y_BHTE.transpose(1, 2).reshape(B, T, H * self.head_width))

    def cached(self, x_BTD: Tensor, span: Span, layer: int) -> Tensor:
        """The same for new steps at the end of a cache (see cache.py); nothing is kept for gradients."""
        B, T, _ = x_BTD.shape
        H, G, E = self.heads, self.kv_heads, self.head_width
        qkv_BTAE = self.qkv(x_BTD).to(span.dtype).view(B, T, H + 2 * G, E)
        if self.query_norm is not None:
            qkv_BTAE = torch.cat((self._normed(qkv_BTAE[:, :, : H + G]), qkv_BTAE[:, :, H + G :]), 2)
        if span.rotary is not None:
            rotate_(qkv_BTAE[:, :, : H + G], span.rotary)
        if span.first is not None:
            v_BTGE = qkv_BTAE[:, :, H + G :]
            if self.share is None:
                span.first.append(v_BTGE)
            else:
                v_BTGE.lerp_(span.first[0], self.share)
        y_BTHE = span.attend(layer, qkv_BTAE[:, :, :H], qkv_BTAE[:, :, H:])
        return self.out(y_BTHE.reshape(B, T, H * E).to(x_BTD.dtype))

    def _normed(self, qk_BTAE: Tensor) -> Tensor:
        """Queries and keys, normed where they are."""
        if self.query_norm is None or self.key_norm is None:
            return qk_BTAE
        if self.joint_norm:
            return self.query_norm(qk_BTAE)
        q_BTHE, k_BTGE = qk_BTAE.split((self.heads, self.kv_heads), 2)
        return torch.cat((self.query_norm(q_BTHE), self.key_norm(k_BTGE)), 2)

    def units(self) -> list[Units]:
        """Heads that can be left out: a head of keys and values with the query heads that share it."""
        shared, E = self.heads // self.kv_heads, self.head_width
        runs = (shared * E, E, E)
        made = [Axis("qkv.weight", 0, runs)] + (
            [Axis("qkv.bias", 0, runs)] if self.qkv.bias is not None else []
        )
        return [Units("heads", self.kv_heads, tuple(made), (Axis("out.weight", 1, (shared * E,)),))]

    def resized(self) -> None:
        """Count the heads that the matrices hold now."""
        queries, E = self.out.weight.shape[1], self.head_width
        keys = (self.qkv.weight.shape[0] - queries) // 2
        if queries % E or keys % E or keys <= 0 or queries % keys:
            raise ValueError(f"{queries} and {keys} rows are no heads of {E}")
        self.heads, self.kv_heads = queries // E, keys // E
        self.qkv.fused = (queries, keys, keys)  # type: ignore[assignment]
