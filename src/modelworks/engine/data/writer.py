"""Writers of predictions: the input's rows in order, the answers' columns after them; CSV, JSONL or Parquet."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

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


def rows_of(batch: pa.RecordBatch, answers: Answers) -> tuple[pa.Table, list[dict[str, Any]]]:
    """A batch and its answers as they are written, and its rows with an `error`: {"row": number in it, "error": …}."""
    told = {name: values for name, values in answers.items() if name != "error"}
    errors = [
        {"row": row, "error": error}
        for row, error in enumerate(answers.get("error", ()))
        if error is not None
    ]
    return joined(_writable(batch), told), errors


class Writer:
    """Writes to a partial file beside OUT and renames it when all rows are there; so also OUT.errors.jsonl."""

    def __init__(self, output: Path | None) -> None:
        self.output = output
        self.rows = 0
        self._partial = output.with_name(output.name + ".partial") if output else None
        self._errors: TextIO | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.close()
        if self._partial is not None and self.output is not None and self._partial.exists():
            if kind is None:
                os.replace(self._partial, self.output)
            else:
                self._partial.unlink()
        if kind is not None and self._errors is not None:
            self._errors.close()
            Path(self._errors.name).unlink()

    def write(self, batch: pa.RecordBatch, answers: Answers) -> None:
        """Add a batch; rows with an `error` go to the errors as well."""
        table, errors = rows_of(batch, answers)
        self._note(errors)
        self.put(table)
        self.rows += batch.num_rows

    def add(self, body: BinaryIO, rows: int, errors: Sequence[Mapping[str, Any]]) -> None:
        """Add what `part` made of a batch, in the file's order."""
        self._note(errors)
        self.append(body)
        self.rows += rows

    def put(self, table: pa.Table) -> None:
        """Write rows."""
        raise NotImplementedError

    @classmethod
    def part(cls, table: pa.Table, first: bool) -> bytes:
        """Rows as `append` takes them; `first`: they begin the file."""
        raise NotImplementedError

    def append(self, body: BinaryIO) -> None:
        """Write rows that `part` has formed."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish the file."""

    def _note(self, errors: Sequence[Mapping[str, Any]]) -> None:
        # Written as they come: of a file with nothing but errors they would fill memory.
        if errors and self.output is not None:
            self._lines([{**error, "row": self.rows + error["row"]} for error in errors])

    def _lines(self, lines: Sequence[Mapping[str, Any]]) -> None:
        if self._errors is None:
            assert self.output is not None
            self._errors = self.output.with_name(self.output.name + ".errors.jsonl.partial").open(
                "w", encoding="utf-8"
            )
        self._errors.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def finish_errors(self, quarantine: Quarantine) -> None:
        """OUT.errors.jsonl: why rows have no prediction, a JSON line each; no file where all have one."""
        assert self.output is not None
        path = self.output.with_name(self.output.name + ".errors.jsonl")
        if quarantine.rows:
            self._lines(quarantine.rows)
        if self._errors is None:
            path.unlink(missing_ok=True)
            return
        self._errors.close()
        os.replace(self._errors.name, path)


class TextWriter(Writer):
    """Lines of UTF-8 text, to the file or to standard output."""

    _begun = False

    def __enter__(self) -> Writer:
        super().__enter__()
        self._file = self._partial.open("w", encoding="utf-8", newline="") if self._partial else sys.stdout
        return self

    def put(self, table: pa.Table) -> None:
        self._file.writelines(self.lines(table, not self._begun))
        self._begun = True

    @classmethod
    def lines(cls, table: pa.Table, first: bool) -> Iterable[str]:
        """The rows' lines, after the header where they begin a file that has one."""
        raise NotImplementedError

    @classmethod
    def part(cls, table: pa.Table, first: bool) -> bytes:
        return "".join(cls.lines(table, first)).encode()

    def append(self, body: BinaryIO) -> None:
        self._file.flush()
        shutil.copyfileobj(body, self._file.buffer, 1 << 20)

    def close(self) -> None:
        if self._partial:
            self._file.close()
        else:
            self._file.flush()


class CsvWriter(TextWriter):
    """Comma-separated values (RFC 4180 with line feeds); missing ones are empty."""

    @classmethod
    def lines(cls, table: pa.Table, first: bool) -> Iterable[str]:
        if first:
            yield ",".join(_quoted(pa.array(table.column_names)).to_pylist()) + "\n"
        # Column by column: the rows of a wide table are written several times faster than cell by cell.
        cells = [_quoted(_texts(column.combine_chunks())) for column in table.columns]
        for line in pc.binary_join_element_wise(*cells, ",").to_pylist():
            yield f"{line}\n"


class JsonWriter(TextWriter):
    """A JSON object a line."""

    @classmethod
    def lines(cls, table: pa.Table, first: bool) -> Iterable[str]:
        return (json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in table.to_pylist())


class ParquetWriter(Writer):
    """Parquet, a row group a batch."""

    _writer: Any = None

    def put(self, table: pa.Table) -> None:
        if self._writer is None:
            # A batch whose predictions are all missing says nothing of their type.
            fields = [f if not pa.types.is_null(f.type) else f.with_type(pa.string()) for f in table.schema]
            self._writer = pq.ParquetWriter(str(self._partial), pa.schema(fields))
        self._writer.write_table(table.cast(self._writer.schema))

    @classmethod
    def part(cls, table: pa.Table, first: bool) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return sink.getvalue().to_pybytes()

    def append(self, body: BinaryIO) -> None:
        self.put(pa.ipc.open_stream(body).read_all())

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def writer_for(output: Path | None, format_: str | None) -> Writer:
    """The writer that the output's ending asks for."""
    return kind_of(output, format_)(output)


def kind_of(output: Path | None, format_: str | None) -> type[Writer]:
    """Its class."""
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
    return kinds[ending]


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
