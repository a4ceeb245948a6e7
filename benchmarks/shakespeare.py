"""Tiny Shakespeare by characters: modelworks beside nanoGPT's CPU recipe, tokens and seconds to its loss.

    python benchmarks/shakespeare.py --text input.txt [--quick] [--seeds 3]

The same split (the first 90 % trains), parameters, context (64) and batch (12); the loss is over the whole validation
split, in consecutive windows. modelworks is trained for a share of nanoGPT's 2,000 steps and for all of them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import Any

import _ours
import _peers
import _results
from _rounds import Results, failure, interleave, mean, median, ratio

PEER = "nanoGPT's recipe, 2,000 steps"
TOKENS_A_STEP = 12 * 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a check that everything runs; the figures mean nothing"
    )
    parser.add_argument("--text", type=Path, required=True, help="tiny Shakespeare's input.txt")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", default="220,240,280,2000", help="how long modelworks is trained")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    python, data = _peers.environment(), _split(args.text)
    lengths = [20] if args.quick else [int(steps) for steps in args.steps.split(",")]
    contenders: dict[str, Any] = {
        PEER: lambda seed: _peers.ask(
            python, "nanogpt.py", "--data", args.text.resolve(), "--seed", seed, "--threads", args.threads,
            "--steps", 20 if args.quick else 2000, threads=args.threads,
        )
    }  # fmt: skip
    for steps in lengths:
        contenders[f"modelworks, {steps:,} steps"] = lambda seed, steps=steps: ours(data, steps, seed, args)
    results = interleave(contenders, range(1 if args.quick else args.seeds))
    _results.publish(
        "shakespeare", "Tiny Shakespeare by characters", [_table(results)],
        notes=[
            f"{args.threads} threads each; {1 if args.quick else args.seeds} rounds, contenders interleaved; mean loss (lowest–highest), medians of seconds, ratios round by round.",
            "Seconds are of training alone; start-up, preparing and the final validation are outside.",
        ],
        versions=_peers.versions(python, ["torch"]), raw=results, quick=args.quick,
    )  # fmt: skip


def _split(text: Path) -> Path:
    """nanoGPT's split as rows of a file."""
    whole = text.read_text("utf-8")
    cut = int(0.9 * len(whole))
    out = _peers.CACHE / "work" / "shakespeare" / "shakespeare.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = (("train", whole[:cut]), ("valid", whole[cut:]))
    out.write_text("".join(json.dumps({"text": part, "split": name}) + "\n" for name, part in parts), "utf-8")
    return out


def ours(data: Path, steps: int, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """`modelworks train` on the recipe."""
    work = _peers.CACHE / "work" / "shakespeare"
    _peers.modelworks(
        "train", _peers.ROOT / "recipes" / "shakespeare.yaml", "--name", "shakespeare", "--overwrite", "--seed", seed,
        f"--data.source={data}", f"--train.steps={steps}", f"--train.threads={args.threads}", cwd=work, threads=args.threads,
    )  # fmt: skip
    run = work / "runs" / "shakespeare"
    found = json.loads((run / "evaluation.json").read_text("utf-8"))
    seconds = found["training"]["seconds"]
    return {
        "loss": math.log(_ours.figure(run, "perplexity", "valid")),
        "seconds": seconds,
        "tokens": steps * TOKENS_A_STEP,
        "parameters": _ours.parameters(run),
        "rate": steps * TOKENS_A_STEP / seconds,
    }


def _table(results: Results) -> str:
    rows = []
    for name in results:
        if failure(results, name):
            rows.append([name, failure(results, name), *["–"] * 6])
            continue
        losses = [found["loss"] for found in results[name]]
        rows.append(
            [
                name, f"{mean(results, name, 'loss'):.4f} ({min(losses):.4f}–{max(losses):.4f})",
                f"{results[name][0]['tokens']:,}", f"{results[name][0]['tokens'] / results[PEER][0]['tokens']:.3f}×",
                f"{median(results, name, 'seconds'):.1f}", ratio(results, name, PEER, "seconds"),
                f"{median(results, name, 'rate'):,.0f}", f"{results[name][0]['parameters']:,}",
            ]
        )  # fmt: skip
    columns = ["", "validation loss", "tokens", "× nanoGPT", "seconds", "× nanoGPT", "tokens/s", "parameters"]
    return _results.table(columns, rows)


if __name__ == "__main__":
    main()
