"""Decoding sound safely: WAV by ourselves, other files through soundfile; mono; resampled by sinc."""

from __future__ import annotations

import functools
import io
import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from modelworks.core.errors import need
from modelworks.core.profile import looks_like_audio
from modelworks.fields._media import Unreadable, load

_RATES = (100, 768_000)
_CHANNELS = 64


@dataclass
class Sound:
    """The beginning of a sound, mixed to one channel."""

    samples: np.ndarray
    """float32, -1 to 1."""
    rate: int
    """Samples a second."""
    seconds: float
    """Length of the whole, also where only its beginning was read."""
    short: bool = False
    """Whether the file ends before its header says."""


def decode(value: Any, root: Path | None, seconds: float) -> Sound:
    """At most the first `seconds` of a file's bytes or path. Raises Unreadable."""
    data = load(value, root)
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        sound = read_wav(data, seconds)
        if sound is not None:
            return sound
    if looks_like_audio(data):
        return _read_other(data, seconds)
    raise Unreadable("not a sound file that can be read")


def read_wav(data: bytes, seconds: float) -> Sound | None:
    """A WAV file of 8 to 32-bit integers or 32 or 64-bit floats; None for compressed ones.

    Sizes in headers are only believed as far as there are bytes, so none of them can make us allocate."""
    position, shape = 12, None
    while position + 8 <= len(data):
        name, size = (
            data[position : position + 4],
            int.from_bytes(data[position + 4 : position + 8], "little"),
        )
        body = position + 8
        if name == b"fmt " and size >= 16 and body + 16 <= len(data):
            code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, body)
            if code == 0xFFFE and size >= 26 and body + 26 <= len(data):
                code = int.from_bytes(data[body + 24 : body + 26], "little")
            shape = code, channels, rate, bits
        elif name == b"data":
            if shape is None:
                raise Unreadable("WAV without a format before its data")
            return _wav_samples(data, body, size, shape, seconds)
        position = body + size + size % 2
    raise Unreadable("WAV without data")


def _wav_samples(data: bytes, body: int, size: int, shape: tuple[int, ...], seconds: float) -> Sound | None:
    code, channels, rate, bits = shape
    if not _RATES[0] <= rate <= _RATES[1] or not 1 <= channels <= _CHANNELS:
        raise Unreadable(f"WAV of {channels} channels at {rate:,} Hz")
    if (code, bits) not in ((1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)):
        return None
    width = bits // 8
    there = min(size, len(data) - body)
    frames = there // (width * channels)
    if not frames:
        raise Unreadable("WAV without samples")
    few = min(frames, math.ceil(seconds * rate))
    raw = data[body : body + few * width * channels]
    if code == 3:
        samples = np.nan_to_num(np.frombuffer(raw, f"<f{width}"), nan=0.0, posinf=1.0, neginf=-1.0).clip(
            -1, 1
        )
    elif bits == 8:
        samples = (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    elif bits == 24:
        # Three bytes above an empty one are the number × 256, sign included.
        wide = np.zeros((few * channels, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        samples = wide.view("<i4")[:, 0] / 2.0**31
    else:
        samples = np.frombuffer(raw, f"<i{width}") / 2.0 ** (bits - 1)
    mono = samples.reshape(few, channels).mean(1).astype(np.float32)
    # Recorders that stream write 0 or the largest number because they do not know the size yet.
    return Sound(mono, rate, frames / rate, short=there < size < 0x7FFFFFFF)


def _read_other(data: bytes, seconds: float) -> Sound:
    soundfile = need("soundfile", "audio", "sound files other than WAV")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, channels, frames = file.samplerate, file.channels, file.frames
            if not _RATES[0] <= rate <= _RATES[1] or not 1 <= channels <= _CHANNELS:
                raise Unreadable(f"sound of {channels} channels at {rate:,} Hz")
            samples = file.read(min(frames, math.ceil(seconds * rate)), dtype="float32", always_2d=True)
    except Unreadable:
        raise
    except Exception as error:  # a broken file can break a decoder in any way
        raise Unreadable(f"broken sound: {(str(error).splitlines() or [''])[0][:100]}") from None
    if not len(samples):
        raise Unreadable("sound without samples")
    mono = np.nan_to_num(samples.mean(1)).clip(-1, 1).astype(np.float32)
    return Sound(mono, rate, max(frames, len(mono)) / rate)


# ------------------------------------------------------------------------------------------- resampling
def resample(samples: np.ndarray, rate: int, target: int) -> np.ndarray:
    """float32 samples at `rate` → at `target` samples a second, by a polyphase windowed-sinc filter."""
    if rate == target:
        return samples
    # Odd pairs of rates would need millions of taps; a thousandth of a cent in pitch is not heard.
    if target < rate:
        ratio = Fraction(target, rate).limit_denominator(4096)
    else:
        ratio = 1 / Fraction(rate, target).limit_denominator(4096)
    up, down = ratio.numerator, ratio.denominator
    taps_UK, before = _filter(up, down)
    count = -(-len(samples) * up // down)
    # Output m stands at input m·down/up: phase (m·down) mod up, from input (m·down) div up on.
    width = taps_UK.shape[1]
    padded = np.concatenate([np.zeros(before, np.float32), samples, np.zeros(width + 1, np.float32)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)
    out = np.empty(count, np.float32)
    for first in range(min(up, count)):
        position = first * down
        starts = position // up + np.arange(len(range(first, count, up))) * down
        for block in range(0, len(starts), 65_536):
            some = starts[block : block + 65_536]
            out[first + block * up :: up][: len(some)] = windows[some] @ taps_UK[position % up]
    return out


@functools.lru_cache(32)
def _filter(up: int, down: int) -> tuple[np.ndarray, int]:
    """(taps of each phase in the order of the input, inputs before the first): a Kaiser-windowed sinc, 10
    zero crossings to each side, cut off at the lower of the two Nyquist rates."""
    slow = max(up, down)
    half = 10 * slow
    at = np.arange(-half, half + 1)
    taps = np.sinc(at / slow) * np.kaiser(2 * half + 1, 5.0)
    taps *= up / taps.sum()
    before = half // up
    width = 2 * before + 2
    # Phase p of output reads input k, counted from `before` inputs earlier, with tap p - (k - before)·up.
    offset = np.arange(up)[:, None] - (np.arange(width)[None, :] - before) * up
    inside = np.abs(offset) <= half
    return np.where(inside, taps[np.clip(offset + half, 0, 2 * half)], 0.0).astype(np.float32), before
