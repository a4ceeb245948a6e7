"""Answer rows with a Run: the same rows in the same order, with `prediction` added.

    modelworks predict runs/titanic new.csv --output answers.csv
    cat new.jsonl | modelworks predict runs/titanic - --format jsonl

Policy: an unknown category is taken as "unknown", a missing column as missing values, both counted; a row or file
that cannot be read keeps its place with an empty prediction and its reason in OUT.errors.jsonl. Without a place are
files of a folder that are of another kind, and what follows the end of a file that was cut short.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import UserError
from modelworks.core.run import RunFolder
from modelworks.stages import _screen

if TYPE_CHECKING:
    import pyarrow as pa

    from modelworks.core.source import Quarantine
    from modelworks.engine.predictor import Counts, Predictor

FORMATS = ("csv", "jsonl", "parquet")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks predict`."""
    parser.add_argument("run", metavar="RUN", help="a Run's name or folder")
    parser.add_argument(
        "data",
        metavar="FILE",
        help="a table, a folder, one picture, sound or text, sample:NAME, or - for standard input",
    )
    parser.add_argument(
        "--output", metavar="OUT", help="OUT.csv, OUT.jsonl or OUT.parquet; left out: CSV on standard output"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="format of standard input (csv) and, without --output, of standard output",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="answer only the first N rows")


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    from modelworks.engine.data.writer import writer_for

    if settings:
        raise UserError(f"predict takes no settings, got {' '.join(settings)}")
    run = RunFolder.find(args.run)
    output = _screen.output_file(args.output)
    from modelworks.core.source import Quarantine
    from modelworks.engine.predictor import Predictor

    predictor = Predictor.load(run)
    source = _source(args.data, args.format, run, predictor)
    quarantine = Quarantine(places=deque())
    with writer_for(output, args.format) as writer:
        for batch, answers in answer(predictor, source, quarantine, args.limit):
            writer.write(batch, answers)
    if output is not None:
        writer.write_errors(output.with_name(output.name + ".errors.jsonl"), quarantine)
    if source.kind == "dataframe" and args.data.lower().endswith((".txt", ".md")):
        print("note: the file is answered as one text; for a row a line give .csv or .jsonl", file=sys.stderr)
    _tell(predictor.counts, quarantine, output)
    return 0


def predict(run: RunFolder | str | Path, data: Any) -> pa.Table:
    """The rows of `data` with `prediction` and probability columns, as an Arrow table (`.to_pandas()` for a frame).

    `data`: a file, a table, paths of pictures, sounds or texts, or pictures as an array."""
    import pyarrow as pa

    from modelworks.core.source import Quarantine
    from modelworks.engine.data.writer import joined
    from modelworks.engine.predictor import Predictor

    run = run if isinstance(run, RunFolder) else RunFolder.find(run)
    predictor = Predictor.load(run)
    quarantine = Quarantine(places=deque())
    tables = [
        joined(batch, answers)
        for batch, answers in answer(predictor, _asked(run, predictor, data), quarantine)
    ]
    if quarantine.count:
        print(
            f"modelworks: {quarantine.count:,} rows could not be read: {', '.join(quarantine.reasons)}",
            file=sys.stderr,
        )
    if not tables:
        raise UserError("there are no rows to answer")
    return pa.concat_tables(tables, promote_options="permissive")


def answer(
    predictor: Predictor, source: Any, quarantine: Quarantine, limit: int | None = None
) -> Iterator[tuple[pa.RecordBatch, dict[str, list[Any]]]]:
    """(batch, its answers), streamed in order. A row that could not be read has its place, empty, where it is known."""
    left = limit if limit is not None else sys.maxsize
    done, last = 0, None
    for batch in source.read(quarantine):
        if left <= 0:
            return
        if last is None:
            columns = [field.column or name for name, field in predictor.inputs.items()]
            if not set(columns) & set(batch.schema.names):
                raise UserError(
                    f"none of the Run's input columns is there: wants {', '.join(columns)};"
                    f" got {', '.join(batch.schema.names)}"
                )
        # None stands for a row that could not be read.
        places, faults = _places(batch.num_rows, done, quarantine, left)
        left -= len(places)
        kept = batch.slice(0, len(places) - len(faults))
        done += batch.num_rows
        last = batch.slice(0, 0), predictor.predict(kept, source.root)
        yield _widened(kept, last[1], places, faults)
    places, faults = _places(0, done, quarantine, left, True)
    if faults and last is not None:
        yield _widened(last[0], {name: [] for name in last[1]}, places, faults)


def _places(
    rows: int, done: int, quarantine: Quarantine, most: int, over: bool = False
) -> tuple[list[int | None], list[str]]:
    """The batch's row numbers with None at each unreadable row among them, `most` at the most; and their faults.

    `done`: good rows before this batch; `over`: nothing follows, so whatever is left stands here."""
    waiting, places, faults = quarantine.places, [], []
    if not waiting:  # as almost always
        return list(range(min(rows, most))), []
    for row in range(rows + 1):
        while waiting and (over or (waiting[0][0] <= done + row and row < rows)) and len(places) < most:
            faults.append(waiting.popleft()[1])
            places.append(None)
        if row < rows and len(places) < most:
            places.append(row)
    return places, faults


def _widened(
    batch: pa.RecordBatch, answers: dict[str, list[Any]], places: list[int | None], faults: list[str]
) -> tuple[pa.RecordBatch, dict[str, list[Any]]]:
    """The batch and its answers with an empty row at each None."""
    if not faults:
        return batch, answers
    import pyarrow as pa

    told = iter(faults)
    errors = answers.get("error") or [None] * batch.num_rows
    wide = {
        name: [None if row is None else values[row] for row in places] for name, values in answers.items()
    }
    wide["error"] = [next(told) if row is None else errors[row] for row in places]
    return batch.take(pa.array(places, pa.int64())), wide


def _asked(run: RunFolder, predictor: Predictor, data: Any) -> Any:
    """The source of what is asked about. A text file is one row, unless the Run learned from lines of text files."""
    from modelworks.engine.data.questions import source_of

    trained = run.recipe_tree().get("data", {}).get("source", {})
    lines = trained.get("kind") == "text" and trained.get("unit", "line") != "file"
    return source_of(data, predictor.inputs, lines)


def _source(text: str, format_: str | None, run: RunFolder, predictor: Predictor) -> Any:
    from modelworks.engine.data.open import source_for

    if text != "-":
        return _asked(run, predictor, text)
    import tempfile

    # Sources read files, some of them twice; standard input can be read once.
    held = tempfile.TemporaryDirectory()  # kept until the process ends
    path = Path(held.name) / f"stdin.{format_ or 'csv'}"
    with path.open("wb") as file:
        while chunk := sys.stdin.buffer.read(1 << 20):
            file.write(chunk)
    source = source_for(str(path))
    _HELD.append(held)
    return source


_HELD: list[Any] = []
"""Temporary folders of standard input, removed when the process ends."""


def _tell(counts: Counts, quarantine: Any, output: Path | None) -> None:
    lost = sum(counts.unanswered.values())
    print(f"{counts.rows:,} rows answered{f' → {output}' if output else ''}", file=sys.stderr)
    for what, number in counts.changed.items():
        print(f"note: {what}: {number:,}", file=sys.stderr)
    if lost:
        print(
            f"warning: {lost:,} rows have no prediction: {', '.join(list(counts.unanswered)[:3])}",
            file=sys.stderr,
        )
    if quarantine.count:
        print(
            f"warning: {quarantine.count:,} rows could not be read: {', '.join(list(quarantine.reasons)[:3])}",
            file=sys.stderr,
        )
