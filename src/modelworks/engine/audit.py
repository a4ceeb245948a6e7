"""Audit: what is in the data, and what is wrong with it, before anything is trained.

    result = audit(dataset, target="stars")
    for finding in result["findings"]: print(finding["severity"], finding["message"], finding["remedy"])

Counts of rows, duplicates, outliers and classes are exact, from two streaming passes in bounded memory. What
compares rows with one another (near-duplicates, leakage, suspicious labels) looks at a seeded sample and says so.
The result is plain data, ready for JSON.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from modelworks.core.dataset import SPLITS, Dataset
from modelworks.core.field import Field
from modelworks.engine import columns as column_tools
from modelworks.engine import leakage, neighbours
from modelworks.engine.cells import classes, combine, content_hash, numbers, texts, thumbnails
from modelworks.engine.copies import count_copies
from modelworks.engine.findings import findings

VERSION = 1
SAMPLE_BYTES = 64 << 20
"""Bytes of a sample of rows that are held at once."""
PICTURE_BYTES = 48 << 20
"""Bytes of pictures that are decoded."""
TEXT_BUDGET = 3_000_000
"""Characters that near-duplicate search reads."""
LEAK_ROWS = 20_000
LABEL_ROWS = 4_000
"""Rows whose labels are compared with their neighbours'."""
MOST_CLASSES = 1_000


