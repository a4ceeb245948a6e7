"""Regime: how a model is trained: for how long, on what batches, by which optimizer, when to stop and save.

These are the settings under `train:`; `engine/train/loop.py` carries them out. None means "decide for me": the
decision is taken by `resolve`, printed, and stored in the Run's recipe.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from modelworks.core.settings import Settings, merge, read, to_tree
from modelworks.engine.train.adapter import Adapter
from modelworks.engine.train.distil import Distil
from modelworks.engine.train.guard import Guard
from modelworks.engine.train.optim import Optimizer
from modelworks.engine.train.schedule import Schedule


class Train(Settings):
    """How to train."""

    epochs: float | None = Setting(default=None, gt=0)
    """Passes over the training rows; may be a fraction. The first limit reached ends training."""
    steps: int | None = Setting(default=None, ge=0)
    """Optimizer steps."""
    minutes: float | None = Setting(default=None, gt=0)
    """Wall-clock minutes of training, over all resumed parts."""
    batch_size: Annotated[int, Setting(ge=1)] | Literal["full", "auto"] | None = None
    """Rows an optimizer step; `full` for gradient descent on all rows, `auto` for the fastest that fits memory."""
    micro_batch: int | None = Setting(default=None, ge=1)
    """Rows in memory at once; a larger batch is accumulated, with the same result. None: up to 4,096."""
    find_lr: bool = False
    """Measure the learning rate by a range test (Smith 2017) before training begins."""
    freeze: list[str] = []
    """Parameters that are not trained, by name pattern with `*`, as in `model.embed*`."""
    adapter: Adapter | None = None
    """Train small matrices beside the large ones, and what `init` did not have, alone."""
    distil: Distil | None = None
    """Learn from the answers of a Run too."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    l1: float = Setting(default=0.0, ge=0)
    """Weight of the sum of absolute weights (matrices only) in the loss."""
    l2: float = Setting(default=0.0, ge=0)
    """Weight of half the sum of squared weights (matrices only) in the loss; weight decay acts outside of it."""
    clip: float | None = Setting(default=None, gt=0)
    """Largest global norm of the gradient; a longer one is scaled down."""
    ema: float | None = Setting(default=None, gt=0, lt=1)
    """Decay a step of an exponential moving average of the weights, which is then what is validated and kept."""
    validate_every: int | None = Setting(default=None, ge=1)
    """Steps between validations; None: once an epoch."""
    metric: str | None = None
    """Metric of the validation split that chooses the weights; None: the task's primary one, or `loss` where fewer
    than 1,000 rows validate."""
    choose: Literal["best", "last"] = "best"
    """Keep the weights of the best validation or the last ones."""
    patience: int | None = Setting(default=None, ge=1)
    """Stop after so many validations without improvement."""
    target_metric: float | None = None
    """Stop when the metric reaches this."""
    target_loss: float | None = None
    """Stop when the training loss of a step falls to this."""
    guard: Guard = Guard()
    checkpoint_seconds: float = Setting(default=60.0, ge=0)
    """Seconds between checkpoints; 0: only by steps and at the end."""
    checkpoint_steps: int | None = Setting(default=None, ge=1)
    """Steps between checkpoints, besides."""
    keep_checkpoints: int = Setting(default=2, ge=1)
    """Checkpoints kept on disk."""
    log_every: int | None = Setting(default=None, ge=1)
    """Steps between lines of metrics.jsonl; None: about 50 an epoch at the most."""
    threads: int | None = Setting(default=None, ge=1)
    """CPU threads; None: one for small steps, else what torch chooses (engine/train/threads.py)."""
    device: str | None = None
    """`cpu`, `cuda`, `mps`, `cuda:1` …; None: an accelerator when there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the training step's matrix products and convolutions (torch.autocast); weights, their updates and evaluation
    stay float32. `bf16` pays where the processor computes with it: accelerators, CPUs with avx512_bf16 or AMX."""
    channels_last: bool | None = None
    """Store images with channels last in memory; None: where the model has 2-D convolutions."""
    capture: bool | None = None
    """Run each step as one captured graph instead of line by line; None: where it is exact and pays."""
    tensorboard: bool = False
    """Also write TensorBoard events into the Run (extra `tensorboard`)."""

    @model_validator(mode="after")
    def _micro_fits(self) -> Train:
        if self.micro_batch and isinstance(self.batch_size, int) and self.micro_batch > self.batch_size:
            raise ValueError(f"micro_batch {self.micro_batch} is more than batch_size {self.batch_size}")
        return self


def resolve(train: dict[str, Any], suggested: dict[str, Any], rows: int) -> Train:
    """The given settings, then the model's suggestions, then ours, so that nothing is left open but the device.

    `rows`: rows of the training split."""
    given = read(Train, train, "train")
    settings = read(Train, merge(suggested, {k: v for k, v in train.items() if v is not None}), "train")
    changes: dict[str, Any] = {}
    if settings.batch_size is None:
        # Small data wants small steps; large data wants few, efficient ones.
        changes["batch_size"] = max(16, min(256, 1 << max(rows // 40, 1).bit_length()))
    if (
        given.epochs is None
        and given.steps is None
        and given.minutes is None
        and settings.epochs is None
        and settings.steps is None
    ):
        # About 3,000 steps of work, between 3 and 60 passes.
        batch = changes.get("batch_size", settings.batch_size)
        per_epoch = max(rows / (batch if isinstance(batch, int) else rows), 1)
        changes["epochs"] = float(round(min(60, max(3, 3000 / per_epoch))))
    elif (given.steps is not None or given.minutes is not None) and given.epochs is None:
        changes["epochs"] = None  # the user's own limit replaces a suggested one
    return settings.but(**changes) if changes else settings


def describe(train: Train) -> str:
    """One line for people: `10 epochs · batch 128 · adamw lr 0.001 · cosine`."""
    limits = [
        f"{train.epochs:g} epochs" if train.epochs else "",
        f"{train.steps:,} steps" if train.steps is not None else "",
        f"{train.minutes:g} minutes" if train.minutes else "",
    ]
    tree = to_tree(train)
    parts = [
        " or ".join(limit for limit in limits if limit),
        f"batch {train.batch_size}",
        tree["optimizer"]["kind"],
        tree["schedule"]["kind"],
    ]
    return " · ".join(part for part in parts if part)
