"""Columns for the audit: what kind each is, its range, its commonest values, its outliers, its histogram.

Counts come from the dataset's profile (every row); quartiles and histograms from a seeded sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from modelworks.core.field import Field
from modelworks.core.profile import ColumnProfile
from modelworks.engine.data.cells import numbers, texts, thumbnails

BUCKETS = 20
"""Bars of a histogram."""
SIGMA = 4.0


def kind_of(name: str, profile: ColumnProfile, fields: Mapping[str, Field], target: bool = False) -> str:
    """The kind that the recipe gives this column, or what it looks like: number, category, text, date, image,
    audio, tags, id, or empty."""
    for field_name, field in fields.items():
        if (field.column or field_name) == name:
            return field.kind
    if target and profile.present and profile.type not in ("double", "float"):
        # As `engine/infer.py` has it: a few words or whole numbers are classes, other numbers are amounts.
        few = not profile.many and profile.distinct <= max(2, min(20, profile.present // 5))
        numeric = profile.share(profile.numeric) > 0.95
        if few and (not numeric or profile.share(profile.integer) > 0.99):
            return "category"
        return "number" if numeric else "category" if not profile.many else looks_like(profile)
    return looks_like(profile)


def looks_like(profile: ColumnProfile) -> str:
    """What a column looks like when no recipe says."""
    share = profile.share
    if not profile.present:
        return "empty"
    if (
        profile.type.startswith(("extension", "fixed_size_list"))
        or max(share(profile.image_bytes), share(profile.image_paths)) > 0.9
    ):
        return "image"
    if max(share(profile.audio_bytes), share(profile.audio_paths)) > 0.9:
        return "audio"
    if profile.type.startswith(("list", "large_list")):
        return "tags"
    if share(profile.dates) > 0.9:
        return "date"
    if is_id(profile):
        return "id"
    if share(profile.numeric) > 0.95:
        return "number"
    wordy = (
        profile.mean_words >= 3
        or profile.mean_length >= 30
        or (profile.cjk > 0.3 and profile.mean_length >= 10)
    )
    if profile.many or profile.distinct > max(50, 0.2 * profile.present):
        return "text" if wordy else "category"
    return "text" if wordy and profile.mean_length >= 60 else "category"


def is_id(profile: ColumnProfile) -> bool:
    """A value of its own in each row, and no quantity: a counter, or one short word that never repeats."""
    unique = profile.many or profile.distinct == profile.present
    if not unique or profile.present < 20:
        return False
    if profile.share(profile.numeric) > 0.95:
        # A counter steps by about one; a measured quantity that happens to rise does not.
        span = profile.maximum - profile.minimum + 1
        return profile.integer == profile.numeric and profile.increasing and span <= 10 * profile.present
    return (
        profile.mean_words < 1.2
        and profile.max_length <= 40
        and profile.cjk < 0.1
        and profile.share(profile.dates) < 0.5
    )


def is_class_target(kind: str) -> bool | None:
    """Whether a target of this kind holds classes (True), a quantity (False) or neither (None)."""
    return {"category": True, "number": False}.get(kind)


def describe(name: str, kind: str, role: str, profile: ColumnProfile) -> dict[str, Any]:
    """The exact part of a column's description."""
    told: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "role": role,
        "type": profile.type,
        "rows": profile.rows,
        "missing": profile.missing,
        "distinct": profile.distinct,
        "many": profile.many,
        "top": [[str(value)[:80], int(count)] for value, count in profile.top[:10]],
        "examples": [str(example)[:80] for example in profile.examples[:3]],
    }
    if profile.numeric and kind not in ("text", "image", "audio", "date"):
        told |= {
            "numeric": profile.numeric,
            "minimum": profile.minimum,
            "maximum": profile.maximum,
            "mean": profile.mean,
            "std": profile.std,
        }
    if kind in ("text", "category", "tags", "id", "date"):
        told["length"] = {"mean": profile.mean_length, "max": profile.max_length}
    return told


def describe_sample(column: dict[str, Any], chunk: pa.Array) -> None:
    """Add what a sample tells: quartiles, histogram, the bounds beyond which a value is an outlier."""
    if column["kind"] in ("number", "id", "date") or column.get("numeric", 0) > 0.5 * (
        column["rows"] - column["missing"]
    ):
        values = numbers(chunk)
        values = values[~np.isnan(values)]
        if len(values) >= 2 and column["kind"] != "date":
            low, middle, high = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
            column["quartiles"] = [low, middle, high]
            if column["kind"] == "number":
                column["outliers"] = _bounds(column, low, high)
            column["histogram"] = histogram(values)
    elif column["kind"] == "text":
        column["histogram"] = histogram(np.array([len(value) for value in texts(chunk)], float)) | {
            "of": "characters"
        }


def _bounds(column: dict[str, Any], low: float, high: float) -> dict[str, Any]:
    reach = 1.5 * (high - low)
    deviation = SIGMA * (column.get("std") or 0.0)
    mean = column.get("mean") or 0.0
    return {
        "low": low - reach,
        "high": high + reach,
        "sigma_low": mean - deviation,
        "sigma_high": mean + deviation,
        "iqr": 0,
        "sigma": 0,
    }


def count_outliers(columns: Sequence[dict[str, Any]], batch: pa.RecordBatch) -> None:
    """Count one batch's values beyond the bounds."""
    for column in columns:
        bounds = column.get("outliers")
        if bounds:
            values = numbers(batch.column(column["name"]))
            # With half of the values alike, every other one would count as an outlier, which tells nothing.
            if bounds["high"] > bounds["low"]:
                bounds["iqr"] += int(((values < bounds["low"]) | (values > bounds["high"])).sum())
            if bounds["sigma_high"] > bounds["sigma_low"]:
                bounds["sigma"] += int(
                    ((values < bounds["sigma_low"]) | (values > bounds["sigma_high"])).sum()
                )


def histogram(values: np.ndarray) -> dict[str, Any]:
    """{"edges": …, "counts": …}; one bar a value when there are few whole values."""
    if not len(values):
        return {"edges": [], "counts": []}
    distinct = np.unique(values)
    whole = (
        len(distinct) <= BUCKETS
        and bool((distinct == np.round(distinct)).all())
        and distinct[-1] - distinct[0] < BUCKETS
    )
    edges = (
        np.arange(distinct[0], distinct[-1] + 2) - 0.5
        if whole
        else np.linspace(distinct[0], distinct[-1], BUCKETS + 1)
    )
    if not (np.diff(edges) > 0).all():  # too narrow for floating point: one bar
        return {"edges": [float(distinct[0]), float(distinct[-1])], "counts": [len(values)]}
    counts, edges = np.histogram(values, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def describe_images(column: dict[str, Any], chunk: pa.Array, root: Any) -> None:
    """Sizes, modes and unreadable pictures among a sample."""
    sizes: dict[str, int] = {}
    broken = looked = 0
    for small, (width, height, mode), _ in thumbnails(chunk, root):
        looked += 1
        if small is None:
            broken += 1
        else:
            key = f"{width}×{height} {mode}"
            sizes[key] = sizes.get(key, 0) + 1
    column["pictures"] = {
        "looked": looked,
        "unreadable": broken,
        "different": len(sizes),
        "sizes": sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:5],
    }
