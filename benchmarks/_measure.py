"""Measure one command from outside: wall seconds, processor seconds and the largest resident memory.

    done = run(["modelworks", "--help"]);  done.seconds, done.peak_mb

The command is started by a small process of its own (this file as a script): Linux counts the memory of whoever
starts a program into the program's peak, and ours may be large.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finished:
    """A command that ended."""

    code: int
    seconds: float
    """Wall-clock."""
    cpu_seconds: float
    """User and system time, children included."""
    peak_mb: float
    """Largest resident set of any one of its processes, in MB of 10⁶ bytes."""
    out: str
    err: str
    late: bool = False
    """Ended by the time limit."""

    def reason(self) -> str:
        """Why it failed, in one line."""
        if self.late:
            return f"not done after {self.seconds:.0f} s"
        said = [line.strip() for line in (self.err or self.out).splitlines()]
        lines = [line for line in said if line and not line.startswith("WARNING")]
        own = [
            line for line in lines if line.startswith("modelworks:")
        ]  # it says what is wrong in its first line
        named = [line for line in lines if re.match(r"\w*Error\b", line)]
        return (own[:1] or named[-1:] or lines[-1:] or [f"exit code {self.code}"])[0][:200]


def run(
    command: Sequence[Any],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> Finished:
    """Run to the end. A command over `timeout` seconds is killed with all that it started, and marked late."""
    started, late = time.perf_counter(), False
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        files = [Path(folder, name) for name in ("out", "err")]
        with files[0].open("wb") as out, files[1].open("wb") as err:
            launcher = [sys.executable, "-I", "-S", __file__, str(result), *map(str, command)]
            process = subprocess.Popen(
                launcher, stdout=out, stderr=err, env=env, cwd=cwd, start_new_session=True
            )
            timer = threading.Timer(timeout or 0, lambda: os.killpg(process.pid, signal.SIGKILL))
            if timeout:
                timer.start()
            process.wait()
            timer.cancel()
        texts = [file.read_bytes().decode("utf-8", "replace") for file in files]
        if not result.exists():
            late = timeout is not None and process.returncode == -signal.SIGKILL
            return Finished(process.returncode, time.perf_counter() - started, 0.0, 0.0, *texts, late)
        return Finished(**json.loads(result.read_text("utf-8")), out=texts[0], err=texts[1])


def _launch(result: str, command: list[str]) -> None:
    """Start, wait, write what was used as JSON."""
    started = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    facts = {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.perf_counter() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss * 1024 / 1e6,  # Linux counts in KiB
    }
    Path(result).write_text(json.dumps(facts), "utf-8")


if __name__ == "__main__":
    _launch(sys.argv[1], sys.argv[2:])
