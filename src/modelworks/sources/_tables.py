"""Arrow types made plain, so that fields meet few of them: dictionaries decoded, large and view types normal.

schema = plain_schema(file.schema_arrow)
batch = plain(batch, schema)
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from modelworks.core.source import Quarantine
from modelworks.sources._files import unique_names


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that a column of this type is given out in."""
    types = pa.types
    if isinstance(kind, pa.FixedShapeTensorType):
        return kind
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind) or types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_float16(kind):
        return pa.float32()
    if types.is_decimal(kind):
        return pa.float64()
    if types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type), kind.list_size)
    if (
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    ):
        return pa.list_(plain_type(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, plain_type(field.type)) for field in kind])
    return kind


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Column names that differ, each with its plain type."""
    names = unique_names(schema.names)
    return pa.schema([(name, plain_type(field.type)) for name, field in zip(names, schema, strict=True)])


def plain(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch in its plain schema."""
    columns = []
    for column, field in zip(batch.columns, schema, strict=True):
        if isinstance(column, pa.ExtensionArray) and column.type != field.type:
            column = column.storage
        if pa.types.is_run_end_encoded(column.type):
            column = pc.run_end_decode(column)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary.cast(field.type, safe=False).take(column.indices)
        columns.append(column if column.type == field.type else column.cast(field.type, safe=False))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def sound(
    batch: pa.RecordBatch, where: str, start: int, quarantine: Quarantine, at: int | None = None
) -> pa.RecordBatch:
    """The rows whose values are what their types say (text is UTF-8, offsets in range); others counted.

    `at`: good rows given out before this batch."""
    try:
        batch.validate(full=True)
        return batch
    except (pa.ArrowException, ValueError):
        pass
    keep = []
    for row in range(batch.num_rows):
        try:
            batch.slice(row, 1).validate(full=True)
            keep.append(batch.slice(row, 1))
        except (pa.ArrowException, ValueError) as error:
            quarantine.add(
                f"{where} row {start + row + 1}",
                str(error)[:200],
                kind="damaged value",
                at=None if at is None else at + len(keep),
            )
    return (
        pa.Table.from_batches(keep, batch.schema).combine_chunks().to_batches()[0]
        if keep
        else batch.slice(0, 0)
    )
