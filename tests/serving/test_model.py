"""A model's queue and its worker, with a worker made here: batches, bounds, deaths, streams."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("orjson", reason="the extra serve")

from modelworks.core.errors import UserError
from modelworks.serving import model as models
from modelworks.serving.engine import Options
from modelworks.serving.jobs import Limits
from modelworks.serving.limits import Refused
from modelworks.serving.model import Model
from modelworks.serving.wire import Frame


class Worker:
    """What model.py knows of a worker process; answers when told to."""

    made: list[Worker] = []
    broken = False

    def __init__(self, path: str, on_frame: Any, on_lost: Any) -> None:
        self.path, self.on_frame, self.on_lost = path, on_frame, on_lost
        self.metadata, self.stats, self.flight, self.lost = {"slots": 2, "kind": "rows"}, {}, {}, False
        self.sent: list[tuple[Frame, list[bytes]]] = []
        Worker.made.append(self)

    @classmethod
    async def start(cls, nursery: Any, path: str, options: Options, on_frame: Any, on_lost: Any) -> Worker:
        await asyncio.sleep(0)
        if cls.broken:
            raise UserError("cannot be loaded")
        return cls(path, on_frame, on_lost)

    def send(self, frame: Frame, bodies: Any = None) -> None:
        self.sent.append((frame, list(bodies or [])))

    def answer(self) -> int:
        """Answer the oldest batch with its own bodies; its size."""
        frame, bodies = self.sent.pop(0)
        items = [[200, "text/plain", len(body), {}] for body in bodies]
        self.on_frame(self, Frame("answer", frame.id, {"items": items}, b"".join(bodies)))
        return len(bodies)

    def die(self) -> None:
        self.lost = True
        self.on_lost(self)

    def kill(self) -> None:
        self.die()

    async def end(self, seconds: float) -> None:
        self.lost = True


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    Worker.made, Worker.broken = [], False
    monkeypatch.setattr(models, "Process", Worker)


async def opened(**limits: Any) -> Model:
    found = Model("m", "one", Options("m", batch=4), Limits(**limits), lambda *_, **__: None, None)  # type: ignore[arg-type]
    await found.open()
    return found


def asking(model: Model, body: bytes, gone: Any = None) -> asyncio.Task:
    return asyncio.create_task(model.ask("plain", "", body, {}, gone))


async def turn() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


def test_requests_that_come_together_go_together_and_each_has_its_own_answer() -> None:
    async def work() -> None:
        model = await opened()
        tasks = [asking(model, b"%d" % number) for number in range(10)]
        await turn()
        (worker,) = Worker.made
        assert [worker.answer(), worker.answer()] == [4, 4]
        await turn()
        assert worker.answer() == 2
        assert [bytes((await task).body) for task in tasks] == [b"%d" % number for number in range(10)]

    asyncio.run(work())


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    async def work() -> None:
        model = await opened(queue=3)
        tasks = [asking(model, b"x") for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            await model.ask("plain", "", b"x", {})
        assert (refused.value.status, int(refused.value.headers["Retry-After"]) >= 1) == (429, True)
        await turn()
        Worker.made[0].answer()
        await asyncio.gather(*tasks)

    asyncio.run(work())


def test_what_waits_too_long_is_told_so() -> None:
    async def work() -> None:
        model = await opened(seconds=0.05)
        with pytest.raises(Refused) as refused:
            await model.ask("plain", "", b"x", {})
        assert refused.value.status == 504
        Worker.made[0].answer()  # too late: nobody listens, nothing breaks

    asyncio.run(work())


def test_those_who_hung_up_are_not_asked_about() -> None:
    async def work() -> None:
        model = await opened()
        tasks = [asking(model, b"a", lambda: True), asking(model, b"b")]
        await turn()
        assert Worker.made[0].sent[0][1] == [b"b"]
        assert tasks[0].cancelled()
        assert model.cancelled == 1
        Worker.made[0].answer()
        await tasks[1]

    asyncio.run(work())


def test_a_death_costs_no_request_but_the_one_that_kills() -> None:
    async def work() -> None:
        model = await opened()
        tasks = [asking(model, body) for body in (b"a", b"poison", b"c")]
        await turn()
        assert Worker.made[0].sent[0][1] == [b"a", b"poison", b"c"]
        Worker.made[0].die()
        deaths = 1
        for _ in range(60):
            await asyncio.sleep(0.001)
            worker = Worker.made[-1]
            if worker.lost or not worker.sent:
                continue
            assert len(worker.sent[0][1]) == 1, "after a death each goes alone"
            if any(bodies == [b"poison"] for _, bodies in worker.sent):
                assert len(worker.sent) == 1, "and nothing is sent behind it"
                worker.die()
                deaths += 1
            else:
                worker.answer()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert bytes(found[0].body) == b"a"
        assert bytes(found[2].body) == b"c"
        assert isinstance(found[1], Refused)
        assert (found[1].status, deaths, model.restarts) == (503, 3, 3)

    asyncio.run(work())


def test_a_new_run_takes_over_and_a_broken_one_does_not() -> None:
    async def work() -> None:
        model = await opened()
        first = asking(model, b"x")
        await turn()
        await model.reload("two")
        old, new = Worker.made
        second = asking(model, b"y")
        await turn()
        assert ([bodies for _, bodies in old.sent], [bodies for _, bodies in new.sent]) == (
            [[b"x"]],
            [[b"y"]],
        )
        old.answer()
        new.answer()
        assert (bytes((await first).body), bytes((await second).body), model.path) == (b"x", b"y", "two")
        Worker.broken = True
        with pytest.raises(UserError):
            await model.reload("three")
        assert (model.path, model.ready) == ("two", True)

    asyncio.run(work())


def test_streams_are_cancelled_when_left_and_end_with_an_error_when_the_worker_dies() -> None:
    async def work() -> None:
        model = await opened()
        stream = model.stream("generate", {"prompt": "a"})
        waiting = asyncio.create_task(anext(stream))
        await turn()
        (worker,) = Worker.made
        frame = worker.sent.pop()[0]
        assert (frame.kind, frame.meta) == ("generate", {"prompt": "a"})
        worker.on_frame(worker, Frame("chunk", frame.id, {"text": "b"}))
        assert (await waiting).meta == {"text": "b"}
        await stream.aclose()
        assert worker.sent.pop()[0] == Frame("cancel", frame.id)
        stream = model.stream("generate", {})
        waiting = asyncio.create_task(anext(stream))
        await turn()
        worker.die()
        await turn()
        again = Worker.made[-1]
        assert again.sent[0][0].kind == "generate", "nothing was written yet: it is asked again"
        again.on_frame(again, Frame("chunk", again.sent[0][0].id, {}))
        await waiting
        again.die()
        with pytest.raises(Refused) as refused:
            await anext(stream)
        assert refused.value.status == 503

    asyncio.run(work())


def test_figures_of_a_worker_that_ended_are_kept() -> None:
    from prometheus_client.parser import text_string_to_metric_families as parsed

    from modelworks.serving.metrics import Metrics

    async def work() -> None:
        model = await opened()
        metrics = Metrics({"m": model})
        stats = {"counters": {"rows": 5, "odd": [[{"why": "a"}, 2]]}, "gauges": {"psi": [[{"field": "x"}, 0.5]]},
                 "histograms": {"token_seconds": [[0.1, 1.0], [3, 1, 0], 0.7]}}  # fmt: skip
        for _ in range(2):
            Worker.made[-1].stats = stats
            Worker.made[-1].die()
            await turn()
        Worker.made[-1].stats = stats
        metrics.request("m", "predict", 200, 0.004)
        told = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in parsed(metrics.text().decode())
            for sample in family.samples
        }
        assert told["modelworks_rows_total", "m"] == 15
        assert told["modelworks_odd_total", "a", "m"] == 6
        assert told["modelworks_psi", "m", "x"] == 0.5
        assert told["modelworks_token_seconds_bucket", "0.1", "m"] == 9
        assert told["modelworks_token_seconds_bucket", "+Inf", "m"] == 12
        assert told["modelworks_request_seconds_bucket", "0.005", "m", "predict"] == 1
        assert told["modelworks_request_seconds_bucket", "0.0025", "m", "predict"] == 0
        assert told["modelworks_worker_restarts_total", "m"] == 2

    asyncio.run(work())
