"""Many short commands in forks of one process that has loaded everything: a start costs milliseconds.

    with Warm() as warm:
        done = warm.run(["audit", "rows.csv"], folder, timeout=60, memory=4 << 30)
        print(done.code, done.error)

Run as a program, this file is that process: a JSON request a line in, a JSON answer a line out.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WAIT = 3
"""A command may take so many times its seconds of processor time, on a busy machine."""
SOURCES = Path(__file__).resolve().parent.parent / "src"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    """Exit code; negative: the signal that ended it."""
    output: str
    error: str
    seconds: float
    peak: int
    """Bytes of memory beyond those that the warm process holds."""
    timed_out: bool
    """Over `timeout` seconds of processor time, or several times that by the clock."""


class Warm:
    """The warm process."""

    def __enter__(self) -> Warm:
        path = os.pathsep.join(filter(None, [str(SOURCES), os.environ.get("PYTHONPATH", "")]))
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def run(
        self, argv: Sequence[str], folder: Path, *, stdin: Path | None = None, timeout: float = 60, memory: int = 4 << 30,
        largest_file: int | None = None, user: int | None = None,
    ) -> Done:  # fmt: skip
        """`modelworks ARGV…` in this folder, with prepared data under it. `user`: run as this one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {
            "argv": list(argv), "folder": str(folder), "stdin": str(stdin or os.devnull), "timeout": timeout,
            "memory": memory, "largest_file": largest_file, "user": user,
        }  # fmt: skip
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        texts = [(folder / name).read_bytes().decode("utf-8", "replace") for name in (".stdout", ".stderr")]
        return Done(answer["code"], *texts, answer["seconds"], answer["peak"], answer["timed_out"])


def serve() -> None:
    """Answer requests until the input ends."""
    import modelworks

    for module in pkgutil.walk_packages(modelworks.__path__, "modelworks."):
        importlib.import_module(module.name)
    for extra in ("sklearn", "soundfile", "tokenizers", "python_calamine", "PIL.Image", "torch"):
        if importlib.util.find_spec(extra.split(".")[0]):
            importlib.import_module(extra)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page of what is loaded
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for line in sys.stdin:
        request = json.loads(line)
        began = time.perf_counter()
        child = os.fork()
        if not child:
            _become(request)
        code, used, timed_out = _wait(child, began + WAIT * request["timeout"])
        answer = {
            "code": code, "seconds": time.perf_counter() - began, "peak": max(0, used - held) << 10, "timed_out": timed_out,
        }  # fmt: skip
        print(json.dumps(answer), flush=True)


def _wait(child: int, until: float) -> tuple[int, int, bool]:
    timed_out = False
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return code, usage.ru_maxrss, timed_out or code == -signal.SIGXCPU
        if time.perf_counter() > until and not timed_out:
            timed_out = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


def _become(request: dict[str, Any]) -> None:
    """In the fork: the command, with its own streams and limits. Does not return."""
    code = 1
    try:
        os.chdir(request["folder"])
        for number, name, mode in (
            (0, request["stdin"], os.O_RDONLY),
            (1, ".stdout", _NEW),
            (2, ".stderr", _NEW),
        ):
            handle = os.open(name, mode, 0o666)
            os.dup2(handle, number)
            os.close(handle)
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
        os.environ["MODELWORKS_STORE"] = str(Path(request["folder"]) / "store")
        resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))
        resource.setrlimit(resource.RLIMIT_CPU, (int(request["timeout"]), int(request["timeout"]) + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if request["largest_file"] is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead, as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"],) * 2)
        if request["user"] is not None:
            os.setuid(request["user"])
        from modelworks.cli import main

        code = main(request["argv"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # what the interpreter would do
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                code = code or 120
        os._exit(code)


_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC

if __name__ == "__main__":
    serve()
