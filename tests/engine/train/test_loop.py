"""The loop: the same numbers however the work is cut, interrupted, recorded or spread over processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelworks.core.dataset import Dataset
from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.engine.checkpoint import Checkpoints
from modelworks.engine.data.prepare import fit, prepare
from modelworks.engine.data.store import Store
from modelworks.engine.network import Network, build
from modelworks.engine.train.loop import Event, loop
from modelworks.engine.train.regime import Train
from modelworks.fields.category import Category
from modelworks.fields.number import Number
from modelworks.models.mlp import Mlp
from modelworks.tasks.classify import Classify


def rows_of(count: int = 300) -> pa.RecordBatch:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 2))
    label = np.where(x[:, 0] * x[:, 1] + 0.1 * rng.normal(size=count) > 0, "yes", "no")
    return pa.record_batch({"a": x[:, 0], "b": x[:, 1], "label": label})


def make(
    folder: Path, dropout: float = 0.0, normalisation: str = "none"
) -> tuple[Network, Classify, dict[str, Field], Store]:
    torch.set_num_threads(1)
    dataset = Dataset.from_batches([rows_of()])
    fields = fit({"a": Number(), "b": Number(), "label": Category(unknown="quarantine")}, dataset)
    store = prepare(dataset, fields, folder / "cache").store("train")
    task = Classify(target="label")
    model = Mlp(hidden=[16, 16], dropout=dropout, normalisation=normalisation)
    return build(model, task, fields, 0), task, fields, store


def train(**changes: Any) -> Train:
    return Train(
        **{
            "steps": 40,
            "batch_size": 32,
            "optimizer": {"kind": "adamw", "lr": 0.01},
            "capture": False,
            **changes,
        }
    )


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in network.state_dict().items()}


def run(
    folder: Path, settings: Train, stop_at: int | None = None, dropout: float = 0.0, **more: Any
) -> tuple[dict[str, torch.Tensor], list[Event]]:
    network, task, fields, store = make(folder, dropout, more.pop("normalisation", "none"))
    events = []
    for event in loop(network, task, fields, store, settings, 7, **more):
        events.append(event)
        if stop_at is not None and event.step == stop_at and event.kind == "step":
            break
    return weights(network), events


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def close(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor], tolerance: float) -> float:
    worst = max(float((a[name].double() - b[name].double()).abs().max()) for name in a if a[name].numel())
    assert worst <= tolerance, worst
    return worst


def test_it_is_plain_sgd(tmp_path: Path) -> None:
    """Against a loop written out with torch alone: same order, same losses, same weights."""
    settings = train(optimizer={"kind": "sgd", "lr": 0.1, "momentum": 0.9}, schedule="constant", steps=25)
    found, events = run(tmp_path, settings)
    network, _, fields, store = make(tmp_path)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    from modelworks.engine.data.order import batches

    losses = []
    order = batches(len(store), 32, 7)
    for _ in range(25):
        stored = store.gather(next(order)[1])
        batch = {name: fields[name].prepare(v) if name in fields else v for name, v in stored.items()}
        loss = torch.nn.functional.cross_entropy(network(batch), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert np.allclose([e.metrics["loss"] for e in events if e.kind == "step"], losses, rtol=1e-5)
    close(found, weights(network), 1e-5)


def test_no_steps_are_none(tmp_path: Path) -> None:
    network, *_ = make(tmp_path)
    found, events = run(tmp_path, train(steps=0))
    assert same(found, weights(network))
    assert [event.kind for event in events] == ["start", "end"]


@pytest.mark.parametrize("micro", [1, 7, 16])
def test_accumulation_changes_nothing(tmp_path: Path, micro: int) -> None:
    whole, _ = run(tmp_path, train(steps=15))
    pieces, _ = run(tmp_path, train(steps=15, micro_batch=micro))
    close(whole, pieces, 2e-4)


def test_full_batch_is_gradient_descent(tmp_path: Path) -> None:
    """All rows in one step: the loss falls at every step of a small enough rate."""
    _, events = run(
        tmp_path,
        train(
            batch_size="full", epochs=30, steps=None, optimizer={"kind": "gd", "lr": 0.2}, schedule="constant"
        ),
    )
    losses = [e.metrics["loss"] for e in events if e.kind == "step"]
    assert len(losses) == 30
    assert all(b < a for a, b in zip(losses, losses[1:], strict=False))


@pytest.mark.parametrize("kind", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("stop", [1, 13, 29])
def test_resume_is_bit_identical(tmp_path: Path, kind: str, stop: int) -> None:
    settings = train(optimizer={"kind": kind}, checkpoint_steps=5, ema=0.9, clip=1.0, checkpoint_seconds=0)
    straight, events = run(tmp_path, settings, dropout=0.3, checkpoints=Checkpoints(tmp_path / "a"))
    run(tmp_path, settings, stop_at=stop, dropout=0.3, checkpoints=Checkpoints(tmp_path / "b"))
    resumed, later = run(
        tmp_path, settings, dropout=0.3, checkpoints=Checkpoints(tmp_path / "b"), resume=True
    )
    assert same(straight, resumed)
    first = {e.step: e.metrics for e in events if e.kind == "step"}
    for event in later:
        if event.kind == "step":
            assert first[event.step] == event.metrics
    left = Checkpoints(tmp_path / "a").load()[0], Checkpoints(tmp_path / "b").load()[0]
    assert left[0] is not None
    assert left[1] is not None
    assert same(left[0].optimizer, left[1].optimizer)


@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_recorded_steps_are_the_same_bits(tmp_path: Path, normalisation: str) -> None:
    """Dropout, batch statistics and all."""
    plain, a = run(tmp_path, train(), dropout=0.2, normalisation=normalisation)
    recorded, b = run(tmp_path, train(capture=True), dropout=0.2, normalisation=normalisation)
    assert same(plain, recorded)
    assert [e.metrics for e in a if e.kind == "step"] == [e.metrics for e in b if e.kind == "step"]


def test_recording_gives_way_to_what_it_cannot_hold(tmp_path: Path) -> None:
    """A network that looks at its values cannot be recorded; it still trains, and the same."""

    class Odd(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, batch: Any) -> torch.Tensor:
            out = self.inner(batch)
            return out * 2 if float(out.detach().mean()) > 0 else out

    found = []
    for capture in (False, True):
        network, task, fields, store = make(tmp_path)
        network.model = Odd(network.model)
        list(loop(network, task, fields, store, train(capture=capture), 7))
        found.append(weights(network))
    assert same(*found)


def test_best_weights_are_kept(tmp_path: Path) -> None:
    scores = iter([0.1, 0.9, 0.5, 0.2, 0.3, 0.4, 0.1, 0.2])
    seen: list[dict[str, torch.Tensor]] = []

    def validate(network: Network) -> dict[str, float]:
        seen.append(weights(network))
        return {"accuracy": next(scores)}

    found, events = run(
        tmp_path, train(steps=80, validate_every=10), validate=validate, metric=("accuracy", True)
    )
    assert same(found, seen[1])
    assert events[-1].metrics == {"best": 0.9, "best_step": 20}


@pytest.mark.parametrize(
    "settings, scores, step, why",
    [
        ({"patience": 2}, [0.5, 0.4, 0.4, 0.9], 30, "no better"),
        ({"target_metric": 0.8}, [0.5, 0.85, 0.9, 0.9], 20, "reached 0.8"),
        ({"target_loss": 10.0}, [0.5], 1, "training loss"),
        ({"minutes": 1e-9}, [0.5], 1, "minutes"),
        ({"steps": 17}, [0.5, 0.6], 17, "all steps"),
        ({"steps": None, "epochs": 0.5}, [0.5], 5, "all steps"),
    ],
)
def test_whichever_limit_comes_first_ends_it(
    tmp_path: Path, settings: dict[str, Any], scores: list[float], step: int, why: str
) -> None:
    values: Iterator[float] = iter(scores)
    _, events = run(
        tmp_path,
        train(**{"steps": 400, "validate_every": 10, **settings}),
        validate=lambda n: {"m": next(values)},
        metric=("m", True),
    )
    assert events[-1].kind == "end"
    assert events[-1].step == step
    assert why in events[-1].message


def test_half_precision_learns_the_same_and_keeps_full_weights(tmp_path: Path) -> None:
    """bf16 has 8 bits of mantissa: the losses follow those of float32 within a percent, but are not the same."""
    full, reference = run(tmp_path, train())
    half, events = run(tmp_path, train(precision="bf16"))
    assert {t.dtype for t in half.values() if t.is_floating_point()} == {torch.float32}
    pairs = [
        (a.metrics["loss"], b.metrics["loss"])
        for a, b in zip(reference, events, strict=True)
        if a.kind == "step"
    ]
    assert all(abs(a - b) < 0.02 * max(a, 0.1) for a, b in pairs)
    assert not same(full, half)
    captured, _ = run(tmp_path, train(precision="bf16", capture=True))
    assert same(half, captured)


def poisoned(folder: Path, bad_step: int) -> tuple[Network, Classify, dict[str, Field], Store]:
    """A network whose output is not a number at one step."""
    network, task, fields, store = make(folder)
    calls = [0]

    def spoil(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return output * float("nan") if calls[0] == bad_step else output

    network.register_forward_hook(spoil)
    return network, task, fields, store


def test_guard_stops_and_names_rows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"step 11: .*not a number.*rows \d+, \d+"):
        list(loop(*poisoned(tmp_path, 12), train(guard="stop"), 7))


def test_guard_skips_without_touching_the_weights(tmp_path: Path) -> None:
    network, *rest = poisoned(tmp_path, 12)
    before: dict[str, torch.Tensor] = {}
    for event in loop(network, *rest, train(guard="skip"), 7):
        if event.kind == "step" and event.step == 11:
            before = weights(network)
        if event.kind == "step" and event.step == 12:
            assert same(before, weights(network))
            assert event.metrics == {}
    assert all(torch.isfinite(t).all() for t in network.state_dict().values())


def test_guard_rewinds_past_the_bad_step(tmp_path: Path) -> None:
    settings = train(guard="rewind", checkpoint_steps=5, checkpoint_seconds=0)
    network, *rest = poisoned(tmp_path, 13)
    events = list(loop(network, *rest, settings, 7, checkpoints=Checkpoints(tmp_path / "c")))
    notes = [e for e in events if e.kind == "note"]
    assert len(notes) == 1
    assert "rewound to step 10" in notes[0].message
    assert [e.step for e in events if e.kind == "step"] == [*range(1, 13), *range(11, 41)]
    assert events[-1].step == 40


_WORKER = """
import sys, torch
sys.path[:0] = {path!r}
from pathlib import Path
from test_loop import run, train
from modelworks.engine.train.parallel import World
found, events = run(Path({folder!r}), train(steps=12, batch_size=30), world=World.join("cpu"))
import os
if os.environ["RANK"] == "0":
    from safetensors.torch import save_file
    save_file(found, {out!r})
"""


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    alone, _ = run(tmp_path, train(steps=12, batch_size=30))
    out = tmp_path / "both.safetensors"
    code = _WORKER.format(path=[str(Path(__file__).parent), *sys.path], folder=str(tmp_path), out=str(out))
    environment = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(20000 + os.getpid() % 20000),
        "OMP_NUM_THREADS": "1",
    }
    workers = [
        subprocess.Popen([sys.executable, "-c", code], env={**environment, "RANK": str(rank)}, cwd=tmp_path)
        for rank in (0, 1)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    from safetensors.torch import load_file

    close(alone, load_file(out), 1e-4)
