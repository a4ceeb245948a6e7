"""The training loop: a generator with one yield per optimizer step. Only it changes training state.

    for event in loop(network, task, fields, rows, train, seed, validate=..., checkpoints=...):
        track(event)

Everything random in a step is a function of (seed, step, rank), and the order of rows of (seed, epoch, position):
a checkpoint that holds weights, optimizer, the step and the samples consumed resumes bit for bit.
Losses come as (sum, count) and gradients are divided by the global count, so accumulation, padding and data
parallelism give the same numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.task import Player, Task
from modelworks.engine import heap
from modelworks.engine.checkpoint import Checkpoint, Checkpoints
from modelworks.engine.data.order import batches
from modelworks.engine.data.store import Rows
from modelworks.engine.network import Network
from modelworks.engine.train.capture import Captured
from modelworks.engine.train.fused import stepper
from modelworks.engine.train.guard import Verdict, Watch
from modelworks.engine.train.kept import Kept, copy_of, frozen, moving
from modelworks.engine.train.optim import load_optimizer_tensors, optimizer_tensors, set_lr
from modelworks.engine.train.parallel import World
from modelworks.engine.train.regime import Train
from modelworks.engine.train.schedule import Plateau
from modelworks.engine.train.step import take_step


@dataclass(frozen=True)
class Event:
    """What happened. `start` comes first, with the metrics `total_steps` (0: no limit), `steps_an_epoch` and
    `tokens_a_row` (1 where rows are no windows of text), and with the step that a resumed run goes on from."""

    kind: Literal["start", "step", "valid", "checkpoint", "note", "end"]
    step: int
    samples: int
    epoch: float
    seconds: float
    """Training seconds, over all resumed parts."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    message: str = ""


