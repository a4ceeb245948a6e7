"""Tiny Shakespeare by characters: modelworks beside nanoGPT's CPU recipe, tokens and seconds to its loss.

    python benchmarks/shakespeare.py --text input.txt [--quick] [--seeds 3]
    python benchmarks/shakespeare.py --text input.txt --ablate [--steps 160]     every trick off, one at a time
    python benchmarks/shakespeare.py --text input.txt --ablate --steps 2000 --only "all,no n-gram table"
    python benchmarks/shakespeare.py --text input.txt --minutes 10                how low the loss comes in that time

The same split (the first 90 % trains), context (64) and batch (12); the loss is over the whole validation split, in
consecutive windows. modelworks is trained for a share of nanoGPT's 2,000 steps and for all of them, with the recipe's
table of n-grams and, `plain`, without it: then it has nanoGPT's count of parameters.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _ours
import _peers
import _results
from _rounds import Results, failure, interleave, mean, median, ratio

PEER = "nanoGPT's recipe, 2,000 steps"
TOKENS_A_STEP = 12 * 64
EVERY = 40
"""Steps between the validations of an ablation, from which the steps to a loss are interpolated."""
REACHED = (2.2, 2.0, 1.9)
ABLATIONS: dict[str, list[str]] = {
    "all": [],
    "no n-gram table": ["--model.ngrams=1"],
    "n-grams to 2": ["--model.ngrams=2"],
    "n-grams to 3": ["--model.ngrams=3"],
    "no value residuals": ["--model.value_residual=false"],
    "no QK-norm": ["--model.qk_norm=false"],
    "no soft cap": ["--task.softcap=null"],
    "residual outputs start normal": ["--model.zero_residual=false"],
    "head starts normal": ["--task.start=normal"],
    "ReLU², two matrices": ["--model.gated=false", "--model.activation=relu2", "--model.ratio=4"],
    "norms without weights": ["--model.norm_weight=false"],
    "embedding normed": ["--model.embedding_norm=true"],
    "learned positions": ["--model.positions=learned"],
    "AdamW for all, 0.003": ["--train.optimizer.kind=adamw", "--train.optimizer.lr=0.003"],
    "AdamW for all, 0.006": ["--train.optimizer.kind=adamw", "--train.optimizer.lr=0.006"],
    "Muon's momentum 0.95": ["--train.optimizer.momentum=0.95"],
    "constant rate": ["--train.schedule.kind=constant"],
    "stable, then linear decay": ["--train.schedule.kind=wsd", "--train.schedule.decay=0.5"],
}
"""What is changed of the recipe."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a check that everything runs; the figures mean nothing"
    )
    parser.add_argument("--text", type=Path, required=True, help="tiny Shakespeare's input.txt")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--steps", help="how long modelworks is trained; default 120,160,240,2000, ablating 160"
    )
    parser.add_argument(
        "--ablate", action="store_true", help="every trick off, one at a time, without the peer"
    )
    parser.add_argument("--plain-steps", default="240,2000", help="how long it is without a table of n-grams")
    parser.add_argument("--only", help="of the ablation these rows, by name, with commas")
    parser.add_argument("--minutes", type=float, help="train recipes/language/shakespeare.yaml for so long")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    data, seeds = _split(args.text), range(1 if args.quick else args.seeds)
    steps = args.steps or ("160" if args.ablate else "120,160,240,2000")
    lengths = [20] if args.quick else [int(count) for count in steps.split(",")]
    if args.minutes:
        record(data, args)
    elif args.ablate:
        ablate(data, lengths[0], seeds, args)
    else:
        race(data, lengths, seeds, args)


def race(data: Path, lengths: Sequence[int], seeds: Sequence[int], args: argparse.Namespace) -> None:
    """nanoGPT once, modelworks at every length."""
    python = _peers.environment()
    contenders: dict[str, Any] = {
        PEER: lambda seed: _peers.ask(
            python, "nanogpt.py", "--data", args.text.resolve(), "--seed", seed, "--threads", args.threads,
            "--steps", 20 if args.quick else 2000, threads=args.threads,
        )
    }  # fmt: skip
    for steps in lengths:
        contenders[f"modelworks, {steps:,} steps"] = lambda seed, steps=steps: ours(data, steps, seed, args)
    for steps in [20] if args.quick else map(int, args.plain_steps.split(",")):
        contenders[f"modelworks plain, {steps:,} steps"] = lambda seed, steps=steps: ours(
            data, steps, seed, args, "--model.ngrams=1"
        )
    results = interleave(contenders, seeds)
    _results.publish(
        "shakespeare", "Tiny Shakespeare by characters", [_table(results)],
        notes=[
            f"{args.threads} threads each; {len(seeds)} rounds, contenders interleaved; mean loss (lowest–highest), medians of seconds, ratios round by round.",
            "Seconds are of training alone; start-up, preparing and the final validation are outside.",
        ],
        versions=_peers.versions(python, ["torch"]), raw=results, quick=args.quick,
    )  # fmt: skip


