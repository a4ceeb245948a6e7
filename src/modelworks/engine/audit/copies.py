"""Exact copies: rows that are there twice, inputs with conflicting labels, inputs shared between splits.

Hashes go to one bucket file per range of the inputs' hash, so that memory does not grow with the rows: all
copies of one input meet in the same bucket, and buckets are counted one at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from modelworks.core.dataset import SPLITS, Dataset
from modelworks.engine.data.cells import combine, content_hash

BUCKET = 250_000
"""Rows a bucket holds on average."""
HELD_OUT = 0.2
"""Share held out by the random split whose leak is told when rows are not split yet."""
_RECORD = np.dtype(
    [
        ("inputs", "<u8"),
        ("label", "<u8"),
        ("row", "<u8"),
        ("number", "<i8"),
        ("split", "u1"),
        ("labelled", "?"),
    ]
)
_KEPT = (
    "rows",
    "duplicate_rows",
    "unique_inputs",
    "repeated_inputs",
    "conflicting_inputs",
    "conflicting_rows",
)

Look = Callable[[np.ndarray, pa.RecordBatch], None]


def count_copies(
    dataset: Dataset,
    inputs: Sequence[str],
    target: str | None,
    files: Sequence[str] = (),
    skip: Sequence[str] = ("split",),
    look: Look | None = None,
    bucket: int = BUCKET,
) -> dict[str, Any]:
    """Counts over all rows; under `kept`, over those that cleaning left in, where it dropped any.

    `inputs`: the columns that make up what a model sees; `files`: columns of paths, compared by what the
    files hold; `skip`: columns that do not make two rows differ; `look` sees each (row numbers, batch)."""
    buckets = max(1, -(-dataset.rows // bucket))
    held = [tempfile.TemporaryFile() for _ in range(buckets if buckets > 1 else 0)]  # noqa: SIM115 - closed below
    whole: list[np.ndarray] = []
    total, kept = _Counts(), _Counts()
    try:
        for records in _records(dataset, inputs, target, files, skip, look):
            if not held:
                whole.append(records)
                continue
            place = ((records["inputs"] >> np.uint64(32)) % np.uint64(buckets)).astype(np.int64)
            order = np.argsort(place, kind="stable")
            edges = np.searchsorted(place[order], np.arange(buckets + 1))
            for index in np.unique(place):
                held[index].write(records[order[edges[index] : edges[index + 1]]].tobytes())
        for part in map(_read, held) if held else [np.concatenate(whole)] if whole else []:
            total.add(part)
            kept.add(part[part["split"] != SPLITS.index("drop")])
    finally:
        for file in held:
            file.close()
    found = total.result(dataset.rows)
    dropped = dataset.count("drop") if dataset.splits is not None else 0
    if dropped:
        left = kept.result(dataset.rows - dropped)
        found["kept"] = {name: left[name] for name in _KEPT}
    return found


def _read(file: Any) -> np.ndarray:
    file.seek(0)
    return np.frombuffer(file.read(), _RECORD)


def _records(
    dataset: Dataset,
    inputs: Sequence[str],
    target: str | None,
    files: Sequence[str],
    skip: Sequence[str],
    look: Look | None,
) -> Iterator[np.ndarray]:
    names = [name for name in dataset.columns if name not in skip] or list(dataset.columns)
    for rows, batch in dataset.batches():
        if look:
            look(rows, batch)
        hashes = {
            name: content_hash(batch.column(name), dataset.root, name in files)
            for name in {*names, *inputs, *([target] if target else [])}
        }
        records = np.zeros(len(rows), _RECORD)
        records["inputs"] = combine((hashes[name] for name in inputs), len(rows))
        records["row"] = combine((hashes[name] for name in names), len(rows))
        if target:
            records["label"] = hashes[target]
            records["labelled"] = batch.column(target).is_valid().to_numpy(zero_copy_only=False)
        records["number"] = rows
        records["split"] = 0 if dataset.splits is None else dataset.splits[rows]
        yield records


class _Counts:
    """What is counted, bucket by bucket."""

    def __init__(self) -> None:
        self.duplicate_rows = self.unique = self.repeated = self.conflicting = self.conflicting_rows = 0
        self.leaked = 0.0
        self.shared = np.zeros((3, 3), np.int64)
        """[a][b]: rows of split b whose inputs are in split a too."""
        self.groups: list[tuple[int, int]] = []
        """(copies, first row) of the inputs repeated most."""
        self.conflicts: list[list[int]] = []

    def add(self, records: np.ndarray) -> None:
        if not len(records):
            return
        records = records[np.lexsort((records["number"], records["inputs"]))]
        starts = np.flatnonzero(np.r_[True, records["inputs"][1:] != records["inputs"][:-1]])
        group = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(records)]))
        sizes = np.bincount(group)
        self.unique += len(starts)
        self.repeated += int((sizes - 1).sum())
        self.duplicate_rows += len(records) - len(np.unique(records["row"]))
        # A row held out at random has a twin in training with probability 1 − share^(copies − 1).
        self.leaked += float((sizes * (1 - HELD_OUT ** (sizes - 1.0))).sum())
        present = np.zeros((3, len(starts)), bool)
        for code in range(3):
            present[code, group[records["split"] == code]] = True
        for late in range(3):
            here = group[records["split"] == late]
            for early in range(late):
                self.shared[early, late] += int(present[early, here].sum())
        largest = np.argsort(-sizes, kind="stable")[:5]
        found = [(int(sizes[g]), int(records["number"][starts[g]])) for g in largest if sizes[g] > 1]
        self.groups = sorted([*self.groups, *found], key=lambda item: (-item[0], item[1]))[:5]
        self._conflicts(records, group, len(starts))

    def _conflicts(self, records: np.ndarray, group: np.ndarray, groups: int) -> None:
        known = np.flatnonzero(records["labelled"])
        if not len(known):
            return
        labels, groups_known = records["label"][known], group[known]
        order = np.lexsort((labels, groups_known))
        fresh = np.r_[True, (np.diff(labels[order]) != 0) | (np.diff(groups_known[order]) != 0)]
        split = (
            np.bincount(groups_known[order][fresh], minlength=groups) > 1
        )  # more than one label in the group
        self.conflicting += int(split.sum())
        self.conflicting_rows += int(split[groups_known].sum())
        for index in np.flatnonzero(split)[: max(0, 5 - len(self.conflicts))]:
            mine = known[groups_known == index]
            _, first = np.unique(records["label"][mine], return_index=True)
            self.conflicts.append([int(number) for number in sorted(records["number"][mine[first]])][:4])

    def result(self, rows: int) -> dict[str, Any]:
        return {
            "rows": rows,
            "duplicate_rows": self.duplicate_rows,
            "unique_inputs": self.unique,
            "repeated_inputs": self.repeated,
            "conflicting_inputs": self.conflicting,
            "conflicting_rows": self.conflicting_rows,
            "random_split_leak": self.leaked / rows if rows else 0.0,
            "across_splits": {
                f"{SPLITS[early]}/{SPLITS[late]}": int(self.shared[early, late])
                for early, late in ((0, 1), (0, 2), (1, 2))
                if self.shared[early, late]
            },
            "most_repeated": [{"copies": copies, "row": row} for copies, row in self.groups],
            "conflicts": self.conflicts,
        }
