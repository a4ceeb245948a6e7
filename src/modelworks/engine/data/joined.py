"""Joined: several columns read as one, for fields that say of which `parts` a value is made.

    dataset = joined(dataset, {"messages": ["instruction", "input", "output"]})

The new column holds JSON objects: {"instruction": …, "input": …, "output": …}.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from modelworks.core.dataset import Dataset


def parts_of(fields: Mapping[str, Any]) -> dict[str, list[str]]:
    """Column → the columns that it is made of, of fields or their settings."""
    found = {}
    for name, field in fields.items():
        get = field.get if isinstance(field, Mapping) else lambda key, field=field: getattr(field, key, None)
        if parts := get("parts"):
            found[get("column") or name] = list(parts)
    return found


def joined(dataset: Dataset, parts: Mapping[str, Sequence[str]]) -> Dataset:
    """The dataset with these columns, in the place of any of their names."""
    if not parts:
        return dataset
    dataset.need([name for names in parts.values() for name in names])

    def batches() -> Iterator[pa.RecordBatch]:
        for _, batch in dataset.batches():
            columns = {name: batch.column(name) for name in batch.schema.names}
            made = {name: _objects({part: columns[part] for part in names}) for name, names in parts.items()}
            yield pa.record_batch({**columns, **made})

    return dataset.with_batches(batches())


def _objects(columns: Mapping[str, pa.Array]) -> pa.Array:
    rows = zip(*(column.to_pylist() for column in columns.values()), strict=True)
    return pa.array(
        [json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False, default=str) for row in rows],
        pa.string(),
    )
