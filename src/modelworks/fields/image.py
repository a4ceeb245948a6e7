"""A column of pictures: files, paths or pixel tensors, kept as uint8, augmented as batches, normalised.

    fields: {photo: {kind: image, size: 64, flip: true, crop_padding: 4}}

Legend: B rows, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field as Limits
from pydantic import NonNegativeFloat, NonNegativeInt

from modelworks.core.errors import DataError
from modelworks.core.field import Encoded, Field, Layout
from modelworks.fields import _warp
from modelworks.fields._cells import plain
from modelworks.fields._media import Unreadable, each, sample, values_of
from modelworks.fields._pictures import decode, header, stack_chw, tensors

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from modelworks.core.profile import ColumnProfile

_SIZES = (224, 128, 64)
Side = Annotated[int, Limits(ge=1, le=4096)]
Share = Annotated[float, Limits(ge=0, lt=1)]


class Image(Field):
    """Pictures."""

    size: Side | tuple[Side, Side] | None = None
    """Pixels: a side, or (height, width). None: the size that 9 of 10 training pictures have, up to 224;
    where they vary, the largest of 64, 128 and 224 that is not above their median side."""
    channels: Literal[1, 3] | None = None
    """1 grey, 3 colours; None: as the training pictures are."""
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    """How another shape becomes `size`: stretched, cut at the middle, or with black borders."""
    flip: bool = False
    """Augmentation: mirror left and right half of the time."""
    rotate: Annotated[float, Limits(ge=0, le=180)] = 0.0
    """Augmentation: turn by up to this many degrees either way."""
    shift: Share = 0.0
    """Augmentation: move by up to this share of the side, each way."""
    scale: Share = 0.0
    """Augmentation: zoom by a factor in 1 ± this share."""
    crop_padding: NonNegativeInt = 0
    """Augmentation: pad by this many pixels, then crop at random: a move by whole pixels."""
    jitter: Share = 0.0
    """Augmentation: brightness, contrast and saturation, each by a factor in 1 ± this share."""
    erase: Annotated[float, Limits(ge=0, le=1)] = 0.0
    """Augmentation: share of the rows over which a box of the mean colour is painted (Zhong et al. 2017)."""
    fill: Literal["black", "edge", "reflect"] = "black"
    """What appears where a moved picture leaves room."""
    mixup: NonNegativeFloat = 0.0
    """Augmentation: alpha of mixup, 0 for none (Zhang et al. 2017); 0.2 is usual."""
    cutmix: NonNegativeFloat = 0.0
    """Augmentation: alpha of cutmix, 0 for none (Yun et al. 2019); 1 is usual."""

    # ------------------------------------------------------------------ inference of intent
    @classmethod
    def recognise(cls, profile: ColumnProfile) -> float:
        from modelworks.fields._looks import tensor_shape

        tensor = tensor_shape(profile)
        if tensor is not None:
            return 0.98 if tensor[0] == "uint8" and len(tensor[1]) in (2, 3) else 0.0
        if profile.share(profile.image_bytes) > 0.5:
            return 0.97
        return 0.95 if profile.share(profile.image_paths) > 0.9 else 0.0

    # ------------------------------------------------------------------ learning
    def fit(self, chunks: Iterable[pa.Array], root: Path | None = None) -> Image:
        stream = iter(chunks)
        first = next(stream, None)
        if first is None:
            raise DataError("no pictures in the training split")
        stream = chain([first], stream)
        pixels = tensors(plain(first))
        shaped = stack_chw(pixels) if pixels is not None else None
        if shaped is not None:
            channels = self.channels or shaped.shape[1]
            height, width = self._sides() or self._learn_size(Counter([shaped.shape[2:]]))
            if (channels, height, width) == shaped.shape[1:]:
                return self._fit_tensors(stream, channels, height, width)
        values = sample(stream, _values)
        found = [
            shape
            for shape in each(lambda value: header(value, root), values)
            if not isinstance(shape, Unreadable)
        ]
        size = self._sides() or (self._learn_size(Counter(shape[:2] for shape in found)) if found else (1, 1))
        decoded = each(lambda value: decode(value, root, size, 3, self.resize), values)
        read = [picture for picture in decoded if not isinstance(picture, Unreadable)]
        if not read:
            reason = next((str(picture) for picture in decoded if isinstance(picture, Unreadable)), "no rows")
            raise DataError(f"no readable picture among {len(values):,} looked at: {reason}")
        pixels_RCHW = np.stack(read)
        grey = all(shape[2] == 1 for shape in found) or bool((pixels_RCHW == pixels_RCHW[:, :1]).all())
        channels = self.channels or (1 if grey else 3)
        if channels == 1:
            grey_again = each(lambda value: decode(value, root, size, 1, self.resize), values)
            pixels_RCHW = np.stack([picture for picture in grey_again if not isinstance(picture, Unreadable)])
        pixels_CN = pixels_RCHW.transpose(1, 0, 2, 3).reshape(channels, -1).astype(np.float64)
        return self._fitted(size, pixels_CN.mean(1), pixels_CN.std(1))

    def _fit_tensors(self, chunks: Iterable[pa.Array], channels: int, height: int, width: int) -> Image:
        """Exact mean and deviation of every pixel: 256 counts a channel say it all."""
        counts = np.zeros((channels, 256), np.int64)
        for chunk in chunks:
            column = plain(chunk)
            pixels = tensors(column)
            shaped = stack_chw(pixels) if pixels is not None else None
            assert shaped is not None  # one column has one type
            shaped = shaped[column.is_valid().to_numpy(zero_copy_only=False)]
            for start in range(0, len(shaped), 512):
                for channel in range(channels):
                    counts[channel] += np.bincount(
                        shaped[start : start + 512, channel].ravel(), minlength=256
                    )
        total = counts.sum(1)
        if not total.all():
            raise DataError("no pictures in the training split")
        mean = counts @ np.arange(256) / total
        squares = counts @ np.arange(256) ** 2 / total
        return self._fitted((height, width), mean, np.sqrt(np.maximum(squares - mean**2, 0)))

    def _fitted(self, size: tuple[int, int], mean: np.ndarray, std: np.ndarray) -> Image:
        std = np.where(std < 1e-3, 1.0, std)  # a channel of one value
        return self.with_state({"size": list(map(int, size)), "mean": mean.tolist(), "std": std.tolist()})

    def _sides(self) -> tuple[int, int] | None:
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def _learn_size(self, sizes: Counter) -> tuple[int, int]:
        (height, width), count = sizes.most_common(1)[0]
        if count >= 0.9 * sizes.total() and max(height, width) <= _SIZES[0]:
            return int(height), int(width)
        middle = int(np.median([min(size) for size in sizes.elements()]))
        side = next((side for side in _SIZES if side <= middle), max(middle, 1))
        return side, side

    # ------------------------------------------------------------------ the modality
    @property
    def layout(self) -> Layout:
        return Layout("image", (len(self._state["mean"]), *self._state["size"]))

    def encode(self, column: pa.Array, root: Path | None = None) -> Encoded:
        shape, column = self.layout.shape, plain(column)
        pixels = tensors(column)
        shaped = stack_chw(pixels) if pixels is not None else None
        if shaped is not None and shaped.shape[1:] == shape:
            values = np.array(shaped)  # Arrow's memory is read-only, which torch does not take gladly
            absent = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
            values[absent] = 0
            return Encoded(values, bad=dict.fromkeys(absent.tolist(), "missing picture"))
        size = (shape[1], shape[2])
        rows = each(lambda value: decode(value, root, size, shape[0], self.resize), _values(column))
        values, bad = np.zeros((len(rows), *shape), np.uint8), {}
        for row, picture in enumerate(rows):
            if isinstance(picture, Unreadable):
                bad[row] = str(picture)
            else:
                values[row] = picture
        return Encoded(values, bad=bad)

    def contract(self) -> dict[str, Any]:
        return {"channels": len(self._state["mean"]), "size": self._state["size"], "resize": self.resize}

    def decode(self, values: np.ndarray) -> list[np.ndarray]:
        """Stored pixels (rows, C, H, W) → uint8 (H, W) or (H, W, 3) arrays."""
        pixels = np.asarray(values)
        if pixels.dtype != np.uint8:
            pixels = pixels.round().clip(0, 255).astype(np.uint8)
        return [row[0] if len(row) == 1 else np.ascontiguousarray(row.transpose(1, 2, 0)) for row in pixels]

    def augment(self, values: Tensor, generator: Generator) -> Tensor:
        rows, _, height, width = values.shape
        bends = self.rotate or self.scale
        moves = self.flip or self.shift or self.crop_padding
        paints = self.jitter or self.erase
        dtype = values.dtype
        if bends or moves:
            flip, dy, dx, crop_y, crop_x, angle, zoom = _warp.uniform(7, rows, generator, values.device)
            flip_B = flip < 0 if self.flip else None
            # Whole pixels in [-padding, padding], each equally likely.
            steps = 2 * self.crop_padding + 1
            down = ((crop_y + 1) * steps / 2).floor() - self.crop_padding
            right = ((crop_x + 1) * steps / 2).floor() - self.crop_padding
            dy, dx = dy * self.shift * height, dx * self.shift * width
            if bends:
                values = _warp.warp(
                    values.float(),
                    angle * math.radians(self.rotate),
                    1 + zoom * self.scale,
                    dy + down,
                    dx + right,
                    flip_B,
                    self.fill,
                )
            else:
                values = _warp.move(
                    values, (dy.round() + down).long(), (dx.round() + right).long(), flip_B, self.fill
                )
        if paints:
            random = _warp.uniform(8, rows, generator, values.device)
            values = values.float()
            if self.jitter:
                values = _warp.jitter(values, self.jitter, random[:3])
            if self.erase:
                values = _warp.erase(values, self.erase, random[3:], values.new_tensor(self._state["mean"]))
        if values.dtype != dtype:
            values = values.round_().to(dtype) if dtype == torch.uint8 else values.to(dtype)
        return values

    def mix(self, values: Tensor, generator: Generator) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Mixup or cutmix of a prepared batch: (values, partner_B, weight_B of the row itself); both None
        where neither is on."""
        if not self.mixup and not self.cutmix:
            return values, None, None
        return _warp.mix(values, self.mixup, self.cutmix, generator)

    def prepare(self, values: Tensor) -> Tensor:
        mean, std = self._state["mean"], self._state["std"]
        if len(mean) == 1:
            # One pass over the pixels: −mean/std + values · (1/std).
            return torch.add(_scalar(-mean[0] / std[0]), values, alpha=1 / std[0])
        mean_C11 = torch.tensor(mean, device=values.device).view(-1, 1, 1)
        scale_C11 = (1 / torch.tensor(std, device=values.device)).view(-1, 1, 1)
        return values.to(torch.float32, copy=True).sub_(mean_C11).mul_(scale_C11)

    def restore(self, values: Tensor) -> Tensor:
        """Prepared floats → stored pixels: the inverse of `prepare`, for generated pictures."""
        std_C11 = torch.tensor(self._state["std"], device=values.device).view(-1, 1, 1)
        mean_C11 = torch.tensor(self._state["mean"], device=values.device).view(-1, 1, 1)
        return (values * std_C11 + mean_C11).round().clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=64)
def _scalar(value: float) -> Tensor:
    """A float of no device, made once: making it costs a small step more than the sum it is used in."""
    return torch.tensor(value, dtype=torch.float32)


def _values(column: pa.Array) -> list[Any]:
    pixels = tensors(column)
    if pixels is None:
        return values_of(column)
    absent = column.is_null().to_numpy(zero_copy_only=False)
    return [None if gone else row for row, gone in zip(pixels, absent, strict=True)]
