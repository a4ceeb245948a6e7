"""Growth: memory and time of modelworks as the rows of one table become 10 and 100 times as many.

    python benchmarks/growth.py [--quick] [--rows 10000] [--rounds 1]

The table is the US census (41 columns of numbers and words). A copy's rows differ from the original's: its numbers
are moved a little, so that no row is an exact duplicate of another. Expected: the peak of memory stays within
±10 %, and the time beyond a fixed part grows with the rows within 15 %.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path
from typing import Any

import _data
import _peers
import _results
import numpy as np
from _rounds import interleave, median

TARGET = "income"
MOVED = {
    "age": 1,
    "dividends_from_stocks": 25,
    "capital_gains": 25,
    "wage_per_hour": 10,
    "weeks_worked_in_year": 1,
}
"""Whole numbers, by how much a copy's may differ where they are not 0; instance_weight, a fraction, by 5 %."""
FACTORS = (1, 10, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="500 rows and their tenfold: a check that everything runs"
    )
    parser.add_argument("--rows", type=int, default=10_000, help="rows of the smallest table")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    base = _data.csv("census")["census"]
    if isinstance(base, str):
        raise SystemExit(f"the census table could not be had: {base}")
    rows, factors = (500, FACTORS[:2]) if args.quick else (args.rows, FACTORS)
    work = _peers.CACHE / "work" / "growth"
    work.mkdir(parents=True, exist_ok=True)
    files = {factor: write_copies(base, work / f"x{factor}.csv", rows, factor) for factor in factors}
    contenders = {
        f"{factor}×": lambda seed, factor=factor: _measured(files[factor], factor, seed, args)
        for factor in factors
    }
    results = interleave(contenders, range(args.rounds))
    sizes = {factor: files[factor].stat().st_size / 1e6 for factor in factors}
    for file in files.values():
        file.unlink()
    tables = []
    for verb in ("train", "predict"):
        found = {
            f: (median(results, f"{f}×", f"{verb}_mb"), median(results, f"{f}×", f"{verb}_seconds"))
            for f in factors
        }
        tables.append(f"### modelworks {verb}\n\n{_table(found, sizes, rows)}")
    _results.publish(
        "growth", "Growth of memory and time with rows", tables,
        notes=[
            f"`modelworks train x1.csv --target income --train.epochs=1 --train.batch_size=256`, then `modelworks predict` of the same file; {args.threads} threads, {args.rounds} round(s).",
            "Peak: largest resident set of the process. Linearity: the time that 10× → 100× adds, over ten times what 1× → 10× adds; 1.00 is a straight line.",
        ],
        raw=results, quick=args.quick,
    )  # fmt: skip


def write_copies(base: Path, out: Path, rows: int, copies: int) -> Path:
    """The first `rows` rows, then copies of them with numbers moved; written row by row."""
    random = np.random.default_rng(0)
    with base.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader)
        kept = [row for row, _ in zip(reader, range(rows), strict=False)]
    moved = [(header.index(name), reach) for name, reach in MOVED.items()]
    weight, split = header.index("instance_weight"), header.index("split")
    columns = [index for index in range(len(header)) if index != split]
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([header[index] for index in columns])
        for copy in range(copies):
            steps = random.integers(-1, 2, (len(kept), len(moved)))
            factors = 1 + random.uniform(-0.05, 0.05, len(kept))
            for number, row in enumerate(kept):
                row = list(row)
                if copy:
                    for place, (index, reach) in enumerate(moved):
                        value = int(row[index])
                        row[index] = str(max(1, value + reach * int(steps[number, place]))) if value else "0"
                    row[weight] = f"{float(row[weight]) * factors[number]:.4f}"
                writer.writerow([row[index] for index in columns])
    return out


def _measured(file: Path, factor: int, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    name = f"x{factor}"
    trained = _peers.modelworks(
        "train", file.name, "--target", TARGET, "--name", name, "--overwrite", "--seed", seed, "--train.epochs=1",
        "--train.batch_size=256", cwd=file.parent, threads=args.threads,
    )  # fmt: skip
    answers = file.with_suffix(".answers.csv")
    asked = _peers.modelworks(
        "predict", name, file.name, "--output", answers.name, cwd=file.parent, threads=args.threads
    )
    answers.unlink()
    return {
        "train_seconds": trained.seconds,
        "train_mb": trained.peak_mb,
        "predict_seconds": asked.seconds,
        "predict_mb": asked.peak_mb,
    }


def _table(found: dict[int, tuple[float | None, float | None]], sizes: dict[int, float], rows: int) -> str:
    first = found[1]
    body = []
    for factor, (peak, seconds) in found.items():
        if peak is None or seconds is None or first[0] is None:
            body.append([f"{factor}×", f"{rows * factor:,}", f"{sizes[factor]:,.1f}", *["failed"] * 5])
            continue
        straight = "–"
        if factor == 100 and found[10][1] is not None and first[1] is not None and found[10][1] > first[1]:
            straight = f"{(seconds - found[10][1]) / (10 * (found[10][1] - first[1])):.2f}"
        body.append(
            [
                f"{factor}×", f"{rows * factor:,}", f"{sizes[factor]:,.1f}", f"{peak:,.0f}", f"{100 * (peak / first[0] - 1):+.1f} %",
                f"{seconds:.1f}", f"{1e6 * seconds / (rows * factor):,.0f}", straight,
            ]
        )  # fmt: skip
    return _results.table(
        ["table", "rows", "CSV MB", "peak MB", "against 1×", "seconds", "µs a row", "linearity"], body
    )


if __name__ == "__main__":
    main()
