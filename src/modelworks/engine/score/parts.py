"""Parts: the answers of a long scoring, a batch a file, until they are joined; what a kill leaves is gone on with.

    with Parts(output, key, resume=True) as parts:
        parts.done                        # numbers of the batches that are answered
        write(parts.place, 7, …)          # in any process: a transaction
        parts.join(writer, batches, counts)
    parts.remove()

OUT.parts/KEY/ holds NUMBER.part: a line of JSON, then the batch's rows as they stand in OUT (Arrow for Parquet). KEY
is a hash of the input, the Run and the options, so answers to other questions are never joined, not even those of a
process that outlived its kill.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelworks.core.errors import UserError
from modelworks.core.sealed import write_bytes
from modelworks.engine.data.writer import Writer
from modelworks.engine.predictor import Counts


@dataclass(frozen=True)
class Answered:
    """A batch as it stands in OUT."""

    rows: int
    errors: list[dict[str, Any]]
    """{"row": its number in the batch, "error": why it has no answer}"""
    body: bytes
    """Lines of text, or a table as an Arrow stream."""


class Parts:
    """The folder beside OUT, held by one process at a time."""

    def __init__(self, output: Path, key: Mapping[str, Any], resume: bool = False) -> None:
        """`key`: what the answers depend on, by the name that a refusal shows."""
        self.output, self.key = output, dict(key)
        self.folder = output.with_name(output.name + ".parts")
        digest = hashlib.sha256(json.dumps(self.key, sort_keys=True).encode()).hexdigest()
        self.place = self.folder / digest[:16]
        self._resume = resume

    def __enter__(self) -> Parts:
        self._make()
        # The system lets go of the lock when its holder dies, however it dies.
        self._lock = (self.folder / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise UserError(
                f"{self.folder}: another process is scoring into it", "wait for its end"
            ) from None
        try:
            self._begin()
        except BaseException:
            self._lock.close()
            raise
        self.done = {int(path.stem) for path in self.place.glob("*.part")}
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def _make(self) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
        except FileExistsError:
            raise UserError(f"{self.folder}: is a file, and a folder is wanted there") from None

    def _begin(self) -> None:
        told = self.folder / "key.json"
        if told.exists():
            if not self._resume:
                raise UserError(
                    f"{self.folder}: holds answers of a scoring that did not finish",
                    "--resume goes on with it; remove the folder to begin anew",
                )
            try:
                known = json.loads(told.read_text("utf-8"))
            except ValueError as error:
                raise UserError(f"{told}: is damaged ({error})", "remove the folder to begin anew") from None
            differ = [
                name for name in self.key if not isinstance(known, dict) or known.get(name) != self.key[name]
            ]
            if differ:
                raise UserError(
                    f"{self.folder}: cannot be gone on with: {' and '.join(differ)} changed since it was begun",
                    "remove the folder to begin anew",
                )
        else:
            write_bytes(self.folder / "key.json.partial", json.dumps(self.key, indent=1).encode())
            os.replace(self.folder / "key.json.partial", told)
        self.place.mkdir(exist_ok=True)

    def join(self, writer: Writer, batches: int, counts: Counts) -> None:
        """All parts into the writer, in order; what each counted is added to `counts`."""
        for number in range(batches):
            with (self.place / f"{number:08d}.part").open("rb") as file:
                head = json.loads(file.readline())
                writer.add(file, head["rows"], head["errors"])
            counts.add(Counts(**head["counts"]))

    def remove(self) -> None:
        """Once OUT is written. What a kill leaves of a removal is not taken for an unfinished scoring."""
        gone = self.folder.with_name(self.folder.name + ".done")
        shutil.rmtree(gone, ignore_errors=True)
        os.replace(self.folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


def write(place: Path, number: int, answered: Answered, counts: Counts) -> None:
    """A batch's answers: there whole, or not at all. Raises FileNotFoundError when the scoring is over."""
    head = {"rows": answered.rows, "errors": answered.errors, "counts": asdict(counts)}
    partial = place / f"{number:08d}.partial-{os.getpid()}"
    write_bytes(partial, json.dumps(head, ensure_ascii=False).encode() + b"\n" + answered.body)
    os.replace(partial, place / f"{number:08d}.part")