@dataclass
class State:
    """All that changes while training, but for the tensors of network and optimizers."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    """Validations since the best one."""
    loss: float | None = None
    """Of the last step taken."""
    skip: list[int] = field(default_factory=list)
    """Steps that the guard passes over."""
    guard: list[dict[str, Any]] = field(default_factory=list)
    plateau: dict[str, Any] = field(default_factory=dict)
    optimizers: dict[str, Any] = field(default_factory=dict)


def loop(
    network: Network,
    task: Task,
    fields: Mapping[str, Field],
    rows: Rows,
    train: Train,
    seed: int,
    *,
    validate: Callable[[Network], dict[str, float]] | None = None,
    metric: tuple[str, bool] | None = None,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    world: World | None = None,
    players: tuple[Player, ...] | None = None,
) -> Iterator[Event]:
    """Train `network` in place. When it ends, the network holds the chosen weights.

    `metric`: (name, whether more is better) of the validation's result. `players`: in the place of the task's own."""
    world = world or World()
    heap.keep()
    device = world.device
    network.to(device).train()
    channels_last = _channels_last(network, train)
    if channels_last:
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    players = players or task.players(network)
    if train.precision != "fp32":
        players = tuple(replace(player, loss=_autocast(player.loss, device)) for player in players)
    optimizers = [train.optimizer.build(player.parameters) for player in players]
    steppers = [stepper(optimizer) for optimizer in optimizers]
    state, watches = State(), [Watch(train.guard) for _ in players]
    plateau = Plateau(train.schedule, not metric[1]) if metric and train.schedule.kind == "plateau" else None
    captured = [
        Captured(network, [p for _, p in player.parameters], player.loss)
        if _captures(train, rows, world)
        else None
        for player in players
    ]
    average = Kept(network) if train.ema else None
    best: Kept | None = None
    note = ""

    def restore(loaded: Checkpoint, rewinding: bool = False) -> None:
        nonlocal state, best
        state = State(step=loaded.step, **loaded.state)
        mine = {n[6:]: t for n, t in loaded.weights.items() if n.startswith("model.")}
        network.load_state_dict({**frozen(network), **mine})
        if average is not None:
            for name in average.tensors:
                average.tensors[name].copy_(loaded.weights[f"average.{name}"])
        if any(n.startswith("best.") for n in loaded.weights):
            best = Kept(network)
            for name in best.tensors:
                best.tensors[name].copy_(loaded.weights[f"best.{name}"])
        for player, optimizer in zip(players, optimizers, strict=True):
            prefix = f"{player.name}/"
            tensors = {n[len(prefix) :]: t for n, t in loaded.optimizer.items() if n.startswith(prefix)}
            load_optimizer_tensors(optimizer, tensors, state.optimizers[player.name])
        steppers[:] = [stepper(optimizer) for optimizer in optimizers]  # their lists held the old state
        if not rewinding:  # after a rewind the watch must remember what went wrong
            for watch, remembered in zip(watches, state.guard, strict=True):
                watch.load(remembered)
        if plateau is not None:
            plateau.load(state.plateau)

    def snapshot() -> Checkpoint:
        weights = {f"model.{n}": t for n, t in moving(network).items()}
        weights |= {f"average.{n}": t for n, t in average.tensors.items()} if average else {}
        weights |= {f"best.{n}": t for n, t in best.tensors.items()} if best else {}
        tensors, scalars = {}, {}
        for player, optimizer in zip(players, optimizers, strict=True):
            named, scalars[player.name] = optimizer_tensors(optimizer)
            tensors |= {f"{player.name}/{n}": t for n, t in named.items()}
        state.guard = [watch.state for watch in watches]
        state.plateau = plateau.state if plateau is not None else {}
        state.optimizers = scalars
        return Checkpoint(state.step, weights, tensors, {k: v for k, v in vars(state).items() if k != "step"})

    def save() -> None:
        assert checkpoints is not None
        if world.rank == 0:
            checkpoints.save(snapshot())
        world.wait()

    if checkpoints is not None and (still := frozen(network)):  # kept once, not in every checkpoint
        held = checkpoints.held() if resume else None
        if held is not None:
            network.load_state_dict(held, strict=False)
        elif world.rank == 0:
            checkpoints.hold(still)
    if resume and checkpoints is not None:
        loaded, complaints = checkpoints.load()
        note = "; ".join(complaints)
        if loaded is not None:
            restore(loaded)
            if not complaints and world.rank == 0:  # while one is damaged, older ones are worth keeping
                checkpoints.settle()

    size = len(rows) if train.batch_size == "full" else min(int(train.batch_size or 128), len(rows))
    per_epoch = -(-len(rows) // size)
    total = _total_steps(train, per_epoch)
    every = train.validate_every or per_epoch
    started, saved_at = time.perf_counter() - state.seconds, time.perf_counter()

    def event(kind: Any, metrics: Mapping[str, float] | None = None, message: str = "") -> Event:
        state.seconds = time.perf_counter() - started
        return Event(
            kind, state.step, state.samples, state.samples / len(rows), state.seconds, metrics or {}, message
        )

    yield event(
        "start",
        {
            "total_steps": total if total < 2**62 else 0,
            "steps_an_epoch": per_epoch,
            "tokens_a_row": rows.steps,
        },
    )
    if note:
        yield event("note", message=note)
    if resume and state.step:
        yield event("note", message=f"resumed at step {state.step:,}")
    # A process killed after the last step must not take another, and of no steps none is taken.
    stop = _over(train, total, state, metric) if state.step or not total else ""
    ragged = next((n for n, c in rows.columns.items() if c.ragged), None)
    lengths = None if ragged is None else (lambda positions: rows.lengths(ragged, positions))

    while not stop:  # again only after a rewind
        rewound = False
        for epoch, positions in batches(len(rows), size, seed, state.samples, lengths):
            here = rows.at(epoch)
            factor = train.schedule.factor(state.step, _horizon(train, total, state)) * (
                plateau.factor if plateau else 1.0
            )
            for optimizer in optimizers:
                set_lr(optimizer, factor)
            verdict = Verdict("ok")
            if state.step not in state.skip:
                metrics, verdict = take_step(
                    players,
                    optimizers,
                    steppers,
                    captured,
                    watches,
                    fields,
                    here,
                    positions,
                    train,
                    seed,
                    state.step,
                    world,
                    channels_last,
                )
                metrics["lr"] = optimizers[0].param_groups[0]["lr"]
            else:
                metrics = {}
            if verdict.action != "ok":
                named = ", ".join(map(str, here.row_numbers(positions[:8]).tolist())) + (
                    ", …" if len(positions) > 8 else ""
                )
                message = f"step {state.step}: {verdict.reason}; rows {named}"
                if verdict.action == "stop":
                    raise UserError(
                        message, "lower train.optimizer.lr, set train.clip, or train.guard.action: skip"
                    )
                if verdict.action == "rewind":
                    loaded = checkpoints.load()[0] if checkpoints else None
                    skip = sorted({*state.skip, state.step})
                    if loaded is None:
                        raise UserError(
                            f"{message}; there is no checkpoint to rewind to yet",
                            "set train.checkpoint_steps, or train.guard.action: skip",
                        )
                    restore(loaded, rewinding=True)
                    state.skip = skip
                    yield event("note", message=f"{message}: rewound to step {state.step}, will pass over it")
                    rewound = True
                    break
                yield event("note", message=f"{message}: skipped")
                metrics = {}
            elif average is not None and metrics:
                average.follow(network, min(train.ema or 0.0, (1 + state.step) / (10 + state.step)))
            state.step += 1
            state.samples += len(positions)
            state.loss = metrics.get("loss", state.loss)
            yield event("step", metrics)

            if train.minutes is not None:
                event("step")  # brings the seconds up to date
            stop = _over(train, total, state, metric)
            if validate is not None and (state.step % every == 0 or stop):
                result = _validate(network, average, validate)
                name, more = metric or ("loss", False)
                value = result.get(name, float("nan"))
                if _better(value, state.best, more):
                    state.best, state.best_step, state.stale = value, state.step, 0
                    if train.choose == "best":
                        best = (average and copy_of(average, network)) or Kept(network)
                else:
                    state.stale += 1
                if plateau is not None:
                    plateau.update(value)
                yield event("valid", result)
                stop = stop or _over(train, total, state, metric)
            now = time.perf_counter()
            due = train.checkpoint_steps is not None and state.step % train.checkpoint_steps == 0
            due = due or (0 < train.checkpoint_seconds <= world.agree(now - saved_at))
            if checkpoints is not None and (due or stop):
                event("checkpoint")  # brings the seconds up to date
                save()
                saved_at = time.perf_counter()
                yield event("checkpoint")
            if stop:
                break
        if not rewound:
            break
    if best is not None and train.choose == "best":
        best.swap(network)
    elif average is not None:
        average.swap(network)
    yield event("end", {} if state.best is None else {"best": state.best, "best_step": state.best_step}, stop)


def _autocast(loss: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """The loss with its matrix products and convolutions in half precision; weights and their updates stay float32."""

    def half(batch: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            return loss(batch)

    return half


def _validate(
    network: Network, average: Kept | None, validate: Callable[[Network], dict[str, float]]
) -> dict[str, float]:
    if average is not None:
        average.swap(network)
    try:
        return validate(network)
    finally:
        network.train()
        if average is not None:
            average.swap(network)


def _better(value: float, best: float | None, more: bool) -> bool:
    if value != value:
        return False
    return best is None or best != best or (value > best if more else value < best)


def _over(train: Train, total: int, state: State, metric: tuple[str, bool] | None) -> str:
    """Why training ends at this state; empty while it goes on."""
    name, more = metric or ("loss", False)
    if train.minutes is not None and state.seconds >= 60 * train.minutes:
        return f"{train.minutes:g} minutes are over"
    if state.step >= total:
        return "all steps done"
    if train.target_loss is not None and state.loss is not None and state.loss <= train.target_loss:
        return f"training loss reached {train.target_loss:g}"
    best, wanted = state.best, train.target_metric
    if best is not None and wanted is not None and (best >= wanted if more else best <= wanted):
        return f"{name} reached {train.target_metric:g}"
    if train.patience is not None and state.stale >= train.patience:
        return f"no better {name} for {train.patience} validations"
    return ""


def _total_steps(train: Train, per_epoch: int) -> int:
    limits = [train.steps] if train.steps is not None else []
    if train.epochs is not None:
        limits.append(max(1, round(train.epochs * per_epoch)))
    return min(limits) if limits else 2**62


def _horizon(train: Train, total: int, state: State) -> int:
    """The step at which the schedule ends: the last one, or where the minutes will have run out at today's speed."""
    if train.minutes is None or state.step < 10:
        return total if total < 2**62 else max(1000, state.step)
    return max(state.step + 1, min(total, int(state.step * 60 * train.minutes / max(state.seconds, 1e-9))))


def _captures(train: Train, rows: Rows, world: World) -> bool:
    """Whether steps are worth recording: fixed shapes on a CPU, where bookkeeping is what small networks pay for."""
    if train.capture is not None:
        return train.capture
    return world.size == 1 and world.device.type == "cpu" and not any(c.ragged for c in rows.columns.values())


def _channels_last(network: Network, train: Train) -> bool:
    if train.channels_last is not None:
        return train.channels_last
    return any(isinstance(module, torch.nn.Conv2d) for module in network.modules())
