"""Worker: one process that holds one model and answers what the front sends over a socket.

    python -m modelworks.serving.worker FD OPTIONS-AS-JSON RUN

It ends when the front is gone, when it was told to drain and has nothing left to do, or with exit code 2 and one line
of reason on its socket when the Run cannot be loaded.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback

from modelworks.core.errors import UserError
from modelworks.core.run import RunFolder
from modelworks.engine.language.ready import is_foreign
from modelworks.serving import trust
from modelworks.serving.engine import Engine, Options
from modelworks.serving.wire import Broken, Channel, Frame

STATS_EVERY = 1.0
"""Seconds between two `stats` frames."""
LANGUAGE = ("language", "instruct", "prefer")
"""Tasks whose Runs write text."""


def open_engine(path: str, options: Options) -> Engine:
    """The engine that a Run wants."""
    if is_foreign(path):
        from modelworks.serving import generation

        return generation.open(path, options)
    run = RunFolder.find(path)
    trust.check(run, options.code)
    kind = run.recipe_tree().get("task", {}).get("kind")
    if kind in LANGUAGE:
        from modelworks.serving import generation

        return generation.open(path, options)
    if kind == "mask":
        from modelworks.serving import fill

        return fill.open(run, options)
    from modelworks.serving import rows

    return rows.open(run, options)


def work(channel: Channel, engine: Engine) -> None:
    """Answer until drained; raises Broken when the front is gone."""
    draining, told, next_stats = False, None, 0.0
    while True:
        wait = 0.0 if engine.busy else STATS_EVERY
        for frame in channel.receive(wait):
            if frame.kind == "drain":
                draining = True
            elif frame.kind == "cancel":
                engine.cancel(frame.id)
            else:
                engine.submit(frame)
        if engine.busy:
            for frame in engine.step():
                channel.send(frame)
        elif draining:
            channel.send(Frame("stats", 0, engine.stats()))
            return
        now = time.monotonic()
        if now >= next_stats:
            next_stats = now + STATS_EVERY
            stats = engine.stats()
            if stats != told:
                channel.send(Frame("stats", 0, stats))
                told = stats


def main(number: int, options: Options, path: str) -> int:
    """The process, at the socket of this number."""
    # Ctrl-C reaches the whole group: the front alone decides when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=number))
    try:
        try:
            engine = open_engine(path, options)
        except (
            Exception
        ) as error:  # whatever a hostile Run makes of a reader: its front goes on with the old one
            known = isinstance(error, (UserError, OSError, MemoryError, RecursionError))
            if not known:
                traceback.print_exc()
            reason = str(error) if known and str(error) else type(error).__name__
            channel.send(Frame("error", 0, {"message": reason[:2000]}))
            return 2
        channel.send(Frame("ready", 0, {**engine.metadata, "name": options.name, "process": os.getpid()}))
        work(channel, engine)
    except Broken:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Options(**json.loads(sys.argv[2])), sys.argv[3]))
