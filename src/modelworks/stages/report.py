"""Write a Run's report as one offline HTML page, or compare several Runs.

modelworks report runs/titanic
modelworks report runs/a runs/b --output compare.html
"""

from __future__ import annotations

import argparse
from pathlib import Path

from modelworks.core.run import RunFolder
from modelworks.stages import _screen


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks report`."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="one Run, or several to compare")
    parser.add_argument(
        "--output",
        metavar="FILE.html",
        help="where to write (one Run: its own report.html; several: compare.html)",
    )


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    from modelworks.core.errors import UserError
    from modelworks.report import compare
    from modelworks.report import run as page

    if settings:
        raise UserError(f"report takes no settings, got {' '.join(settings)}")
    output = _screen.output_file(args.output)
    found = [RunFolder.find(text) for text in args.runs]
    if len(found) == 1:
        run = found[0]
        if output is not None or not run.complete:
            # The Run's own report is sealed with it; a copy or an unfinished one is written anew.
            written = page.write(run.path, output)
        else:
            run.verify()
            written = run.path / "report.html"
    else:
        written = compare.write([run.path for run in found], output or Path("compare.html"))
    print(written)
    return 0