def audit(
    dataset: Dataset,
    target: str | None = None,
    fields: Mapping[str, Field] | None = None,
    sample: int = 50_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Profile every column and look for what spoils training or its evaluation.

    `fields`: the recipe's fields, fitted or not; None: kinds are guessed and every column but ids is an input.
    `sample`: rows that quartiles, near-duplicates and leakage look at, at the most."""
    started = time.monotonic()
    target_column = None if target is None else _column_of(target, fields)
    dataset.need([target_column] if target_column else [])
    view = _View(dataset, target_column, dict(fields or {}), seed)
    light = [c["name"] for c in view.columns if c["kind"] not in ("image", "audio")]
    rows = view.draw(min(sample, _affordable(dataset, light)))
    table = dataset.take(rows, light).combine_chunks() if light else None
    for column in view.columns:
        if table is not None and column["name"] in light:
            column_tools.describe_sample(column, _chunk(table, column["name"]))
    repeats, balance = _exact(view)
    result: dict[str, Any] = {
        "version": VERSION,
        "name": dataset.name,
        "rows": dataset.rows,
        "fingerprint": dataset.fingerprint,
        "notice": dataset.notice,
        "target": target_column,
        "target_kind": {True: "class", False: "number", None: None}[view.classy],
        "inputs": view.inputs,
        "splits": {}
        if dataset.splits is None
        else {split: dataset.count(split) for split in SPLITS if dataset.count(split)},
        "sample": len(rows),
        "quarantine": {
            "count": dataset.quarantine.count,
            "reasons": dict(dataset.quarantine.reasons),
            "rows": dataset.quarantine.rows[:20],
        },
        "columns": view.columns,
        "duplicates": repeats,
        "balance": balance,
        "near_duplicates": _near(view, sample),
        "leakage": _leaks(view, rows, table),
        "suspicious_labels": _suspects(view, rows, table),
    }
    result["findings"] = findings(result)
    result["seconds"] = round(time.monotonic() - started, 2)
    return plain(result)


def _column_of(target: str, fields: Mapping[str, Field] | None) -> str:
    field = (fields or {}).get(target)
    return (field.column or target) if field is not None else target


@dataclass
class _View:
    """The dataset as the audit sees it."""

    dataset: Dataset
    target: str | None
    fields: dict[str, Field]
    seed: int

    def __post_init__(self) -> None:
        profiles = self.dataset.profile()
        self.kinds = {
            name: column_tools.kind_of(name, profile, self.fields, name == self.target)
            for name, profile in profiles.items()
        }
        used = [field.column or name for name, field in self.fields.items()]
        free = [name for name in profiles if name != "split" and self.kinds[name] not in ("id", "empty")]
        self.inputs = [name for name in (dict.fromkeys(used) if used else free) if name != self.target]
        if not self.inputs:
            self.inputs = [name for name in profiles if name not in (self.target, "split")] or list(profiles)
        self.classy = column_tools.is_class_target(self.kinds[self.target]) if self.target else None
        roles = {
            name: "target"
            if name == self.target
            else "split"
            if name == "split"
            else "input"
            if name in self.inputs
            else "unused"
            for name in profiles
        }
        self.columns = [
            column_tools.describe(name, self.kinds[name], roles[name], profiles[name]) for name in profiles
        ]
        self.files = [
            name
            for name, profile in profiles.items()
            if max(profile.image_paths, profile.audio_paths) > 0.5 * profile.present
            and self.kinds[name] in ("image", "audio")
        ]
        self.splits = self.dataset.splits
        if self.splits is None and "split" in profiles and self.target != "split":
            self.splits = given_splits(self.dataset)
            self.dataset = self.dataset.with_splits(self.splits) if self.splits is not None else self.dataset

    def draw(self, count: int, even: bool = False) -> np.ndarray:
        """Rows at random, in order, dropped ones left out; `even`: as many of each split as there can be."""
        generator = np.random.default_rng(self.seed)
        if self.splits is None:
            return np.sort(generator.permutation(self.dataset.rows)[:count])
        pools = [np.flatnonzero(self.splits == code) for code in range(3)]
        if not even:
            pools = [np.sort(np.concatenate(pools))]
        chosen: list[np.ndarray] = []
        for left, pool in zip(range(len(pools), 0, -1), sorted(pools, key=len), strict=True):
            share = (count - sum(map(len, chosen))) // left
            chosen.append(generator.permutation(pool)[:share])
        return np.sort(np.concatenate(chosen))

    def only(self, kind: str) -> str | None:
        """The one input of this kind."""
        found = [name for name in self.inputs if self.kinds[name] == kind]
        return found[0] if len(found) == 1 else None


def given_splits(dataset: Dataset) -> np.ndarray | None:
    """Codes from a column `split` of train, valid and test; None where it says something else."""
    codes = {"train": 0, "valid": 1, "validation": 1, "dev": 1, "val": 1, "test": 2}
    parts = [
        np.array([codes.get(str(v).strip().lower(), 9) for v in chunk.to_pylist()], np.uint8)
        for chunk in dataset.column("split")
    ]
    splits = np.concatenate(parts)
    return splits if splits.max() < 3 else None


def _affordable(dataset: Dataset, names: Sequence[str]) -> int:
    """Rows of these columns that fit SAMPLE_BYTES."""
    for _, batch in dataset.batches(None, list(names)):
        return max(1_000, int(SAMPLE_BYTES / max(batch.nbytes / batch.num_rows, 1)))
    return 1_000


def _chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name).combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


def _exact(view: _View) -> tuple[dict[str, Any], dict[str, Any]]:
    """Outliers, classes and repeats of all rows, in one pass."""
    numeric = [column for column in view.columns if "outliers" in column]
    tallies: dict[str, np.ndarray] = {}
    told = {"unlabelled": 0}

    def look(rows: np.ndarray, batch: pa.RecordBatch) -> None:
        column_tools.count_outliers(numeric, batch)
        if view.target and view.classy:
            labels = classes(batch.column(view.target))
            where = (
                np.zeros(len(rows), np.int64) if view.splits is None else view.splits[rows].astype(np.int64)
            )
            told["unlabelled"] += int(sum(label is None for label in labels))
            for label in {label for label in labels if label is not None}:
                if label in tallies or len(tallies) < 10 * MOST_CLASSES:
                    tallies.setdefault(label, np.zeros(4, np.int64))
                    tallies[label] += np.bincount(where[labels == label], minlength=4)

    repeats = count_copies(view.dataset, view.inputs, view.target, view.files, look=look)
    repeats["examples"] = _shown(view, [item["row"] for item in repeats["most_repeated"]])
    repeats["conflict_examples"] = [_shown(view, group) for group in repeats["conflicts"]]
    ordered = sorted(tallies.items(), key=lambda item: (-int(item[1].sum()), item[0]))
    balance: dict[str, Any] = {}
    if ordered:
        balance = {
            "classes": [[label, int(counts.sum())] for label, counts in ordered[:200]],
            "count": len(ordered),
            "unlabelled": told["unlabelled"],
            "smallest": [ordered[-1][0], int(ordered[-1][1].sum())],
            "unseen": {}
            if view.splits is None
            else {
                SPLITS[code]: [label for label, counts in ordered if counts[code] and not counts[0]][:20]
                for code in (1, 2)
                if any(counts[code] and not counts[0] for _, counts in ordered)
            },
        }
    return repeats, balance


def _shown(view: _View, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Rows for people: number, label, inputs in brief."""
    if not rows:
        return []
    names = list(dict.fromkeys([*view.inputs[:6], *([view.target] if view.target else [])]))
    table = view.dataset.take(list(rows), names)
    cells = {
        name: [value[:120] for value in texts(_chunk(table, name))]
        if view.kinds[name] != "image" or name in view.files
        else ["(picture)"] * len(rows)
        for name in names
    }
    return [
        {
            "row": int(row),
            "label": cells[view.target][i] if view.target else None,
            "inputs": {n: cells[n][i] for n in view.inputs[:6]},
        }
        for i, row in enumerate(rows)
    ]


# ------------------------------------------------------------------------------------------- near-duplicates
def _near(view: _View, sample: int) -> dict[str, Any]:
    image, text = view.only("image"), view.only("text")
    if image:
        modality, names, count = "image", [image], min(sample, 10_000)
    elif text and _dominates(view, text):
        mean = next(c["length"]["mean"] for c in view.columns if c["name"] == text)
        modality, names, count = (
            "text",
            [text],
            min(sample, int(TEXT_BUDGET / max(min(mean, neighbours.CHARACTERS), 1))),
        )
    elif any(view.kinds[name] in ("image", "audio") for name in view.inputs):
        return {
            "modality": None,
            "why": "near-duplicates are looked for in one text, one picture or a table; here only exact ones",
        }
    else:
        modality, names, count = "table", view.inputs, min(sample, 20_000)
        if sum(view.kinds[name] == "number" for name in names) < 3:
            return {
                "modality": None,
                "why": "too few numbers for near-duplicates to mean anything; exact ones are counted",
            }
    rows = view.draw(count, even=True)
    rows, pairs, cells = _pairs(view, modality, names, rows)
    splits = np.zeros(len(rows), np.int64) if view.splits is None else view.splits[rows].astype(np.int64)
    across: dict[str, set[int]] = {}
    for left, right, _ in pairs:
        early, late = sorted((left, right), key=lambda i: splits[i])
        if splits[early] != splits[late]:
            across.setdefault(f"{SPLITS[splits[early]]}/{SPLITS[splits[late]]}", set()).add(late)
    pairs = sorted(pairs, key=lambda p: (splits[p[0]] == splits[p[1]], -p[2], p[0], p[1]))
    return {
        "modality": modality,
        "columns": list(names),
        "sample": len(rows),
        "of": view.dataset.rows,
        "pairs": len(pairs),
        "rows": len({i for pair in pairs for i in pair[:2]}),
        "across_splits": {key: len(found) for key, found in sorted(across.items())},
        "sampled": {}
        if view.splits is None
        else {SPLITS[c]: int((splits == c).sum()) for c in range(3) if (splits == c).any()},
        "examples": [
            {
                "rows": [int(rows[i]), int(rows[j])],
                "similarity": round(s, 3),
                "shown": [cells[i][:120], cells[j][:120]] if cells else [],
            }
            for i, j, s in pairs[:5]
        ],
    }


def _dominates(view: _View, text: str) -> bool:
    """Whether a row is mostly this text."""
    column = next(c for c in view.columns if c["name"] == text)
    return len(view.inputs) <= 2 or column["length"]["mean"] >= 40


def _pairs(
    view: _View, modality: str, names: Sequence[str], rows: np.ndarray
) -> tuple[np.ndarray, neighbours.Pairs, list[str]]:
    if modality == "image":
        rows, pictures, exact = _pictures(view, names[0], rows)
        return rows, neighbours.near_images(pictures, exact), []
    table = view.dataset.take(rows, list(names))
    if modality == "text":
        values = texts(_chunk(table, names[0]))
        return rows, neighbours.near_texts(values, view.seed), values
    numeric = [name for name in names if view.kinds[name] == "number"]
    rest = [texts(_chunk(table, name)) for name in names if name not in numeric]
    deviations = [next(c.get("std") or 0.0 for c in view.columns if c["name"] == name) for name in numeric]
    exact = combine((content_hash(_chunk(table, name), None, False) for name in names), len(rows))
    return (
        rows,
        neighbours.near_rows([numbers(_chunk(table, name)) for name in numeric], deviations, rest, exact),
        [],
    )


def _pictures(view: _View, name: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, thumbnails, content hashes) of the pictures that could be read, until PICTURE_BYTES are."""
    # In random order, so that a byte limit cuts evenly.
    rows = np.random.default_rng(view.seed).permutation(rows)
    kept, small, exact, read = [], [], [], 0
    for start in range(0, len(rows), 500):
        part = np.sort(rows[start : start + 500])
        chunk = _chunk(view.dataset.take(part, [name]), name)
        hashes = content_hash(chunk, view.dataset.root, name in view.files)
        for row, code, (picture, _, size) in zip(
            part, hashes, thumbnails(chunk, view.dataset.root), strict=True
        ):
            read += size
            if picture is not None:
                kept.append(row)
                small.append(picture)
                exact.append(code)
        if read > PICTURE_BYTES:
            break
    if not kept:
        return np.zeros(0, np.int64), np.zeros((0, 16, 16), np.float32), np.zeros(0, np.uint64)
    order = np.argsort(kept)
    return np.array(kept)[order], np.stack(small)[order], np.array(exact)[order]


# ------------------------------------------------------------------------------------------- leakage, labels
def _labels(view: _View, chunk: pa.Array) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(which rows are labelled, codes or numbers of those, class names)."""
    if view.classy:
        labels = classes(chunk)
        known = np.array([label is not None for label in labels])
        names = list(dict.fromkeys(labels[known]))
        return known, leakage.coded(labels[known]), names
    values = numbers(chunk)
    return ~np.isnan(values), values[~np.isnan(values)], []


def _leaks(view: _View, rows: np.ndarray, table: pa.Table | None) -> dict[str, Any]:
    """How well each column alone tells the target."""
    if view.target is None or view.classy is None or table is None or view.target not in table.column_names:
        return {}
    choice = (
        np.flatnonzero(view.splits[rows] == 0)
        if view.splits is not None and (view.splits[rows] == 0).any()
        else np.arange(len(rows))
    )
    choice = np.sort(np.random.default_rng(view.seed).permutation(choice)[:LEAK_ROWS])
    known, labels, names = _labels(view, _chunk(table, view.target).take(pa.array(choice)))
    if (
        known.sum() < 50
        or (view.classy and not 2 <= len(names) <= MOST_CLASSES)
        or (not view.classy and labels.std() == 0)
    ):
        return {}
    choice = choice[known]
    tests = []
    for column in view.columns:
        name = column["name"]
        if name in table.column_names and name not in (view.target, "split") and column["kind"] != "empty":
            tests += _tests(view, column, _chunk(table, name).take(pa.array(choice)), labels, names)
    tests.append(
        {
            "column": None,
            "how": "the row's place in the file",
            **_score(view, leakage.bins(choice.astype(float)), choice.astype(float), labels),
        }
    )
    return {"sample": len(choice), "measure": "accuracy" if view.classy else "R²", "columns": tests}


def _tests(
    view: _View, column: dict[str, Any], chunk: pa.Array, labels: np.ndarray, names: list[str]
) -> list[dict[str, Any]]:
    values = numbers(chunk)
    if (~np.isnan(values)).sum() > 0.5 * max(1, len(values) - chunk.null_count) and column[
        "kind"
    ] != "category":
        return [
            {
                "column": column["name"],
                "how": "its value",
                **_score(view, leakage.bins(values), values, labels),
            }
        ]
    cells = texts(chunk)
    codes = leakage.coded(cells)
    found = []
    # Where most values are unique, a lookup would only recognise duplicates: look at their form instead.
    if codes.max() + 1 <= max(100, len(cells) // 20):
        found.append({"column": column["name"], "how": "its value", **_score(view, codes, None, labels)})
    else:
        stems = leakage.coded([leakage.stem(cell) for cell in cells])
        if column["kind"] in ("id", "category") and stems.max() + 1 <= max(100, len(cells) // 20):
            found.append(
                {
                    "column": column["name"],
                    "how": "the letters it begins with",
                    **_score(view, stems, None, labels),
                }
            )
        missing = np.array([not cell for cell in cells], np.int64)
        if 0 < missing.sum() < len(cells):
            found.append(
                {
                    "column": column["name"],
                    "how": "whether it is missing",
                    **_score(view, missing, None, labels),
                }
            )
    if (
        view.classy
        and column["kind"] in ("text", "category", "id")
        and len(names) <= 50
        and column["length"]["max"] > 8
    ):
        found.append(
            {
                "column": column["name"],
                "how": "the class name in its text",
                **_score(view, leakage.mentions(cells, names), None, labels),
            }
        )
    return found


def _score(view: _View, codes: np.ndarray, values: np.ndarray | None, labels: np.ndarray) -> dict[str, Any]:
    if not view.classy:
        straight = 0.0 if values is None else leakage.correlation2(values, labels)
        r2 = max(leakage.lookup_r2(codes, labels, view.seed), straight)
        return {"value": r2, "skill": r2}
    accuracy, skill = leakage.lookup_skill(codes, labels, view.seed)
    told = {"value": accuracy, "skill": skill}
    if values is not None and labels.max() == 1:
        told["auc"] = leakage.auc(values, labels == 1)
    return told


def _suspects(view: _View, rows: np.ndarray, table: pa.Table | None) -> dict[str, Any]:
    """Labels that a row's nearest neighbours deny unanimously."""
    if view.target is None or view.classy is None:
        return {}
    rows = np.sort(np.random.default_rng(view.seed + 1).permutation(rows)[:LABEL_ROWS])
    image, text = view.only("image"), view.only("text")
    if image:
        rows, pictures, exact = _pictures(view, image, rows)
        features, how = leakage.image_features(pictures), "16 × 16 grey pictures"
    elif any(view.kinds[name] in ("image", "audio") for name in view.inputs):
        return {}
    else:
        part = view.dataset.take(rows, view.inputs)
        exact = combine((content_hash(_chunk(part, name), None, False) for name in view.inputs), len(rows))
        if text and _dominates(view, text):
            features, how = leakage.text_features(texts(_chunk(part, text))), "hashed character n-grams"
        else:
            numeric = [name for name in view.inputs if view.kinds[name] in ("number", "date")]
            plain_columns = [numbers(_chunk(part, name)) for name in numeric]
            plain_columns = [values for values in plain_columns if not np.isnan(values).all()]
            rest = [
                texts(_chunk(part, name)) for name in view.inputs if view.kinds[name] in ("category", "tags")
            ]
            if not plain_columns and not rest:
                return {}
            features, how = leakage.table_features(plain_columns, rest), "standardised columns"
    known, labels, names = _labels(view, _chunk(view.dataset.take(rows, [view.target]), view.target))
    _, first = np.unique(exact[known], return_index=True)  # copies would vouch for one another
    first.sort()
    positions = np.flatnonzero(known)[first]
    labels = labels[first]
    if len(labels) < 100 or (view.classy and not 2 <= len(names) <= MOST_CLASSES):
        return {}
    found, other, trust = (leakage.deny if view.classy else leakage.deny_numbers)(features[positions], labels)
    base = float(np.bincount(labels).max() / len(labels)) if view.classy else 0.0
    shown = _shown(view, rows[positions[found]][:12].tolist())
    for example, guess in zip(shown, other, strict=False):
        example["neighbours"] = names[int(guess)] if view.classy else float(guess)
    return {
        "sample": len(labels),
        "of": view.dataset.rows,
        "how": how,
        "count": len(found),
        "base": base,
        "trust": trust,
        "reliable": (trust - base) / (1 - base) >= 0.4 if base < 1 else False,
        "examples": shown,
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
