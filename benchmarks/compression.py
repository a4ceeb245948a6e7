"""Compression to 8 bits of five Runs: bytes, quality on the test split, latency of one row, beside the parent.

    python benchmarks/compression.py [--quick] [--parts mnist,table,sentiment,poems,smollm] [--smollm GGUF --text FILE]

Every Run is made by `modelworks compress RUN --target size=0.285`: 3.5 times smaller. The parents are those that the
other benchmarks left in .cache/work; what is not there is trained first (MNIST 2 minutes, the table 1, sentiment 10,
poems 25). SmolLM2-135M is a Run of no training steps that starts from the GGUF file, judged by TEXT's test split.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _data
import _peers
import _results

SIZE = 0.285
FACTOR = 3.5
"""Times smaller that is wanted, and the most that may be lost: points, or per cent of perplexity; and times faster."""
LOST = {"points": 0.5, "%": 2.0}
FASTER = 1.5
WORK = _peers.CACHE / "work"
QUICK = ["--train.steps=20", "--evaluate.bootstrap=20"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a check that everything runs: parents of 20 steps"
    )
    parser.add_argument("--parts", default="mnist,table,sentiment,poems,smollm")
    parser.add_argument("--smollm", type=Path, metavar="GGUF", help="SmolLM2-135M as a GGUF file")
    parser.add_argument("--text", type=Path, metavar="FILE", help="an English text that SmolLM2 is judged by")
    parser.add_argument("--target", default=f"size={SIZE}", help="another target for all of them")
    args = parser.parse_args()
    failed = []
    for part in args.parts.split(","):
        try:
            made = PARTS[part](args)
            if made is not None:
                publish(part, compressed(part, *made, args), args.quick)
        except _peers.Failed as reason:  # the other Runs can be measured all the same
            failed.append(f"{part}: {reason}")
    if failed:
        raise SystemExit("\n".join(failed))


def publish(part: str, told: dict[str, Any], quick: bool) -> None:
    """A section for each Run, so that one may be measured again by itself."""
    _results.publish(
        "compression", f"Compression to 8 bits: {part}", [_results.table(COLUMNS, [line(part, told)])], part=part,
        notes=[
            f"Wanted: {FACTOR}× smaller; at most {LOST['points']:g} points, of perplexity {LOST['%']:g} %, lost on test; {FASTER}× faster where the machine allows.",
            "Bytes are those of model.safetensors. Validation rows chose among the plans where the recipe has some, test rows judge. Time is the processor time of one row on one thread, of a language model of one token after 64, in turns with the parent's.",
            "The way of computing was chosen by measuring: whole numbers (static or dynamic ranges) where they were faster, else float32 of weights stored as int8.",
        ],
        versions=_versions(), raw=told, quick=quick,
    )  # fmt: skip


COLUMNS = [
    "Run", "metric on test", "parent", "8 bits", "lost", "bytes", "times smaller", "ms a row", "times faster",
    "largest difference", "computed", "as wanted",
]  # fmt: skip


def compressed(part: str, parent: Path, flags: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """compression.json of the new Run."""
    name = f"{part}-int8"
    command = ["compress", parent.resolve(), "--target", args.target, "--name", name, "--overwrite"]
    _peers.modelworks(*command, "--steps", 0, "--tries", 3, *flags, cwd=WORK / "compression")
    child = WORK / "compression" / "runs" / name
    return json.loads((child / "compression.json").read_text("utf-8"))


def line(part: str, told: dict[str, Any]) -> list[Any]:
    """A row of the table."""
    whole = told["table"][0]
    child = next(row for row in told["table"] if row["what"] == told["chosen"])
    smaller, faster = 1 / child["size_share"], 1 / child["latency_share"]
    fits = smaller >= FACTOR and child["lost"] <= LOST[told["lost_in"]]
    layers = len(told["edits"][-1].get("layers", {}))
    return [
        part, told["metric"], _quality(whole), _quality(child), f"{child['lost']:+.2f} {told['lost_in']}",
        f"{whole['size_bytes']:,} → {child['size_bytes']:,}", f"{smaller:.2f}", f"{child['latency_ms']:.3g}",
        f"{faster:.2f}", f"{child['max_difference']:.2g} of {child['difference_of']}",
        f"{child['what']}, {layers} layers in whole numbers" if layers else child["what"],
        ("yes" if fits else "no") + ("" if faster >= FASTER else ", slower"),
    ]  # fmt: skip


def _quality(row: dict[str, Any]) -> str:
    quality = row["quality"]
    interval = "" if quality["low"] is None else f" ({quality['low']:.4f}–{quality['high']:.4f})"
    return f"{quality['value']:.4f}{interval}"


# ---------------------------------------------------------------------- the parents
Made = tuple[Path, list[str]] | None


def trained(args: argparse.Namespace, there: Path, *command: Any) -> Path:
    """The Run that another benchmark left, or one that is trained now."""
    if (there / "manifest.json").exists() and not args.quick:
        return there
    name = f"parent-{there.name}{'-quick' if args.quick else ''}"
    run = WORK / "compression" / "runs" / name
    if not (run / "manifest.json").exists():
        print(f"training {name}", flush=True)
        more = QUICK if args.quick else []
        _peers.modelworks("train", *command, "--name", name, "--overwrite", *more, cwd=WORK / "compression")
    return run


def mnist(args: argparse.Namespace) -> Made:
    return trained(args, WORK / "mnist" / "runs" / "cnn", _peers.ROOT / "recipes" / "mnist_cnn.yaml"), []


def table(args: argparse.Namespace) -> Made:
    data = _csv("lending_club")
    run = trained(args, Path("lending_club"), data, "--target", "Class", "--model", "tabular")
    return run, [f"--data.source.path={data}"]


def sentiment(args: argparse.Namespace) -> Made:
    data = _csv("sentiment")
    recipe = _peers.ROOT / "recipes" / "chinese_sentiment.yaml"
    there = WORK / "sentiment" / "runs" / "sentiment"
    return trained(args, there, recipe, f"--data.source.path={data}"), [f"--data.source.path={data}"]


def poems(args: argparse.Namespace) -> Made:
    recipe = _peers.REPOSITORY / "recipes" / "language" / "tang-poems.yaml"
    return trained(args, WORK / "poems" / "runs" / "poems", recipe), []


def smollm(args: argparse.Namespace) -> Made:
    if args.smollm is None or args.text is None:
        print("smollm: left out; give --smollm GGUF and --text FILE", flush=True)
        return None
    name = f"parent-smollm{'-quick' if args.quick else ''}"
    run = WORK / "compression" / "runs" / name
    if not (run / "manifest.json").exists():
        command = ["train", args.text.resolve(), "--task", "language", "--init", args.smollm.resolve()]
        settings = ["--train.steps=0", "--fields.text.length=256", "--evaluate.bootstrap=100"]
        _peers.modelworks(*command, *settings, "--name", name, "--overwrite", cwd=WORK / "compression")
    return run, [f"--data.source.path={args.text.resolve()}"]


def _csv(name: str) -> Path:
    found = _data.csv(name)[name]
    if isinstance(found, str):
        raise _peers.Failed(found)
    return found


def _versions() -> str:
    import torch

    return f"torch {torch.__version__}, 1 of {os.cpu_count()} cores"


PARTS: dict[str, Callable[[argparse.Namespace], Made]] = {
    "mnist": mnist, "table": table, "sentiment": sentiment, "poems": poems, "smollm": smollm,
}  # fmt: skip


if __name__ == "__main__":
    main()
