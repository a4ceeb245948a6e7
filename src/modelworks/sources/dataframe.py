"""Tables in memory, `modelworks.train(frame, target="y")`: pandas, polars, Arrow, dicts and lists.

Anything with `__arrow_c_stream__` is read without a copy. The data itself is not in a stored recipe, which
keeps its fingerprint, rows and columns instead; to run such a recipe again the same data is given again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import field_validator

from modelworks.core.errors import DataError, UserError
from modelworks.core.source import Quarantine, Source

if TYPE_CHECKING:
    import pyarrow as pa


class _Held(Mapping[str, Any]):
    """The data, which looks like its description to whoever stores it."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self._facts: dict[str, Any] | None = None

    def _described(self) -> dict[str, Any]:
        if self._facts is None:
            schema, batches = _batches(self.data)
            digest, rows = hashlib.sha256(str(schema).encode()), 0
            for batch in batches:
                digest.update(_hashes(batch))
                rows += batch.num_rows
            self._facts = {"fingerprint": digest.hexdigest(), "rows": rows, "columns": list(schema.names)}
        return self._facts

    def __getitem__(self, key: str) -> Any:
        return self._described()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._described())

    def __len__(self) -> int:
        return len(self._described())

    def __repr__(self) -> str:
        return f"<{type(self.data).__name__} in memory>"


class Dataframe(Source):
    """Rows that are in memory already."""

    data: Any
    """A pandas or polars frame, an Arrow table, a dict of lists or a list of dicts."""

    @field_validator("data")
    @classmethod
    def _hold(cls, value: Any) -> _Held:
        if isinstance(value, _Held):
            return value
        if (
            isinstance(value, Mapping)
            and isinstance(value.get("fingerprint"), str)
            and isinstance(value.get("rows"), int)
        ):
            raise ValueError(
                f"these {value['rows']:,} rows were in memory and are not in the recipe: give the data again"
            )
        if not readable(value):
            raise ValueError(
                f"a {type(value).__name__} is no table; wants a pandas or polars frame, an Arrow table, "
                "a dict of lists or a list of dicts"
            )
        return _Held(value)

    def read(self, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
        from modelworks.sources._files import slices

        schema, batches = _batches(self.data.data)
        if not schema.names:
            raise DataError("the table has no columns")
        for batch in batches:
            yield from slices(batch)

    def fingerprint(self) -> str:
        return self.data["fingerprint"]


def readable(value: Any) -> bool:
    """Whether a Python object is a table."""
    if isinstance(value, (str, bytes)):
        return False
    if (
        hasattr(value, "__arrow_c_stream__")
        or hasattr(value, "__arrow_c_array__")
        or hasattr(value, "__dataframe__")
    ):
        return True
    if isinstance(value, Mapping):
        return True
    return isinstance(value, Sequence) and all(isinstance(row, Mapping) for row in value)


def _batches(data: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The plain schema and the batches."""
    from modelworks.sources._tables import plain, plain_schema

    if isinstance(data, Mapping):
        table = _from_columns({str(key): column for key, column in data.items()})
    elif isinstance(data, Sequence):
        keys = list(dict.fromkeys(str(key) for row in data for key in row))
        rows = [{str(key): value for key, value in row.items()} for row in data]
        table = _from_columns({key: [row.get(key) for row in rows] for key in keys})
    else:
        table = _from_arrow(data)
    schema = plain_schema(table.schema)
    return schema, (plain(batch, schema) for batch in table.to_batches(8192))


def _from_arrow(data: Any) -> pa.Table:
    import pyarrow as pa

    from modelworks.sources._files import unique_names

    if type(data).__module__.split(".")[0] == "pandas":
        # Column by column, so that one that mixes types cannot spoil the others.
        names = unique_names(map(str, data.columns))
        return _from_columns({name: data.iloc[:, place] for place, name in enumerate(names)})
    try:
        return pa.table(data)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UserError(
            f"this {type(data).__name__} cannot be read as a table: {str(error).splitlines()[0]}"
        ) from None


def _from_columns(columns: Mapping[str, Any]) -> pa.Table:
    import pyarrow as pa

    arrays = {name: _column(name, column) for name, column in columns.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name}: {length}" for name, length in list(lengths.items())[:6])
        raise UserError(f"the columns differ in length ({shown})")
    return pa.table(arrays)


def _column(name: str, column: Any) -> pa.Array | pa.ChunkedArray:
    """One column; values of several types become text, rows of arrays a tensor column."""
    import numpy as np
    import pyarrow as pa

    if isinstance(column, (str, bytes)) or not hasattr(column, "__len__"):
        raise UserError(f"column {name!r} wants a list of values, got {type(column).__name__}")
    if hasattr(column, "detach"):  # a tensor
        column = column.detach().cpu().numpy()
    if isinstance(column, np.ndarray) and column.ndim > 1:
        return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(column))
    try:
        if isinstance(column, np.ndarray) and column.dtype.kind == "U":
            column = column.tolist()
        array = pa.array(column, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, UnicodeEncodeError):
        values = column.tolist() if hasattr(column, "tolist") else list(column)
        if values and all(
            isinstance(value, np.ndarray) and value.shape == values[0].shape for value in values
        ):
            return _column(name, np.stack(values))
        texts = [None if value is None or value != value else str(value) for value in values]
        array = pa.array(
            [None if text is None else text.encode("utf-8", "replace").decode() for text in texts],
            pa.string(),
        )
    return array


def _hashes(batch: pa.RecordBatch) -> bytes:
    from modelworks.core.dataset import hash_rows

    return hash_rows(batch).tobytes()
