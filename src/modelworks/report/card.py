"""The model card: card.md of a Run, in the sections of Mitchell et al. 2019, filled from the Run's own facts.

write(Path("runs/titanic"))        # runs/titanic/card.md
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from modelworks.report import compression, verdict
from modelworks.report.audit import view as audit_view
from modelworks.report.folder import Files, figure, read, table
from modelworks.report.page import render_text
from modelworks.report.run import about, evaluation_table
from modelworks.report.words import interval, metric_name, number


def write(run_folder: Path | str, output: Path | None = None) -> Path:
    """Write card.md into the Run's folder (or to `output`) and return its path."""
    path = output or Path(run_folder) / "card.md"
    partial = path.with_name(path.name + ".partial")
    partial.write_text(render_text("card.md", **context(read(run_folder))), "utf-8", errors="replace")
    os.replace(partial, path)
    return path


def context(files: Files) -> dict[str, Any]:
    """The card's facts; every text from outside is made harmless for Markdown here."""
    audit_data = verdict.audit_of(files.data)
    audit = audit_view(audit_data) if audit_data else None
    target = str(files.recipe.get("target") or files.part("task").get("target") or "")
    fields = {name: table(field) for name, field in table(files.recipe.get("fields")).items()}
    inputs = [
        f"`{_code(name)}` ({plain(str(field.get('kind', '?')))})"
        for name, field in fields.items()
        if name != target
    ]
    found = evaluation_table(files.evaluation)
    environment = files.environment
    return {
        "name": plain(files.name),
        "about": plain(about(files)),
        "target": _code(target),
        "inputs": inputs,
        "task": plain(str(files.part("task").get("kind") or "")),
        "model": plain(str(files.part("model").get("kind") or "")),
        "rows": int(audit["rows"]) if audit and audit["rows"] is not None else None,
        "source": plain(_source(files)),
        "splits": {plain(k): v for k, v in (audit["splits"] if audit else {}).items()},
        "notice": plain(audit["notice"]) if audit else "",
        "findings": [_finding(f) for f in audit["findings"] if f["severity"] != "info"][:12] if audit else [],
        "cleaning": [
            f"{plain(what)}: {number(value) if figure(value) is not None else plain(str(value))}"
            for what, value in verdict.cleaning_lines(files.data)
        ][:20],
        "sentences": [plain(s["text"]) for s in verdict.sentences(files, {})],
        "splits_evaluated": found["splits"],
        "metrics": [
            [
                plain(metric_name(row["name"])),
                *(f"{number(c['value'])}{f' ({interval(c)})' if interval(c) else ''}" for c in row["cells"]),
                *([number(row["baseline"])] if found["baseline"] else []),
            ]
            for row in found["rows"]
        ],
        "has_baseline": found["baseline"],
        "compression": _compression(files),
        "limits": limits(files, audit),
        "command": _shell(str(files.path)),
        "seed": environment.get("seed", files.recipe.get("seed")),
        "device": plain(str(environment.get("device") or "")),
        "versions": ", ".join(
            f"{plain(k)} {plain(str(v))}"
            for k, v in (
                ("modelworks", environment.get("modelworks")),
                ("Python", environment.get("python")),
                ("torch", table(environment.get("packages")).get("torch")),
            )
            if v
        ),
        "hashes": {
            plain(k): _code(str(v)) for k, v in table(files.data.get("hashes")).items() if isinstance(v, str)
        },
        "generative": bool(files.samples),
    }


def _compression(files: Files) -> dict[str, Any] | None:
    """The parent and the new Run of the compression's table."""
    told = compression.view(files)
    if told is None:
        return None
    shown = [row for at, row in enumerate(told["rows"]) if row["chosen"] or not at]
    rows = [[plain(cell) for cell in row["cells"]] for row in shown]
    return {"parent": plain(told["parent"]), "headings": [plain(h) for h in told["headings"]], "rows": rows}


def limits(files: Files, audit: dict[str, Any] | None) -> list[str]:
    """What follows from the facts about where the model should not be trusted."""
    found = []
    fields = {name: table(field) for name, field in table(files.recipe.get("fields")).items()}
    columns = {c["name"]: c for c in audit["columns"]} if audit else {}
    target = str(files.recipe.get("target") or "")
    ranged = [
        f"`{_code(name)}` {plain(columns[column]['range'].split(', median')[0])}"
        for name, field in fields.items()
        if name != target and field.get("kind") == "number"
        for column in [str(field.get("column") or name)]
        if column in columns
    ]
    if ranged:
        found.append(
            f"The data covers these ranges; beyond them it guesses: {', '.join(ranged[:8])}"
            f"{' …' if len(ranged) > 8 else ''}."
        )
    if any(field.get("kind") == "category" for name, field in fields.items() if name != target):
        found.append("Categories that were not in the training rows are treated as unknown.")
    head = verdict.headline(files.evaluation)
    if head["split"] and head["split"] != "test":
        why = "which also chose the weights" if head["split"] == "valid" else "on which it was trained"
        found.append(
            f"There was no test split: the figures are of the {head['split']} split, {why}: too good."
        )
    if not files.evaluation:
        found.append("It has not been evaluated.")
    for finding in audit["findings"] if audit else []:
        if (
            finding["code"]
            in ("duplicates_across_splits", "leak", "conflicting_labels", "imbalance", "rare_classes")
            and finding["severity"] != "info"
        ):
            found.append(plain(f"{finding['column']} {finding['message']}".strip()) + ".")
    rows = figure(table(table(files.evaluation.get("details")).get(head["split"])).get("rows"))
    if rows is not None and rows < 200:
        found.append(f"It was judged on {rows:,.0f} rows only; see the intervals.")
    return found


def _finding(finding: dict[str, str]) -> str:
    column = f"`{_code(finding['column'])}` " if finding["column"] else ""
    return f"**{finding['severity']}** {column}{plain(finding['message'])}"


def _source(files: Files) -> str:
    source = table(table(files.recipe.get("data")).get("source"))
    return str(source.get("path") or source.get("name") or source.get("kind") or "")


def plain(text: str) -> str:
    """Text that Markdown and HTML show as it is, on one line."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("`", "&#96;")
    return re.sub(r"([\\*_\[\]|#!~])", r"\\\1", text)


def _code(text: str) -> str:
    """Text between backquotes."""
    return " ".join(text.split()).replace("`", "'").replace("|", "¦")


def _shell(path: str) -> str:
    """A path in a command line."""
    return (
        path
        if re.fullmatch(r"[\w./\-]+", path)
        else "'" + path.replace("'", "'\\''").replace("\n", " ") + "'"
    )
