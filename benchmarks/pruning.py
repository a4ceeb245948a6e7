"""Smaller networks that answer as well: pruned to fewer FLOPs, and small ones taught by large ones.

    python benchmarks/pruning.py [--parts prune,distil] [--quick] [--seeds 5] [--threads 2]

prune    the MNIST CNN and the Chinese sentiment encoder, trained here, by `modelworks compress --only prune`: every
         plan tried, FLOPs as torch counts them, accuracy on the test rows
distil   a CNN of two thin stages on 2,000 labelled digits, alone and taught by the CNN of all 60,000 (train.distil);
         the same rows, seeds and steps for both
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import _data
import _ours
import _peers
import _results
import numpy as np
from _quality import fold_interval

WORK = _peers.CACHE / "work" / "pruning"
CNN, ENCODER = "MNIST CNN", "Chinese sentiment encoder"
PARENTS = {CNN: ("cnn", "mnist_cnn.yaml", 3), ENCODER: ("sentiment", "chinese_sentiment.yaml", 2)}
"""Shown → (Run, recipe, epochs)."""
STUDENT = (
    "--data.split.most=2000", "--model.channels=[4, 8]", "--model.hidden=[16]", "--model.normalisation=batch",
    "--train.batch_size=64", "--train.optimizer.lr=0.003", "--train.schedule.kind=cosine", "--train.choose=last",
    "--evaluate.bootstrap=0",
)  # fmt: skip
EPOCHS, TEMPERATURE, WEIGHT = 20, 4, 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a check that everything runs; the figures mean nothing"
    )
    parser.add_argument("--parts", default="prune,distil", help="which parts to measure (prune,distil)")
    parser.add_argument("--seeds", type=int, default=5, help="students of each kind (5)")
    parser.add_argument("--steps", type=int, default=600, help="training steps of a pruning (600)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fresh", action="store_true", help="train the parents anew")
    args = parser.parse_args()
    for part in args.parts.split(","):
        {"prune": prune, "distil": distil}[part](args)


def parent(shown: str, args: argparse.Namespace) -> Path:
    """The Run that is pruned or that teaches, trained where it is not there yet."""
    name, recipe, epochs = PARENTS[shown]
    name = f"{name}-quick" if args.quick else name
    run = WORK / "runs" / name
    if args.fresh or not (run / "manifest.json").exists():
        source = []
        if shown == ENCODER:
            data = _data.csv("sentiment")["sentiment"]
            if isinstance(data, str):
                raise _peers.Failed(f"the reviews could not be had: {data}")
            source = [f"--data.source={data}"]
        _peers.modelworks(
            "train", _peers.ROOT / "recipes" / recipe, "--name", name, "--overwrite", "--quiet", *source,
            f"--train.epochs={0.05 if args.quick else epochs}", f"--train.threads={args.threads}",
            cwd=WORK, threads=args.threads,
        )  # fmt: skip
    return run


# ------------------------------------------------------------------------------------------- prune
def prune(args: argparse.Namespace) -> None:
    """Every plan of `compress --only prune`, beside the parent."""
    rows, raw = [], {}
    for shown in PARENTS:
        run = parent(shown, args)
        name = f"{run.name}-pruned"
        _peers.modelworks(
            "compress", run, "--target", f"drop={100 if args.quick else 1}", "--only", "prune", "--name", name, "--overwrite", "--quiet",
            "--steps", 8 if args.quick else args.steps, "--tries", 1 if args.quick else 4,
            cwd=WORK, threads=args.threads,
        )  # fmt: skip
        told = raw[shown] = json.loads((WORK / "runs" / name / "compression.json").read_text("utf-8"))
        flops = told["edits"][0]["flops"]
        for row in told["table"]:
            rows.append(_row(shown, row, flops["before"], chosen=row["what"] == told["chosen"]))
    table = _results.table(
        ["", "MFLOPs a row", "fewer", "bytes", "test accuracy (95 %)", "points lost", "ms a row, × parent's"],
        rows,
    )
    _results.publish(
        "pruning", "Structured pruning", [table], part="prune",
        notes=[
            f"`modelworks compress RUN --only prune --target drop=1 --steps {args.steps}`; *: the Run that it wrote, the smallest "
            "of those tried that lose a point at the most. FLOPs by torch's counter, two for a multiply-add.",
            "Units leave by the Taylor criterion for the FLOPs that they cost, in four rounds with tuning after each; the "
            "tensors are smaller, nothing is masked. The recipes have no validation rows, so the choice sees the test rows.",
            "Latency is one row on one thread, the fastest of nine rounds in turns with the parent.",
        ],
        raw=raw, quick=args.quick,
    )  # fmt: skip


def _row(shown: str, row: dict[str, Any], before: int, chosen: bool) -> list[str]:
    quality, share = row["quality"], row["flops_share"]
    return [
        f"{shown}: {row['what']}{' *' if chosen else ''}",
        f"{before * share / 1e6:.2f}",
        f"{1 / share:.2f}×",
        f"{row['size_share']:.2f}",
        f"{100 * quality['value']:.2f} % ({100 * quality['low']:.2f}–{100 * quality['high']:.2f})",
        f"{row['lost']:+.2f}",
        f"{row['latency_share']:.2f}",
    ]


# ------------------------------------------------------------------------------------------- distil
def distil(args: argparse.Namespace) -> None:
    """Students alone and taught, seed by seed."""
    teacher = parent(CNN, args)
    seeds = range(2 if args.quick else args.seeds)
    found: dict[str, list[float]] = {"alone": [], "taught": []}
    raw: dict[str, Any] = {"teacher": _ours.figure(teacher, "accuracy"), **found}
    size = 0
    for seed in seeds:
        for kind in found:
            run = student(kind, seed, teacher, args)
            found[kind].append(_ours.figure(run, "accuracy"))
            size = _ours.parameters(run)
        print(f"seed {seed}: alone {found['alone'][-1]:.4f}, taught {found['taught'][-1]:.4f}", flush=True)
    better = [taught - alone for alone, taught in zip(found["alone"], found["taught"], strict=True)]
    low, high = fold_interval(better)
    large = _ours.parameters(teacher)
    rows = [
        ["teacher, 60,000 labelled rows", f"{large:,}", "", f"{100 * raw['teacher']:.2f} %", ""],
        *(
            [
                f"student {kind}, 2,000 labelled rows", f"{size:,}", f"{large / size:.0f}×", _spread(found[kind]),
                f"{100 * np.mean(better):+.2f} ({100 * low:+.2f} to {100 * high:+.2f})" if kind == "taught" else "",
            ]
            for kind in found
        ),
    ]  # fmt: skip
    table = _results.table(
        ["", "parameters", "smaller", "test accuracy: mean (least–most)", "points over alone (95 %)"], rows
    )
    _results.publish(
        "pruning", "Distillation", [table], part="distil",
        notes=[
            f"MNIST, the same 2,000 training rows of a seed, {EPOCHS} epochs, {len(seeds)} seeds; taught: "
            f"`train.distil: {{teacher: RUN, temperature: {TEMPERATURE}, weight: {WEIGHT}}}`. 10,000 test rows.",
            "The interval is Student's t over the differences seed by seed.",
        ],
        raw=raw, quick=args.quick,
    )  # fmt: skip


def student(kind: str, seed: int, teacher: Path, args: argparse.Namespace) -> Path:
    """A thin CNN on few rows."""
    taught = [
        f"--train.distil.teacher={teacher}", f"--train.distil.temperature={TEMPERATURE}",
        f"--train.distil.weight={WEIGHT}",
    ]  # fmt: skip
    name = f"student-{kind}"
    _peers.modelworks(
        "train", _peers.ROOT / "recipes" / "mnist_cnn.yaml", "--name", name, "--overwrite", "--quiet", "--seed", seed,
        *STUDENT, f"--train.epochs={1 if args.quick else EPOCHS}", f"--train.threads={args.threads}",
        *(taught if kind == "taught" else []), cwd=WORK, threads=args.threads,
    )  # fmt: skip
    return WORK / "runs" / name


def _spread(values: list[float]) -> str:
    return f"{100 * np.mean(values):.2f} % ({100 * min(values):.2f}–{100 * max(values):.2f})"


if __name__ == "__main__":
    main()
