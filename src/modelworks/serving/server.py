"""Server: the process that `modelworks serve` is: models opened, HTTP answered, everything ended in order.

server.run(Wanted(runs={"titanic": "runs/titanic"}, port=8080))
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from modelworks.core.errors import UserError
from modelworks.core.run import RunFolder
from modelworks.engine.language.ready import is_foreign
from modelworks.serving import protocol, telemetry
from modelworks.serving.app import App, Front
from modelworks.serving.engine import Options
from modelworks.serving.guard import LOOPBACK, Guard, read_keys
from modelworks.serving.logs import Level, Log
from modelworks.serving.model import Limits, Model
from modelworks.serving.nursery import Nursery

WATCH_SECONDS = 1.0
"""Between two looks at a manifest."""


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
    code: bool = False
    otel: bool = False
    slots: int = 16
    context: int = 2048
    prefixes: int = 256 << 20
    weights: str = "float32"
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
        for flag in ("slots", "context", "batch", "queue", "timeout", "max_body", "max_decoded"):
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
            code=args.trust_code,
            otel=args.otel,
            slots=args.slots,
            context=args.context,
            prefixes=int(args.prefixes * (1 << 20)),
            weights=args.weights,
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
        if not path or (Path(text) / "recipe.yaml").is_file() or is_foreign(text):
            name, path = "", text
        if is_foreign(path):
            name = name or Path(path).resolve().stem
        else:
            run = RunFolder.find(path)
            name, path = name or run.name, str(run.path)
        if not name or not name.isprintable() or any(letter in name for letter in '/?#%\\"'):
            raise UserError(f"{name!r} cannot be a model's name", "NAME=RUN gives another")
        if name in found:
            raise UserError(f"two Runs are called {name!r}", "NAME=RUN gives one another name")
        found[name] = os.path.abspath(path)
    return found


class _Uvicorn(uvicorn.Server):
    """uvicorn, which would end by the signal that it was ended with: this one ends with code 0."""

    app: App

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        yield

    def end(self) -> None:
        """Begin to end; a second time: at once."""
        self.app.draining = True
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        if counter % 50 == 0:
            protocol.close_slow(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)


def run(wanted: Wanted) -> int:
    """Serve until told to end; returns the exit code."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(wanted))


async def _serve(wanted: Wanted) -> int:
    log = Log(wanted.log)
    options = {
        "threads": wanted.threads,
        "batch": wanted.batch,
        "decoded": wanted.decoded,
        "code": wanted.code,
        "slots": wanted.slots,
        "context": wanted.context,
        "prefixes": wanted.prefixes,
        "weights": wanted.weights,
    }
    nursery = Nursery(wanted.threads)
    models = {
        name: Model(name, path, Options(name, **options), wanted.limits, log, nursery)
        for name, path in wanted.runs.items()
    }
    app = App(models, Guard({*LOOPBACK, wanted.host, *wanted.hosts}, wanted.keys), wanted.front, log)
    app.trace = telemetry.tracer() if wanted.otel else None
    listener = _listen(wanted)
    server = _Uvicorn(_config(app, wanted))
    server.app = app
    failure = ""

    async def open_all() -> None:
        nonlocal failure
        try:
            async with asyncio.TaskGroup() as group:
                for model in models.values():
                    group.create_task(_open(model, log))
        except* UserError as errors:
            failure = str(errors.exceptions[0])
            server.should_exit = server.force_exit = True

    tasks = [asyncio.create_task(open_all())]
    if wanted.watch:
        tasks += [asyncio.create_task(_watch(model, log)) for model in models.values()]
    host = f"[{wanted.host}]" if ":" in wanted.host else wanted.host
    url = f"http{'s' if wanted.tls else ''}://{host}:{listener.getsockname()[1]}/"
    log("listening", url=url, models=list(models))
    try:
        await server.serve([listener])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(model.close(5.0) for model in models.values()))
        nursery.close()
        log("ended")
        log.flush()
    if failure:
        raise UserError(failure)
    return 0


def _listen(wanted: Wanted) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
        return socket.create_server((wanted.host, wanted.port), family=family, backlog=2048)
    except OSError as error:
        why = error.strerror or str(error)
        raise UserError(f"--host {wanted.host} --port {wanted.port}: {why}", "choose another") from None


def _config(app: App, wanted: Wanted) -> uvicorn.Config:
    tls: dict[str, Any] = {"ssl_certfile": wanted.tls[0], "ssl_keyfile": wanted.tls[1]} if wanted.tls else {}
    config = uvicorn.Config(
        app, http=protocol.Protocol, ws="none", lifespan="off", access_log=False, log_config=None,
        server_header=False, timeout_keep_alive=30, timeout_graceful_shutdown=max(1, int(wanted.grace)), **tls,
    )  # fmt: skip
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what matters is in the log of our own
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise UserError(f"--tls-cert, --tls-key: {error.strerror or error}") from None
    return config


async def _open(model: Model, log: Log) -> None:
    try:
        await model.open()
    except UserError as error:
        raise UserError(f"{model.path}: {error}" if model.path not in str(error) else str(error)) from None
    memory = {"memory": model.metadata["memory"]} if "memory" in model.metadata else {}
    log("ready", model=model.name, run=model.path, pid=model.worker.pid if model.worker else 0, **memory)


async def _watch(model: Model, log: Log) -> None:
    """Load a model's Run anew when its manifest changes; where that fails the old worker goes on."""
    seen = _sealed(model.path)
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        now = _sealed(model.path)
        if now is None or now == seen:
            continue
        seen = now
        try:
            await model.reload(model.path)
            log("reload", model=model.name, run=model.path)
        except UserError as error:
            log("reload_failed", model=model.name, run=model.path, reason=str(error))


def _sealed(path: str) -> tuple[int, int, int] | None:
    """What changes when a Run is sealed anew, or another takes its place; None while it is not sealed."""
    try:
        found = (Path(path) / "manifest.json").stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
