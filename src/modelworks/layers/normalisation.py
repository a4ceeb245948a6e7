"""Normalisation by name: `normalisation("batch", 64, axes=2)` after a 2-D convolution.

layer and rms normalise each position over its channels, also in images (as ConvNeXt does), so that what they
give never depends on how far a row was padded. batch: Ioffe & Szegedy 2015; layer: Ba et al. 2016;
group: Wu & He 2018; rms: Zhang & Sennrich 2019.
"""

from __future__ import annotations

from torch import Tensor, nn

from modelworks.core.choices import Normalisation


class ChannelsLast(nn.Module):
    """Applies a last-axis norm to channels-first features; free of copies in the channels_last format."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


def normalisation(name: Normalisation, width: int, axes: int = 0, eps: float = 1e-5) -> nn.Module:
    """The norm of this name. `axes`: spatial axes behind the channels; 0: the channels are the last axis."""
    if name == "none":
        return nn.Identity()
    if name == "batch":
        return (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d)[axes](width, eps=eps)
    if name == "group":  # 32 groups as in the paper, or the most that divide the width
        return nn.GroupNorm(next(g for g in range(min(32, width), 0, -1) if width % g == 0), width, eps=eps)
    norm = nn.LayerNorm(width, eps=eps) if name == "layer" else nn.RMSNorm(width, eps=eps)
    return ChannelsLast(norm) if axes else norm
