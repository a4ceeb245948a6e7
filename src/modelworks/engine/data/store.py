"""Store: encoded columns in memory-mapped files, gathered in batches.

    store = Store.open(folder, "train")
    batch = store.gather(positions)   # {"age": (B, 1) float32, "text": (B, T) int32, "text.length": (B,), …}

One split is one folder: 0003.bin (values of the fourth field, end to end), 0003.lengths (ragged fields), row.bin
(row numbers of the dataset). A field's name may hold anything, so it names no file. `engine/data/prepare.py` writes it.
"""

from __future__ import annotations

import json
import mmap
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

RESIDENT = 128 << 20
"""Bytes gathered from a large store before its mapped pages are given back to the system."""
STRIDE = 8
"""Ragged batches are padded to multiples of it: oneDNN keeps a program of a megabyte or two for each shape."""

SMALL = 64 << 10
"""Bytes of a column up to which it is read: a mapping costs an open file, and tables may have thousands of columns."""


@dataclass(frozen=True)
class Column:
    """One stored field."""

    dtype: str
    shape: tuple[int, ...]
    """Of one row, or of one step for a ragged field."""
    ragged: bool
    file: str
    """Name of its files, without the ending."""


def allow_files(count: int) -> None:
    """Let this process hold so many more open files, where the system's hard limit has room for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 1024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        room = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, room), hard))


class Rows(Protocol):
    """What is trained on or judged by: the rows of a split, or windows of its text (engine/data/windows.py)."""

    columns: dict[str, Column]
    steps: int
    """Fixed number of steps of a row; 1 where rows are no sequences, or of their own lengths."""

    def __len__(self) -> int: ...

    def at(self, epoch: int) -> Rows: ...

    def lengths(self, name: str, positions: np.ndarray) -> np.ndarray: ...

    def row_numbers(self, positions: np.ndarray) -> np.ndarray: ...

    def gather(self, positions: np.ndarray, names: Sequence[str] | None = None) -> dict[str, Tensor]: ...


class Store:
    """The encoded rows of one split."""

    steps = 1

    def __init__(self, folder: Path, columns: dict[str, Column], rows: int) -> None:
        self.folder, self.columns, self.rows = folder, columns, rows
        self._values: dict[str, Tensor] = {}
        self._starts: dict[str, Tensor] = {}
        self._most: dict[str, int] = {}
        self._maps: list[mmap.mmap] = []
        self._gathered = 0
        allow_files(len(columns))
        for name, column in columns.items():
            self._values[name] = self._map(column)
            if column.ragged:
                lengths = np.fromfile(folder / f"{column.file}.lengths", np.int32)
                self._most[name] = int(lengths.max(initial=0))
                self._starts[name] = torch.from_numpy(
                    np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
                )
        self.bytes = sum(len(m) for m in self._maps)

    @classmethod
    def open(cls, folder: Path, split: str) -> Store:
        """The store of a split that `prepare` has written."""
        meta = json.loads((folder / "store.json").read_text())
        columns = {
            name: Column(c["dtype"], tuple(c["shape"]), c["ragged"], c["file"])
            for name, c in meta["columns"].items()
        }
        return cls(folder / split, columns, meta["rows"].get(split, 0))

    def __len__(self) -> int:
        return self.rows

    def _map(self, column: Column) -> Tensor:
        path = self.folder / f"{column.file}.bin"
        kind = np.dtype(column.dtype)
        if not self.rows or not path.stat().st_size:
            return torch.from_numpy(np.empty((0, *column.shape), kind))
        if path.stat().st_size <= SMALL:
            return torch.from_numpy(np.fromfile(path, kind).reshape(-1, *column.shape))
        with path.open("rb") as file:
            # A private writable mapping: torch wants writable memory; nothing is ever written to it.
            mapped = mmap.mmap(
                file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
            )
        self._maps.append(mapped)
        return torch.from_numpy(np.frombuffer(mapped, kind).reshape(-1, *column.shape))

    def lengths(self, name: str, positions: np.ndarray) -> np.ndarray:
        """True lengths of a ragged field's rows. int64."""
        starts = self._starts[name].numpy()
        return starts[positions + 1] - starts[positions]

    def row_numbers(self, positions: np.ndarray) -> np.ndarray:
        """The dataset's row numbers of these positions."""
        return self._values["row"].numpy()[positions]

    def gather(self, positions: np.ndarray, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """The stored values of these positions; ragged fields padded with 0 to the longest of the batch,
        rounded up to a multiple of STRIDE but never beyond the longest of the split."""
        index_B = torch.from_numpy(positions)
        batch: dict[str, Tensor] = {}
        for name in names or self.columns:
            values = self._values[name]
            if self.columns[name].ragged:
                starts = self._starts[name]
                first_B = starts[index_B]
                length_B = starts[index_B + 1] - first_B
                longest = (
                    min(-(-int(length_B.max()) // STRIDE) * STRIDE, self._most[name]) if len(length_B) else 0
                )
                steps_T = torch.arange(longest)
                padding_BT = steps_T >= length_B[:, None]
                picked = (first_B[:, None] + steps_T).clamp_(max=max(len(values) - 1, 0))
                padded = (
                    values[picked]
                    if longest
                    else values.new_zeros(len(positions), 0, *self.columns[name].shape)
                )
                if padded.dtype == torch.uint16:  # torch can hardly compute with it
                    padded = padded.to(torch.int32)
                padded[padding_BT] = 0
                batch[name], batch[f"{name}.length"] = padded, length_B
            else:
                batch[name] = values.index_select(0, index_B)
        # A random row drags in its whole page, so short rows touch far more than they hold.
        self.release(sum(max(t.nbytes, 4096 * len(t)) for t in batch.values()))
        return batch

    def at(self, epoch: int) -> Store:
        """The rows of an epoch: always the same."""
        return self

    def flat(self, name: str) -> Tensor:
        """All rows of a ragged field end to end."""
        return self._values[name]

    def row_at(self, name: str, places: np.ndarray) -> np.ndarray:
        """Which row each place of `flat` belongs to."""
        return np.searchsorted(self._starts[name].numpy(), places, side="right") - 1

    def release(self, touched: int) -> None:
        """Mapped pages count as our memory: give them back, so that memory stays flat as rows grow."""
        if self.bytes <= RESIDENT:
            return
        self._gathered += touched
        if self._gathered > RESIDENT:
            self._gathered = 0
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)
