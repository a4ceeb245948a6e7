"""Findings about single columns: empty, constant, ids, holes, outliers, spellings, broken pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelworks.engine.audit.phrases import Finding, finding, key_of, plural, rows_of, share_of

_LISTED = 6


def column_findings(result: Mapping[str, Any]) -> Iterator[Finding]:
    """What is wrong with each column; what is usual in many is told once for all of them."""
    columns = [column for column in result["columns"] if column["role"] != "split"]
    for column in columns:
        yield from _one(column, alone=len(result["inputs"]) <= 1)
    yield from _holes([column for column in columns if column["role"] == "input"])
    yield from _outliers(columns)


def _one(column: Mapping[str, Any], alone: bool) -> Iterator[Finding]:
    name, rows, missing, kind = column["name"], column["rows"], column["missing"], column["kind"]
    present, is_input = rows - missing, column["role"] == "input"
    warning, ignore = "warning" if is_input else "info", f"fields: {{{key_of(name)}: ignore}}"
    if not present:
        yield finding(warning, "empty", "holds no value at all", ignore, name)
        return
    if missing > 0.5 * rows and column["role"] != "target":
        yield finding(
            warning, "missing", f"{share_of(missing, rows)} missing ({rows_of(missing)})", ignore, name
        )
    if column["distinct"] == 1 and not column["many"] and kind not in ("image", "audio"):
        message = f"holds one value only: {column['top'][0][0]!r}"
        yield finding(warning, "constant", message, ignore if is_input else "", name)
    if kind == "id" and column["role"] != "target":
        severity = "info" if alone else warning
        message = "has a value of its own in each row, like an id"
        yield finding(severity, "id", message, ignore if is_input else "", name)
    odd = present - column.get("numeric", present)
    if kind == "number" and odd > 0:
        message = f"{rows_of(odd)} {'holds' if odd == 1 else 'hold'} something that is not a number"
        yield finding(
            "warning", "not_numbers", message, f"fields: {{{key_of(name)}: {{bad: missing}}}}", name
        )
    pictures = column.get("pictures", {})
    if pictures.get("unreadable"):
        message = f"{pictures['unreadable']:,} of {pictures['looked']:,} pictures looked at cannot be read"
        yield finding("warning", "unreadable_pictures", message, "", name)
    yield from _spellings(column)


def _holes(inputs: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    found = [column for column in inputs if 0 < column["missing"] <= 0.5 * column["rows"]]
    found.sort(key=lambda column: -column["missing"])
    if found:
        shares = [f"{column['name']} ({share_of(column['missing'], column['rows'])})" for column in found]
        number = next((column["name"] for column in found if column["kind"] == "number"), None)
        remedy = f"fields: {{{key_of(number)}: {{missing: median}}}}" if number else ""
        message = f"values are missing in {plural(len(found), 'column')}: {_list(shares)}"
        yield finding("info", "missing", message, remedy)


def _outliers(columns: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    found = [column for column in columns if column.get("outliers", {}).get("sigma")]
    found.sort(key=lambda column: -column["outliers"]["sigma"])
    if found:
        counts = [f"{column['name']} ({rows_of(column['outliers']['sigma'])})" for column in found]
        chosen = next((column["name"] for column in found if column["role"] == "input"), None)
        remedy = f"fields: {{{key_of(chosen)}: {{outliers: clip}}}}" if chosen else ""
        message = f"values beyond 4 standard deviations in {plural(len(found), 'column')}: {_list(counts)}"
        yield finding("info", "outliers", message, remedy)


def _spellings(column: Mapping[str, Any]) -> Iterator[Finding]:
    """Values of a category that a person would take for one."""
    if column["kind"] != "category":
        return
    forms: dict[str, list[str]] = {}
    for value, _ in column["top"]:
        forms.setdefault(" ".join(value.split()).casefold(), []).append(value)
    alike = [" = ".join(map(repr, group)) for group in forms.values() if len(group) > 1]
    if alike:
        message = f"values that differ by case or spaces only: {'; '.join(alike[:3])}"
        yield finding("info", "spellings", message, "", column["name"])


def _list(items: Sequence[str]) -> str:
    return ", ".join(items[:_LISTED]) + (", …" if len(items) > _LISTED else "")
