"""Positions for attention: learned, sinusoidal, rope, alibi or none.

    position = Position("rope", width=128, heads=4)
    x_BTD = position.add(x_BTD)                                # learned and sinusoidal are added to the input
    mask, rotary, causal = position.attend(x_BTD, mask_BT)     # rope, alibi and windows act inside attention

B rows, T steps, N steps looked at, D width, H heads, E width of a head, F = E/2 frequencies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from modelworks.core.choices import Positions, RopeScaling
from modelworks.core.errors import UserError

Rotary: TypeAlias = Tensor
"""turn_TF or turn_BTF, complex: cos + i·sin of each step's and frequency's angle; in an exported graph real pairs."""


def frequencies(width: int, base: float, device: torch.device, scaling: RopeScaling | None = None) -> Tensor:
    """frequency_F = base^(−2f/width), which sinusoidal and rope share."""
    frequency_F = base ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    if scaling is None:
        return frequency_F
    turns_F = scaling.length * frequency_F / (2 * math.pi)
    kept_F = ((turns_F - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)
    return frequency_F * (kept_F + (1 - kept_F) / scaling.factor)


def angles(
    steps: int, width: int, base: float, device: torch.device, scaling: RopeScaling | None = None
) -> Tensor:
    """angle_TF = t · frequency."""
    step_T = torch.arange(steps, device=device, dtype=torch.float32)
    return step_T[:, None] * frequencies(width, base, device, scaling)


def sinusoidal(steps: int, width: int, device: torch.device, base: float = 10_000.0) -> Tensor:
    """position_TD: sines in even columns, cosines in odd ones (Vaswani et al. 2017, section 3.5)."""
    angle_TF = angles(steps, width, base, device)
    return torch.stack((angle_TF.sin(), angle_TF.cos()), -1).flatten(1)[:, :width]


def rotary(
    steps: int,
    width: int,
    device: torch.device,
    base: float = 10_000.0,
    scaling: RopeScaling | None = None,
) -> Rotary:
    """turn_TF of RoPE (Su et al. 2021); pairs are neighbours, (2f, 2f + 1), as in the paper."""
    angle_TF = angles(steps, width, base, device, scaling)
    if torch.compiler.is_exporting():  # other runtimes have no complex numbers: (…, F, 2)
        return torch.stack((angle_TF.cos(), angle_TF.sin()), -1)
    return torch.polar(torch.ones_like(angle_TF), angle_TF)


def rotate(x_BTAE: Tensor, turn: Rotary) -> Tensor:
    """Turn each pair by its step's angle, for all heads. One complex product: half the time of real ones."""
    if not turn.is_complex():
        cos, sin = turn.unsqueeze(-3).unbind(-1)
        even, odd = x_BTAE.float().unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1)
        return turned.flatten(-2).to(x_BTAE.dtype)
    turn = turn.unsqueeze(-2)
    if torch.compiler.is_compiling() or x_BTAE.dtype != torch.float32:  # complex numbers are neither compiled
        even, odd = x_BTAE.float().unflatten(-1, (-1, 2)).unbind(-1)  # nor exported, and are never bf16
        cos, sin = torch.view_as_real(turn).unbind(-1)
        turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1)
        return turned.flatten(-2).to(x_BTAE.dtype)
    pairs = torch.view_as_complex(x_BTAE.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn).flatten(-2)


def rotate_(x_BTAE: Tensor, turn: Rotary) -> None:
    """The same in place, without gradients."""
    if x_BTAE.dtype == torch.float32:
        torch.view_as_complex(x_BTAE.view(*x_BTAE.shape[:-1], -1, 2)).mul_(turn.unsqueeze(-2))
    else:
        x_BTAE.copy_(rotate(x_BTAE, turn))


def slopes(heads: int) -> list[float]:
    """ALiBi's slope of each head (Press et al. 2022): 2^(−8h/H), filled in between for odd counts."""
    power = 2 ** math.floor(math.log2(heads))
    first = [2 ** (-8 * (h + 1) / power) for h in range(power)]
    return first + [2 ** (-4 * (2 * h + 1) / power) for h in range(heads - power)]


def alibi(steps: int, heads: int, device: torch.device) -> Tensor:
    """bias_HTT = −slope · |i − j|, the symmetric form for encoders."""
    step_T = torch.arange(steps, device=device)
    return alibi_between(step_T, step_T, heads)


def alibi_between(at: Tensor, seen: Tensor, heads: int) -> Tensor:
    """bias (…, H, T, N) = −slope · |i − j| for steps at (…, T) that look at steps seen (N,)."""
    distance = (at[..., None] - seen).abs().to(torch.float32).unsqueeze(-3)
    return -torch.tensor(slopes(heads), device=at.device)[:, None, None] * distance


def places(document_BT: Tensor) -> Tensor:
    """Each step's place in its document (B, T), of numbers that tell documents apart."""
    step_T = torch.arange(document_BT.shape[1], device=document_BT.device)
    opens_BT = torch.ones_like(document_BT, dtype=torch.bool)
    opens_BT[:, 1:] = document_BT[:, 1:] != document_BT[:, :-1]
    return step_T - torch.where(opens_BT, step_T, 0).cummax(1).values


