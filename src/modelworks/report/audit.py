"""The audit for people: a terminal table, an HTML page, a fragment for a notebook or the Run's report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.report.folder import figure, items, table, tables
from modelworks.report.page import Figure, render
from modelworks.report.svg import bars, histogram, sparkbars
from modelworks.report.tags import short
from modelworks.report.words import number, percent, plural, value

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_SEVERITIES = ("error", "warning", "info")
_COLOURS = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_COLUMNS = 200
"""Columns listed in HTML."""


def view(audit: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates show of an audit."""
    found = [
        f | {"severity": f.get("severity") if f.get("severity") in _SEVERITIES else "info"}
        for f in tables(audit.get("findings"))
    ]
    found = [
        {key: str(f.get(key) or "") for key in ("severity", "code", "column", "message", "remedy")}
        for f in found
    ]
    columns = [_column(column) for column in tables(audit.get("columns"))]
    rows = figure(audit.get("rows"))
    classes = [
        (str(c[0]), figure(c[1]) or 0.0)
        for c in items(table(audit.get("balance")).get("classes"))
        if len(items(c)) == 2
    ]
    return {
        "name": str(audit.get("name") or "data"),
        "rows": int(rows) if rows is not None else None,
        "column_count": len(columns),
        "target": str(audit.get("target") or ""),
        "splits": {name: int(figure(n) or 0) for name, n in table(audit.get("splits")).items()},
        "counts": [(severity, sum(f["severity"] == severity for f in found)) for severity in _SEVERITIES],
        "findings": found,
        "columns": columns[:_COLUMNS],
        "columns_left_out": max(0, len(columns) - _COLUMNS),
        "figures": _figures(audit, classes),
        "near": _near(table(audit.get("near_duplicates"))),
        "pairs": _near_examples(audit),
        "conflicts": _conflicts(audit),
        "suspects": _suspects(audit),
        "notice": str(audit.get("notice") or ""),
        "sample": int(figure(audit.get("sample")) or 0),
        "seconds": figure(audit.get("seconds")),
        "fingerprint": str(audit.get("fingerprint") or ""),
        "unreadable": tables(table(audit.get("quarantine")).get("rows"))[:10],
    }


def _column(column: Mapping[str, Any]) -> dict[str, Any]:
    rows, missing, distinct = (int(figure(column.get(key)) or 0) for key in ("rows", "missing", "distinct"))
    shape = table(column.get("histogram"))
    counts = [figure(c) or 0.0 for c in items(shape.get("counts"))]
    outliers = table(column.get("outliers"))
    return {
        "name": str(column.get("name", "")),
        "kind": str(column.get("kind") or ""),
        "role": str(column.get("role") or ""),
        "missing": missing,
        "missing_share": percent(missing, rows) if missing else "",
        "rows": rows,
        "distinct": f"{distinct:,}" + ("+" if column.get("many") else "")
        if distinct or not column.get("many")
        else "many",
        "range": describe_range(column),
        "spark": sparkbars(counts, f"distribution of {column.get('name')}") if len(counts) > 1 else "",
        "outliers": int(figure(outliers.get("sigma")) or 0),
        "outliers_iqr": int(figure(outliers.get("iqr")) or 0),
    }


def describe_range(column: Mapping[str, Any], wide: int = 90) -> str:
    """A column's values in a few words: range and median, commonest values, lengths, picture sizes."""
    kind = column.get("kind")
    pictures, length = table(column.get("pictures")), table(column.get("length"))
    if pictures:
        return ", ".join(
            f"{size} ({count:,})"
            for size, count in (s for s in items(pictures.get("sizes")) if len(items(s)) == 2)
        )
    low, high = figure(column.get("minimum")), figure(column.get("maximum"))
    if kind in ("number", "id") and low is not None and high is not None:
        quartiles = [figure(q) for q in items(column.get("quartiles"))]
        middle = (
            f", median {value(quartiles[1])}"
            if len(quartiles) == 3 and quartiles[1] is not None and kind == "number"
            else ""
        )
        return f"{value(low)} … {value(high)}{middle}"
    if kind == "text":
        mean, most = (figure(length.get(key)) or 0.0 for key in ("mean", "max"))
        return f"about {mean:,.0f} characters, at most {most:,.0f}"
    rows = (figure(column.get("rows")) or 0) - (figure(column.get("missing")) or 0)
    shown = [
        f"{short(str(t[0]), 24)} {percent(figure(t[1]) or 0, rows)}"
        for t in items(column.get("top"))
        if len(items(t)) == 2
    ]
    if kind in ("category", "tags", "number") and shown:
        return short(", ".join(shown[:6]), wide)
    return short(", ".join(map(str, items(column.get("examples")))), wide)


def _figures(audit: Mapping[str, Any], classes: list[tuple[str, float]]) -> list[Figure]:
    shown = []
    if len(classes) > 1:
        total = len(classes)
        note = (
            f"The 12 commonest of {int(figure(table(audit.get('balance')).get('count')) or total)} classes."
            if total > 12
            else ""
        )
        shown.append(
            Figure(
                "Classes",
                bars([c[0] for c in classes[:12]], [c[1] for c in classes[:12]], title="Rows of each class"),
                note=note,
            )
        )
    for column in tables(audit.get("columns")):
        shape = table(column.get("histogram"))
        edges, counts = ([figure(v) for v in items(shape.get(key))] for key in ("edges", "counts"))
        kept = [e for e in edges if e is not None], [c for c in counts if c is not None]
        whole = len(kept[0]) == len(edges) and len(kept[1]) == len(counts) and len(edges) > 2
        is_text, name = column.get("kind") == "text", str(column.get("name"))
        if whole and (is_text or (column.get("role") == "target" and len(classes) < 2)):
            shown.append(
                Figure(name, histogram(*kept, title=name, x_label="characters" if is_text else name))
            )
    return shown[:6]


