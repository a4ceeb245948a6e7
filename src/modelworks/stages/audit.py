"""Profile every column of some data and list what is wrong with it.

modelworks audit titanic.csv --target survived --output audit.html
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from modelworks.core.errors import UserError
from modelworks.stages import _screen
from modelworks.stages._progress import Line


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks audit`."""
    parser.add_argument("source", metavar="FILE", help="a data file, a folder, sample:NAME, hf:OWNER/NAME")
    parser.add_argument(
        "--target",
        metavar="COLUMN",
        help="the column to be learned: looks for leakage, imbalance, suspicious labels",
    )
    parser.add_argument("--output", metavar="FILE.html", help="also write an HTML page (or FILE.json)")
    parser.add_argument(
        "--strict", action="store_true", help="exit with 2 when there is an error among the findings"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the random split that is checked for leaks (0)",
    )


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    if settings:
        raise UserError(f"audit takes no settings, got {' '.join(settings)}")
    from modelworks.report import audit as page

    output = _screen.output_file(args.output)
    with Line() as line:
        line.note("reading and auditing")
        result = audit(args.source, args.target)
    _screen.show(page.renderable(result))
    if output is not None:
        if output.suffix == ".json":
            output.write_text(json.dumps(result, ensure_ascii=False, indent=1), "utf-8")
        else:
            page.write(result, output)
        print(f"→ {output}")
    errors = sum(finding["severity"] == "error" for finding in result["findings"])
    return 2 if args.strict and errors else 0


def audit(source: Any, target: str | None = None) -> dict[str, Any]:
    """Profile every column and list the findings."""
    from modelworks.core.dataset import Dataset
    from modelworks.engine.audit.audit import audit as run_audit
    from modelworks.engine.data.open import source_for

    dataset = (
        source if isinstance(source, Dataset) else Dataset.ingest(source_for(source), name=str(source)[:100])
    )
    if target:
        dataset.need([target])
    return run_audit(dataset, target, None)
