"""Worker: one process of a scoring. It answers the batches it is sent and writes each as a part.

python -m modelworks.engine.score.worker RUN PLACE ENDING

Reads frames from standard input and writes a line of JSON for each to standard output; ends when the input ends, so
that it does not outlive the process that feeds it.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

HEAD = struct.Struct(">IQ")
"""Bytes of the JSON, bytes of the Arrow stream."""


def main(run: str, place: str, ending: str) -> None:
    """Load the Run, say so, then answer until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else prints does not speak into the replies
    from modelworks.core.errors import UserError

    try:
        _serve(run, Path(place), ending, sys.stdin.buffer, replies)
    except (BrokenPipeError, FileNotFoundError):
        if Path(place).is_dir():
            raise
    except UserError as error:
        _tell(replies, {"error": str(error)})


def _serve(run: str, place: Path, ending: str, asks: BinaryIO, replies: Any) -> None:
    import pyarrow as pa
    import torch

    from modelworks.core.run import RunFolder
    from modelworks.engine.data.writer import kind_of, rows_of
    from modelworks.engine.predictor import Counts, Predictor
    from modelworks.engine.score import parts
    from modelworks.engine.score.rows import Asked, answered

    # One thread each: the answers are the same to the bit on any number of processes.
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    predictor = Predictor.load(RunFolder(run))
    kind = kind_of(Path(f"answers{ending}"), None)
    while head := asks.read(HEAD.size):
        told, body = HEAD.unpack(head)
        ask = json.loads(asks.read(told))
        batch = pa.ipc.open_stream(asks.read(body)).read_next_batch()
        predictor.counts = Counts()
        root = Path(ask["root"]) if ask["root"] is not None else None
        question = Asked(batch, ask["places"] or list(range(batch.num_rows)), ask["faults"])
        table, errors = rows_of(*answered(predictor, question, root))
        text = kind.part(table, first=ask["number"] == 0)
        parts.write(place, ask["number"], parts.Answered(table.num_rows, errors, text), predictor.counts)
        _tell(replies, {"number": ask["number"]})


def _tell(replies: Any, message: dict[str, Any]) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
