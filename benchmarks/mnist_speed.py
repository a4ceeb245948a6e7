"""MNIST training speed: modelworks beside hand-written PyTorch, DataLoader, Keras, Lightning, HF Trainer.

    python benchmarks/mnist_speed.py [--quick] [--parts mlp,cnn] [--seeds 3]

The same network, batch 128, Adam 0.001, float32, the same threads. Speed is counted over whole epochs from the
second one on, without start-up, validation or test; accuracy is of the 10,000 test images after the last epoch.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import _data
import _ours
import _peers
import _results
from _rounds import Results, failure, interleave, mean, median, ratio

EPOCHS = {"mlp": 6, "cnn": 3}
PEERS = {
    "PyTorch in memory, fused Adam": ("torch_memory.py",),
    "PyTorch in memory, channels last": ("torch_memory.py", "--layout", "channels_last"),
    "PyTorch + DataLoader": ("torch_loader.py",),
    "Keras (TensorFlow)": ("keras_fit.py",),
    "Lightning": ("lightning_fit.py",),
    "HF Trainer": ("hf_fit.py",),
}
OURS, BASE = "modelworks", "PyTorch in memory, fused Adam"
TITLES = {
    "mlp": "MLP 784–128–10",
    "cnn": "CNN: (conv 3×3 – pool – ReLU) 32, 64 – dense 128 – 10",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a minute's check that everything runs; the figures mean nothing"
    )
    parser.add_argument("--parts", default="mlp,cnn")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    python, data = _peers.environment(), _data.mnist()
    seeds = range(1 if args.quick else args.seeds)
    versions = _peers.versions(python, ["torch", "tensorflow-cpu", "keras", "lightning", "transformers"])
    for part in args.parts.split(","):
        print(f"{TITLES[part]}: {len(seeds)} rounds", flush=True)
        peers = {n: c for n, c in PEERS.items() if part == "cnn" or "channels" not in n}
        contenders: dict[str, Callable[[int], dict[str, Any]]] = {
            OURS: lambda seed, part=part: ours(part, seed, args)
        }
        epochs, limit = (2, 2560) if args.quick else (EPOCHS[part], 60_000)
        for name, (script, *flags) in peers.items():
            contenders[name] = lambda seed, script=script, flags=flags, part=part, epochs=epochs, limit=limit: _peers.ask(
                python, script, "--model", part, "--epochs", epochs, "--limit", limit, "--seed", seed, "--threads", args.threads,
                "--data", data, *flags, threads=args.threads,
            )  # fmt: skip
        results = interleave(contenders, seeds)
        _results.publish(
            "mnist_speed", f"MNIST training speed: {TITLES[part]}", [_table(results)], part=part,
            notes=[
                f"{args.threads} threads each; {len(seeds)} rounds, contenders interleaved; medians, ratios round by round (lowest–highest).",
                f"Samples a second over whole epochs from the second of {epochs} on; start-up, validation and test are outside.",
                "The seconds of a whole process include imports, reading, preparing, test and, for modelworks, audit, evaluation and report.",
            ],
            versions=versions, raw=results, quick=args.quick,
        )  # fmt: skip


def ours(part: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """`modelworks train` on the recipe; the last epoch's weights, as the peers use theirs."""
    work = _peers.CACHE / "work" / "mnist"
    # A quick run stops early instead of using fewer images.
    epochs = {"mlp": 0.3, "cnn": 0.1}[part] if args.quick else EPOCHS[part]
    done = _peers.modelworks(
        "train", _peers.ROOT / "recipes" / f"mnist_{part}.yaml", "--name", part, "--overwrite", "--seed", seed,
        f"--train.epochs={epochs}", "--train.choose=last", f"--train.threads={args.threads}", cwd=work, threads=args.threads,
    )  # fmt: skip
    run = work / "runs" / part
    return {
        "rate": _ours.speed(run, epochs * 30_000 if args.quick else 60_000),
        "accuracy": _ours.figure(run, "accuracy"),
        "parameters": _ours.parameters(run),
        "epochs": epochs,
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
                name, f"{median(results, name, 'rate'):,.0f}", ratio(results, name, BASE, "rate"), ratio(results, OURS, name, "rate"), f"{100 * mean(results, name, 'accuracy'):.2f} %",
                f"{results[name][0]['parameters']:,}", f"{median(results, name, 'wall'):.0f} s", f"{median(results, name, 'peak_mb'):,.0f}",
            ]
        )  # fmt: skip
    columns = [
        "",
        "samples/s",
        "× in memory",
        "modelworks is",
        "test accuracy",
        "parameters",
        "whole process",
        "peak MB",
    ]
    return _results.table(columns, rows)


if __name__ == "__main__":
    main()
