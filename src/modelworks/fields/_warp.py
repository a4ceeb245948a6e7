"""Augmenting pictures as one batch. Random numbers come from the given generator alone.

Legend: B rows, C channels, H height, W width; stored pixels are uint8, 0 to 255.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

Fill = Literal["black", "edge", "reflect"]


def uniform(count: int, rows: int, generator: Generator, device: torch.device) -> Tensor:
    """`count` random numbers in [-1, 1) a row. (count, B)"""
    return torch.rand(count, rows, generator=generator, device=generator.device).to(device) * 2 - 1


def move(values: Tensor, dy_B: Tensor, dx_B: Tensor, flip_B: Tensor | None, fill: Fill) -> Tensor:
    """Shift by whole pixels (down, right) after mirroring the rows in `flip_B`: one gather, in any dtype."""
    rows, channels, height, width = values.shape
    y_BH = torch.arange(height, device=values.device) - dy_B[:, None]
    x_BW = torch.arange(width, device=values.device) - dx_B[:, None]
    inside_BHW = ((y_BH >= 0) & (y_BH < height))[:, :, None] & ((x_BW >= 0) & (x_BW < width))[:, None, :]
    y_BH, x_BW = _within(y_BH, height, fill), _within(x_BW, width, fill)
    if flip_B is not None:
        x_BW = torch.where(flip_B[:, None], width - 1 - x_BW, x_BW)
    index = (y_BH[:, :, None] * width + x_BW[:, None, :]).view(rows, 1, -1).expand(-1, channels, -1)
    moved = values.reshape(rows, channels, -1).gather(2, index).view_as(values)
    return moved * inside_BHW[:, None] if fill == "black" else moved


def _within(index: Tensor, size: int, fill: Fill) -> Tensor:
    if fill == "reflect" and size > 1:
        index = index.remainder(2 * size - 2)
        return torch.where(index >= size, 2 * size - 2 - index, index)
    return index.clamp(0, size - 1)


def warp(
    values: Tensor,
    angle_B: Tensor,
    zoom_B: Tensor,
    dy_B: Tensor,
    dx_B: Tensor,
    flip_B: Tensor | None,
    fill: Fill,
) -> Tensor:
    """Rotate (radians), zoom, shift (pixels, down and right) and mirror by one bilinear resampling."""
    height, width = values.shape[2:]
    cos_B, sin_B = torch.cos(angle_B) / zoom_B, torch.sin(angle_B) / zoom_B
    # grid_sample wants, for each pixel that comes out, where it lies in the picture that goes in: the
    # inverse map, in units of half a side; sines change by the aspect so that a circle stays one.
    u_B, v_B = -2 * dx_B / width, -2 * dy_B / height
    row_x = torch.stack([cos_B, -sin_B * height / width, cos_B * u_B - sin_B * (height / width) * v_B], 1)
    row_y = torch.stack([sin_B * width / height, cos_B, sin_B * (width / height) * u_B + cos_B * v_B], 1)
    if flip_B is not None:
        row_x = torch.where(flip_B[:, None], -row_x, row_x)
    theta_B23 = torch.stack([row_x, row_y], 1).to(values.dtype)
    grid = functional.affine_grid(theta_B23, list(values.shape), align_corners=False)
    outside = {"black": "zeros", "edge": "border", "reflect": "reflection"}[fill]
    return functional.grid_sample(values, grid, mode="bilinear", padding_mode=outside, align_corners=False)


def jitter(values: Tensor, strength: float, random_3B: Tensor) -> Tensor:
    """Brightness, contrast and (in colour) saturation, each by a factor in 1 ± strength. Floats, 0 to 255."""
    bright, contrast, colour = (1 + strength * random_3B).to(values.dtype)[:, :, None, None, None]
    values = values * bright
    centre = values.mean((1, 2, 3), keepdim=True)
    values = torch.lerp(centre, values, contrast)
    if values.shape[1] == 3:
        weights = values.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        values = torch.lerp((values * weights).sum(1, keepdim=True).expand_as(values), values, colour)
    return values.clamp(0, 255)


def boxes(area_B: Tensor, stretch_B: Tensor, y_B: Tensor, x_B: Tensor, height: int, width: int) -> Tensor:
    """Which pixels lie in a box of this share of the area, centred at (y, x) in [0, 1). bool (B, H, W)

    `stretch_B` is height : width of the box, relative to the picture's own."""
    tall_B = (area_B * stretch_B).sqrt() * height / 2
    wide_B = (area_B / stretch_B).sqrt() * width / 2
    y_H = torch.arange(height, device=area_B.device) + 0.5
    x_W = torch.arange(width, device=area_B.device) + 0.5
    rows = (y_H - y_B[:, None] * height).abs() < tall_B[:, None]
    return rows[:, :, None] & ((x_W - x_B[:, None] * width).abs() < wide_B[:, None])[:, None, :]


def erase(values: Tensor, share: float, random_5B: Tensor, colour: Tensor) -> Tensor:
    """Paint a box over a `share` of the rows with `colour` (C,) (Zhong et al. 2017: 2 to 33 % of it)."""
    chance, area, stretch, y, x = (random_5B + 1) / 2
    stretch_B = torch.exp((2 * stretch - 1) * math.log(1 / 0.3))
    inside_BHW = (
        boxes(0.02 + 0.31 * area, stretch_B, y, x, *values.shape[2:]) & (chance < share)[:, None, None]
    )
    return torch.where(inside_BHW[:, None], colour.to(values.dtype).view(1, -1, 1, 1), values)


def mix(values: Tensor, mixup: float, cutmix: float, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """(mixed, partner_B, weight_B): mixup (Zhang et al. 2017) or cutmix (Yun et al. 2019), each row with
    another of the batch; where both are on, a coin chooses for the batch."""
    rows, device = len(values), values.device
    partner_B = torch.randperm(rows, generator=generator, device=generator.device).to(device)
    # torch draws no beta from a generator: numpy does, seeded by it.
    seed = int(torch.randint(2**63 - 1, (1,), generator=generator, device=generator.device))
    draw = np.random.default_rng(seed)
    cut = cutmix > 0 and (mixup <= 0 or draw.random() < 0.5)
    alpha = cutmix if cut else mixup
    weight_B = torch.from_numpy(draw.beta(alpha, alpha, rows)).to(device, torch.float32)
    other = values[partner_B]
    if not cut:
        return (
            torch.lerp(other, values, weight_B.view(-1, *[1] * (values.ndim - 1)).to(values.dtype)),
            partner_B,
            weight_B,
        )
    at = torch.from_numpy(draw.random((2, rows))).to(device, torch.float32)
    inside_BHW = boxes(1 - weight_B, torch.ones_like(weight_B), at[0], at[1], *values.shape[2:])
    # The box may stick out: the weight is what is truly left of the row itself.
    weight_B = 1 - inside_BHW.float().mean((1, 2))
    return torch.where(inside_BHW[:, None], other, values), partner_B, weight_B
