"""Tables: modelworks without any setting beside gradient-boosted trees with their defaults.

    python benchmarks/tables.py [--quick] [--parts titanic,lending_club,ames,census]

Real tables: Titanic (with the names), lending_club, ames, US census income 1994–95. Five folds, the same for all
(census: its own test set); AUC or R² on rows that nobody has seen, computed here for all from written predictions.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _data
import _peers
import _results
import numpy as np
from _folds import TABLES, column, truth, without, write_folds
from _quality import auc, bootstrap_interval, fold_interval, r2, standard_error
from _rounds import Results, failure, interleave, median

OURS, BASE = "modelworks", "HistGradientBoosting"
PEERS = {BASE: "hist", "XGBoost": "xgboost", "LightGBM": "lightgbm"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="two folds, five epochs, few rows: a check that everything runs"
    )
    parser.add_argument("--parts", default=",".join(TABLES))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    python = _peers.environment()
    parts = args.parts.split(",")
    versions = _peers.versions(python, ["scikit-learn", "xgboost-cpu", "lightgbm"])
    for name, path in _data.csv(*parts).items():
        title = f"Table {TABLES[name].title}"
        if isinstance(path, str):
            text = f"Left out: the data could not be had here ({path})."
            _results.publish("tables", title, [text], part=name, quick=args.quick)
            continue
        print(TABLES[name].title, flush=True)
        folds = write_folds(name, path, args.quick)
        results = interleave(_contenders(name, folds, python, args), range(len(folds)))
        _results.publish(
            "tables", title, [_table(name, folds, results)], part=name, notes=_notes(len(folds), args.threads),
            versions=versions, raw=results, quick=args.quick,
        )  # fmt: skip


def _notes(folds: int, threads: int) -> list[str]:
    interval = (
        f"± is the standard error over {folds} folds; the difference to {BASE} is paired, with its 95 % interval over folds (Student's t)."
        if folds > 1
        else f"The difference to {BASE} has its 95 % interval over 200 resamplings of the test rows."
    )
    return [
        "modelworks: `modelworks train fold.csv --target COLUMN`, no settings, the test rows marked by a column `split`; "
        "a tenth of the training rows chooses its weights. The peers: their defaults, on all training rows.",
        f"{interval} Better or worse: the interval leaves 0 out; otherwise the difference is within noise.",
        f"Seconds are of a whole process on {threads} threads: reading, fitting and predicting; modelworks also validates, audits and writes its report.",
    ]


# ------------------------------------------------------------------------------------------- contenders
def _contenders(
    name: str, folds: list[Path], python: Path, args: argparse.Namespace
) -> dict[str, Callable[[int], dict[str, Any]]]:
    contenders: dict[str, Callable[[int], dict[str, Any]]] = {
        OURS: lambda fold: _ours(name, folds[fold], args)
    }
    for label, kind in PEERS.items():
        contenders[label] = lambda fold, kind=kind: _peer(name, kind, folds[fold], python, args)
    return contenders


def _ours(name: str, fold: Path, args: argparse.Namespace) -> dict[str, Any]:
    quick = ["--train.epochs=5"] if args.quick else []
    trained = _peers.modelworks(
        "train",
        "fold.csv",
        "--target",
        TABLES[name].target,
        "--name",
        "run",
        "--overwrite",
        *quick,
        cwd=fold,
        threads=args.threads,
    )
    # The answer must not be in the rows that are asked about.
    without(fold / "test.csv", fold / "asked.csv", TABLES[name].target)
    asked = _peers.modelworks(
        "predict", "run", "asked.csv", "--output", "answers.csv", cwd=fold, threads=args.threads
    )
    wanted = f"probability_{TABLES[name].positive}" if TABLES[name].positive else "prediction"
    scores = np.array(column(fold / "answers.csv", wanted), float)
    np.savetxt(fold / "modelworks.txt", scores)
    return {
        "score": _score(name, fold, scores),
        "seconds": trained.seconds + asked.seconds,
        "peak_mb": trained.peak_mb,
    }


def _peer(name: str, kind: str, fold: Path, python: Path, args: argparse.Namespace) -> dict[str, Any]:
    table = TABLES[name]
    answer = _peers.ask(
        python, "boosted.py", kind, "--train", fold / "train.csv", "--test", fold / "test.csv", "--target", table.target,
        "--task", "classify" if table.positive else "regress", "--positive", table.positive, "--threads", args.threads,
        "--output", fold / f"{kind}.txt", threads=args.threads,
    )  # fmt: skip
    return {
        "score": _score(name, fold, np.loadtxt(fold / f"{kind}.txt")),
        "seconds": answer["wall"],
        "peak_mb": answer["peak_mb"],
    }


def _score(name: str, fold: Path, scores: np.ndarray) -> float:
    return (auc if TABLES[name].positive else r2)(truth(name, fold), scores)


# ------------------------------------------------------------------------------------------- table
def _table(name: str, folds: list[Path], results: Results) -> str:
    rows = []
    base = [result.get("score") for result in results[BASE]]
    for label in results:
        if failure(results, label):
            rows.append([label, failure(results, label), *["–"] * 4])
            continue
        scores = [result.get("score") for result in results[label]]
        had = [score for score in scores if score is not None]
        error = f" ± {standard_error(had):.4f}" if len(had) > 1 else ""
        pairs = [a - b for a, b in zip(scores, base, strict=True) if a is not None and b is not None]
        difference, verdict = "–", "–"
        if label != BASE and pairs:
            if len(folds) > 1:
                low, high = fold_interval(pairs)
            else:
                one, other = (
                    np.loadtxt(folds[0] / f"{PEERS.get(which, which)}.txt") for which in (label, BASE)
                )
                low, high = bootstrap_interval(
                    auc if TABLES[name].positive else r2, truth(name, folds[0]), one, other
                )
            difference = f"{np.mean(pairs):+.4f} ({low:+.4f} to {high:+.4f})"
            verdict = (
                "better"
                if low > 0
                else "worse"
                if high < 0
                else f"{'higher' if np.mean(pairs) >= 0 else 'lower'}, within noise"
            )
        missed = f" ({len(scores) - len(had)} folds failed)" if len(had) < len(scores) else ""
        rows.append(
            [
                label,
                f"{np.mean(had):.4f}{error}{missed}",
                difference,
                verdict,
                f"{median(results, label, 'seconds'):.1f}",
                f"{median(results, label, 'peak_mb'):,.0f}",
            ]
        )
    return _results.table(
        ["", "AUC" if TABLES[name].positive else "R²", f"− {BASE}", "verdict", "s a fold", "peak MB"], rows
    )


if __name__ == "__main__":
    main()
