"""Dataset: rows with named columns in named splits, whatever they came from.

    dataset = Dataset.ingest(Csv(path="reviews.csv"))
    for rows, batch in dataset.batches("train", ["text", "stars"]): ...

Small data stays in memory as Arrow batches; beyond `limit` bytes it is spilled once to an Arrow file that is
read batch by batch (never memory-mapped: mapped pages would count as ours), so memory does not grow with rows.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelworks.core.errors import DataError, did_you_mean
from modelworks.core.profile import ColumnProfile, Profiler
from modelworks.core.source import Quarantine, Source

MEMORY_LIMIT = 48 << 20
"""Bytes of rows kept in memory before spilling to disk."""
SPLITS = ("train", "valid", "test", "drop")
"""Split names by code; "drop" holds rows that cleaning left out, so that they stay countable."""


class Dataset:
    """Rows, their splits and how they were read."""

    def __init__(
        self,
        parts: _Parts,
        quarantine: Quarantine,
        fingerprint: str,
        root: Path | None,
        name: str,
        splits: np.ndarray | None = None,
        notice: str = "",
        continuous: bool = False,
    ) -> None:
        self._parts = parts
        self.quarantine = quarantine
        self.fingerprint = fingerprint
        self.root = root
        self.name = name
        self.notice = notice
        self.continuous = continuous
        """Whether the rows are consecutive pieces of one text."""
        self.splits = splits
        """uint8 (rows,), an index into SPLITS; None until split."""
        self._profiles: dict[str, ColumnProfile] | None = None

    # ------------------------------------------------------------------ making one
    @classmethod
    def ingest(cls, source: Source, name: str = "", limit: int = MEMORY_LIMIT) -> Dataset:
        """Read a source once. Raises DataError when it holds no usable row."""
        quarantine = Quarantine()
        parts = _Parts(source.read(quarantine), limit)
        if not parts.rows:
            raise DataError(
                f"{name or source.kind}: no usable rows"
                + (
                    f"; {quarantine.count} unreadable: {next(iter(quarantine.reasons))}"
                    if quarantine.count
                    else ""
                )
            )
        return cls(
            parts,
            quarantine,
            source.fingerprint(),
            source.root,
            name or source.kind,
            notice=source.notice,
            continuous=source.continuous,
        )

    @classmethod
    def from_batches(
        cls, batches: Iterable[pa.RecordBatch], name: str = "rows", root: Path | None = None
    ) -> Dataset:
        """A dataset from Arrow batches; the fingerprint is computed from the rows."""
        parts = _Parts(batches, MEMORY_LIMIT)
        digest = hashlib.sha256()
        for batch in parts:
            for column in range(batch.num_columns):
                digest.update(hash_column(batch.column(column)).tobytes())
        return cls(parts, Quarantine(), digest.hexdigest(), root, name)

    def with_splits(self, splits: np.ndarray) -> Dataset:
        """The same rows in these splits (codes into SPLITS)."""
        copy = Dataset(
            self._parts,
            self.quarantine,
            self.fingerprint,
            self.root,
            self.name,
            splits,
            self.notice,
            self.continuous,
        )
        copy._profiles = self._profiles
        return copy

    def with_batches(self, batches: Iterable[pa.RecordBatch]) -> Dataset:
        """The same rows with other columns: `batches` are this dataset's, changed."""
        parts = _Parts(batches, MEMORY_LIMIT)
        assert parts.rows == self.rows
        return Dataset(
            parts,
            self.quarantine,
            self.fingerprint,
            self.root,
            self.name,
            self.splits,
            self.notice,
            self.continuous,
        )

    # ------------------------------------------------------------------ looking
    @property
    def rows(self) -> int:
        return self._parts.rows

    @property
    def schema(self) -> pa.Schema:
        return self._parts.schema

    @property
    def columns(self) -> list[str]:
        return self.schema.names

    def __len__(self) -> int:
        return self.rows

    def count(self, split: str) -> int:
        """Rows in a split."""
        if self.splits is None:
            return self.rows if split == "train" else 0
        return int(np.count_nonzero(self.splits == SPLITS.index(split)))

    def profile(self) -> dict[str, ColumnProfile]:
        """Every column's profile over all rows; computed once."""
        if self._profiles is None:
            profilers = {name: Profiler(name) for name in self.columns}
            for batch in self._parts:
                for name, profiler in profilers.items():
                    profiler.update(batch.column(name))
            self._profiles = {name: profiler.result() for name, profiler in profilers.items()}
            for profile in self._profiles.values():
                profile.continuous = self.continuous
        return self._profiles

    # ------------------------------------------------------------------ reading
    def batches(
        self, split: str | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """(row numbers int64, batch) in file order; only a split's rows where one is named."""
        self.need(columns or ())
        code = None if split is None else SPLITS.index(split)
        start = 0
        for batch in self._parts.read(columns):
            rows = np.arange(start, start + batch.num_rows)
            start += batch.num_rows
            if code is not None and self.splits is not None:
                mask = self.splits[rows[0] : start] == code if len(rows) else np.zeros(0, bool)
                if not mask.all():
                    rows, batch = rows[mask], batch.filter(pa.array(mask))
            elif code not in (None, 0):
                continue
            if len(rows):
                yield rows, batch

    def column(self, name: str, split: str | None = None) -> Iterator[pa.Array]:
        """One column in chunks."""
        for _, batch in self.batches(split, [name]):
            yield batch.column(0)

    def take(self, rows: Sequence[int] | np.ndarray, columns: Sequence[str] | None = None) -> pa.Table:
        """These rows, in the order given; reads only the batches that hold them."""
        self.need(columns or ())
        return self._parts.take(np.asarray(rows, np.int64), columns)

    def need(self, columns: Iterable[str]) -> None:
        """Refuse columns that are not there."""
        for name in columns:
            if self.schema.get_field_index(name) < 0:
                raise DataError(f"{self.name}: no column {name!r}; {did_you_mean(name, self.columns)}")

    # ------------------------------------------------------------------ showing
    def __repr__(self) -> str:
        splits = (
            ""
            if self.splits is None
            else ", " + ", ".join(f"{s} {self.count(s):,}" for s in SPLITS if self.count(s))
        )
        return f"Dataset({self.name}: {self.rows:,} rows × {len(self.columns)} columns{splits})"

    def _repr_html_(self) -> str:
        from html import escape

        head = self.take(range(min(5, self.rows))).to_pylist()
        cells = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        lines = "".join(
            "<tr>" + "".join(f"<td>{escape(_short(row[c]))}</td>" for c in self.columns) + "</tr>"
            for row in head
        )
        return f"<p><b>{escape(repr(self))}</b></p><table><tr>{cells}</tr>{lines}</table>"


class _Parts:
    """Record batches in memory, or in an Arrow file once they pass `limit` bytes."""

    def __init__(self, batches: Iterable[pa.RecordBatch], limit: int) -> None:
        self._held: list[pa.RecordBatch] = []
        self._file: Any = None
        writer: Any = None
        starts, size = [0], 0
        self.schema = pa.schema([])
        for batch in batches:
            if not starts[1:]:
                self.schema = batch.schema
            elif batch.schema != self.schema:
                raise DataError("a source changed its columns half-way")
            if not batch.num_rows:
                continue
            starts.append(starts[-1] + batch.num_rows)
            size += batch.nbytes
            if writer is None and size > limit:
                self._file = tempfile.NamedTemporaryFile(prefix="modelworks-", suffix=".arrow")  # noqa: SIM115 - lives as long as we do
                writer = pa.ipc.new_file(pa.OSFile(self._file.name, "wb"), self.schema)
                for held in self._held:
                    writer.write_batch(held)
                self._held = []
            if writer is None:
                self._held.append(batch)
            else:
                writer.write_batch(batch)
        if writer is not None:
            writer.close()
        self._starts = np.asarray(starts, np.int64)
        self.rows = starts[-1]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self.read(None)

    def read(self, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        reader = self._reader(columns)
        for index in range(len(self._starts) - 1):
            yield reader(index)

    def _reader(self, columns: Sequence[str] | None) -> Any:
        if self._file is None:
            return lambda index: (
                self._held[index] if columns is None else self._held[index].select(list(columns))
            )
        chosen = None if columns is None else [self.schema.get_field_index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=sorted(chosen) if chosen is not None else None)
        file = pa.ipc.open_file(pa.OSFile(self._file.name), options=options)
        return lambda index: (
            file.get_batch(index) if columns is None else file.get_batch(index).select(list(columns))
        )

    def take(self, rows: np.ndarray, columns: Sequence[str] | None) -> pa.Table:
        reader = self._reader(columns)
        names = self.schema.names if columns is None else list(columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(owner, kind="stable")
        pieces = []
        for index in np.unique(owner):
            inside = rows[order][owner[order] == index] - self._starts[index]
            pieces.append(reader(int(index)).take(pa.array(inside)))
        table = pa.Table.from_batches(pieces, schema)
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return table.take(pa.array(back)) if len(rows) else table


# ------------------------------------------------------------------------------------------- hashing rows
_PRIME = np.uint64(0x9E3779B97F4A7C15)


def mix(values: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser: every input bit moves every output bit. uint64 → uint64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def hash_column(column: pa.Array) -> np.ndarray:
    """A 64-bit hash of each value, the same on every machine. uint64 (rows,)."""
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        return hash_column(column.storage)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        numbers = pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy(
            zero_copy_only=False
        )
        return mix(numbers.view(np.uint64) + _PRIME)
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size
        flat = np.ascontiguousarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(-1, width)
        return (
            _digests(row.tobytes() for row in flat)
            if len(flat) == len(column)
            else _digests(map(_bytes, column.to_pylist()))
        )
    if pa.types.is_nested(kind):
        return _digests(map(_bytes, column.to_pylist()))
    encoded = column.dictionary_encode() if not pa.types.is_dictionary(kind) else column
    table = _digests(map(_bytes, encoded.dictionary.to_pylist()))
    codes = pc.fill_null(encoded.indices, len(table)).to_numpy(zero_copy_only=False)
    return np.append(table, np.uint64(0))[codes]


def hash_rows(batch: pa.RecordBatch) -> np.ndarray:
    """A 64-bit hash of each row over the batch's columns. uint64 (rows,)."""
    total = np.zeros(batch.num_rows, np.uint64)
    for name in batch.schema.names:
        total = mix(total * _PRIME + hash_column(batch.column(name)))
    return total


def _digests(values: Iterable[bytes]) -> np.ndarray:
    data = b"".join(hashlib.blake2b(value, digest_size=8).digest() for value in values)
    return np.frombuffer(data, np.uint64)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def _short(value: Any) -> str:
    text = f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