class Position(nn.Module):
    """What a transformer knows of its steps' order, and which steps each may look at."""

    def __init__(
        self,
        name: Positions,
        width: int,
        heads: int,
        length: int = 0,
        *,
        head_width: int | None = None,
        base: float = 10_000.0,
        scaling: RopeScaling | None = None,
        causal: bool = False,
        window: int | None = None,
    ) -> None:
        """`length`: most steps that learned positions cover. `causal`: a step looks at itself and the past.
        `window`: it looks at so many steps, its own among them (without causal: on each side)."""
        super().__init__()
        head_width = head_width or width // heads
        if name == "rope" and head_width % 2:
            raise UserError(
                f"rope turns pairs, so a head's width must be even; it is {head_width}",
                "choose another number of heads, or positions: alibi",
            )
        if name == "learned" and length < 1:
            raise UserError(
                "learned positions want a longest length, and the input has none", "positions: rope"
            )
        self.name, self.width, self.heads, self.causal, self.window = name, width, heads, causal, window
        self.table_TD = nn.Parameter(torch.empty(length, width)) if name == "learned" else None
        if self.table_TD is not None:
            nn.init.normal_(self.table_TD, std=0.02)
        # Neither parameter nor buffer: computed, and float32 whatever the weights are.
        self._make: Callable[[int, torch.device], Tensor] | None = None
        if name == "rope":
            self._make = lambda steps, device: rotary(steps, head_width, device, base, scaling)
        elif name == "sinusoidal":
            self._make = lambda steps, device: sinusoidal(steps, width, device)
        self._length, self._made = length, torch.empty(0)

    def made(self, steps: int, device: torch.device) -> Tensor:
        """The first rows of rope's turns or of sinusoidal positions, computed once."""
        assert self._make is not None
        if torch.compiler.is_compiling():
            return self._make(steps, device)
        if len(self._made) < steps or self._made.device != device:
            with torch.inference_mode(False), torch.no_grad():
                # All of a usual context at once; a giant one, or one that a file only claims, as it is come to.
                self._made = self._make(max(steps, min(self._length, max(4096, 2 * steps))), device)
        return self._made[:steps]

    def add(self, x_BTD: Tensor, document_BT: Tensor | None = None) -> Tensor:
        """Learned or sinusoidal positions added to the input; they begin anew in each document."""
        table_TD = self.table(x_BTD.shape[1], x_BTD)
        if table_TD is None:
            return x_BTD
        return x_BTD + (table_TD if document_BT is None else table_TD[places(document_BT)])

    def table(self, steps: int, like: Tensor) -> Tensor | None:
        """The vectors to add to the first steps, if any are."""
        if self.table_TD is not None:
            if steps > len(self.table_TD):
                raise UserError(
                    f"{steps} steps are more than the {len(self.table_TD)} learned positions",
                    "shorten the rows",
                )
            return self.table_TD[:steps]
        return self.made(steps, like.device).to(like.dtype) if self.name == "sinusoidal" else None

    def attend(
        self, x_BTD: Tensor, mask_BT: Tensor | None, document_BT: Tensor | None = None
    ) -> tuple[Tensor | None, Rotary | None, bool]:
        """What every layer's attention is given: a mask or bias over (B, H, T, T), RoPE's turns, and whether the
        kernel alone keeps the future hidden. A causal step never sees the padding behind it. `document`: which one
        each step belongs to; it sees no other. RoPE's turns and ALiBi's bias know only distances, so that they need
        not begin anew."""
        steps, device = x_BTD.shape[1], x_BTD.device
        turns = self.made(steps, device) if self.name == "rope" else None
        # Recorded graphs take any number of steps, so that nothing may hang on how many these are.
        windowed = self.window is not None and (torch.compiler.is_compiling() or self.window < steps)
        if self.causal and not windowed and self.name != "alibi" and document_BT is None:
            return None, turns, torch.compiler.is_compiling() or steps > 1
        mask = None if mask_BT is None or self.causal else mask_BT[:, None, None, :]
        step_T = torch.arange(steps, device=device)
        if self.causal or windowed:
            near_TT = self.visible(step_T, step_T)
            mask = near_TT if mask is None else mask & near_TT
        if document_BT is not None:
            same_B1TT = (document_BT[:, :, None] == document_BT[:, None, :])[:, None]
            mask = same_B1TT if mask is None else mask & same_B1TT
        if self.name == "alibi":
            mask = self.biased(step_T, step_T, mask, x_BTD.dtype)
        return mask, turns, False

    def visible(self, at: Tensor, seen: Tensor) -> Tensor:
        """bool (…, T, N): whether steps at (…, T) may look at steps seen (N,)."""
        ahead = at[..., None] - seen
        if not self.causal:
            return ahead.abs() < (self.window or math.inf)
        return ahead >= 0 if self.window is None else (ahead >= 0) & (ahead < self.window)

    def biased(self, at: Tensor, seen: Tensor, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
        """ALiBi's bias, −∞ where the mask forbids."""
        bias = alibi_between(at, seen, self.heads).to(dtype)
        bias = bias if bias.ndim == 4 else bias[None]
        return bias if mask is None else bias.masked_fill(~mask, -math.inf)
