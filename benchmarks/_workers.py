"""Workers: contenders that stay loaded and answer one request at a time, so that rounds can take turns among them.

    worker = Worker("transformers", [python, "peers/hf_decode.py", folder], threads=2)
    worker.ask({"prompts": [[1, 2]], "new": 8});  worker.close()["peak_mb"]

A worker is a script that calls `serve(answer)`: one line of JSON in, one out. It is ready when it has said {"ready": …}.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

LINE = "@@ "
"""What an answer's line begins with: libraries print, too."""


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]], **ready: Any) -> None:
    """Answer requests until there are no more."""
    _say({"ready": True, **ready})
    for line in sys.stdin:
        asked = json.loads(line)
        if asked.get("close"):
            break
        _say(answer(asked))
    _say({"peak_mb": _peak()})


def _peak() -> float:
    """Largest resident memory in MB of 10⁶ bytes. getrusage would count that of whoever started this process, too."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def _say(told: dict[str, Any]) -> None:
    print(LINE + json.dumps(told), flush=True)


class Worker:
    """One contender's process."""

    def __init__(self, name: str, command: Sequence[Any], environment: dict[str, str]) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env=environment, text=True,
        )  # fmt: skip
        self.ready = self._read()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> dict[str, Any]:
        """The largest resident memory that it had."""
        told = self.ask({"close": True})
        self._process.wait(60)
        return told

    def _read(self) -> dict[str, Any]:
        from _peers import Failed

        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(LINE):
                return json.loads(line.removeprefix(LINE))
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        raise Failed(f"{self.name} ended: {(said or ['no word'])[-1][:200]}")
