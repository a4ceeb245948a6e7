"""Audit: what is in the data, and what is wrong with it, before anything is trained.

    result = audit(dataset, target="stars")
    for finding in result["findings"]: print(finding["severity"], finding["message"], finding["remedy"])

Counts of rows, duplicates, outliers and classes are exact, from two streaming passes in bounded memory. What
compares rows with one another (near-duplicates, leakage, suspicious labels) looks at a seeded sample and says
so. The result is plain data, ready for JSON.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from modelworks.core.dataset import SPLITS, Dataset
from modelworks.core.field import Field
from modelworks.engine.audit.columns import count_outliers, describe_images, describe_sample
from modelworks.engine.audit.copies import count_copies
from modelworks.engine.audit.findings import findings
from modelworks.engine.audit.near import near_duplicates
from modelworks.engine.audit.target import MOST_CLASSES, leaks, suspects
from modelworks.engine.audit.view import View, chunk_of
from modelworks.engine.data.cells import classes

VERSION = 1
SAMPLE_BYTES = 64 << 20
"""Bytes of a sample of rows that are held at once."""
PICTURES = 300
"""Pictures whose size is looked at."""


def audit(
    dataset: Dataset, target: str | None = None, fields: Mapping[str, Field] | None = None,
    sample: int = 50_000, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Profile every column and look for what spoils training or its evaluation.

    `target`: a column, or the field of it. `fields`: the recipe's, fitted or not; None: kinds are guessed and
    every column but ids is an input. `sample`: rows looked at, at the most, where not all of them are."""
    started = time.monotonic()
    field = (fields or {}).get(target) if target else None
    column_name = target if field is None else field.column or target
    dataset.need([column_name] if column_name else [])
    view = View(dataset, column_name, dict(fields or {}), seed)
    rows, table = _sample(view, sample)
    copies, balance = _exact(view)
    splits = {split: view.dataset.count(split) for split in SPLITS if view.dataset.count(split)}
    result: dict[str, Any] = {
        "version": VERSION,
        "name": dataset.name,
        "rows": dataset.rows,
        "continuous": dataset.continuous,
        "fingerprint": dataset.fingerprint,
        "notice": dataset.notice,
        "target": column_name,
        "target_kind": {True: "class", False: "number", None: None}[view.classy],
        "inputs": view.inputs,
        "splits": {} if view.splits is None else splits,
        "sample": len(rows),
        "quarantine": {
            "count": dataset.quarantine.count,
            "reasons": dict(dataset.quarantine.reasons),
            "rows": dataset.quarantine.rows[:20],
        },
        "columns": view.columns,
        "duplicates": copies,
        "balance": balance,
        "near_duplicates": near_duplicates(view, sample),
        "leakage": leaks(view, rows, table),
        "suspicious_labels": suspects(view, rows),
    }
    result["findings"] = findings(result)
    result["seconds"] = round(time.monotonic() - started, 2)
    return plain(result)


def _sample(view: View, most: int) -> tuple[np.ndarray, pa.Table | None]:
    """The sampled rows and their light columns, which are described by it."""
    light = [column["name"] for column in view.columns if column["kind"] not in ("image", "audio")]
    rows = view.draw(min(most, _affordable(view.dataset, light)))
    table = view.dataset.take(rows, light).combine_chunks() if light else None
    for column in view.columns:
        if table is not None and column["name"] in light:
            describe_sample(column, chunk_of(table, column["name"]))
        elif column["kind"] == "image":
            some = view.draw(min(most, PICTURES))
            chunk = chunk_of(view.dataset.take(some, [column["name"]]), column["name"])
            describe_images(column, chunk, view.dataset.root)
    return rows, table


def _affordable(dataset: Dataset, names: Sequence[str]) -> int:
    """Rows of these columns that fit SAMPLE_BYTES."""
    for _, batch in dataset.batches(None, list(names)):
        return max(1_000, int(SAMPLE_BYTES / max(batch.nbytes / batch.num_rows, 1)))
    return 1_000


def _exact(view: View) -> tuple[dict[str, Any], dict[str, Any]]:
    """Copies, outliers and classes of all rows, in one pass."""
    numeric = [column for column in view.columns if "outliers" in column]
    tallies: dict[str, np.ndarray] = {}
    unlabelled = 0

    def look(rows: np.ndarray, batch: pa.RecordBatch) -> None:
        nonlocal unlabelled
        count_outliers(numeric, batch)
        if not (view.target and view.classy):
            return
        labels, where = classes(batch.column(view.target)), view.codes(rows)
        for label in set(labels):
            if label is None:
                unlabelled += int((labels == None).sum())  # noqa: E711 - element by element
            elif label in tallies or len(tallies) < 10 * MOST_CLASSES:
                counts = np.bincount(where[labels == label], minlength=4)
                tallies[label] = tallies.get(label, 0) + counts

    copies = count_copies(view.dataset, view.inputs, view.target, view.files, look=look)
    copies["examples"] = view.shown([item["row"] for item in copies["most_repeated"]])
    copies["conflict_examples"] = [view.shown(group) for group in copies["conflicts"]]
    return copies, _balance(view, tallies, unlabelled)


def _balance(view: View, tallies: Mapping[str, np.ndarray], unlabelled: int) -> dict[str, Any]:
    """Rows a class, and classes that training rows lack."""
    ordered = sorted(tallies.items(), key=lambda item: (-int(item[1].sum()), item[0]))
    if not ordered:
        return {}
    unseen: dict[str, list[str]] = {}
    for code in (1, 2):
        lacking = [label for label, counts in ordered if counts[code] and not counts[0]]
        if lacking:
            unseen[SPLITS[code]] = lacking[:20]
    return {
        "classes": [[label, int(counts.sum())] for label, counts in ordered[:200]],
        "count": len(ordered),
        "unlabelled": unlabelled,
        "smallest": [ordered[-1][0], int(ordered[-1][1].sum())],
        "unseen": unseen,
    }


def plain(value: Any) -> Any:
    """JSON-able: numpy scalars become Python's, NaN and infinities None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
