"""What one column looks like, gathered in one streaming pass: the ground for inferring fields and for the audit."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

MISSING = frozenset(
    {"", "na", "n/a", "nan", "null", "none", "?", "-", "#n/a", "nil", "missing", "缺失", "无"}
)
"""Texts that mean "no value" in a table, lower-cased."""
_DISTINCT = 20_000  # beyond this many distinct values we only know "many"
_FEW = 256  # distinct values of a chunk up to which each is looked at by itself
_NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)?\.?\d*([eE][-+]?\d+)?%?")
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ]\d{1,2}:\d{2}(:\d{2})?.*)?"
    r"|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{4}年\d{1,2}月\d{1,2}日?"
)
_IMAGE = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
_AUDIO = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")


@dataclass
class ColumnProfile:
    """Counts and shares over the non-missing values of one column."""

    name: str
    type: str = "string"
    """Arrow type, e.g. `string`, `double`, `binary`, `extension<arrow.fixed_shape_tensor…>`, `list<string>`."""
    continuous: bool = False
    """Whether the rows are consecutive pieces of one text."""
    rows: int = 0
    missing: int = 0
    distinct: int = 0
    """Exact up to 20,000, then that number (see `many`)."""
    many: bool = False
    numeric: int = 0
    """Values that read as a number."""
    integer: int = 0
    dates: int = 0
    image_paths: int = 0
    audio_paths: int = 0
    image_bytes: int = 0
    audio_bytes: int = 0
    minimum: float = math.nan
    maximum: float = math.nan
    mean: float = math.nan
    std: float = math.nan
    mean_length: float = 0.0
    """Characters a value (strings), elements a value (lists)."""
    max_length: int = 0
    mean_words: float = 0.0
    cjk: float = 0.0
    """Share of characters that are Chinese, Japanese or Korean."""
    separated: int = 0
    """Values that hold `|`, `;` or `,` between short parts: candidates for tags."""
    increasing: bool = True
    """Numeric values never decrease: ids and times."""
    top: list[tuple[str, int]] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)

    @property
    def present(self) -> int:
        return self.rows - self.missing

    def share(self, count: int) -> float:
        """`count` as a share of the values that are there."""
        return count / self.present if self.present else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            key: (None if isinstance(value, float) and math.isnan(value) else value)
            for key, value in asdict(self).items()
        }


class Profiler:
    """Builds a ColumnProfile from chunks, in bounded memory."""

    def __init__(self, name: str) -> None:
        self.profile = ColumnProfile(name)
        self._counts: dict[Any, int] = {}
        self._sum = self._square = 0.0
        self._numbers = self._characters = self._words = self._cjk = 0
        self._last = -math.inf

    def update(self, chunk: pa.Array) -> None:
        """Add one chunk of the column."""
        profile = self.profile
        profile.type = str(chunk.type)
        profile.rows += len(chunk)
        if profile.type.startswith(("extension", "fixed_size_list")):
            profile.missing += chunk.null_count
            profile.many = True
            return
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_nested(chunk.type):
            values = chunk.to_pylist()
            for value in values:
                self._add("|".join(map(str, value)) if isinstance(value, list) else value, 1)
            return
        if pa.types.is_binary(chunk.type) or pa.types.is_large_binary(chunk.type):
            for value in chunk.to_pylist():
                self._add(value, 1)
            return
        # Repeated values are looked at once: a table's columns have far fewer values than rows.
        counted = pc.value_counts(chunk)
        if len(counted) > _FEW and self._amounts(chunk, counted):
            return
        for value, count in zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True):
            self._add(value, count)
        # A column that repeats its values within a chunk is no id or clock: its order is not worth reading.
        profile.increasing = profile.increasing and 2 * len(counted) >= len(chunk)
        if profile.increasing and profile.share(profile.numeric) > 0.95:
            for value in chunk.to_pylist():
                number = as_number(value)
                if number is not None and number < self._last:
                    profile.increasing = False
                    break
                self._last = self._last if number is None else number

    def _amounts(self, chunk: pa.Array, counted: Any) -> bool:
        """Add a chunk of many plain numbers at once; False where some value is not one."""
        import pyarrow as pa
        import pyarrow.compute as pc

        written = pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type)
        if not (written or pa.types.is_integer(chunk.type) or pa.types.is_floating(chunk.type)):
            return False
        try:
            if written:
                trimmed = pc.utf8_trim_whitespace(chunk)
                missing = pc.is_in(pc.utf8_lower(trimmed), pa.array(sorted(MISSING)))
                trimmed = pc.if_else(missing, None, trimmed)
                numbers = pc.cast(trimmed, pa.float64())
            else:
                numbers = pc.cast(chunk, pa.float64(), safe=False)
        except pa.ArrowInvalid:
            return False
        found = numbers.drop_null().to_numpy()
        found = found if written else found[found == found]
        if not len(found) or not (abs(found) < 1e300).all():
            return False
        profile = self.profile
        profile.missing += len(chunk) - len(found)
        profile.numeric += len(found)
        profile.integer += int((found == found.round()).sum())
        self._numbers += len(found)
        self._sum += float(found.sum())
        self._square += float((found * found).sum())
        low, high = float(found.min()), float(found.max())
        profile.minimum = low if math.isnan(profile.minimum) else min(profile.minimum, low)
        profile.maximum = high if math.isnan(profile.maximum) else max(profile.maximum, high)
        if written:
            lengths = pc.utf8_length(trimmed)
            self._characters += pc.sum(lengths).as_py() or 0
            profile.max_length = max(profile.max_length, pc.max(lengths).as_py() or 0)
        self._words += len(found)
        if not profile.many:
            for value, count in zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True):
                if as_number(value) is not None:
                    self._counts[str(value)] = self._counts.get(str(value), 0) + count
            profile.many = len(self._counts) > _DISTINCT
        for value in found[:5]:
            if len(profile.examples) < 5:
                profile.examples.append(f"{value:g}")
        ordered = bool((found[1:] >= found[:-1]).all()) and found[0] >= self._last
        profile.increasing = profile.increasing and ordered and 2 * len(counted) >= len(chunk)
        self._last = float(found[-1])
        return True

    def _add(self, value: Any, count: int) -> None:
        profile = self.profile
        if value is None or (isinstance(value, float) and math.isnan(value)):
            profile.missing += count
            return
        if isinstance(value, bytes):
            profile.image_bytes += count * looks_like_image(value)
            profile.audio_bytes += count * looks_like_audio(value)
            profile.many = True
            return
        if isinstance(value, dict) and "bytes" in value:
            return self._add(value["bytes"] if value["bytes"] is not None else value.get("path"), count)
        text = str(value)
        if isinstance(value, str) and text.strip().lower() in MISSING:
            profile.missing += count
            return
        if not profile.many:
            self._counts[text] = self._counts.get(text, 0) + count
            profile.many = len(self._counts) > _DISTINCT
        if len(profile.examples) < 5 and text[:80] not in profile.examples:
            profile.examples.append(text[:80])
        number = as_number(value)
        if number is not None:
            profile.numeric += count
            profile.integer += count * (number == int(number))
            self._numbers += count
            self._sum += number * count
            self._square += number * number * count
            profile.minimum = number if math.isnan(profile.minimum) else min(profile.minimum, number)
            profile.maximum = number if math.isnan(profile.maximum) else max(profile.maximum, number)
        if isinstance(value, (date, datetime)) or (6 <= len(text) <= 35 and _DATE.fullmatch(text)):
            profile.dates += count
        lowered = text[-6:].lower()
        profile.image_paths += count * lowered.endswith(_IMAGE)
        profile.audio_paths += count * lowered.endswith(_AUDIO)
        self._characters += len(text) * count
        profile.max_length = max(profile.max_length, len(text))
        self._words += (text.strip().count(" ") + 1) * count
        self._cjk += sum("\u3040" <= c <= "\u9fff" or "\uac00" <= c <= "\ud7af" for c in text[:200]) * count
        parts = re.split(r"[|;,]", text) if len(text) < 200 else [text]
        profile.separated += count * (len(parts) > 1 and all(0 < len(part.strip()) <= 30 for part in parts))

    def result(self) -> ColumnProfile:
        """The finished profile."""
        profile = self.profile
        present = max(profile.present, 1)
        profile.distinct = len(self._counts)
        profile.top = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:20]
        profile.mean_length = self._characters / present
        profile.mean_words = self._words / present
        profile.cjk = self._cjk / max(self._characters, 1)
        if self._numbers:
            profile.mean = self._sum / self._numbers
            profile.std = math.sqrt(max(self._square / self._numbers - profile.mean * profile.mean, 0.0))
        profile.increasing = profile.increasing and profile.numeric > 1
        return profile


def as_number(value: Any) -> float | None:
    """A finite number from a cell: 3, "3.5", "1,024", "12%"; None when it is not one."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, (int, float)):
        number = float(value) if abs(value) < 1e300 else math.inf
        return number if math.isfinite(number) else None
    if not isinstance(value, str):
        try:  # Decimal
            number = float(value)
        except (TypeError, ValueError):
            return None
        return number if math.isfinite(number) else None
    text = value.strip()
    if not text or len(text) > 40 or not _NUMBER.fullmatch(text):
        return None
    try:
        number = float(text.rstrip("%").replace(",", ""))
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return number / 100 if text.endswith("%") else number


def looks_like_image(data: bytes) -> bool:
    """Whether bytes begin as PNG, JPEG, GIF, BMP, WebP, TIFF or PNM."""
    return (
        data[:8] == b"\x89PNG\r\n\x1a\n"
        or data[:3] == b"\xff\xd8\xff"
        or data[:4] in (b"GIF8", b"II*\0", b"MM\0*")
        or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
        or data[:2] in (b"BM", b"P5", b"P6")
    )


def looks_like_audio(data: bytes) -> bool:
    """Whether bytes begin as WAV, FLAC, Ogg, MP3 or AIFF."""
    return (
        (data[:4] == b"RIFF" and data[8:12] == b"WAVE")
        or data[:4] in (b"fLaC", b"OggS", b"FORM")
        or (data[:3] == b"ID3" or data[:2] in (b"\xff\xfb", b"\xff\xf3"))
    )
