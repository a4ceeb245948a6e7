"""Pool: several worker processes answer the batches of one source, each batch once.

    with Pool(run, parts.place, ".csv", processes=4, root=source.root) as pool:
        for number, asked in enumerate(questions(...)):
            if number not in parts.done:
                pool.submit(number, asked)

A worker that dies (out of memory, killed) is replaced and its batch asked again, once.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa

import modelworks
from modelworks.core.errors import UserError
from modelworks.core.run import RunFolder
from modelworks.engine.score.rows import Asked
from modelworks.engine.score.worker import HEAD

_HOME = str(Path(modelworks.__file__).resolve().parent.parent)
_AHEAD = 2  # batches read in advance for each process: none waits, and memory stays bounded


class Pool:
    """Processes, each fed by a thread of its own from one queue."""

    def __init__(self, run: RunFolder, place: Path, ending: str, processes: int, root: Path | None) -> None:
        module = "modelworks.engine.score.worker"
        where = [str(run.path.resolve()), str(place.resolve()), ending]
        self._command = [sys.executable, "-m", module, *where]
        self._root = str(root.resolve()) if root is not None else None
        self._queue: queue.Queue[tuple[int, bytes] | None] = queue.Queue(_AHEAD * processes)
        self._fault: BaseException | None = None
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._threads = [threading.Thread(target=self._feed, daemon=True) for _ in range(processes)]

    def __enter__(self) -> Pool:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Wait until all is answered; after an error, stop at once."""
        if kind is not None:
            self._fault = self._fault or UserError("stopped")
            for process in list(self._processes):
                process.kill()
        for _ in self._threads:
            self._put(None)
        for thread in self._threads:
            thread.join()
        if kind is None and self._fault is not None:
            raise self._fault

    def submit(self, number: int, asked: Asked) -> None:
        """Ask a batch; waits while enough are waiting. Raises what went wrong in a worker."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, asked.batch.schema) as stream:
            stream.write_batch(asked.batch)
        body = sink.getvalue()
        ask = {
            "number": number,
            "root": self._root,
            "places": asked.places if asked.faults else [],  # else simply all of them
            "faults": asked.faults,
        }
        told = json.dumps(ask).encode()
        self._put((number, HEAD.pack(len(told), body.size) + told + body.to_pybytes()))
        if self._fault is not None:
            raise self._fault

    def _put(self, item: tuple[int, bytes] | None) -> None:
        # After a fault nobody takes from the queue any more.
        while self._fault is None:
            try:
                return self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue

    def _feed(self) -> None:
        process = None
        try:
            while self._fault is None:
                try:
                    item = self._queue.get(timeout=0.2)
                except queue.Empty:
                    continue
                if item is None:
                    return
                for again in (False, True):
                    if process is None:
                        process = self._start()
                    if self._asked(process, item[1]):
                        break
                    code = self._end(process)
                    process = None
                    if again:
                        raise UserError(
                            f"a process died twice on batch {item[0]} (exit {code})",
                            "out of memory? fewer --processes; --resume goes on",
                        )
        except BaseException as error:
            self._fault = self._fault or error
        finally:
            if process is not None:
                self._end(process)

    def _asked(self, process: subprocess.Popen[bytes], frame: bytes) -> bool:
        """Whether the worker has answered; False when it is dead."""
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(frame)
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it may have said why before it went
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            return False
        reply = json.loads(line)
        if "error" in reply:
            raise UserError(reply["error"])
        return True

    def _start(self) -> subprocess.Popen[bytes]:
        # Found where we were found, however that was.
        found = os.pathsep.join(filter(None, [_HOME, os.environ.get("PYTHONPATH")]))
        one = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": found}
        process = subprocess.Popen(  # noqa: S603 - our own module
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=one
        )
        self._processes.add(process)
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        self._processes.discard(process)
        return process.wait()
