"""Multi-head self-attention (Vaswani et al. 2017) on torch's fused kernels.

    y_BTD = Attention(width=128, heads=4)(x_BTD, mask, rotary)

B rows, T steps, D width, H heads, E = D/H. Without padding, give no mask: the kernels are faster then.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.errors import UserError
from modelworks.layers.position import Rotary, rotate


class Attention(nn.Module):
    """Every step looks at every real step."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"a width of {width} does not divide into {heads} heads", "change width or heads")
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias)
        self.qkv.fused = 3  # type: ignore[assignment]  # three matrices to initialise, one to multiply
        self.out = nn.Linear(width, width, bias)

    def forward(self, x_BTD: Tensor, mask: Tensor | None = None, rotary: Rotary | None = None) -> Tensor:
        """`mask`: bool (True: look) or float bias, broadcast to (B, H, T, T). `rotary`: RoPE's angles."""
        B, T, D = x_BTD.shape
        qkv_BT3HE = self.qkv(x_BTD).view(B, T, 3, self.heads, D // self.heads)
        q_BHTE, k_BHTE, v_BHTE = qkv_BT3HE.permute(2, 0, 3, 1, 4).unbind(0)
        if rotary is not None:
            q_BHTE, k_BHTE = rotate(q_BHTE, *rotary), rotate(k_BHTE, *rotary)
        dropout = self.dropout if self.training else 0.0
        y_BHTE = F.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, attn_mask=mask, dropout_p=dropout)
        return self.out(y_BHTE.transpose(1, 2).reshape(B, T, D))
