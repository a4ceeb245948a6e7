"""Prepare: fit the fields on the training split, then encode every row once into a memory-mapped store.

    fields = fit(recipe.fields, dataset)
    prepared = prepare(dataset, fields, cache)

The store is keyed by the hash of (source content, splits, fitted fields, version) and shared by all Runs of the
same data. It is written by one process, chunk by chunk, and goes on where an interrupted one stopped. A row that
cannot be encoded is quarantined and counted; every value that was changed is counted and listed.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from modelworks.core.dataset import SPLITS, Dataset
from modelworks.core.errors import DataError, UserError
from modelworks.core.field import Encoded, Field
from modelworks.core.settings import to_tree
from modelworks.engine.data.store import Store, allow_files

VERSION = 2
LISTED = 10_000
"""Changed and quarantined values listed one by one; beyond, they are counted."""
_EVERY = 32
"""Chunks between records of how far writing has got."""
CACHE_LIMIT = int(os.environ.get("MODELWORKS_CACHE_BYTES", 20 << 30))
Progress = Callable[[str, int, int], None]
"""(what, done, of): called now and then."""


def store_folder() -> Path:
    """Where prepared data is kept: MODELWORKS_STORE, else `store` in MODELWORKS_CACHE or the user's cache folder."""
    if "MODELWORKS_STORE" in os.environ:
        return Path(os.environ["MODELWORKS_STORE"])
    base = (
        os.environ.get("MODELWORKS_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "modelworks"
    )
    return Path(base).expanduser() / "store"


def fit(fields: Mapping[str, Field], dataset: Dataset, progress: Progress | None = None) -> dict[str, Field]:
    """Each field fitted on the training split, and on the columns that it names as `joint`; of fields that learn the
    same from the same columns the first one's fit serves all."""
    if not dataset.count("train"):
        raise DataError(f"{dataset.name}: no row is left for training")
    fitted: dict[str, Field] = {}
    learned: dict[str, Field] = {}
    for number, (name, field) in enumerate(fields.items()):
        if progress:
            progress("fitting fields", number, len(fields))
        joint = getattr(field, "joint", ())
        columns = sorted({field.column or name, *joint})
        dataset.need(columns)
        key = json.dumps([columns, to_tree(field) | {"column": None, "joint": None}], default=str)
        try:
            if field.fitted:
                fitted[name] = field
            elif joint and key in learned:
                fitted[name] = field.with_state(learned[key].state)
            else:
                texts = chain.from_iterable(dataset.column(column, "train") for column in columns)
                fitted[name] = learned[key] = field.fit(texts, dataset.root)
        except UserError as error:
            raise DataError(f"field {name!r} ({field.kind}): {error}") from None
    return fitted


@dataclass
class Prepared:
    """The encoded data of a recipe."""

    folder: Path
    report: dict[str, Any]
    """rows in → rows used, by split; reasons; counts of changes by field."""
    reference: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Split → what the network that training starts from says of each row (engine/train/reference.py)."""

    lessons: Any = None
    """What a teacher says of each training row, a tensor (engine/train/teacher.py)."""

    def store(self, split: str) -> Store:
        """The rows of one split."""
        return Store.open(self.folder, split)

    def cleaning(self) -> list[dict[str, Any]]:
        """Quarantined and changed values, one by one, up to 10,000: {row, split, field, action, value}."""
        path = self.folder / "cleaning.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def prepare(
    dataset: Dataset,
    fields: Mapping[str, Field],
    cache: Path | None = None,
    progress: Progress | None = None,
    wanted: str = "train",
) -> Prepared:
    """Encode the dataset, or find it encoded already. Raises DataError when the `wanted` split has no usable row."""
    folder = (cache or store_folder()) / _key(dataset, fields)
    with _locked(folder):
        if not (folder / "store.json").exists():
            _Writer(folder, dataset, fields, progress).run()
            _prune(folder.parent, keep=folder)
        os.utime(folder)
    report = json.loads((folder / "report.json").read_text("utf-8"))
    if not report["rows"].get(wanted):
        reasons = (
            ", ".join(f"{reason}: {count:,}" for reason, count in list(report["quarantined"].items())[:5])
            or "none"
        )
        raise DataError(f"{dataset.name}: no usable row ({wanted}); quarantined: {reasons}")
    return Prepared(folder, report)


def encode_rows(
    fields: Mapping[str, Field], columns: Mapping[str, Any], root: Path | None
) -> tuple[dict[str, Encoded], dict[int, tuple[str, str]]]:
    """Encode one chunk (column → Arrow array); also row of the chunk → (field, why) where it cannot be used."""
    encoded, bad = {}, {}
    for name, field in fields.items():
        encoded[name] = field.encode(columns[field.column or name], root)
        for row, why in encoded[name].bad.items():
            bad.setdefault(int(row), (name, why))
    return encoded, bad


class _Writer:
    """Writes one store. After each chunk the files' sizes are recorded, so that a new writer can go on there."""

    def __init__(
        self, folder: Path, dataset: Dataset, fields: Mapping[str, Field], progress: Progress | None
    ) -> None:
        self.folder, self.dataset, self.fields, self.progress = folder, dataset, fields, progress
        self.columns: dict[str, dict[str, Any]] = {
            "row": {"dtype": "int64", "shape": [], "ragged": False, "file": "row"}
        }
        self.rows = dict.fromkeys(SPLITS[:3], 0)
        self.quarantined: dict[str, int] = {}
        self.changed: dict[str, dict[str, int]] = {}
        self.listed = 0
        self.files: dict[str, Any] = {}

    def run(self) -> None:
        allow_files(2 * len(SPLITS) * len(self.fields))
        done = self._recover()
        names = list(dict.fromkeys(field.column or name for name, field in self.fields.items()))
        total = self.dataset.rows
        try:
            for number, (rows, batch) in enumerate(self.dataset.batches(None, names)):
                if number < done:
                    continue
                self._chunk(rows, batch)
                if self.progress:
                    self.progress("preparing rows", int(rows[-1]) + 1, total)
                if number % _EVERY == _EVERY - 1:
                    self._record(number + 1)
        finally:
            for file in self.files.values():
                file.close()
        self._finish()

    def _chunk(self, rows: np.ndarray, batch: Any) -> None:
        columns = {name: batch.column(name) for name in batch.schema.names}
        encoded, bad = encode_rows(self.fields, columns, self.dataset.root)
        splits = np.zeros(len(rows), np.uint8) if self.dataset.splits is None else self.dataset.splits[rows]
        dropped = splits == SPLITS.index("drop")
        keep = ~dropped
        for row, (field, why) in bad.items():
            if not dropped[row]:
                keep[row] = False
                key = f"{field}: {why if len(why) < 80 else why[:77] + '…'}"
                # Reasons may quote the value; past a hundred of them they are told as one.
                key = (
                    key
                    if key in self.quarantined or len(self.quarantined) < 100
                    else f"{field}: other reasons"
                )
                self.quarantined[key] = self.quarantined.get(key, 0) + 1
                self._list(
                    rows[row],
                    splits[row],
                    field,
                    f"quarantined: {why}",
                    columns[self.fields[field].column or field],
                    row,
                )
        for name, result in encoded.items():
            for action, where in result.changed.items():
                where = np.asarray(where)[keep[where]] if len(where) else where
                counts = self.changed.setdefault(name, {})
                counts[action] = counts.get(action, 0) + len(where)
                if self.listed < LISTED:
                    for row in where[: LISTED - self.listed]:
                        self._list(
                            rows[row],
                            splits[row],
                            name,
                            action,
                            columns[self.fields[name].column or name],
                            int(row),
                        )
        for code, split in enumerate(SPLITS[:3]):
            chosen = np.flatnonzero(keep & (splits == code))
            if not len(chosen):
                continue
            self.rows[split] += len(chosen)
            self._write(split, "row.bin", rows[chosen])
            for name, result in encoded.items():
                self._write_field(split, name, result, chosen, len(rows))

    def _write_field(self, split: str, name: str, result: Encoded, chosen: np.ndarray, rows: int) -> None:
        values = result.values
        if name not in self.columns:
            self.columns[name] = {
                "dtype": values.dtype.str,
                "shape": list(values.shape[1:]),
                "ragged": result.lengths is not None,
                "file": f"{len(self.columns) - 1:04d}",
            }
        elif self.columns[name]["dtype"] != values.dtype.str or self.columns[name]["shape"] != list(
            values.shape[1:]
        ):
            raise AssertionError(f"field {name!r} changed its stored form between chunks")
        file = self.columns[name]["file"]
        if result.lengths is None:
            self._write(split, f"{file}.bin", values if len(chosen) == rows else values[chosen])
            return
        if len(chosen) < rows:
            starts = np.concatenate([[0], np.cumsum(result.lengths)])
            mask = np.zeros(len(values), bool)
            for row in chosen:
                mask[starts[row] : starts[row + 1]] = True
            values = values[mask]
        self._write(split, f"{file}.bin", values)
        self._write(split, f"{file}.lengths", result.lengths[chosen].astype(np.int32))

    def _write(self, split: str, name: str, values: np.ndarray) -> None:
        self._file(f"{split}/{name}").write(np.ascontiguousarray(values).data if values.size else b"")

    def _file(self, name: str) -> Any:
        if name not in self.files:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self.files[name] = path.open("ab")
        return self.files[name]

    def _list(self, row: Any, split: Any, field: str, action: str, column: Any, index: int) -> None:
        if self.listed >= LISTED:
            return
        self.listed += 1
        value = column[index].as_py()
        shown = (
            value
            if isinstance(value, (int, float, bool, type(None)))
            else f"{len(value)} bytes"
            if isinstance(value, bytes)
            else str(value)[:200]
        )
        line = {
            "row": int(row),
            "split": SPLITS[int(split)],
            "field": field,
            "action": action,
            "value": shown,
        }
        self._file("cleaning.jsonl").write(
            (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        )

    def _record(self, done: int) -> None:
        for file in self.files.values():
            file.flush()
        state = {
            "done": done,
            "columns": self.columns,
            "rows": self.rows,
            "quarantined": self.quarantined,
            "changed": self.changed,
            "listed": self.listed,
            "sizes": {name: os.fstat(file.fileno()).st_size for name, file in self.files.items()},
        }
        _write_json(self.folder / "progress.json", state)

    def _recover(self) -> int:
        """Cut every file back to what the last record vouches for; 0 when there is nothing to go on from."""
        path = self.folder / "progress.json"
        try:
            state = json.loads(path.read_text("utf-8"))
            for name, size in state["sizes"].items():
                file = self._file(name)
                if os.fstat(file.fileno()).st_size < size:
                    raise ValueError(name)
                file.truncate(size)
        except (OSError, ValueError, KeyError):
            for file in self.files.values():
                file.close()
            self.files = {}
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            return 0
        for name in ("columns", "rows", "quarantined", "changed", "listed"):
            setattr(self, name, state[name])
        return state["done"]

    def _finish(self) -> None:
        for split in SPLITS[:3]:
            (self.folder / split).mkdir(exist_ok=True)
            for column in self.columns.values():
                for ending in (".bin", ".lengths") if column["ragged"] else (".bin",):
                    (self.folder / split / f"{column['file']}{ending}").touch()
        unreadable = self.dataset.quarantine
        _write_json(
            self.folder / "report.json",
            {
                "rows_in": self.dataset.rows + unreadable.count,
                "rows": self.rows,
                "unreadable": {
                    "count": unreadable.count,
                    "reasons": unreadable.reasons,
                    "rows": unreadable.rows[:100],
                },
                "quarantined": self.quarantined,
                "changed": self.changed,
            },
        )
        _write_json(
            self.folder / "store.json", {"version": VERSION, "columns": self.columns, "rows": self.rows}
        )
        (self.folder / "progress.json").unlink(missing_ok=True)


def _key(dataset: Dataset, fields: Mapping[str, Field]) -> str:
    digest = hashlib.sha256(f"{VERSION} {dataset.fingerprint} {dataset.rows}".encode())
    if dataset.splits is not None:
        digest.update(np.ascontiguousarray(dataset.splits).data)
    for name, field in fields.items():
        digest.update(
            json.dumps([name, to_tree(field)], sort_keys=True, ensure_ascii=False, default=str).encode()
        )
        for key, value in sorted(field.state.items()):
            digest.update(
                key.encode()
                + (
                    np.ascontiguousarray(value).tobytes()
                    if isinstance(value, np.ndarray)
                    else json.dumps(value, sort_keys=True, default=str).encode()
                )
            )
    return digest.hexdigest()[:32]


@contextmanager
def _locked(folder: Path) -> Any:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prune(parent: Path, keep: Path) -> None:
    """Drop the stores unused for longest once all together pass the limit; ones in use stay mapped by their readers."""
    sized = [
        (entry.stat().st_mtime, sum(f.stat().st_size for f in entry.rglob("*") if f.is_file()), entry)
        for entry in parent.iterdir()
        if entry.is_dir() and entry != keep
    ]
    total = 0
    for _, size, entry in sorted(sized, reverse=True):
        total += size
        if total > CACHE_LIMIT:
            shutil.rmtree(entry, ignore_errors=True)
            (parent / f"{entry.name}.lock").unlink(missing_ok=True)


def _write_json(path: Path, value: Any) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, ensure_ascii=False, indent=1), "utf-8")
    partial.replace(path)
