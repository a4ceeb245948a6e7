"""Track: consumers of the loop's events: metrics.jsonl, the console, TensorBoard. None of them changes training."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, TextIO

from modelworks.core.errors import need
from modelworks.engine.train.loop import Event


class Tracker(Protocol):
    """Anything that follows a training."""

    def __call__(self, event: Event) -> None: ...

    def close(self) -> None: ...


class JsonLog:
    """metrics.jsonl: one line per logged step and per validation; events.jsonl: notes and checkpoints.

    Lines after the step at which a run resumes, or of the checkpoint it goes back to, are cut off: they will be
    written again. `every`: steps between lines; None: about 50 an epoch."""

    def __init__(self, folder: Path, every: int | None = None) -> None:
        self.folder, self.every = folder, every
        self._files = ExitStack()
        self._last = 0

    def __call__(self, event: Event) -> None:
        if event.kind == "start":
            self.every = self.every or max(1, int(event.metrics["steps_an_epoch"]) // 50)
            mode = "a" if event.step else "w"
            self._events = self._files.enter_context(
                (self.folder / "events.jsonl").open(mode, encoding="utf-8")
            )
        if event.kind == "start" or event.step < self._last:  # a rewind
            self._log = self._files.enter_context(_cut(self.folder / "metrics.jsonl", event.step))
        self._last = event.step
        if event.kind == "step" and (
            (event.step % (self.every or 1) and event.step != 1) or not event.metrics
        ):
            return
        if event.kind in ("step", "valid"):
            line = {
                "step": event.step,
                "samples": event.samples,
                "seconds": round(event.seconds, 3),
                "split": "train" if event.kind == "step" else "valid",
                "metrics": dict(event.metrics),
            }
            self._log.write(json.dumps(line) + "\n")
            self._log.flush()
        elif event.message or event.kind == "checkpoint":
            line = {
                "time": round(time.time(), 3),
                "step": event.step,
                "kind": event.kind,
                "message": event.message,
            }
            self._events.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._events.flush()

    def close(self) -> None:
        self._files.close()


def _cut(path: Path, step: int) -> TextIO:
    """The log without the lines after a step, open for more."""
    kept = [line for line in _lines(path) if _step(line) <= step] if step else []
    partial = path.with_suffix(".partial")
    partial.write_text("".join(line + "\n" for line in kept), "utf-8")
    partial.replace(path)
    return path.open("a", encoding="utf-8")


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


class Console:
    """A progress bar on a terminal, one plain line a validation elsewhere."""

    def __init__(
        self, metric: str, minutes: float | None = None, echo: Callable[[str], None] | None = None
    ) -> None:
        self.metric, self.minutes, self.total = metric, minutes, 0
        self.echo = echo or (lambda text: print(text, flush=True))
        self._tokens = 1
        self._shown, self._rate, self._loss = 0.0, 0.0, None
        self._before: Event | None = None
        self._rows, self._seconds = 0, 0.0
        self._best: Any = ""
        self._told, self._line = 0.0, ""
        self._bar = None
        self._task: Any = None
        if sys.stderr.isatty() and echo is None:
            from rich.console import Console as Rich
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.fields[epoch]}"),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[speed]}"),
                TextColumn("{task.fields[loss]}"),
                TextColumn("{task.fields[best]}"),
                TextColumn("{task.fields[left]}"),
                console=Rich(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=1.0, epoch="", speed="", loss="", best="", left="")

    def __call__(self, event: Event) -> None:
        self._follow(event)
        if event.kind == "start":
            self.total = int(event.metrics["total_steps"])
            self._tokens = int(event.metrics.get("tokens_a_row", 1))
        elif event.kind == "step":
            self._loss = event.metrics.get("loss", self._loss)
            now = time.monotonic()
            if now - self._shown < (0.2 if self._bar else 10.0):
                return
            self._shown = now
            self._measure()
            if self._bar is not None:
                self._bar.update(
                    self._task,
                    completed=self._share(event),
                    epoch=f"epoch {event.epoch:.1f}",
                    speed=self._speed(),
                    loss=f"loss {self._loss:.4f}" if self._loss is not None else "",
                    best=self._best,
                    left=self._left(event),
                )
            elif event.seconds > 5:
                self.echo(
                    f"  step {event.step:>7,}  epoch {event.epoch:6.2f}  loss {_number(self._loss)}"
                    f"  {self._speed()}  {self._left(event)}"
                )
        elif event.kind == "valid":
            self._measure()
            value = event.metrics.get(self.metric)
            self._best = f"{self.metric} {_number(value)}"
            loss = event.metrics.get("loss")
            shown = f"  epoch {event.epoch:6.2f}  step {event.step:>7,}  loss {_number(self._loss)}"
            shown += f"  valid loss {_number(loss)}"
            shown += f"  {self.metric} {_number(value)}" if self.metric != "loss" else ""
            now = time.monotonic()
            # Short epochs would fill the screen; a line every other second tells as much. The end brings the last.
            self._line = f"{shown}  {self._speed()}  {self._left(event)}"
            if now - self._told >= 2.0:
                self._told = now
                self._say(self._line)
                self._line = ""
        elif event.kind in ("note", "end") and event.message:
            if event.kind == "end" and self._line:
                self._say(self._line)
            self._say(f"  {event.message}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            self.echo(text)

    def _follow(self, event: Event) -> None:
        """Rows and seconds of steps alone: validating and saving take time in which nothing is trained."""
        before, self._before = self._before, event
        # The first event may follow a resumed past; after a rewind the rows count back.
        if event.kind == "step" and before is not None and event.samples > before.samples:
            self._rows += event.samples - before.samples
            self._seconds += event.seconds - before.seconds

    def _measure(self) -> None:
        if self._seconds > 0:
            self._rate = self._rows / self._seconds
        if self._seconds > 0.05:  # enough to be told alone; shorter spans are told with what follows
            self._rows, self._seconds = 0, 0.0

    def _speed(self) -> str:
        what = "rows" if self._tokens == 1 else "tokens"
        return f"{self._rate * self._tokens:,.0f} {what}/s" if self._rate else ""

    def _share(self, event: Event) -> float:
        share = event.step / self.total if self.total else 1.0
        return min(max(share, event.seconds / (60 * self.minutes) if self.minutes else 0.0), 1.0)

    def _left(self, event: Event) -> str:
        share = self._share(event)
        if share <= 0 or event.seconds < 1:
            return ""
        left = event.seconds * (1 - share) / share
        return (
            f"{left:.0f} s left"
            if left < 100
            else f"{left / 60:.0f} min left"
            if left < 6000
            else f"{left / 3600:.1f} h left"
        )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}"


class TensorBoard:
    """TensorBoard events under tensorboard/ of the Run (extra `tensorboard`)."""

    def __init__(self, folder: Path) -> None:
        need("tensorboard", "tensorboard", "train.tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def __call__(self, event: Event) -> None:
        if event.kind in ("step", "valid"):
            split = "train" if event.kind == "step" else "valid"
            for name, value in event.metrics.items():
                self._writer.add_scalar(f"{split}/{name}", value, event.step)

    def close(self) -> None:
        self._writer.close()
