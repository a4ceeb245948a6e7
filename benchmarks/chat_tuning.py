"""A small chat assistant, by the two recipes recipes/language/chat-*.yaml: LoRA on instructions, then DPO on pairs.

    python benchmarks/chat_tuning.py --data DIR --threads 1

DIR holds alpaca_demo/alpaca_en_demo.json.gz and dpo_en_demo.json.gz (LLaMA-Factory's data/); SmolLM2-135M-Instruct comes
as a package from PyPI, or by --smollm FILE. Told are the perplexity of held-out answers before and after the first half,
and of held-out pairs, before and after the second: how often and by how much (in nats) the chosen answer is likelier than
the rejected one, and DPO's own reward margin and accuracy, which are 0 and .5 by definition where it starts. Pairs whose
question is longer than 400 characters are left out: few of their answers' tokens would find room in the context of 192.
DPO is done once for each of FOLDS parts of the pairs, with that part held out, so that every pair judges once.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _data
import _peers
import _results
import numpy as np

RECIPES = _peers.REPOSITORY / "recipes" / "language"
INSTRUCT, PREFER = "alpaca_en_demo.json.gz", "dpo_en_demo.json.gz"
LONGEST, FOLDS = 400, 3


def train(name: str, work: Path, threads: int, *flags: str) -> dict[str, Any]:
    """One recipe, as its header says; figures of the Run."""
    began = time.perf_counter()
    words = ["train", RECIPES / f"{name}.yaml", f"--train.threads={threads}", "--overwrite", *flags]
    _peers.modelworks(*words, cwd=work, threads=threads)
    run = work / "runs" / name
    told = json.loads((run / "evaluation.json").read_text("utf-8"))
    cleaning = json.loads((run / "data.json").read_text("utf-8"))["cleaning"]
    metrics = told["splits"]["test"]
    return {
        **metrics, "seconds": time.perf_counter() - began,
        "training": told.get("training", {}).get("seconds"), "rows": cleaning["rows"],
    }  # fmt: skip


def pairs(source: Path) -> list[dict[str, Any]]:
    """The pairs with short questions, in an order that says nothing."""
    rows = json.loads(gzip.decompress(source.read_bytes()))
    short = [row for row in rows if sum(len(said["value"]) for said in row["conversations"]) <= LONGEST]
    print(f"  {len(short)} of {len(rows)} pairs have questions of at most {LONGEST} characters", flush=True)
    return [short[at] for at in np.random.default_rng(0).permutation(len(short))]


def prefer(given: list[dict[str, Any]], work: Path, threads: int, quick: list[str]) -> list[dict[str, Any]]:
    """The second recipe, with each part of the pairs held out in turn."""
    found = []
    for fold in range(1 if quick else FOLDS):
        rows = [{**row, "split": "test" if at % FOLDS == fold else "train"} for at, row in enumerate(given)]
        (work / PREFER).write_bytes(gzip.compress(json.dumps(rows).encode(), mtime=0))
        told = train("chat-prefer", work, threads, *quick)
        told |= likelier(work / "runs" / "chat-prefer", told, 0.1)
        print(f"  prefer {fold + 1}/{FOLDS}", {name: told[name] for name in TOLD}, flush=True)
        found.append(told)
    return found


def pooled(folds: list[dict[str, Any]], name: str) -> dict[str, float]:
    """A mean over all held-out pairs with its interval, from those of the parts (independent rows, normal errors)."""
    counts = np.array([fold["pairs"] for fold in folds], float)
    value = float(np.average([fold[name]["value"] for fold in folds], weights=counts))
    halves = np.array([(fold[name]["high"] - fold[name]["low"]) / 2 for fold in folds])
    half = float(np.sqrt(((counts * halves) ** 2).sum()) / counts.sum())
    return {"value": value, "low": value - half, "high": value + half}


def mean(folds: list[dict[str, Any]], name: str) -> float:
    """Over all held-out pairs."""
    return float(np.average([fold[name] for fold in folds], weights=[fold["pairs"] for fold in folds]))


TOLD = ("pairs", "before", "after", "accuracy", "margin", "seconds")


def likelier(run: Path, after: dict[str, Any], beta: float) -> dict[str, float]:
    """Margins in nats of held-out pairs, log p(chosen) − log p(rejected), where DPO starts and where it ends."""
    sys.path.insert(0, str(_peers.REPOSITORY / "src"))
    from safetensors.numpy import load_file

    start_N2 = load_file(run / "start.safetensors")["test"].astype(np.float64)
    margin_N = start_N2[:, 0] - start_N2[:, 1]
    before = float(margin_N.mean())
    return {
        "pairs": len(margin_N), "before": before, "likelier_before": float((margin_N > 0).mean()),
        "after": before + after["margin"]["value"] / beta,
    }  # fmt: skip


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--smollm", type=Path, metavar="FILE", help="SmolLM2's GGUF file; left out: from PyPI"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in this folder and keep the Runs")
    parser.add_argument("--quick", action="store_true", help="two steps each")
    args = parser.parse_args()
    smollm = (args.smollm or _data.packaged(*_data.SMOLLM)).resolve()
    with tempfile.TemporaryDirectory(prefix="modelworks-chat-") as folder:
        work = (args.keep or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        place = work / "SmolLM2-135M-Instruct.Q4_1.gguf"
        place.unlink(missing_ok=True)
        place.symlink_to(smollm)
        shutil.copy(args.data / "alpaca_demo" / INSTRUCT, work / INSTRUCT)
        given = pairs(args.data / "alpaca_demo" / PREFER)
        quick = ["--train.steps=2", "--evaluate.bootstrap=20"] if args.quick else []
        # No step: what the model that training starts from makes of the same rows.
        still = ["--name=before", "--train.steps=0", "--evaluate.bootstrap=200"]
        before = _renamed(work, args.threads, *still)
        tuned = train("chat-instruct", work, args.threads, *quick)
        print(
            "  instruct",
            before["perplexity"],
            "→",
            tuned["perplexity"],
            f"{tuned['seconds']:.0f} s",
            flush=True,
        )
        preferred = prefer(given, work, args.threads, quick)
    _publish(before, tuned, preferred, args.quick)


def _renamed(work: Path, threads: int, *flags: str) -> dict[str, Any]:
    """The first recipe under the name `before`."""
    words = ["train", RECIPES / "chat-instruct.yaml", f"--train.threads={threads}", "--overwrite", *flags]
    _peers.modelworks(*words, cwd=work, threads=threads)
    return json.loads((work / "runs" / "before" / "evaluation.json").read_text("utf-8"))["splits"]["test"]


def _publish(
    before: dict[str, Any], tuned: dict[str, Any], preferred: list[dict[str, Any]], quick: bool
) -> None:
    count, seconds = sum(fold["pairs"] for fold in preferred), mean(preferred, "seconds")
    rows = [
        ["perplexity of held-out answers", _with(before["perplexity"]), _with(tuned["perplexity"]), _rows(tuned), f"{tuned['seconds']:.0f}"],
        ["reward margin of held-out pairs", "0", _with(pooled(preferred, "margin")), _rows(preferred[0]), f"{seconds:.0f}"],
        ["accuracy of rewards", ".5", _with(pooled(preferred, "accuracy")), "", ""],
        ["log p(chosen) − log p(rejected), nats", f"{mean(preferred, 'before'):.2f}", f"{mean(preferred, 'after'):.2f}", f"{count} pairs", ""],
        ["chosen likelier than rejected", f"{mean(preferred, 'likelier_before'):.3f}", "–", "", ""],
    ]  # fmt: skip
    table = _results.table(
        ["", "before", "after", "rows: train / valid / test", "seconds, start to end"], rows
    )
    notes = [
        f"Intervals: 95 %, bootstrap over the test rows; one seed. DPO: {len(preferred)} runs, each with another part held out."
    ]
    raw = {"before": before, "tuned": tuned, "preferred": preferred}
    _results.publish(
        "chat_tuning", "A small chat assistant: LoRA, then DPO", [table], notes=notes, raw=raw, quick=quick
    )


def _rows(done: dict[str, Any]) -> str:
    return " / ".join(f"{count:,}" for count in done["rows"].values())


def _with(entry: dict[str, float]) -> str:
    interval = f" ({entry['low']:.3f}–{entry['high']:.3f})" if entry.get("low") is not None else ""
    return f"{entry['value']:.3f}{interval}"


if __name__ == "__main__":
    main()
