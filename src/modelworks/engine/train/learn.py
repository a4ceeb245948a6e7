"""Learn: build the network of a recipe and run the loop, with the trackers that follow it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from modelworks.core.errors import Problem, RecipeError, did_you_mean
from modelworks.core.field import Field
from modelworks.core.run import RunFolder
from modelworks.core.task import Task
from modelworks.engine import judge
from modelworks.engine.checkpoint import Checkpoints
from modelworks.engine.data.prepare import Prepared
from modelworks.engine.data.store import Rows
from modelworks.engine.data.windows import rows_of
from modelworks.engine.network import Network
from modelworks.engine.recipe import Recipe
from modelworks.engine.train.adapter import merge
from modelworks.engine.train.begin import begin, remember
from modelworks.engine.train.loop import Event, loop
from modelworks.engine.train.parallel import World
from modelworks.engine.train.pictures import Pictures
from modelworks.engine.train.reference import references
from modelworks.engine.train.teacher import taught
from modelworks.engine.train.threads import settle
from modelworks.engine.train.track import Console, JsonLog, TensorBoard, Tracker
from modelworks.metrics.direction import higher_is_better

FEW = 1000
"""Validation rows below which the loss chooses the weights."""


@dataclass
class Learned:
    """A trained network and how it came about."""

    network: Network
    end: Event
    metric: str
    parameters: int
    tokens_a_row: int = 1
    """Over 1 where rows are windows of text."""


def learn(
    run: RunFolder,
    recipe: Recipe,
    fields: Mapping[str, Field],
    prepared: Prepared,
    *,
    resume: bool,
    echo: Callable[[str], None],
    quiet: bool = False,
) -> Learned | None:
    """Train; None on every process but the first."""
    import torch

    train, task = recipe.train, recipe.task
    assert task is not None
    assert recipe.model is not None
    if train.threads:
        torch.set_num_threads(train.threads)
    world = World.join(train.device)
    checkpoints = Checkpoints(run.path / "checkpoints", train.keep_checkpoints)
    going_on = resume and bool(recipe.init) and checkpoints.load()[0] is not None
    beginning = begin(recipe, fields, run if going_on else None)
    network = beginning.network
    if world.rank == 0 and not going_on:
        remember(run, beginning)
    if task.view == "pairs":
        prepared.reference = references(run, prepared, task, fields, network, going_on)
    rows, players = rows_of(prepared, "train", task, fields), None
    if train.distil is not None:
        rows, players = taught(network, recipe, fields, prepared, rows, world.device)
    if not train.threads and world.device.type == "cpu":
        settle(
            network,
            task,
            fields,
            rows,
            len(rows) if train.batch_size == "full" else int(train.batch_size or 128),
        )
    parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
    if beginning.transferred is not None:
        echo(f"  init    {beginning.transferred}")
    adapter = f", {train.adapter.kind} in {len(beginning.adapted)} layers" if train.adapter else ""
    echo(f"  model   {recipe.model.kind}, {beginning.counts}{adapter}, on {world.device}{_threads(world)}")
    valid = rows_of(prepared, "valid", task, fields) if prepared.report["rows"].get("valid") else None
    metric = train.metric or _chooser(task, valid)
    if valid is not None and train.metric:
        _known(metric, judge.evaluate(network, task, fields, valid, limit=64)["metrics"], task.kind)

    def validate(network: Network) -> dict[str, float]:
        assert valid is not None
        return judge.values(
            judge.evaluate(network, task, fields, valid, batch_size=recipe.evaluate.batch_size)
        )

    trackers: list[Tracker] = []
    if world.rank == 0:
        trackers.append(JsonLog(run.path, train.log_every))
        trackers.append(Pictures(run.path, network, task, fields))
        if not quiet:
            trackers.append(Console(metric, train.minutes, None if _tty() else echo))
        if train.tensorboard:
            trackers.append(TensorBoard(run.path))
    event: Event | None = None
    try:
        for event in loop(
            network,
            task,
            fields,
            rows,
            train,
            recipe.seed,
            validate=validate if valid is not None else None,
            metric=(metric, metric != "loss" and higher_is_better(metric)),
            checkpoints=checkpoints,
            resume=resume,
            world=world,
            players=players,
        ):
            for tracker in trackers:
                tracker(event)
    finally:
        for tracker in trackers:
            tracker.close()
    assert event is not None
    merge(network)
    return Learned(network, event, metric, parameters, rows.steps) if world.rank == 0 else None


def _threads(world: World) -> str:
    import torch

    count = torch.get_num_threads()
    return "" if world.device.type != "cpu" else f", {count} thread{'s' if count > 1 else ''}"


def _chooser(task: Task, valid: Rows | None) -> str:
    """The metric that chooses the weights: the task's primary one, or the loss where few rows validate.

    On a hundred rows accuracy moves in steps of a whole point, and the best of many epochs is mostly luck."""
    return task.primary or "loss" if valid is not None and len(valid) >= FEW else "loss"


def _known(metric: str, measured: Iterable[str], task: str) -> None:
    """Refuse a metric that the task does not measure, before training."""
    if metric not in measured:
        message = f"task {task} does not measure {metric!r}"
        raise RecipeError([Problem("train.metric", message, did_you_mean(metric, measured))])


def _tty() -> bool:
    import sys

    return sys.stderr.isatty()
