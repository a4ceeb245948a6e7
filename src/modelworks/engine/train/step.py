"""One optimizer step of every player: gather, augment, forward, backward, guard, update."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from modelworks.core.field import Field
from modelworks.core.task import Player
from modelworks.engine.data.store import Rows
from modelworks.engine.network import prepare_batch
from modelworks.engine.train.capture import Captured
from modelworks.engine.train.guard import Verdict, Watch
from modelworks.engine.train.parallel import World
from modelworks.engine.train.regime import Train

MICRO_BATCH = 4096
"""Rows in memory at once where the recipe does not say."""


def take_step(
    players: tuple[Player, ...],
    optimizers: list[torch.optim.Optimizer],
    steppers: list[Callable[[], None]],
    captured: list[Captured | None],
    watches: list[Watch],
    fields: Mapping[str, Field],
    rows: Rows,
    positions: np.ndarray,
    train: Train,
    seed: int,
    step: int,
    world: World,
    channels_last: bool,
) -> tuple[dict[str, float], Verdict]:
    """One optimizer step of every player: gather, augment, forward, backward, guard, update."""
    world.seed(seed, step)
    mine = world.share(positions)
    micro = train.micro_batch or MICRO_BATCH
    pieces = [mine[start : start + micro] for start in range(0, len(mine), micro)]
    # One piece on one process: the mean is differentiated at once, which costs nothing.
    alone = len(pieces) == 1 and world.size == 1
    metrics: dict[str, float] = {}
    verdict = Verdict("ok")
    batch: dict[str, Tensor] = {}
    for player, optimizer, update, capture, watch in zip(
        players, optimizers, steppers, captured, watches, strict=True
    ):
        total, count = 0.0, 0
        cleared = False
        for piece in pieces:
            if not batch or not alone:  # the players of one step see the same rows
                batch = prepare_batch(
                    rows.gather(piece, list(fields)), fields, world.device, world.generator, channels_last
                )
            done = capture(batch) if capture is not None and alone else None
            if done is None:
                if not cleared:
                    optimizer.zero_grad(set_to_none=True)
                    cleared = True
                loss, counted = done = player.loss(batch)
                (loss / counted if alone else loss).backward(
                    inputs=[p for _, p in player.parameters] if len(players) > 1 else None
                )
            total, count = total + float(done[0].detach()), count + int(done[1])
        if not alone:
            total, count = world.sum(total, count)
            world.sum_gradients(player.parameters)
            for _, parameter in player.parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(max(count, 1))
        mean = total / max(count, 1)
        if train.l1 or train.l2:
            mean += _penalise(player, train)
        norm = None
        if train.clip:
            norm = float(torch.nn.utils.clip_grad_norm_([p for _, p in player.parameters], train.clip))
        verdict = watch.check(mean, norm)
        if verdict.action != "ok":
            return metrics, verdict
        update()
        metrics["loss" if len(players) == 1 else f"loss_{player.name}"] = mean
        if norm is not None:
            metrics["gradient_norm"] = norm
    if len(players) > 1:
        metrics["loss"] = sum(metrics[f"loss_{player.name}"] for player in players)
    return metrics, verdict


def _penalise(player: Player, train: Train) -> float:
    """Add the gradients of the L1 and L2 penalties on matrices; returns the penalty."""
    penalty = 0.0
    with torch.no_grad():
        for _, parameter in player.parameters:
            if parameter.dim() < 2 or parameter.grad is None:
                continue
            if train.l1:
                parameter.grad.add_(parameter.sign(), alpha=train.l1)
                penalty += train.l1 * float(parameter.abs().sum())
            if train.l2:
                parameter.grad.add_(parameter, alpha=train.l2)
                penalty += train.l2 * 0.5 * float(parameter.square().sum())
    return penalty
