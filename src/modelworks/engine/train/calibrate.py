"""Calibrate: a learning rate and a batch size measured on the data, before training begins.

    train: {find_lr: true, batch_size: auto}

Both work on a throwaway copy of the network; what they find is stored in the Run's recipe, so that a resumed or
repeated run measures nothing again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from modelworks.core.field import Field
from modelworks.engine.data.order import batches
from modelworks.engine.data.store import Rows
from modelworks.engine.network import prepare_batch
from modelworks.engine.recipe import Recipe
from modelworks.engine.train.begin import begin
from modelworks.engine.train.lr_find import find_lr
from modelworks.engine.train.parallel import World

SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
ENOUGH = 0.9
"""The smallest batch that reaches this share of the best speed: larger ones only take fewer, blunter steps."""
SECONDS = 0.5
"""Spent on each size."""


def calibrate(recipe: Recipe, fields: Mapping[str, Field], rows: Rows, echo: Callable[[str], None]) -> Recipe:
    """The recipe with batch size and learning rate measured, where it asks for that."""
    train = recipe.train
    if train.batch_size == "auto":
        size, speed = batch_size(recipe, fields, rows)
        echo(f"  batch   {size} rows a step, {speed:,.0f} rows/s")
        train = train.but(batch_size=size)
    if train.find_lr:
        found = learning_rate(recipe.but(train=train), fields, rows)
        if found is None:
            echo("  note    the learning-rate test saw the loss fall nowhere; keeping the default rate")
        else:
            echo(f"  lr      {found:.3g}, by a range test")
        optimizer = train.optimizer if found is None else train.optimizer.but(lr=found)
        train = train.but(optimizer=optimizer, find_lr=False)
    return recipe.but(train=train)


def learning_rate(recipe: Recipe, fields: Mapping[str, Field], rows: Rows, steps: int = 100) -> float | None:
    """A rate from a range test over up to 100 steps; None when the loss never fell."""
    world, size = World.join(recipe.train.device), recipe.train.batch_size
    order = batches(len(rows), len(rows) if size == "full" else min(int(size or 128), len(rows)), recipe.seed)
    step, optimizers = _stepper(recipe, fields, rows, world)

    def at(rate: float) -> float:
        for optimizer in optimizers:
            top = max(group["initial_lr"] for group in optimizer.param_groups)
            for group in optimizer.param_groups:  # groups keep their proportions
                group["lr"] = rate * group["initial_lr"] / top
        return step(next(order)[1])

    return find_lr(at, steps=steps).suggestion


def batch_size(recipe: Recipe, fields: Mapping[str, Field], rows: Rows) -> tuple[int, float]:
    """(rows a step, rows a second): the smallest size that is nearly as fast as the fastest that fits."""
    world = World.join(recipe.train.device)
    speeds: dict[int, float] = {}
    for size in SIZES:
        if speeds and (size > len(rows) // 10):  # an epoch of fewer than ten steps learns little
            break
        try:
            speeds[size] = _speed(recipe, fields, rows, min(size, len(rows)), world)
        except (torch.OutOfMemoryError, MemoryError):
            break
        if speeds[size] < 0.7 * max(speeds.values()):
            break
    best = max(speeds.values())
    size = min(size for size, speed in speeds.items() if speed >= ENOUGH * best)
    return size, speeds[size]


def _speed(recipe: Recipe, fields: Mapping[str, Field], rows: Rows, size: int, world: World) -> float:
    step, _ = _stepper(recipe, fields, rows, world)
    order = batches(len(rows), size, recipe.seed)
    step(next(order)[1])
    started, done = time.perf_counter(), 0
    while done < 3 * size or time.perf_counter() - started < SECONDS:
        positions = next(order)[1]
        step(positions)
        done += len(positions)
    return done / (time.perf_counter() - started)


def _stepper(
    recipe: Recipe, fields: Mapping[str, Field], rows: Rows, world: World
) -> tuple[Callable[[np.ndarray], float], list[torch.optim.Optimizer]]:
    """A fresh network and a function that trains it on some rows and returns the mean loss before the step."""
    assert recipe.task is not None
    assert recipe.model is not None
    network = begin(recipe, fields).network.to(world.device).train()
    players = recipe.task.players(network)
    optimizers = [recipe.train.optimizer.build(player.parameters) for player in players]

    def step(positions: np.ndarray) -> float:
        batch = prepare_batch(rows.gather(positions, list(fields)), fields, world.device, world.generator)
        total = 0.0
        for player, optimizer in zip(players, optimizers, strict=True):
            optimizer.zero_grad(set_to_none=True)
            loss, count = player.loss(batch)
            mean = loss / count
            mean.backward()
            if recipe.train.clip:
                torch.nn.utils.clip_grad_norm_([p for _, p in player.parameters], recipe.train.clip)
            optimizer.step()
            total += float(mean.detach())
        return total

    return step, optimizers
