"""Pretraining speed at 10 million parameters: modelworks beside nanoGPT's loop, HF Trainer and litgpt, tokens a second.

    python benchmarks/pretraining.py --text input.txt [--quick] [--rounds 3]

One shape for all: 6 layers, 384 wide, 6 heads, context 256, 8 windows a step (nanoGPT's model for tiny Shakespeare),
learned positions (litgpt has rotary ones alone), LayerNorm, GELU, AdamW, float32; litgpt's `pretrain` compiles its
model. Beside it modelworks' own default of that width and depth. Counted as 6·N floating-point operations a token
(Kaplan et al. 2020, N: matrices of the blocks and the head), and set against the rate at which this machine multiplies
matrices in the same round.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import _ours
import _peers
import _results
from _rounds import Results, failure, interleave, median, ratio

WIDTH, DEPTH, HEADS, CONTEXT, BATCH = 384, 6, 6, 256, 8
SAME = [f"--model.width={WIDTH}", f"--model.depth={DEPTH}", f"--model.heads={HEADS}"]
OURS = {
    "modelworks, the same model": [
        *SAME, "--model.positions=learned", "--model.normalisation=layer", "--model.bias=false", "--model.dropout=0",
        "--model.qk_norm=false", "--model.gated=false", "--model.activation=gelu", "--model.ratio=4", "--task.tied=true",
        "--train.optimizer.kind=adamw", "--train.optimizer.lr=0.001",
    ],
    "modelworks, its default of that size (Muon)": SAME,
}  # fmt: skip
NANO, HF, LIT = "nanoGPT's loop", "HF Trainer, GPT-2", "litgpt, compiled"
LITGPT = ["torch==2.13.0", "litgpt==0.5.13", "torchmetrics==1.9.0", "requests==2.34.2"]
"""An environment of its own: it wants an older huggingface-hub than transformers does."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few steps: a check that everything runs")
    parser.add_argument(
        "--text", type=Path, required=True, help="a text of a million characters, as tiny Shakespeare"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    python = _peers.environment()
    steps, skip = (6, 2) if args.quick else (30, 5)
    shape = [
        "--data", args.text.resolve(), "--threads", args.threads, "--steps", steps, "--skip", skip, "--width", WIDTH,
        "--depth", DEPTH, "--heads", HEADS, "--context", CONTEXT, "--batch", BATCH,
    ]  # fmt: skip
    contenders: dict[str, Any] = {
        name: lambda seed, changed=changed: _ours_run(changed, seed, steps, skip, args)
        for name, changed in OURS.items()
    }
    contenders[NANO] = lambda seed: _peers.ask(
        python, "nanogpt.py", *shape, "--seed", seed, "--speed-only", threads=args.threads
    )
    contenders[HF] = lambda seed: _peers.ask(
        python, "hf_causal.py", *shape, "--seed", seed, threads=args.threads
    )
    contenders[LIT] = lambda seed: _peers.ask(
        _peers.environment("litgpt", LITGPT), "litgpt_fit.py", *shape, "--seed", seed, threads=args.threads
    )
    contenders["products"] = lambda seed: _peers.ask(
        python, "products.py", "--threads", args.threads, threads=args.threads
    )
    results = interleave(contenders, range(1 if args.quick else args.rounds))
    _results.publish(
        "pretraining", "Pretraining at 10 million parameters", [_table(results)],
        notes=[
            f"{args.threads} threads, {1 if args.quick else args.rounds} rounds, interleaved; {steps} steps of {BATCH * CONTEXT:,} tokens, the first {skip} left out; medians.",
            f"Products of 2,048 × 2,048 float32 matrices: torch.mm {_rate(results, 'mkl'):,.0f} GFLOP/s, oneDNN {_rate(results, 'onednn'):,.0f}. Shares are of torch.mm, then of the faster of the two.",
        ],
        versions=f"{_peers.versions(python, ['torch', 'transformers', 'accelerate'])}, {LITGPT[1].replace('==', ' ')}", raw=results, quick=args.quick,
    )  # fmt: skip


def _ours_run(
    changed: list[str], seed: int, steps: int, skip: int, args: argparse.Namespace
) -> dict[str, Any]:
    work = _peers.CACHE / "work" / "pretraining"
    done = _peers.modelworks(
        "train", args.text.resolve(), "--task", "language", "--name", "speed", "--overwrite", "--seed", seed, *changed,
        f"--fields.text.length={CONTEXT}", "--fields.text.tokens=char", f"--train.batch_size={BATCH}",
        f"--train.steps={steps}", "--train.log_every=1", "--train.validate_every=1000000", "--train.choose=last",
        "--evaluate.bootstrap=0", "--data.split.valid=0.01", "--data.split.test=0", f"--train.threads={args.threads}", cwd=work, threads=args.threads,
    )  # fmt: skip
    run = work / "runs" / "speed"
    return {
        "rate": _ours.speed(run, skip * BATCH) * CONTEXT,
        "parameters": _ours.parameters(run),
        "peak_mb": done.peak_mb,
    }


def _rate(results: Results, name: str) -> float:
    return median(results, "products", name) or float("nan")


def _table(results: Results) -> str:
    rows = []
    for name in results:
        if name == "products":
            continue
        if failure(results, name):
            rows.append([name, failure(results, name), *["–"] * 7])
            continue
        learned = "default" not in name and name != LIT
        weights = results[name][0]["parameters"] - WIDTH * CONTEXT * learned
        used = 6 * weights * (median(results, name, "rate") or 0) / 1e9
        best = max(_rate(results, "mkl"), _rate(results, "onednn"))
        rows.append(
            [
                name, f"{median(results, name, 'rate'):,.0f}", ratio(results, name, NANO, "rate"), ratio(results, name, HF, "rate"), ratio(results, name, LIT, "rate"),
                f"{used:,.0f}", f"{used / _rate(results, 'mkl'):.2f}, {used / best:.2f}",
                f"{median(results, name, 'peak_mb'):,.0f}", f"{results[name][0]['parameters']:,}",
            ]
        )  # fmt: skip
    columns = [
        "",
        "tokens/s",
        "× nanoGPT",
        "× HF",
        "× litgpt",
        "GFLOP/s at 6·N",
        "share of products",
        "peak MB",
        "parameters",
    ]
    return _results.table(columns, rows)


if __name__ == "__main__":
    main()
