"""Exports beside their Runs: every task and family of models × every format, and the latency of the CNN.

    python benchmarks/exports.py                      # the matrix, then the latency
    python benchmarks/exports.py --executorch PYTHON  # an interpreter that has the extra `executorch`
    python benchmarks/exports.py --transformers PYTHON --llama PYTHON    # those that have transformers, llama_cpp
    python benchmarks/exports.py --run runs/cnn       # latency of this Run instead of a tiny one

Each is `modelworks export`, which compares 100 real rows at batch 1, 7 and 64 and refuses what differs by more than
1e-4 (gguf: a thousandth of the largest score). Latency: ONNX Runtime and eager torch in turns, one thread each, medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import _peers
import _results
import _zoo

FORMATS = ("onnx", "torch", "executorch", "hf", "gguf")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--executorch", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--transformers", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--llama", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--only", nargs="*", help="these of the tiny Runs")
    parser.add_argument("--formats", nargs="*", choices=FORMATS, default=FORMATS)
    parser.add_argument("--part", choices=("matrix", "latency", "all"), default="all")
    parser.add_argument("--run", type=Path, help="the Run whose latency is measured; else a small CNN's")
    parser.add_argument("--data", help="its rows, where its recipe's are no longer there")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--quick", action="store_true", help="three Runs: checks that it works")
    args = parser.parse_args()
    work = _peers.CACHE / "exports"
    chosen = args.only or (["mlp", "cnn", "language"] if args.quick else None)
    if args.part != "latency":
        pythons = {"executorch": args.executorch, "hf": args.transformers, "gguf": args.llama}
        matrix(work, chosen, args.formats, pythons, args.quick)
    if args.part != "matrix":
        run = args.run.resolve() if args.run else _zoo.make(work, ["cnn"])[0][1]
        latency(run, args.data, 10 if args.quick else args.rounds, args.quick)


def matrix(
    work: Path, chosen: list[str] | None, formats: tuple[str, ...], pythons: dict[str, str], quick: bool
) -> None:
    rows, raw = [], []
    for member, run in _zoo.make(work, chosen):
        cells: list[str] = []
        for format in formats:
            found = exported(run, format, pythons.get(format, sys.executable))
            raw.append({"run": member.name, "format": format, **found})
            refused = found.get("refused") or found.get("skipped")
            print(
                member.name,
                format,
                refused or found["max_difference"],
                f"{found['seconds']:.0f} s",
                flush=True,
            )
            if refused and format in ("hf", "gguf"):
                refused = "–"  # most have no class there: the raw figures say why
            cells.append(refused or f"{found['max_difference']:.1e}")
            if proof := found.get("contract"):
                raw[-1]["contract"] = proof
        told = next((one["contract"] for one in raw if one["run"] == member.name and "contract" in one), None)
        recipe = json.loads((run / "fields" / "fields.json").read_text("utf-8"))
        kinds = ", ".join(sorted({entry["settings"]["kind"] for entry in recipe.values()}))
        rows.append([member.name, member.task or "prefer", member.model or "transformer", kinds, *cells,
                     f"{told['equal']} of {told['rows']}" if told and told["rows"] else None])  # fmt: skip
    columns = ["Run", "task", "model", "fields", *formats, "encoded by contract.json alone"]
    good = [one for one in raw if "max_difference" in one]
    ours = [one for one in raw if one in good or one["format"] not in ("hf", "gguf")]
    notes = [
        f"{len(good)} of {len(ours)} exports written, read back by their runtime and compared: largest difference "
        f"{max((one['max_difference'] for one in good if one['format'] != 'gguf'), default=0):.1e}, of gguf "
        f"{max((one['max_difference'] for one in good if one['format'] == 'gguf'), default=0):.1e}; what is refused is said "
        "in one line, and – is one for which transformers or llama.cpp has no class."
    ]
    versions = ", ".join(
        f"{k} {v}" for k, v in sorted({k: v for one in good for k, v in one["versions"].items()}.items())
    )
    _results.publish("exports", "Exports beside their Runs: max difference on 100 real rows, batch 1, 7, 64",
                     [_results.table(columns, rows)], part="matrix", notes=notes, versions=versions, raw=raw, quick=quick)  # fmt: skip


def exported(run: Path, format: str, python: str) -> dict[str, Any]:
    """One export by the command line; what its verification.json says, or the line that refuses it."""
    folder = run.parent.parent / "out" / f"{run.name}-{format}"
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(_peers.REPOSITORY / "src")}
    command = [python, "-m", "modelworks", "export", str(run), "--format", format, "--output", str(folder)]
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=run.parent.parent, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("modelworks:")]
        return {
            "refused": f"refused: {(lines or done.stderr.splitlines() or ['?'])[-1][:160]}",
            "seconds": seconds,
        }
    found = json.loads((folder / "verification.json").read_text("utf-8"))
    return {**found["verification"], "versions": found.get("versions", {}), "seconds": seconds}


def latency(run: Path, data: str | None, rounds: int, quick: bool) -> None:
    """Milliseconds a call, ONNX Runtime and eager torch in turns on the same rows and one thread."""
    import torch

    from modelworks.core.run import RunFolder
    from modelworks.engine.export import onnx
    from modelworks.engine.export._graph import Graph
    from modelworks.engine.export._rows import Rows
    from modelworks.engine.predictor import Predictor
    from modelworks.stages.export import export

    torch.set_num_threads(1)
    os.chdir(run.parent.parent)
    folder = Path("out") / f"{run.name}-latency"
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    export(RunFolder(run), "onnx", folder, data=data)
    predictor = Predictor.load(RunFolder(run))
    rows = Rows.of(RunFolder(run), predictor, 100, data)
    graph, session = Graph(predictor, rows.example()), onnx.open_(folder, threads=1)
    table, raw = [], []
    for size in (1, 7, 64):
        feeds = graph.feeds(rows.batch(range(size)))
        tensors = [torch.from_numpy(array) for array in feeds.values()]
        calls = max(1, 40 // size)

        def eager(tensors: Any = tensors) -> None:
            with torch.inference_mode():
                graph(*tensors)

        def theirs(feeds: Any = feeds) -> None:
            session.predict(feeds)

        times: dict[str, list[float]] = {"torch": [], "onnx": []}
        for turn in range(rounds + 3):
            for name, call in (("torch", eager), ("onnx", theirs)):
                started = time.perf_counter()
                for _ in range(calls):
                    call()
                if turn >= 3:  # the first ones warm up
                    times[name].append((time.perf_counter() - started) / calls * 1000)
        middle = {name: statistics.median(found) for name, found in times.items()}
        ratio = statistics.median(o / t for o, t in zip(times["onnx"], times["torch"], strict=True))
        table.append([size, f"{middle['torch']:.3f}", f"{middle['onnx']:.3f}", f"{ratio:.2f}"])
        raw.append({"batch": size, "ms": middle, "ratio": ratio, "all": times})
    recipe = RunFolder(run).recipe_tree()
    source = recipe["data"]["source"]
    what = f"{recipe['model']['kind']} on {source.get('name') or source.get('path')}"
    versions = f"torch {torch.__version__}, onnxruntime {session.version}"
    _results.publish("exports", f"ONNX Runtime beside eager torch: {what}, one thread",
                     [_results.table(["batch", "eager torch, ms", "ONNX Runtime, ms", "ratio (median of turns)"], table)],
                     part="latency", notes=[f"{rounds} rounds in turns; field preparation is in both."], versions=versions, raw=raw, quick=quick)  # fmt: skip


if __name__ == "__main__":
    main()
