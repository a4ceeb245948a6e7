"""A modelworks command that can kill itself at a chosen moment of its writing.

    python benchmarks/_dying.py --log events.jsonl -- train data.csv --target y       lists the moments
    python benchmarks/_dying.py --at 37 --torn -- train data.csv --target y           dies at the 38th

A moment is a call that flushes, renames or removes something of a Run. The process dies before the call is made;
`--torn` first cuts the file that was to be flushed in half, as a power cut may.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from typing import Any

_CALLS = ("fsync", "rename", "replace", "unlink", "rmdir")


def watch(log: str | None, at: int | None, torn: bool) -> None:
    """Number every such call from now on."""
    assert (
        shutil.rmtree
    )  # it chooses its way of removing when it is loaded, from the functions that are replaced here
    numbers = itertools.count()
    for name in _CALLS:
        setattr(os, name, _counted(name, getattr(os, name), numbers, log, at, torn))


def _counted(
    name: str, real: Callable[..., Any], numbers: Any, log: str | None, at: int | None, torn: bool
) -> Any:
    def call(*args: Any, **options: Any) -> Any:
        path = _path(args[0], options)
        if "/runs/" in path:
            number = next(numbers)
            if log is not None:
                entry = {"number": number, "call": name, "path": path, "saving": _saving()}
                with open(log, "a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
            if number == at:
                if torn and os.path.isfile(path):
                    os.truncate(path, os.path.getsize(path) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)

    return call


def _path(subject: Any, options: dict[str, Any]) -> str:
    if isinstance(subject, int):
        return os.readlink(f"/proc/self/fd/{subject}")
    folder = options.get("dir_fd")
    base = os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}")
    return os.path.join(base, os.fspath(subject))


def _saving() -> bool:
    """Whether a checkpoint is being saved: some caller is `save` of engine/checkpoint.py."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "save" and frame.f_code.co_filename.endswith("checkpoint.py"):
            return True
        frame = frame.f_back
    return False


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log")
    parser.add_argument("--at", type=int)
    parser.add_argument("--torn", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    watch(args.log, args.at, args.torn)
    from modelworks.cli import main as modelworks

    return modelworks(args.command[1:])


if __name__ == "__main__":
    sys.exit(main())
