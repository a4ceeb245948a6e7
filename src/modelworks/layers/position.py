"""Positions for attention: learned, sinusoidal, rope, alibi or none.

    position = Position("rope", width=128, heads=4)
    x_BTD = position.add(x_BTD)                        # learned and sinusoidal are added to the input
    mask, rotary = position.attend(x_BTD, mask_BT)     # rope and alibi act inside attention

B rows, T steps, D width, H heads, E width of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from modelworks.core.choices import Positions
from modelworks.core.errors import UserError

Rotary = tuple[Tensor, Tensor]
"""cos_TE and sin_TE."""


def angles(steps: int, width: int, base: float, device: torch.device) -> Tensor:
    """angle_TF = t · base^(−2f/width): the frequencies that sinusoidal and rope share. F = ⌈width/2⌉."""
    frequency_F = base ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    return torch.arange(steps, device=device, dtype=torch.float32)[:, None] * frequency_F


def sinusoidal(steps: int, width: int, device: torch.device, base: float = 10_000.0) -> Tensor:
    """position_TD: sines in even columns, cosines in odd ones (Vaswani et al. 2017, section 3.5)."""
    angle_TF = angles(steps, width, base, device)
    return torch.stack((angle_TF.sin(), angle_TF.cos()), -1).flatten(1)[:, :width]


def rotary(steps: int, width: int, device: torch.device, base: float = 10_000.0) -> Rotary:
    """cos_TE and sin_TE of RoPE (Su et al. 2021); pairs are (i, i + E/2), as in LLaMA."""
    angle_TE = angles(steps, width, base, device).repeat(1, 2)
    return angle_TE.cos(), angle_TE.sin()


def rotate(x_BHTE: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
    """Turn each pair by its step's angle, in the dtype of x."""
    low, high = x_BHTE.chunk(2, -1)
    return x_BHTE * cos_TE.to(x_BHTE.dtype) + torch.cat((-high, low), -1) * sin_TE.to(x_BHTE.dtype)


def slopes(heads: int) -> list[float]:
    """ALiBi's slope of each head (Press et al. 2022): 2^(−8h/H), filled in between for odd counts."""
    power = 2 ** math.floor(math.log2(heads))
    first = [2 ** (-8 * (h + 1) / power) for h in range(power)]
    return first + [2 ** (-4 * (2 * h + 1) / power) for h in range(heads - power)]


def alibi(steps: int, heads: int, device: torch.device) -> Tensor:
    """bias_HTT = −slope · |i − j|, the symmetric form for encoders."""
    step_T = torch.arange(steps, device=device, dtype=torch.float32)
    distance_TT = (step_T[:, None] - step_T).abs()
    return -torch.tensor(slopes(heads), device=device)[:, None, None] * distance_TT


class Position(nn.Module):
    """What a transformer knows of its steps' order."""

    def __init__(self, name: Positions, width: int, heads: int, length: int = 0) -> None:
        """`length`: most steps that learned positions cover."""
        super().__init__()
        if name == "rope" and width // heads % 2:
            raise UserError(
                f"rope turns pairs, so a head's width must be even; it is {width // heads}",
                "choose another number of heads, or positions: alibi",
            )
        if name == "learned" and length < 1:
            raise UserError(
                "learned positions want a longest length, and the input has none", "positions: rope"
            )
        self.name, self.width, self.heads = name, width, heads
        self.table_TD = nn.Parameter(torch.empty(length, width)) if name == "learned" else None
        if self.table_TD is not None:
            nn.init.normal_(self.table_TD, std=0.02)

    def add(self, x_BTD: Tensor) -> Tensor:
        """Learned or sinusoidal positions added to the input."""
        steps = x_BTD.shape[1]
        if self.table_TD is not None:
            if steps > len(self.table_TD):
                raise UserError(
                    f"{steps} steps are more than the {len(self.table_TD)} learned positions",
                    "shorten the rows",
                )
            return x_BTD + self.table_TD[:steps]
        if self.name == "sinusoidal":
            return x_BTD + sinusoidal(steps, self.width, x_BTD.device).to(x_BTD.dtype)
        return x_BTD

    def attend(self, x_BTD: Tensor, mask_BT: Tensor | None) -> tuple[Tensor | None, Rotary | None]:
        """What every layer's attention is given: a mask or bias over (B, H, T, T), and RoPE's angles."""
        mask = None if mask_BT is None else mask_BT[:, None, None, :]
        steps = x_BTD.shape[1]
        if self.name == "rope":
            return mask, rotary(steps, self.width // self.heads, x_BTD.device)
        if self.name == "alibi":
            bias = alibi(steps, self.heads, x_BTD.device).to(x_BTD.dtype)[None]
            return bias if mask is None else bias.masked_fill(~mask, -math.inf), None
        return mask, None
