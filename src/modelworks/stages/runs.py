"""List the Runs there are, or compare some: recipes and metrics side by side.

modelworks runs
modelworks runs titanic titanic-2
"""

from __future__ import annotations

import argparse
from pathlib import Path

from modelworks.core.errors import UserError
from modelworks.core.run import RUNS, RunFolder
from modelworks.stages import _screen


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks runs`."""
    parser.add_argument("runs", metavar="RUN", nargs="*", help="Runs to compare; none: list all")
    parser.add_argument("--folder", default=str(RUNS), help="where Runs lie (runs)")


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    if settings:
        raise UserError(f"runs takes no settings, got {' '.join(settings)}")
    if args.runs:
        from modelworks.report import compare

        _screen.show(compare.terminal([RunFolder.find(text).path for text in args.runs]))
        return 0
    found = RunFolder.every(Path(args.folder))
    if not found:
        print(f"no Runs under {args.folder}/; modelworks train FILE --target COLUMN makes one")
        return 0
    _screen.show(_table(found))
    return 0


def _table(runs: list[RunFolder]) -> object:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading, justify in (
        ("run", "left"),
        ("task", "left"),
        ("model", "left"),
        ("metric", "left"),
        ("value", "right"),
        ("baseline", "right"),
        ("trained", "right"),
        ("state", "left"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for run in runs:
        tree, result = run.recipe_tree(), run.evaluation()
        splits = result.get("splits", {})
        split = "test" if "test" in splits else "valid"
        metric = result.get("primary", "")
        value = splits.get(split, {}).get(metric, {}).get("value")
        base = result.get("baseline", {}).get(split, {}).get(metric, {}).get("value")
        seconds = result.get("training", {}).get("seconds")
        table.add_row(
            run.name,
            (tree.get("task") or {}).get("kind", ""),
            (tree.get("model") or {}).get("kind", ""),
            f"{split} {metric}" if metric else "",
            "" if value is None else f"{value:.4f}",
            "" if base is None else f"{base:.4f}",
            "" if seconds is None else f"{seconds:.1f} s",
            "complete" if run.complete else "unfinished: --resume",
        )
    return table
