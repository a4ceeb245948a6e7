"""Measure a Run on new labelled data, or show what its held-out rows gave.

modelworks evaluate runs/titanic                   what evaluation.json holds
modelworks evaluate runs/titanic new.csv           every metric with its 95 % interval, beside the baseline
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelworks.core.errors import UserError
from modelworks.core.run import RunFolder
from modelworks.core.settings import overrides
from modelworks.stages import _screen


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks evaluate`."""
    parser.add_argument("run", metavar="RUN", help="a Run's name or folder")
    parser.add_argument(
        "data", metavar="FILE", nargs="?", help="labelled data; left out: the Run's own held-out rows"
    )
    parser.add_argument(
        "--split",
        choices=("train", "valid", "test", "all"),
        help="of data with a `split` column, only these rows (test)",
    )
    parser.add_argument(
        "--bootstrap", type=int, default=200, metavar="N", help="bootstrap replicates for the intervals (200)"
    )
    parser.add_argument("--output", metavar="FILE", help="also write the result as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON alone")


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    if settings:
        raise UserError(
            f"evaluate takes no settings, got {', '.join(overrides(settings))}",
            "the Run's recipe is what it is",
        )
    run, output = RunFolder.find(args.run), _screen.output_file(args.output)
    if args.data is None:
        result = run.evaluation()
        if not result:
            raise UserError(
                f"{run.path}: is unfinished and has no evaluation",
                f"modelworks train --resume --name {run.name}, or give FILE",
            )
    else:
        result = evaluate(run, args.data, split=args.split, bootstrap=args.bootstrap)
    if output is not None:
        output.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        show(result)
    return 0


def evaluate(
    run: RunFolder | str | Path, data: Any, *, split: str | None = None, bootstrap: int = 200
) -> dict[str, Any]:
    """Metrics on labelled data: {"primary", "splits": {"data": {metric: {value, low, high}}}, "rows", …}."""
    import numpy as np

    from modelworks.core.dataset import SPLITS, Dataset
    from modelworks.engine import judge
    from modelworks.engine.data import seen
    from modelworks.engine.data.given import given_codes
    from modelworks.engine.data.joined import joined, parts_of
    from modelworks.engine.data.open import source_for
    from modelworks.engine.data.prepare import prepare
    from modelworks.engine.data.windows import rows_of
    from modelworks.engine.predictor import Predictor
    from modelworks.engine.recipe import of_run
    from modelworks.engine.train.reference import for_data

    run = run if isinstance(run, RunFolder) else RunFolder.find(run)
    predictor = Predictor.load(run)
    dataset = Dataset.ingest(source_for(data), name=str(data)[:100])
    task, fields = predictor.task, predictor.fields
    dataset = joined(dataset, parts_of(fields))
    used = [field.column or name for name, field in fields.items()]
    dataset.need(used)
    codes = np.full(dataset.rows, SPLITS.index("test"), np.uint8)
    if "split" in dataset.columns and "split" not in used and split != "all":
        wanted = split or "test"
        given = given_codes(dataset)
        if not (given == SPLITS.index(wanted)).any():
            raise UserError(f"{data}: has no rows of split {wanted!r}", "--split all takes every row")
        codes[given != SPLITS.index(wanted)] = SPLITS.index("drop")
    elif split not in (None, "all"):
        raise UserError(f"{data}: has no column `split` to choose {split!r} from")
    prepared = prepare(dataset.with_splits(codes), fields, wanted="test")
    prepared.reference = for_data(of_run(run.recipe_tree(), str(run.path)), fields, prepared, "test")
    stored, reference = run.evaluation(), _reference(run)
    trivial = {
        name.removeprefix("baseline."): value
        for name, value in reference.items()
        if name.startswith("baseline.")
    }
    found = seen.recognised(reference, prepared.store("test"))
    judged = judge.evaluate(
        predictor.network,
        task,
        fields,
        rows_of(prepared, "test", task, fields),
        batch_size=predictor.batch_size,
        bootstrap=bootstrap,
        baseline=trivial or None,
    )
    return {
        "primary": stored.get("primary") or task.primary,
        "splits": {"data": judged["metrics"]},
        "details": {"data": judged["details"]},
        "baseline": {"data": judged["baseline"]} if trivial else {},
        "rows": {"data": prepared.report["rows"]["test"]},
        "unreadable": prepared.report["unreadable"]["count"],
        "quarantined": prepared.report["quarantined"],
        "changed": prepared.report["changed"],
        "trained_on": {} if found is None else {"rows": found.rows, "estimate": found.sampled},
    }


def _reference(run: RunFolder) -> dict[str, Any]:
    """The trivial predictor's answer and the rows trained on; empty for a Run of a version that kept neither."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = run.path / "reference.safetensors"
    try:
        return load_file(path) if path.exists() else {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: {error}") from None


def chosen(result: Mapping[str, Any]) -> str:
    """Which metric of the validation rows chose the weights, where that is another."""
    by = result.get("chosen_by")
    return "" if by in (None, result["primary"]) else f"; the weights were chosen by validation {by}"


def show(result: Mapping[str, Any]) -> None:
    """The metrics as a table."""
    from rich.table import Table

    for split, metrics in result["splits"].items():
        table = Table(
            title=f"{split}: {result['rows'][split]:,} rows", title_justify="left", box=None, pad_edge=False
        )
        baseline = result["baseline"].get(split, {})
        table.add_column("metric")
        for heading in ("value", "95 % interval", *(("baseline",) if baseline else ())):
            table.add_column(heading, justify="right")
        for name, entry in metrics.items():
            interval = f"{entry['low']:.4f} – {entry['high']:.4f}" if entry.get("low") is not None else ""
            cells = [name + (" *" if name == result["primary"] else ""), f"{entry['value']:.4f}", interval]
            table.add_row(
                *cells, *([f"{baseline[name]['value']:.4f}" if name in baseline else ""] if baseline else [])
            )
        _screen.show(table)
    print(f"* the task's primary metric{chosen(result)}")
    trained_on = result.get("trained_on") or {}
    if trained_on.get("rows"):
        about = "about " if trained_on["estimate"] else ""
        print(
            f"warning: {about}{trained_on['rows']:,} of {result['rows']['data']:,} rows are among those that the Run"
            " trained on: on new rows it will do worse than these figures say"
        )
    if result.get("unreadable"):
        print(f"warning: {result['unreadable']:,} rows could not be read")
    for reason, count in (result.get("quarantined") or {}).items():
        print(f"warning: {count:,} rows quarantined: {reason}")
    for field, actions in (result.get("changed") or {}).items():
        for action, count in actions.items():
            print(f"note: {field}: {action}: {count:,}")
