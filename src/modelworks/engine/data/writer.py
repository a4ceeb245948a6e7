"""Writers of predictions: the input's rows in order, the answers' columns after them; CSV, JSONL or Parquet."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelworks.core.errors import UserError
from modelworks.core.source import Quarantine

Answers = Mapping[str, Sequence[Any]]


def joined(batch: pa.RecordBatch, answers: Answers) -> pa.Table:
    """The batch's columns, then the answers'. An input column of an answer's name becomes `input_NAME`."""
    names = [f"input_{name}" if name in answers else name for name in batch.schema.names]
    table = pa.Table.from_batches([batch]).rename_columns(names)
    for name, values in answers.items():
        table = table.append_column(name, pa.array(list(values)))
    return table


class Writer:
    """Writes to a partial file beside OUT and renames it when all rows are there."""

    def __init__(self, output: Path | None) -> None:
        self.output = output
        self.errors: list[dict[str, Any]] = []
        self.rows = 0
        self._partial = output.with_name(output.name + ".partial") if output else None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.close()
        if self._partial is not None and self.output is not None and self._partial.exists():
            if kind is None:
                os.replace(self._partial, self.output)
            else:
                self._partial.unlink()

    def write(self, batch: pa.RecordBatch, answers: dict[str, list[Any]]) -> None:
        """Add a batch; rows with an `error` go to the errors as well."""
        for row, error in enumerate(answers.pop("error", ())):
            if error is not None:
                self.errors.append({"row": self.rows + row, "error": error})
        self.rows += batch.num_rows
        self.put(joined(_writable(batch), answers))

    def put(self, table: pa.Table) -> None:
        """Write rows."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish the file."""

    def write_errors(self, path: Path, quarantine: Quarantine) -> None:
        """Why rows have no prediction, a JSON line each; no file where all have one."""
        lines = [*self.errors, *quarantine.rows]
        if lines:
            path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
        else:
            path.unlink(missing_ok=True)


class TextWriter(Writer):
    """Lines of UTF-8 text, to the file or to standard output."""

    def __enter__(self) -> Writer:
        super().__enter__()
        self._file = self._partial.open("w", encoding="utf-8", newline="") if self._partial else sys.stdout
        return self

    def close(self) -> None:
        if self._partial:
            self._file.close()
        else:
            self._file.flush()


class CsvWriter(TextWriter):
    """Comma-separated values (RFC 4180 with line feeds); missing ones are empty."""

    _begun = False

    def put(self, table: pa.Table) -> None:
        if not self._begun:
            self._file.write(",".join(_quoted(pa.array(table.column_names)).to_pylist()) + "\n")
            self._begun = True
        # Column by column: the rows of a wide table are written several times faster than cell by cell.
        cells = [_quoted(_texts(column.combine_chunks())) for column in table.columns]
        self._file.writelines(f"{line}\n" for line in pc.binary_join_element_wise(*cells, ",").to_pylist())


class JsonWriter(TextWriter):
    """A JSON object a line."""

    def put(self, table: pa.Table) -> None:
        self._file.writelines(
            json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in table.to_pylist()
        )


class ParquetWriter(Writer):
    """Parquet, a row group a batch."""

    _writer: Any = None

    def put(self, table: pa.Table) -> None:
        if self._writer is None:
            # A batch whose predictions are all missing says nothing of their type.
            fields = [f if not pa.types.is_null(f.type) else f.with_type(pa.string()) for f in table.schema]
            self._writer = pq.ParquetWriter(str(self._partial), pa.schema(fields))
        self._writer.write_table(table.cast(self._writer.schema))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def writer_for(output: Path | None, format_: str | None) -> Writer:
    """The writer that the output's ending asks for."""
    ending = output.suffix.lower().lstrip(".") if output else format_ or "csv"
    kinds: dict[str, type[Writer]] = {
        "csv": CsvWriter,
        "jsonl": JsonWriter,
        "ndjson": JsonWriter,
        "parquet": ParquetWriter,
        "pq": ParquetWriter,
    }
    if ending not in kinds:
        raise UserError(f"{output}: cannot write {ending!r}", "OUT.csv, OUT.jsonl or OUT.parquet")
    if output is None and ending == "parquet":
        raise UserError("Parquet does not go to standard output", "--output OUT.parquet")
    return kinds[ending](output)


def _texts(column: pa.Array) -> pa.Array:
    """Values as Python writes them, missing ones empty."""
    if pa.types.is_string(column.type):
        return pc.fill_null(column, "")
    return pa.array(["" if value is None else str(value) for value in column.to_pylist()], pa.string())


def _quoted(texts: pa.Array) -> pa.Array:
    """Cells of a CSV file: those that hold a comma, a quote or a line's end stand between quotes."""
    odd = pc.match_substring_regex(texts, '[",\r\n]')
    if not pc.any(odd).as_py():
        return texts
    doubled = pc.replace_substring(texts, '"', '""')
    return pc.if_else(odd, pc.binary_join_element_wise('"', doubled, '"', ""), texts)


def _writable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Without the columns that no table file can hold: pictures and sounds as bytes or arrays."""
    keep = [
        field.name
        for field in batch.schema
        if not (
            pa.types.is_binary(field.type)
            or pa.types.is_large_binary(field.type)
            or pa.types.is_struct(field.type)
            or isinstance(field.type, pa.BaseExtensionType)
        )
    ]
    return batch.select(keep)
