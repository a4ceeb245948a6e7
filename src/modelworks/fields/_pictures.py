"""Decoding pictures safely: any file or pixel array → uint8 (C, H, W), or Unreadable with the reason."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps

from modelworks.fields._media import Unreadable, load

MOST_PIXELS = 64_000_000
"""Larger pictures are refused by their header: a small file can claim gigabytes."""
# Not every format that Pillow knows: some start other programs (EPS).
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
# Our own, lower limit is checked before decoding; Pillow's warning would only be noise.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # broken files are reported by us

Resize = Literal["stretch", "crop", "pad"]


def header(value: Any, root: Path | None) -> tuple[int, int, int]:
    """(height, width, channels 1 or 3) as a file's header says, turned as its EXIF says."""
    if isinstance(value, (np.ndarray, list)):
        image = _from_array(value)
        return image.height, image.width, 1 if _is_grey(image) else 3
    image = _open(load(value, root))
    try:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception as error:  # a broken file can break a decoder in any way
        raise Unreadable(f"broken picture: {_why(error)}") from None
    height, width = image.size if turned else image.size[::-1]
    return height, width, 1 if _is_grey(image) else 3


def decode(
    value: Any, root: Path | None, size: tuple[int, int] | None, channels: int, resize: Resize
) -> np.ndarray:
    """uint8 (channels, H, W) of a file's bytes or path, or of an array of pixels; `size` is (H, W)."""
    if isinstance(value, (np.ndarray, list)):
        image = _from_array(value)
        return _finish(image, size, channels, resize)
    data = load(value, root)
    try:
        image = _open(data)
        if size is not None:
            # JPEG can be decoded at a fraction of its size; twice the target keeps it sharp.
            image.draft(None, (2 * size[1], 2 * size[0]))
        image.load()
        image = ImageOps.exif_transpose(image)
        return _finish(image, size, channels, resize)
    except Unreadable:
        raise
    except Exception as error:  # a broken file can break a decoder in any way
        raise Unreadable(f"broken picture: {_why(error)}") from None


def _open(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        width, height = image.size
    except Image.DecompressionBombError:
        raise Unreadable(f"picture of more than {MOST_PIXELS // 1_000_000} megapixels") from None
    except Exception as error:  # as above
        known = not isinstance(error, Image.UnidentifiedImageError)
        raise Unreadable(
            f"broken picture: {_why(error)}" if known else "not a picture that can be read"
        ) from None
    if width * height > MOST_PIXELS:
        raise Unreadable(
            f"picture of {width} × {height} pixels; the most is {MOST_PIXELS // 1_000_000} megapixels"
        )
    if not width or not height:
        raise Unreadable("picture without pixels")
    return image


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "P":
        colours = np.frombuffer(bytes(image.getpalette("RGB") or b""), np.uint8).reshape(-1, 3)
        return bool((colours == colours[:, :1]).all())
    return image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")


def _finish(image: Image.Image, size: tuple[int, int] | None, channels: int, resize: Resize) -> np.ndarray:
    mode = "L" if channels == 1 else "RGB"
    image = _eight_bits(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    if image.mode != mode:
        image = image.convert("RGB").convert(mode)
    if size is not None and image.size != (size[1], size[0]):
        target, smooth = (size[1], size[0]), Image.Resampling.BILINEAR
        if resize == "stretch":
            image = image.resize(target, smooth, reducing_gap=2.0)
        elif resize == "crop":
            image = ImageOps.fit(image, target, smooth)
        else:
            image = ImageOps.pad(image, target, smooth, color=0 if channels == 1 else (0, 0, 0))
    pixels = np.asarray(image, np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit and floating greys as 8-bit ones."""
    if not (image.mode.startswith("I") or image.mode == "F"):
        return image
    grey = np.nan_to_num(np.asarray(image, np.float64), nan=0.0, posinf=65535.0, neginf=0.0)
    if image.mode == "F" and grey.max(initial=0) <= 1:
        grey = grey * 255
    elif image.mode.startswith("I;16") or grey.max(initial=0) > 255:
        grey = grey / 257
    return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))


def _from_array(value: Any) -> Image.Image:
    try:
        pixels = np.asarray(value)
        if pixels.dtype != np.uint8:
            with np.errstate(invalid="ignore"):  # NaN: the comparison below refuses it
                whole = pixels.astype(np.uint8)
            if pixels.dtype == object or not np.array_equal(whole, pixels):
                raise Unreadable("wants whole pixels from 0 to 255")
            pixels = whole
    except (ValueError, TypeError, OverflowError) as error:
        raise (
            error if isinstance(error, Unreadable) else Unreadable("wants pixels (H, W) or (H, W, C)")
        ) from None
    pixels = as_hwc(pixels)
    if pixels is None or not pixels.size or pixels.shape[0] * pixels.shape[1] > MOST_PIXELS:
        raise Unreadable(f"wants pixels (H, W) or (H, W, C), got shape {np.shape(value)}")
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def as_hwc(pixels: np.ndarray) -> np.ndarray | None:
    """Pixels (…, H, W), (…, H, W, C) or (…, C, H, W) of one picture as (H, W, C); None where it is none."""
    if pixels.ndim == 2:
        return pixels[:, :, None]
    if pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4):
        return pixels
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4):
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return None


def tensors(column: pa.Array) -> np.ndarray | None:
    """A view (rows, *shape) of a column of uint8 tensors; None for other columns. Null rows hold anything."""
    if not isinstance(column, pa.FixedShapeTensorArray) or column.type.value_type != pa.uint8():
        return None
    kind, width = column.type, column.storage.type.list_size
    flat = column.storage.values.slice(column.storage.offset * width, len(column) * width)
    pixels = flat.fill_null(0).to_numpy(zero_copy_only=False).reshape(len(column), *kind.shape)
    order = kind.permutation
    return pixels.transpose(0, *(axis + 1 for axis in order)) if order else pixels


def stack_chw(pixels: np.ndarray) -> np.ndarray | None:
    """Pixels (rows, H, W), (rows, H, W, C) or (rows, C, H, W) → a view (rows, C, H, W); C is 1 or 3."""
    if pixels.ndim == 3:
        return pixels[:, None]
    if pixels.ndim == 4 and pixels.shape[3] in (1, 3):
        return pixels.transpose(0, 3, 1, 2)
    return pixels if pixels.ndim == 4 and pixels.shape[1] in (1, 3) and pixels.shape[3] != 4 else None


def _why(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:100] or type(error).__name__