def _near(near: Mapping[str, Any]) -> str:
    if near.get("why"):
        return str(near["why"])
    if not near.get("modality"):
        return ""
    sample, of, pairs = (int(figure(near.get(key)) or 0) for key in ("sample", "of", "pairs"))
    found = f"{plural(pairs, 'pair')} of near-duplicates"
    return f"{found} among {sample:,} of {of:,} rows looked at ({near['modality']})."


def _near_examples(audit: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = tables(table(audit.get("near_duplicates")).get("examples"))
    return [
        {
            "rows": [str(r) for r in items(f.get("rows"))],
            "similarity": figure(f.get("similarity")),
            "shown": [str(s) for s in items(f.get("shown"))],
        }
        for f in found
        if len(items(f.get("shown"))) == 2
    ][:5]


def _conflicts(audit: Mapping[str, Any]) -> list[dict[str, Any]]:
    groups = [tables(group) for group in items(table(audit.get("duplicates")).get("conflict_examples"))]
    return [
        {"inputs": _inputs(group[0]), "labels": [f"row {g.get('row')}: {g.get('label')}" for g in group]}
        for group in groups
        if group
    ][:5]


def _suspects(audit: Mapping[str, Any]) -> list[dict[str, Any]]:
    suspects = table(audit.get("suspicious_labels"))
    if not suspects.get("reliable"):
        return []
    return [
        {
            "row": str(s.get("row")),
            "label": str(s.get("label")),
            "neighbours": number(s["neighbours"])
            if isinstance(s.get("neighbours"), float)
            else str(s.get("neighbours")),
            "inputs": _inputs(s),
        }
        for s in tables(suspects.get("examples"))
    ][:10]


def _inputs(row: Mapping[str, Any]) -> str:
    inputs = table(row.get("inputs"))
    return " · ".join(
        f"{name}: {value}" if len(inputs) > 1 else str(value) for name, value in inputs.items()
    )[:300]


def fragment(audit: Mapping[str, Any]) -> str:
    """HTML to put into a page, with its style."""
    return render("audit_fragment.html", audit=view(audit), heading=True)


def html(audit: Mapping[str, Any]) -> str:
    """A whole offline page."""
    return render("audit.html", audit=view(audit))


def write(audit: Mapping[str, Any], output: Path) -> Path:
    """The page as a file."""
    partial = output.with_name(output.name + ".partial")
    partial.write_text(html(audit), "utf-8", errors="replace")
    os.replace(partial, output)
    return output


def terminal(audit: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the audit."""
    from rich.console import Console

    (console or Console()).print(renderable(audit))


def renderable(audit: Mapping[str, Any], most: int = 60) -> RenderableType:
    """The audit for a terminal: a table of the columns, and the findings with their remedies."""
    from rich.cells import cell_len
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    shown = view(audit)
    splits = " · ".join(f"{name} {count:,}" for name, count in shown["splits"].items())
    head = Text.assemble(
        (shown["name"], "bold"),
        f"  {shown['rows'] or 0:,} rows × {plural(shown['column_count'], 'column')}",
        (f"  ({splits})" if splits else "", "dim"),
        (f"  target {shown['target']}" if shown["target"] else "", "dim"),
    )
    columns = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    listed = shown["columns"][:most]
    for name, key, right in (
        ("column", "name", False),
        ("kind", "kind", False),
        ("missing", "missing_share", True),
        ("distinct", "distinct", True),
        ("4σ out", "outliers", True),
    ):
        # Only the last column gives way when the terminal is narrow.
        least = max([len(name), *(cell_len(str(c[key])) + 2 * (key == "kind") for c in listed)])
        columns.add_column(
            name,
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=min(least, 24),
            max_width=24,
            style="bold" if key == "name" else "",
        )
    columns.add_column("values", overflow="ellipsis", no_wrap=True, ratio=1)
    for column in listed:
        role = {"target": " ◂", "unused": " ·"}.get(column["role"], "")
        columns.add_row(
            Text(column["name"]),
            Text(column["kind"] + role, style="dim" if column["role"] in ("unused", "split") else ""),
            column["missing_share"] or Text("–", style="dim"),
            column["distinct"],
            f"{column['outliers']:,}" if column["outliers"] else Text("–", style="dim"),
            Text(column["range"]),
        )
    more = shown["column_count"] - most
    legend = "◂ target   · not an input" + (f"   and {more} more columns" if more > 0 else "")
    findings = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    findings.add_column(no_wrap=True)
    findings.add_column(ratio=1, overflow="fold")
    for finding in shown["findings"]:
        told = Text()
        if finding["column"]:
            told.append(finding["column"] + " ", style="bold")
        told.append(finding["message"])
        if finding["remedy"]:
            told.append(f"\n→ {finding['remedy']}", style="dim")
        findings.add_row(Text(finding["severity"], style=_COLOURS[finding["severity"]]), told)
    if not shown["findings"]:
        findings.add_row(Text("fine", style="green"), Text("nothing suspicious was found"))
    parts: list[Any] = [head, "", columns, Text(legend, style="dim"), "", findings]
    if shown["near"]:
        parts += ["", Text(shown["near"], style="dim")]
    if shown["notice"]:
        parts.append(Text(shown["notice"], style="dim"))
    return Padding(Group(*parts), (0, 1))