def ablate(data: Path, steps: int, seeds: Sequence[int], args: argparse.Namespace) -> None:
    """The recipe, and the recipe with one thing changed."""
    contenders = {
        name: lambda seed, changed=changed: ours(
            data, steps, seed, args, *changed, f"--train.validate_every={EVERY}"
        )
        for name, changed in ABLATIONS.items()
        if args.only is None or name in args.only.split(",")
    }
    results = interleave(contenders, seeds)
    _results.publish(
        "ablation", f"Tiny Shakespeare: {steps} steps, one thing changed at a time", [_ablation(results)], part="" if steps == 160 else str(steps),
        notes=[
            f"benchmarks/recipes/shakespeare.yaml, {args.threads} thread(s), {len(seeds)} seeds, interleaved; mean loss (lowest–highest).",
            f"Steps to a loss: interpolated between validations every {max(EVERY, steps // 8)} steps, mean of the seeds; “–”: a seed did not reach it. Seconds to it: those steps at the run's median pace, validation left out.",
        ],
        raw=results, quick=args.quick,
    )  # fmt: skip


def record(data: Path, args: argparse.Namespace) -> None:
    """The lowest loss in so many minutes, at the size of the recipe."""
    done = _peers.modelworks(
        "train", _peers.REPOSITORY / "recipes" / "language" / "shakespeare.yaml", "--name", "record", "--overwrite",
        f"--data.source={data}", f"--train.minutes={args.minutes}", f"--train.threads={args.threads}",
        cwd=data.parent, threads=args.threads,
    )  # fmt: skip
    run = data.parent / "runs" / "record"
    rows = [
        [f"{step:,}", f"{seconds / 60:.1f}", f"{loss:.4f}"]
        for step, seconds, loss in (
            (line["step"], line["seconds"], math.log(line["metrics"]["perplexity"]))
            for line in _log(run)
            if line["split"] == "valid"
        )
    ]
    _results.publish(
        "record", f"Tiny Shakespeare in {args.minutes:g} minutes", [_results.table(["step", "minutes", "validation loss"], rows)],
        part=f"{args.minutes:g}",
        notes=[
            f"recipes/language/shakespeare.yaml, {_ours.parameters(run):,} parameters, {args.threads} thread(s), one run; loss over the whole validation split; "
            f"kept: {math.log(_ours.figure(run, 'perplexity', 'valid')):.4f}. Peak {done.peak_mb:,.0f} MB.",
        ],
        raw={"rows": rows}, quick=args.quick,
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


def ours(data: Path, steps: int, seed: int, args: argparse.Namespace, *changed: str) -> dict[str, Any]:
    """`modelworks train` on the recipe, changed so."""
    work = _peers.CACHE / "work" / "shakespeare"
    _peers.modelworks(
        "train", _peers.ROOT / "recipes" / "shakespeare.yaml", "--name", "shakespeare", "--overwrite", "--seed", seed,
        f"--data.source={data}", f"--train.steps={steps}", f"--train.threads={args.threads}", *changed, cwd=work, threads=args.threads,
    )  # fmt: skip
    run = work / "runs" / "shakespeare"
    pace, curve = _pace(run), _curve(run)
    seconds = pace * steps
    return {
        "loss": math.log(_ours.figure(run, "perplexity", "valid")),
        "seconds": seconds,
        "pace": pace,
        "tokens": steps * TOKENS_A_STEP,
        "parameters": _ours.parameters(run),
        "rate": steps * TOKENS_A_STEP / seconds,
        **{f"to {loss}": _steps_to(loss, curve) for loss in REACHED if _steps_to(loss, curve) is not None},
    }


def _curve(run: Path) -> list[tuple[int, float]]:
    """(step, validation loss), in order."""
    lines = [line for line in _log(run) if line["split"] == "valid"]
    return [(line["step"], math.log(line["metrics"]["perplexity"])) for line in lines]


def _pace(run: Path) -> float:
    """Seconds a step, the first included, from the parts of the log that hold no validation."""
    seconds, steps, before = 0.0, 0, {"step": 0, "seconds": 0.0, "split": "train"}
    for line in _log(run):
        if line["split"] == before["split"] == "train":
            seconds += line["seconds"] - before["seconds"]
            steps += line["step"] - before["step"]
        before = line
    return seconds / steps


def _log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]


def _steps_to(loss: float, curve: Sequence[tuple[int, float]]) -> float | None:
    """When the curve first comes down to a loss."""
    for (step0, loss0), (step1, loss1) in itertools.pairwise(curve):
        if loss1 <= loss:
            return step0 + (step1 - step0) * (loss0 - loss) / (loss0 - loss1) if loss0 > loss else step0
    return None


def _ablation(results: Results) -> str:
    first, rows = next(iter(results)), []
    for name in results:
        if failure(results, name):
            rows.append([name, failure(results, name), *["–"] * (2 + 2 * len(REACHED))])
            continue
        losses = [found["loss"] for found in results[name]]
        base = mean(results, first, "loss")
        cells = []
        for loss in REACHED:
            steps = [found.get(f"to {loss}") for found in results[name]]
            whole = [count for count in steps if count is not None]
            if len(whole) < len(steps):
                cells += ["–", "–"]
                continue
            steps_to = sum(whole) / len(whole)
            cells += [f"{steps_to:.0f}", f"{(median(results, name, 'pace') or 0.0) * steps_to:.1f}"]
        spread = f"{sum(losses) / len(losses):.4f} ({min(losses):.4f}–{max(losses):.4f})"
        rows.append(
            [
                name,
                spread,
                f"{sum(losses) / len(losses) - (base or 0):+.4f}",
                f"{results[name][0]['parameters']:,}",
                *cells,
            ]
        )
    reached = [head for loss in REACHED for head in (f"steps to {loss}", "seconds")]
    return _results.table(["", "validation loss", "change", "parameters", *reached], rows)


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
