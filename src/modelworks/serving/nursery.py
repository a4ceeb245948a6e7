"""Nursery: a process that has imported what every worker needs, and forks one in a moment.

    nursery = Nursery(threads=1); pid = await nursery.fork(socket, options, "runs/titanic")
    python -m modelworks.serving.nursery FD       # what it starts

Importing torch takes seconds where a server is under load, which is when a worker that died must be back. The workers'
memory is the nursery's, shared, until they write to it. It holds no model, and starts no thread before it forks.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from dataclasses import asdict

from modelworks.core.errors import UserError
from modelworks.serving.engine import Options

_MOST = 64 << 10
_SECONDS = 120.0
LOADED = ("torch", "pyarrow", "pyarrow.compute", "modelworks.engine.predictor", "modelworks.serving.rows")


class Nursery:
    """The front's end. A nursery that has died is started anew by the next fork."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._child: asyncio.subprocess.Process | None = None
        self._socket: socket.socket | None = None
        self._lock = asyncio.Lock()

    async def fork(self, connection: socket.socket, options: Options, path: str) -> int:
        """The process number of a new worker at this connection; raises UserError."""
        message = json.dumps([asdict(options), path]).encode()
        if len(message) > _MOST:
            raise UserError("the Run's name is too long")
        async with self._lock:
            for attempt in (1, 2):
                try:
                    if self._socket is None:
                        await self._start()
                    assert self._socket is not None
                    socket.send_fds(self._socket, [message], [connection.fileno()])
                    answer = asyncio.get_running_loop().sock_recv(self._socket, 8)
                    number = await asyncio.wait_for(answer, _SECONDS)
                    if len(number) == 8:
                        return int.from_bytes(number, "little")
                    raise ConnectionError("the nursery is gone")
                except (OSError, TimeoutError) as error:
                    self.close()
                    if attempt == 2:
                        raise UserError(f"workers cannot be started: {error}") from None
        raise AssertionError

    async def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        # Threads as torch is told: OpenMP would start one a core before it hears of that.
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "TOKENIZERS_PARALLELISM": "false"}
        # The package's own folder: what -m finds depends on where it is started.
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        with theirs:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "modelworks.serving.nursery", str(theirs.fileno()),
                pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL, env=environment,
            )  # fmt: skip
        self._socket = ours

    def close(self) -> None:
        """End it; the workers live on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._child is not None and self._child.returncode is None:
            self._child.kill()


def main(number: int) -> int:
    """The process: import, then fork a worker a message."""
    control = socket.socket(fileno=number)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are not waited for
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection would write to every object, and so copy it for each worker
    while True:
        message, handles, _, _ = socket.recv_fds(control, _MOST, 1)
        if not message or not handles:
            return 0
        child = os.fork()
        if child == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _work(handles[0], message)
        os.close(handles[0])
        control.send(child.to_bytes(8, "little"))


def _work(handle: int, message: bytes) -> None:
    """Be a worker, and end without what Python does at the end of a process that is not forked."""
    from modelworks.serving import worker

    code = 1
    try:
        options, path = json.loads(message)
        code = worker.main(handle, Options(**options), path)
    except BaseException:  # the fork must not go on as a nursery
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
