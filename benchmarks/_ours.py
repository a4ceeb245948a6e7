"""What a Run of modelworks says of itself: its speed, its test figures, its size."""

from __future__ import annotations

import json
from pathlib import Path

from _peers import Failed


def speed(run: Path, skip: float) -> float:
    """Training samples a second, from the first logged step with at least `skip` samples to the last one."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    steps = [line for line in lines if line["split"] == "train" and line["samples"] >= skip]
    if len(steps) < 2:
        raise Failed("too few logged steps to tell a speed")
    first, last = steps[0], steps[-1]
    return (last["samples"] - first["samples"]) / (last["seconds"] - first["seconds"])


def figure(run: Path, metric: str, split: str = "test") -> float:
    """A metric of evaluation.json."""
    return _evaluation(run)["splits"][split][metric]["value"]


def parameters(run: Path) -> int:
    """Trained numbers of the network."""
    return _evaluation(run)["training"]["parameters"]


def seconds(run: Path) -> float:
    """Seconds of training."""
    return _evaluation(run)["training"]["seconds"]


def answered(run: Path, label: str, split: str = "test") -> float:
    """Share of a split's answers that are this class."""
    details = _evaluation(run)["details"][split]
    column = details["labels"].index(label)
    return sum(row[column] for row in details["confusion"]) / details["rows"]


def _evaluation(run: Path) -> dict:
    return json.loads((run / "evaluation.json").read_text("utf-8"))
