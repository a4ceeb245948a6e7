"""Answer rows with a Run: the same rows in the same order, with `prediction` added.

    modelworks predict runs/titanic new.csv --output answers.csv
    cat new.jsonl | modelworks predict runs/titanic - --format jsonl

    modelworks predict runs/titanic huge.parquet --output answers.parquet --processes 4 --resume

With --processes the answers are kept in OUT.parts/ until all are there. Killed, the same command with --resume goes on
where it stopped; the file is the same to the byte, on any number of processes and after any number of kills.

Policy: an unknown category is taken as "unknown", a missing column as missing values, both counted; a row or file
that cannot be read keeps its place with an empty prediction and its reason in OUT.errors.jsonl. Without a place are
files of a folder that are of another kind, and what follows the end of a file that was cut short.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import UserError
from modelworks.core.run import RunFolder
from modelworks.stages import _screen
from modelworks.stages._progress import Line

if TYPE_CHECKING:
    import pyarrow as pa

    from modelworks.core.field import Field
    from modelworks.core.source import Quarantine, Source
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
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="answer on N processes of one thread each; the answers outlive a kill until --resume",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with a scoring that was killed; begin where there is none",
    )


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    from modelworks.engine.data.writer import writer_for

    if settings:
        raise UserError(f"predict takes no settings, got {' '.join(settings)}")
    run = RunFolder.find(args.run)
    output = _screen.output_file(args.output)
    from modelworks.core.source import Quarantine
    from modelworks.engine.predictor import Predictor, inputs_of

    quarantine = Quarantine(places=deque())
    if args.resume or args.processes is not None:
        source = _source(args.data, args.format, run, inputs_of(run))
        counts = _score(run, source, output, quarantine, args.processes, args.resume, args.limit)
    else:
        predictor = Predictor.load(run)
        counts, source = predictor.counts, _source(args.data, args.format, run, predictor.inputs)
        with writer_for(output, args.format) as writer:
            for batch, answers in answer(predictor, source, quarantine, args.limit):
                writer.write(batch, answers)
        if output is not None:
            writer.finish_errors(quarantine)
    if source.kind == "dataframe" and args.data.lower().endswith((".txt", ".md")):
        print("note: the file is answered as one text; for a row a line give .csv or .jsonl", file=sys.stderr)
    _tell(counts, quarantine, output)
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
        for batch, answers in answer(predictor, _asked(run, predictor.inputs, data), quarantine)
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
    predictor: Predictor, source: Source, quarantine: Quarantine, limit: int | None = None
) -> Iterator[tuple[pa.RecordBatch, dict[str, list[Any]]]]:
    """(batch, its answers), streamed in order. A row that could not be read has its place, empty, where it is known."""
    from modelworks.engine.score.rows import answered, questions

    for asked in questions(predictor.inputs, source, quarantine, limit):
        yield answered(predictor, asked, source.root)


def _score(
    run: RunFolder,
    source: Source,
    output: Path | None,
    quarantine: Quarantine,
    processes: int | None,
    resume: bool,
    limit: int | None,
) -> Counts:
    """Answer a source on several processes into OUT, by way of OUT.parts/."""
    import modelworks
    from modelworks.core.sealed import sha256
    from modelworks.engine.data.writer import writer_for
    from modelworks.engine.predictor import Counts, inputs_of
    from modelworks.engine.score.parts import Parts
    from modelworks.engine.score.pool import Pool
    from modelworks.engine.score.rows import questions

    if output is None:
        raise UserError(
            "--processes and --resume want a file to write", "--output OUT.csv, OUT.jsonl or OUT.parquet"
        )
    processes = 1 if processes is None else processes
    if processes < 1:
        raise UserError(f"--processes {processes}: wants 1 or more")
    writer = writer_for(output, None)
    key = {
        "the input": source.fingerprint(),
        "the Run": sha256(run.path / "manifest.json"),
        "the options": [type(writer).__name__, limit],
        "modelworks": modelworks.__version__,
    }
    batches, counts = 0, Counts()
    with Parts(output, key, resume) as parts:
        if parts.done:
            print(f"going on after {len(parts.done):,} answered batches", file=sys.stderr)
        with Line() as line, Pool(run, parts.place, output.suffix, processes, source.root) as pool:
            for number, asked in enumerate(questions(inputs_of(run), source, quarantine, limit)):
                if number not in parts.done:
                    pool.submit(number, asked)
                batches = number + 1
                line.note(f"{batches:,} batches asked")
        with writer:
            parts.join(writer, batches, counts)
        writer.finish_errors(quarantine)
        parts.remove()
    return counts


def _asked(run: RunFolder, inputs: Mapping[str, Field], data: Any) -> Any:
    """The source of what is asked about. A text file is one row, unless the Run learned from lines of text files."""
    from modelworks.engine.data.questions import source_of

    trained = run.recipe_tree().get("data", {}).get("source", {})
    lines = trained.get("kind") == "text" and trained.get("unit", "line") != "file"
    return source_of(data, inputs, lines)


def _source(text: str, format_: str | None, run: RunFolder, inputs: Mapping[str, Field]) -> Any:
    from modelworks.engine.data.open import source_for

    if text != "-":
        return _asked(run, inputs, text)
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
