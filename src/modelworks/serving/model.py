"""Model: one served name: a bounded queue, and the worker that answers it, replaced when it dies or a new Run comes.

    model = Model("titanic", "runs/titanic", options, limits, log, nursery)
    await model.open()
    answer = await model.ask("plain", "application/json", b'{"age": 31}', {})
    async for frame in model.stream("generate", {"prompt": "春"}): ...      # chunk …, answer
    await model.reload("runs/titanic-2")

A worker is replaced in one way: the new one is started, then everything that waits goes to it. What was with a worker
that died is asked again, alone and at most three times, so that one request cannot take the others with it; a stream
that had begun ends with an error.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from modelworks.core.errors import UserError
from modelworks.serving.engine import Options
from modelworks.serving.jobs import Answer, Job, Limits
from modelworks.serving.limits import Refused
from modelworks.serving.nursery import Nursery
from modelworks.serving.process import Process
from modelworks.serving.wire import Frame

ATTEMPTS = 3
"""How often a request is tried that a worker died over."""
_FRAME = 16 << 20
"""Bytes of bodies that are put into one frame, unless a single one is larger."""
_SWEEP = 0.2
"""Seconds between two looks for what has waited too long."""


class Model:
    """A served name."""

    def __init__(
        self,
        name: str,
        path: str,
        options: Options,
        limits: Limits,
        log: Callable[..., None],
        nursery: Nursery,
    ) -> None:
        self.name, self.path, self.options, self.limits, self.log = name, path, options, limits, log
        self.nursery = nursery
        self.waiting: deque[Job] = deque()
        self.worker: Process | None = None
        self.metadata: dict[str, Any] = {}
        self.restarts, self.reloads, self.refused, self.timeouts, self.cancelled = 0, 0, 0, 0, 0
        self.batches: Callable[[int, float], None] = lambda size, seconds: None
        """Told of each batch: its requests and its seconds."""
        self.retired: Callable[[dict[str, Any]], None] = lambda stats: None
        """Told the last figures of a worker that ended."""
        self._retiring: set[Process] = set()
        self._numbers = 0
        self._pumping = False
        self._pace = 0.01
        self._tasks: set[asyncio.Task[Any]] = set()
        self._replacing = asyncio.Lock()
        self._closed = False
        self._failed = ""

    # ------------------------------------------------------------------ life
    async def open(self) -> None:
        """Start the first worker; raises UserError."""
        await self._replace(self.path)
        self._later(self._sweep())

    @property
    def _workers(self) -> list[Process]:
        return [*([] if self.worker is None else [self.worker]), *self._retiring]

    @property
    def ready(self) -> bool:
        return self.worker is not None and not self.worker.lost

    async def reload(self, path: str) -> None:
        """Answer from another Run, or the same one anew; on UserError the old worker goes on."""
        await self._replace(path)
        self.reloads += 1

    async def close(self, seconds: float) -> None:
        """End the workers."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(process.end(seconds) for process in self._workers))

    async def _replace(self, path: str) -> None:
        async with self._replacing:
            new = await Process.start(self.nursery, path, self.options, self._heard, self._lost)
            if self._closed:
                new.kill()
                return
            old, self.worker = self.worker, new
            self.path, self.metadata, self._failed = path, new.metadata, ""
            if old is not None and not old.lost:
                self._retiring.add(old)
                self._later(self._retire(old))
            self.pump()

    async def _retire(self, old: Process) -> None:
        # Streams may go on for long; the newcomer has all the rest.
        await old.end(10 * self.limits.seconds)
        self._retiring.discard(old)

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _lost(self, process: Process) -> None:
        """A worker's connection ended: what it had is asked again."""
        self.retired(process.stats)
        jobs = [job for batch, _ in process.flight.values() for job in batch]
        process.flight.clear()
        for job in reversed(jobs):
            self._again(job)
        if process is self.worker and not self._closed:
            self.worker = None
            self.restarts += 1
            self.log("worker_lost", model=self.name, waiting=len(self.waiting))
            self._later(self._restart())
        else:
            self.pump()

    def _again(self, job: Job) -> None:
        if job.over or job.number < 0:
            return
        job.attempts += 1
        if job.frames is not None and job.meta.get("begun"):
            job.refuse(
                Refused(503, "the model's worker ended; what was written so far is all", {"Retry-After": "1"})
            )
        elif job.attempts >= ATTEMPTS:
            job.refuse(Refused(503, f"the model's worker ended {ATTEMPTS} times over this request"))
        else:
            job.number = 0
            self.waiting.appendleft(job)

    async def _restart(self) -> None:
        pause = 0.0
        while not self._closed and self.worker is None:
            await asyncio.sleep(pause)
            try:
                await self._replace(self.path)
            except (UserError, OSError) as error:
                self._failed = str(error)
                self.log("worker_failed", model=self.name, reason=str(error))
                pause = min(30.0, 2 * pause or 0.5)

    # ------------------------------------------------------------------ asking
    def _admit(self, job: Job) -> None:
        if self._failed and self.worker is None:
            raise Refused(503, "the model's worker does not start", {"Retry-After": "5"})
        there = len(self.waiting) + sum(
            len(batch) for each in self._workers for batch, _ in each.flight.values()
        )
        if there >= self.limits.queue:
            self.refused += 1
            wait = max(1, math.ceil(there * self._pace))
            raise Refused(429, f"{there} requests are waiting already", {"Retry-After": str(wait)})
        self.waiting.append(job)
        if not self._pumping:
            self._pumping = True
            # At the end of this turn of the loop: requests that came together are sent together.
            asyncio.get_running_loop().call_soon(self.pump)

    async def ask(
        self,
        form: str,
        content_type: str,
        body: bytes,
        more: dict[str, Any],
        gone: Callable[[], bool] | None = None,
    ) -> Answer:
        """The answer to one request; raises Refused (429, 503, 504). `gone`: whether the client has hung up."""
        loop = asyncio.get_running_loop()
        job = Job(form, content_type, body, more, loop.time() + self.limits.seconds)
        job.future, job.gone = loop.create_future(), gone
        self._admit(job)
        return await job.future

    async def stream(self, kind: str, meta: dict[str, Any], body: bytes = b"") -> AsyncIterator[Frame]:
        """The frames of a request that is answered in pieces, the last one `answer`; raises Refused. Leaving the loop
        early (closing the iterator) tells the worker to stop."""
        job = Job(kind, "", body, {}, asyncio.get_running_loop().time() + self.limits.seconds)
        job.frames, job.meta = asyncio.Queue(), {"meta": meta, "begun": False}
        self._admit(job)
        try:
            while True:
                frame = await job.frames.get()
                if isinstance(frame, Refused):
                    raise frame
                if frame.kind == "error":
                    raise Refused(frame.meta.get("status", 500), frame.meta.get("message", ""))
                yield frame
                if frame.kind == "answer":
                    return
        finally:
            self._forget(job)

    def _forget(self, job: Job) -> None:
        """Nobody waits for a stream any more: out of the queue, or cancelled where it is."""
        number, job.number = job.number, -1
        if number == 0:
            if job in self.waiting:
                self.waiting.remove(job)
            return
        for process in self._workers:
            if process.flight.pop(number, None) is not None:
                self.cancelled += 1
                process.send(Frame("cancel", number))
                self.pump()

    # ------------------------------------------------------------------ sending
    def pump(self) -> None:
        """Send what waits as far as the worker takes it."""
        self._pumping = False
        worker = self.worker
        if worker is None or worker.lost:
            return
        slots = worker.metadata.get("slots", 2)
        while self.waiting and len(worker.flight) < slots:
            if self.waiting[0].frames is not None:
                job = self.waiting.popleft()
                self._numbers += 1
                job.number = self._numbers
                worker.flight[job.number] = ([job], time.monotonic())
                worker.send(Frame(job.form, job.number, job.meta["meta"], job.body))
                continue
            if worker.flight and (self._risky(worker) or not self._worth(worker)):
                return
            if self._gathering():
                return
            batch = self._batch()
            if batch:
                self._numbers += 1
                worker.flight[self._numbers] = (batch, time.monotonic())
                items = [[job.form, job.content_type, len(job.body), job.more] for job in batch]
                worker.send(Frame("predict", self._numbers, {"items": items}), [job.body for job in batch])

    def _risky(self, worker: Process) -> bool:
        """Whether a request that a worker may have died over is there or next: it goes with no other."""
        return bool(self.waiting[0].attempts) or any(
            job.attempts for batch, _ in worker.flight.values() for job in batch
        )

    def _worth(self, worker: Process) -> bool:
        """Whether a batch should go before the one with the worker is answered: one as large, so that the worker never
        idles, and batches do not fall apart into single requests."""
        largest = max(len(batch) for batch, _ in worker.flight.values())
        return len(self.waiting) >= min(largest, self.options.batch)

    def _gathering(self) -> bool:
        """Whether the first that waits may wait a little longer for company."""
        if not self.limits.gather or len(self.waiting) >= self.options.batch:
            return False
        loop = asyncio.get_running_loop()
        waited = loop.time() - (self.waiting[0].deadline - self.limits.seconds)
        if waited >= self.limits.gather:
            return False
        if not self._pumping:
            self._pumping = True
            loop.call_later(self.limits.gather - waited, self.pump)
        return True

    def _batch(self) -> list[Job]:
        batch: list[Job] = []
        size = 0
        while self.waiting and len(batch) < self.options.batch:
            job = self.waiting[0]
            if job.frames is not None or (batch and (size + len(job.body) > _FRAME or job.attempts)):
                break
            self.waiting.popleft()
            if job.over:
                continue
            if job.gone is not None and job.gone():
                self.cancelled += 1
                assert job.future is not None
                job.future.cancel()
                continue
            batch.append(job)
            size += len(job.body)
            if job.attempts:  # it may be what killed a worker: nobody goes with it
                break
        return batch

    # ------------------------------------------------------------------ hearing
    def _heard(self, process: Process, frame: Frame) -> None:
        if frame.kind == "stats":
            process.stats = frame.meta
            return
        found = process.flight.get(frame.id)
        if found is None:
            return
        batch, started = found
        if batch[0].frames is not None:
            self._piece(process, batch[0], frame)
            return
        del process.flight[frame.id]
        now = time.monotonic()
        self.batches(len(batch), now - started)
        self._pace += 0.1 * ((now - started) / len(batch) - self._pace)
        self.pump()  # before the answers are written: the worker should not wait for that
        start, body = 0, memoryview(frame.body)
        for job, (status, content_type, length, more) in zip(batch, frame.meta["items"], strict=True):
            if job.future is not None and not job.future.done():
                job.future.set_result(Answer(status, content_type, body[start : start + length], more))
            start += length

    def _piece(self, process: Process, job: Job, frame: Frame) -> None:
        assert job.frames is not None
        job.meta["begun"] = True
        job.deadline = asyncio.get_running_loop().time() + self.limits.seconds
        if frame.kind in ("answer", "error"):
            _, started = process.flight.pop(frame.id)
            job.number = -1
            self._pace += 0.1 * (time.monotonic() - started - self._pace)
        job.frames.put_nowait(frame)
        if job.number < 0:
            self.pump()

    async def _sweep(self) -> None:
        """End what has waited too long, and a worker that has hung."""
        while True:
            await asyncio.sleep(_SWEEP)
            now = asyncio.get_running_loop().time()
            late = [job for job in self.waiting if job.deadline <= now]
            for job in late:
                self.waiting.remove(job)
                self._late(job)
            for process in self._workers:
                for number, (batch, started) in list(process.flight.items()):
                    self._overdue(process, number, batch, now)
                    if time.monotonic() - started > 2 * self.limits.seconds + 5 and batch[0].frames is None:
                        self.log("worker_hangs", model=self.name)
                        process.kill()

    def _overdue(self, process: Process, number: int, batch: list[Job], now: float) -> None:
        for job in batch:
            if job.deadline <= now and not job.over and job.number >= 0:
                self._late(job)
                if job.frames is not None:
                    process.flight.pop(number, None)
                    process.send(Frame("cancel", number))

    def _late(self, job: Job) -> None:
        self.timeouts += 1
        job.number = -1
        job.refuse(Refused(504, f"no answer within {self.limits.seconds:g} s"))
