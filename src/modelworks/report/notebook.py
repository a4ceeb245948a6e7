"""What a Run and an audit show in a notebook: fragments of HTML that carry their own style.

class Run:
    def _repr_html_(self) -> str:
        return run_html(self.path)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelworks.report import audit as audit_report
from modelworks.report import curves, verdict
from modelworks.report.folder import figure, read
from modelworks.report.page import render
from modelworks.report.run import about, evaluation_table, tiles

_CHARTS = 2


def run_html(folder: Path | str) -> str:
    """Headline, verdict, metrics and the first curves of a Run."""
    files = read(folder)
    evaluation = files.evaluation
    return render(
        "run_fragment.html",
        name=files.name,
        about=about(files),
        headline=verdict.headline(evaluation),
        sentences=verdict.sentences(files, verdict.audit_of(files.data)),
        tiles=tiles(files),
        evaluation=evaluation_table(evaluation),
        curves=curves.figures(
            files.log, verdict.primary_of(evaluation), figure(evaluation.get("step")), most=_CHARTS
        ),
        report=str(files.path / "report.html") if (files.path / "report.html").is_file() else "",
    )


def audit_html(audit: Mapping[str, Any]) -> str:
    """Findings and columns of an audit."""
    return audit_report.fragment(audit)
