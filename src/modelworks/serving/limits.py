"""Limits: how much a request may unfold to. What would be too much is refused by its header, before it is unfolded.

A gzip of a megabyte holds a gigabyte, a PNG of ten kilobytes ten gigabytes, `[[],[],…]` twenty times its own size.
Each check here costs a look at the bytes, and the memory taken stays below the limit.
"""

from __future__ import annotations

import io
import zlib

_OBJECT, _VALUE = 72, 40
"""Bytes of an empty list or dict with its place in another, and of a number with its place."""
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""What the field of pictures opens."""
_ENDLESS = 1 << 62
SMALL = 64 << 10
"""Bodies up to here cannot unfold to anything that matters."""


class Refused(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


def of_json(body: bytes | memoryview, most: int) -> None:
    """Refuse JSON whose values would take more than `most` bytes."""
    if len(body) <= SMALL:
        return
    data = bytes(body)
    # A text with one character beyond Latin-1 takes two or four bytes for each of its characters.
    taken = len(data) * (1 if data.isascii() else 4)
    taken += _OBJECT * (data.count(b"[") + data.count(b"{")) + _VALUE * data.count(b",")
    if taken > most:
        raise Refused(413, f"JSON that would take about {taken >> 20} MB; the most is {most >> 20}")


def unzip(body: bytes | memoryview, encoding: str, most: int) -> bytes:
    """A body without its content encoding, which is gzip or deflate; 413 where it is more than `most` bytes."""
    out, left = bytearray(), bytes(body)
    try:
        while left:
            # 47: gzip or zlib by their headers; a deflate without either begins otherwise.
            raw = encoding == "deflate" and (left[0] & 15) != 8
            unfolding = zlib.decompressobj(-15 if raw else 47)
            while not unfolding.eof and left:
                out += unfolding.decompress(left, min(1 << 20, most + 1 - len(out)))
                left = unfolding.unconsumed_tail
                if len(out) > most:
                    raise Refused(413, f"a body of more than {most >> 20} MB unzipped")
            if not unfolding.eof:
                raise Refused(400, f"the {encoding} body is cut short")
            left = unfolding.unused_data.lstrip(b"\0")
    except zlib.error:
        raise Refused(400, f"the body is no {encoding}") from None
    return bytes(out)


def unfolded(data: bytes, form: str, most: int) -> int:
    """Bytes that a picture or sound takes while it is decoded, by its header; ValueError where that is too much."""
    taken = _image(data) if form == "image" else _sound(data) if form == "audio" else 0
    if taken >= _ENDLESS:
        raise ValueError("a picture of far too many pixels")
    if taken > most:
        raise ValueError(f"a file that unfolds to about {taken >> 20} MB; the most is {most >> 20}")
    return taken


def _image(data: bytes) -> int:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            # Decoded and converted once; 16 bits and floats pass through float64.
            return 2 * width * height * (8 if image.mode.startswith(("I", "F")) else 4)
    except Image.DecompressionBombError:
        return _ENDLESS
    except Exception:  # the field says what is wrong with a broken one
        return 0


def _sound(data: bytes) -> int:
    if data[:4] in (b"RIFF", b"RF64"):
        return 8 * len(data)  # a WAV cannot say more than it holds
    try:
        import soundfile

        with soundfile.SoundFile(io.BytesIO(data)) as file:
            return 8 * file.frames * file.channels
    except Exception:  # as above
        return 0
