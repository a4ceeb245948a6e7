"""The target and what surrounds it: columns that give it away, labels that a row's neighbours deny."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from modelworks.engine.audit import leakage
from modelworks.engine.audit.near import pictures
from modelworks.engine.audit.view import View, chunk_of
from modelworks.engine.data.cells import classes, combine, content_hash, numbers, texts

LEAK_ROWS = 20_000
LABEL_ROWS = 4_000
"""Rows whose labels are compared with their neighbours'."""
MOST_CLASSES = 1_000
RELIABLE = 0.4
"""Skill of the neighbours' vote from which it may deny a label."""


def _labels(view: View, chunk: pa.Array) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(which rows are labelled, codes or numbers of those, class names)."""
    if not view.classy:
        values = numbers(chunk)
        known = ~np.isnan(values)
        return known, values[known], []
    labels = classes(chunk)
    known = np.array([label is not None for label in labels], bool)
    return known, leakage.coded(labels[known].tolist()), list(dict.fromkeys(labels[known]))


def _learnable(view: View, labels: np.ndarray, names: Sequence[str]) -> bool:
    return 2 <= len(names) <= MOST_CLASSES if view.classy else len(labels) > 1 and labels.std() > 0


def leaks(view: View, rows: np.ndarray, table: pa.Table | None) -> dict[str, Any]:
    """How well each column alone tells the target, on training rows of the sample `table` (its `rows`)."""
    if view.target is None or view.classy is None or table is None or view.target not in table.column_names:
        return {}
    training = np.flatnonzero(view.codes(rows) == 0)
    choice = training if len(training) else np.arange(len(rows))
    choice = np.sort(np.random.default_rng(view.seed).permutation(choice)[:LEAK_ROWS])
    known, labels, names = _labels(view, chunk_of(table, view.target).take(pa.array(choice)))
    if known.sum() < 50 or not _learnable(view, labels, names):
        return {}
    choice = choice[known]
    tests: list[dict[str, Any]] = []
    for column in view.columns:
        name = column["name"]
        if name in table.column_names and name not in (view.target, "split") and column["kind"] != "empty":
            chunk = chunk_of(table, name).take(pa.array(choice))
            tests += [{"column": name} | test for test in _tests(view, column, chunk, labels, names)]
    place = rows[choice].astype(np.float64)
    order = {"column": None, "how": "the row's place in the file"}
    tests.append(order | _score(view, leakage.bins(place), place, labels))
    return {"sample": len(choice), "measure": "accuracy" if view.classy else "R²", "columns": tests}


def _tests(
    view: View, column: dict[str, Any], chunk: pa.Array, labels: np.ndarray, names: list[str]
) -> list[dict[str, Any]]:
    """What one column tells, in each way that it may tell it."""
    values, kind = numbers(chunk), column["kind"]
    present = max(1, len(values) - chunk.null_count)
    if kind != "category" and (~np.isnan(values)).sum() > 0.5 * present:
        return [{"how": "its value", **_score(view, leakage.bins(values), values, labels)}]
    cells = texts(chunk)
    few = max(100, len(cells) // 20)
    ways: dict[str, np.ndarray] = {}
    codes = leakage.coded(cells)
    # Where most values are unique, a lookup would only recognise duplicates: look at their form instead.
    if codes.max() < few:
        ways["its value"] = codes
    else:
        missing = np.array([not cell for cell in cells], np.int64)
        if 0 < missing.sum() < len(cells):
            ways["whether it is missing"] = missing
        stems = leakage.coded([leakage.stem(cell) for cell in cells])
        if kind in ("id", "category") and stems.max() < few:
            ways["the letters it begins with"] = stems
    if (
        view.classy
        and kind in ("text", "category", "id")
        and len(names) <= 50
        and column["length"]["max"] > 8
    ):
        ways["the class name in its text"] = leakage.mentions(cells, names)
    return [{"how": how, **_score(view, found, None, labels)} for how, found in ways.items()]


def _score(view: View, codes: np.ndarray, values: np.ndarray | None, labels: np.ndarray) -> dict[str, Any]:
    if not view.classy:
        straight = 0.0 if values is None else leakage.correlation2(values, labels)
        r2 = max(leakage.lookup_r2(codes, labels, view.seed), straight)
        return {"value": r2, "skill": r2}
    accuracy, skill = leakage.lookup_skill(codes, labels, view.seed)
    told = {"value": accuracy, "skill": skill}
    if values is not None and labels.max() == 1:
        told["auc"] = leakage.auc(values, labels == 1)
    return told


def suspects(view: View, rows: np.ndarray) -> dict[str, Any]:
    """Labels that a row's nearest neighbours deny, on a part of these rows."""
    if view.target is None or view.classy is None:
        return {}
    rows = np.sort(np.random.default_rng(view.seed + 1).permutation(rows)[:LABEL_ROWS])
    described = _features(view, rows)
    if described is None:
        return {}
    rows, features, exact, how = described
    known, labels, names = _labels(view, chunk_of(view.dataset.take(rows, [view.target]), view.target))
    _, first = np.unique(exact[known], return_index=True)  # copies would vouch for one another
    first.sort()
    places, labels = np.flatnonzero(known)[first], labels[first]
    if len(labels) < 100 or not _learnable(view, labels, names):
        return {}
    judge = leakage.deny if view.classy else leakage.deny_numbers
    found, other, trust = judge(features[places], labels)
    base = float(np.bincount(labels).max() / len(labels)) if view.classy else 0.0
    shown = view.shown(rows[places[found]][:12].tolist())
    for example, guess in zip(shown, other, strict=False):
        example["neighbours"] = names[int(guess)] if view.classy else float(guess)
    return {
        "sample": len(labels),
        "of": view.dataset.rows,
        "how": how,
        "count": len(found),
        "base": base,
        "trust": trust,
        "reliable": base < 1 and (trust - base) / (1 - base) >= RELIABLE,
        "examples": shown,
    }


def _features(view: View, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, str] | None:
    """(rows, features, content hashes, how) to compare rows by; None where we have no cheap way."""
    image, text = view.only("image"), view.main_text()
    if image:
        rows, small, exact = pictures(view, image, rows)
        return rows, leakage.image_features(small), exact, "16 × 16 grey pictures"
    if view.has_media:
        return None
    table = view.dataset.take(rows, view.inputs)
    cells = {name: chunk_of(table, name) for name in view.inputs}
    exact = combine((content_hash(chunk, None, False) for chunk in cells.values()), len(rows))
    if text:
        return rows, leakage.text_features(texts(cells[text])), exact, "hashed characters and pairs of them"
    numeric = [numbers(cells[name]) for name in view.inputs if view.kinds[name] in ("number", "date")]
    numeric = [values for values in numeric if not np.isnan(values).all()]
    rest = [texts(cells[name]) for name in view.inputs if view.kinds[name] in ("category", "tags")]
    if not numeric and not rest:
        return None
    return rows, leakage.table_features(numeric, rest), exact, "standardised columns"
