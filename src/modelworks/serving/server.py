"""Server: the process that `modelworks serve` is: models opened, HTTP answered, everything ended in order.

server.run(Wanted(runs={"titanic": "runs/titanic"}, port=8080))
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from modelworks.core.errors import UserError
from modelworks.core.run import RunFolder
from modelworks.serving.app import App, Front
from modelworks.serving.engine import Options
from modelworks.serving.guard import LOOPBACK, Guard, read_keys
from modelworks.serving.logs import Level, Log
from modelworks.serving.model import Limits, Model


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    runs: dict[str, str]
    """Name → Run."""
    host: str = "127.0.0.1"
    port: int = 8080
    keys: list[str] = field(default_factory=list)
    hosts: tuple[str, ...] = ()
    """Names that clients may use, besides this machine's own and `host`."""
    tls: tuple[str, str] | None = None
    threads: int = 1
    batch: int = 64
    limits: Limits = field(default_factory=Limits)
    front: Front = field(default_factory=Front)
    decoded: int = 256 << 20
    grace: float = 30.0
    watch: bool = False
    log: Level = "requests"

    @classmethod
    def of(cls, args: argparse.Namespace) -> Wanted:
        """From flags; raises UserError for what cannot be."""
        keys = read_keys(args.api_key_file) if args.api_key_file else []
        if not keys and not loopback(args.host):
            raise UserError(
                f"--host {args.host}: others could reach this server, and no keys are asked for",
                "--api-key-file F, a key a line; or leave --host out",
            )
        if bool(args.tls_cert) != bool(args.tls_key):
            raise UserError("--tls-cert and --tls-key go together")
        for flag in ("batch", "queue", "timeout", "max_body", "max_decoded"):
            if getattr(args, flag) <= 0:
                raise UserError(f"--{flag.replace('_', '-')} wants more than 0")
        if not 0 <= args.port < 65536:
            raise UserError(f"--port {args.port}: ports are 1 to 65535")
        limits = Limits(queue=args.queue, seconds=args.timeout, gather=args.gather / 1000)
        body = int(args.max_body * (1 << 20))
        return cls(
            runs=named(args.runs),
            host=args.host,
            port=args.port,
            keys=keys,
            hosts=tuple(args.allowed_host),
            tls=(args.tls_cert, args.tls_key) if args.tls_cert else None,
            threads=args.threads or max(1, (os.cpu_count() or 2) - 1),
            batch=args.batch,
            limits=limits,
            front=Front(body=body, held=max(16 * body, 64 << 20), seconds=args.timeout),
            decoded=int(args.max_decoded * (1 << 20)),
            grace=args.grace,
            watch=args.watch,
            log=args.log,
        )


def loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def named(runs: list[str]) -> dict[str, str]:
    """Name → folder of the Runs as typed."""
    found: dict[str, str] = {}
    for text in runs:
        name, _, path = text.partition("=")
        if not path or (Path(text) / "recipe.yaml").is_file():
            run = RunFolder.find(text)
            name, path = run.name, str(run.path)
        else:
            path = str(RunFolder.find(path).path)
        if not name or not name.isprintable() or any(letter in name for letter in '/?#%\\"'):
            raise UserError(f"{name!r} cannot be a model's name", "NAME=RUN gives another")
        if name in found:
            raise UserError(f"two Runs are called {name!r}", "NAME=RUN gives one another name")
        found[name] = os.path.abspath(path)
    return found


class _Uvicorn(uvicorn.Server):
    """uvicorn, which ends by the signal that it was ended with: this one ends with code 0."""

    app: App

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        yield

    def _end(self) -> None:
        self.app.draining = True
        self.force_exit = self.should_exit  # the second one does not wait
        self.should_exit = True


def run(wanted: Wanted) -> int:
    """Serve until told to end; returns the exit code."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(wanted))


async def _serve(wanted: Wanted) -> int:
    log = Log(wanted.log)
    models = {
        name: Model(
            name,
            path,
            Options(name, wanted.threads, wanted.batch, decoded=wanted.decoded),
            wanted.limits,
            log,
        )
        for name, path in wanted.runs.items()
    }
    guard = Guard({*LOOPBACK, wanted.host, *wanted.hosts}, wanted.keys)
    app = App(models, guard, wanted.front, log)
    options: dict[str, Any] = (
        {"ssl_certfile": wanted.tls[0], "ssl_keyfile": wanted.tls[1]} if wanted.tls else {}
    )
    config = uvicorn.Config(
        app, host=wanted.host, port=wanted.port, http="httptools", ws="none", lifespan="off", access_log=False,
        log_config=None, server_header=False, timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, int(wanted.grace)),
        **options,
    )  # fmt: skip
    server = _Uvicorn(config)
    server.app = app
    opening = asyncio.gather(*(_open(model, log) for model in models.values()))

    async def stop_on_failure() -> str:
        try:
            await opening
            return ""
        except UserError as error:
            server.should_exit = server.force_exit = True
            return str(error)

    watching = asyncio.create_task(stop_on_failure())
    try:
        await server.serve()
    finally:
        failure = watching.result() if watching.done() else ""
        watching.cancel()
        await asyncio.gather(*(model.close(5.0) for model in models.values()))
        log("ended")
        log.flush()
    if failure:
        raise UserError(failure)
    return 0


async def _open(model: Model, log: Log) -> None:
    try:
        await model.open()
    except UserError as error:
        raise UserError(f"{model.path}: {error}" if model.path not in str(error) else str(error)) from None
    log("ready", model=model.name, run=model.path, pid=model.worker.pid if model.worker else 0)
