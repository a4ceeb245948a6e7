"""Findings: what the audit's numbers mean, each with a severity, the numbers, and a remedy to put into the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Finding = dict[str, Any]
"""{"severity", "code", "column", "message", "remedy"}; the remedy is a piece of recipe, or empty."""
ORDER = ("error", "warning", "info")
DROP = "data: {clean: {duplicates: drop}}"
CONFLICTS = "data: {clean: {duplicates: drop_conflicting}}"
_ALIKE_NAMES = 0.5
"""Skill from which a column named like the target is told."""


def findings(result: Mapping[str, Any]) -> list[Finding]:
    """Every finding of an audit, gravest first."""
    found = [
        finding
        for look in (
            _unreadable,
            _across_splits,
            _duplicates,
            _leaks,
            _classes,
            _near,
            _suspects,
            _size,
            _columns,
        )
        for finding in look(result)
    ]
    return sorted(found, key=lambda finding: ORDER.index(finding["severity"]))


def _finding(severity: str, code: str, message: str, remedy: str = "", column: str | None = None) -> Finding:
    return {"severity": severity, "code": code, "column": column, "message": message, "remedy": remedy}


def _share(part: float, whole: float) -> str:
    percent = 100 * part / whole if whole else 0.0
    return (
        f"{percent:.0f} %"
        if percent >= 10
        else f"{percent:.1f} %"
        if percent >= 0.1 or not part
        else "under 0.1 %"
    )


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _unreadable(result: Mapping[str, Any]) -> Iterator[Finding]:
    quarantine = result["quarantine"]
    if quarantine["count"]:
        reasons = "; ".join(
            f"{reason}: {count:,}" for reason, count in list(quarantine["reasons"].items())[:4]
        )
        yield _finding(
            "warning",
            "unreadable",
            f"{_rows(quarantine['count'])} could not be read and went to quarantine ({reasons})",
        )
    for column in result["columns"]:
        pictures = column.get("pictures", {})
        if pictures.get("unreadable"):
            yield _finding(
                "warning",
                "unreadable_pictures",
                f"{pictures['unreadable']:,} of {pictures['looked']:,} pictures looked at cannot be read",
                "",
                column["name"],
            )


def _duplicates(result: Mapping[str, Any]) -> Iterator[Finding]:
    repeats, rows = result["duplicates"], result["rows"]
    kept = repeats.get("kept")
    target, inputs = (
        result["target"],
        ", ".join(result["inputs"][:3]) + (" …" if len(result["inputs"]) > 3 else ""),
    )

    def told(
        severity: str, code: str, key: str, message: str, remedy: str, column: str | None = None
    ) -> Finding:
        """What cleaning has mended is told, but no longer warned of."""
        if kept is None:
            return _finding(severity, code, message, remedy, column)
        left = kept[key]
        if left:
            return _finding(severity, code, f"{message}; {left:,} remain after cleaning", remedy, column)
        return _finding("info", code, f"{message}; none remains after cleaning", "", column)

    if repeats["duplicate_rows"]:
        copies = repeats["duplicate_rows"]
        yield told(
            "warning" if copies > 0.001 * rows else "info",
            "duplicate_rows",
            "duplicate_rows",
            f"{_rows(copies)} ({_share(copies, rows)}) {'repeats' if copies == 1 else 'repeat'} another row exactly",
            DROP,
        )
    if repeats["repeated_inputs"] and not result["splits"]:
        leak = repeats["random_split_leak"]
        yield _finding(
            "error" if leak > 0.05 else "warning" if leak > 0.005 else "info",
            "repeated_inputs",
            f"{rows:,} rows hold only {repeats['unique_inputs']:,} unique inputs ({inputs}): a plain random split would put "
            f"{_share(leak, 1)} of the held-out rows into training too",
            DROP,
        )
    elif repeats["repeated_inputs"]:
        apart = "" if repeats["across_splits"] else "; no split shares one with another"
        yield told(
            "info",
            "repeated_inputs",
            "repeated_inputs",
            f"{rows:,} rows hold only {repeats['unique_inputs']:,} unique inputs ({inputs}){apart}",
            "",
        )
    if repeats["conflicting_inputs"]:
        many = repeats["conflicting_inputs"] != 1
        what = (
            "in more than one class"
            if result["target_kind"] == "class"
            else f"with different values of {target!r}"
        )
        yield told(
            "warning" if result["target_kind"] == "class" else "info",
            "conflicting_labels",
            "conflicting_inputs",
            f"{repeats['conflicting_inputs']:,} unique {'inputs are' if many else 'input is'} {what} "
            f"({_rows(repeats['conflicting_rows'])}): no model can get all of them right",
            CONFLICTS,
            target,
        )


def _across_splits(result: Mapping[str, Any]) -> Iterator[Finding]:
    splits = result["splits"]
    for pair, count in result["duplicates"]["across_splits"].items():
        early, late = pair.split("/")
        yield _finding(
            "error" if count > 0.01 * splits.get(late, 1) else "warning",
            "duplicates_across_splits",
            f"{_rows(count)} of {late} ({_share(count, splits.get(late, 0))}) {_have(count)} the same inputs as a row of {early}: scores on {late} are too good",
            DROP,
        )


def _near(result: Mapping[str, Any]) -> Iterator[Finding]:
    near = result["near_duplicates"]
    if not near.get("pairs"):
        return
    seen = f"in a sample of {near['sample']:,} of {near['of']:,} rows"
    for pair, count in near["across_splits"].items():
        early, late = pair.split("/")
        looked = near["sampled"].get(late, 0)
        yield _finding(
            "warning" if count > 0.01 * looked else "info",
            "near_duplicates_across_splits",
            f"{_rows(count)} of {late} ({_share(count, looked)} of those looked at) nearly {'repeats' if count == 1 else 'repeat'} a row of {early}, {seen}",
            "data: {split: {group: COLUMN}}",
        )
    if not near["across_splits"]:
        severity = "warning" if near["rows"] > 0.05 * near["sample"] and not near["sampled"] else "info"
        yield _finding(
            severity,
            "near_duplicates",
            f"{_rows(near['rows'])} nearly repeat another ({near['pairs']:,} {'pair' if near['pairs'] == 1 else 'pairs'}), {seen}",
            "data: {split: {group: COLUMN}}" if severity == "warning" else "",
        )


def _leaks(result: Mapping[str, Any]) -> Iterator[Finding]:
    leaks, target = result["leakage"], result["target"]
    inputs = set(result["inputs"])
    for test in leaks.get("columns", []):
        name, skill, area = test["column"], test["skill"], test.get("auc", 0.0)
        figure = f"AUC {area:.4f}" if area > test["value"] else f"{leaks['measure']} {test['value']:.4f}"
        if name is None:
            if skill > 0.9:
                yield _finding(
                    "info",
                    "sorted",
                    f"rows are sorted by {target!r} ({test['how']} tells it with {figure}): the data must be shuffled before any split",
                    "data: {split: {kind: stratified}}",
                    target,
                )
            continue
        sure = skill >= 0.995 or area >= 0.9995
        likely = skill >= 0.95 or area >= 0.995
        remedy = f"fields: {{{_key(name)}: ignore}}"
        if sure or likely:
            used = "" if name in inputs else " (it is not an input now)"
            yield _finding(
                "info" if name not in inputs else "error" if sure and len(inputs) > 1 else "warning",
                "leak",
                f"{test['how']} alone tells {target!r} with {figure} on {leaks['sample']:,} sampled rows{used}: "
                "does it hold the answer, or was it written afterwards?",
                remedy,
                name,
            )
        elif skill > _ALIKE_NAMES and _alike(name, target) and name in inputs:
            yield _finding(
                "warning",
                "leak_by_name",
                f"is named like the target {target!r} and tells it with {figure}",
                remedy,
                name,
            )


def _alike(name: str, target: str) -> bool:
    one, two = ("".join(c for c in text.casefold() if c.isalnum()) for text in (name, target))
    return len(two) >= 3 and (two in one or (one in two and len(one) >= 3))


def _key(name: str) -> str:
    """A column's name as a YAML key."""
    return name if name.isidentifier() else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _classes(result: Mapping[str, Any]) -> Iterator[Finding]:
    balance, target = result["balance"], result["target"]
    if not balance:
        if result["target_kind"] == "number":
            column = next(c for c in result["columns"] if c["name"] == target)
            unlabelled = column["missing"] + max(
                0, column["rows"] - column["missing"] - column.get("numeric", 0)
            )
            if unlabelled:
                yield _finding(
                    "warning",
                    "unlabelled",
                    f"{_rows(unlabelled)} {_have(unlabelled)} no number as target",
                    "",
                    target,
                )
        return
    listed, total = balance["classes"], sum(count for _, count in balance["classes"])
    if balance["unlabelled"]:
        yield _finding(
            "warning",
            "unlabelled",
            f"{_rows(balance['unlabelled'])} {_have(balance['unlabelled'])} no label",
            "",
            target,
        )
    if balance["count"] == 1:
        yield _finding(
            "error",
            "one_class",
            f"every row has the class {listed[0][0]!r}: there is nothing to learn",
            "",
            target,
        )
        return
    for split, labels in balance["unseen"].items():
        yield _finding(
            "error",
            "unseen_classes",
            f"{split} has classes that train does not have: {', '.join(labels[:5])}",
            "data: {split: {kind: stratified}}",
            target,
        )
    (largest, most), (smallest, least) = listed[0], balance["smallest"]
    ratio = most / max(least, 1)
    if ratio >= 3:
        yield _finding(
            "warning" if ratio >= 10 else "info",
            "imbalance",
            f"classes are unequal: {largest!r} has {most:,} rows ({_share(most, total)}), {smallest!r} has {least:,} ({ratio:,.0f} : 1); accuracy alone will flatter",
            "task: {class_weights: balanced}",
            target,
        )
    rare = [label for label, count in listed if count < 10]
    if rare:
        yield _finding(
            "warning",
            "rare_classes",
            f"{len(rare)} of {balance['count']} classes have fewer than 10 rows: {', '.join(map(str, rare[:5]))}",
            "",
            target,
        )


def _suspects(result: Mapping[str, Any]) -> Iterator[Finding]:
    suspects = result["suspicious_labels"]
    if not suspects.get("count") or not suspects["reliable"]:
        return
    share = suspects["count"] / suspects["sample"]
    examples = ", ".join(str(example["row"]) for example in suspects["examples"][:5])
    yield _finding(
        "warning" if share > 0.005 else "info",
        "suspicious_labels",
        f"{_rows(suspects['count'])} of {suspects['sample']:,} looked at ({_share(suspects['count'], suspects['sample'])}) {'bears' if suspects['count'] == 1 else 'bear'} a label that the nearest neighbours deny, e.g. rows {examples}",
        "",
        result["target"],
    )


def _size(result: Mapping[str, Any]) -> Iterator[Finding]:
    if result["rows"] < 100:
        yield _finding(
            "warning",
            "few_rows",
            f"only {_rows(result['rows'])}: figures of a held-out part will be very uncertain",
        )


def _columns(result: Mapping[str, Any]) -> Iterator[Finding]:
    columns = [column for column in result["columns"] if column["role"] != "split"]
    for column in columns:
        name, rows, missing = column["name"], column["rows"], column["missing"]
        present, ignore = rows - missing, f"fields: {{{_key(name)}: ignore}}"
        is_input = column["role"] == "input"
        if not present:
            yield _finding("warning" if is_input else "info", "empty", "holds no value at all", ignore, name)
            continue
        if missing > 0.5 * rows and column["role"] != "target":
            yield _finding(
                "warning" if is_input else "info",
                "missing",
                f"{_share(missing, rows)} missing ({_rows(missing)})",
                ignore,
                name,
            )
        if column["distinct"] == 1 and not column["many"] and column["kind"] not in ("image", "audio"):
            yield _finding(
                "warning" if is_input else "info",
                "constant",
                f"holds one value only: {column['top'][0][0]!r}",
                ignore if is_input else "",
                name,
            )
        if column["kind"] == "id" and column["role"] != "target":
            yield _finding(
                "warning" if is_input and len(result["inputs"]) > 1 else "info",
                "id",
                "has a value of its own in each row, like an id",
                ignore if is_input else "",
                name,
            )
        numeric = column.get("numeric", present)
        if column["kind"] == "number" and numeric < present:
            yield _finding(
                "warning",
                "not_numbers",
                f"{_rows(present - numeric)} {'holds' if present - numeric == 1 else 'hold'} something that is not a number",
                "",
                name,
            )
        yield from _spellings(column)
    yield from _gathered(columns)


def _gathered(columns: list[Mapping[str, Any]]) -> Iterator[Finding]:
    """What is usual in many columns, told once for all of them."""
    inputs = [column for column in columns if column["role"] == "input"]
    holes = sorted((c for c in inputs if 0 < c["missing"] <= 0.5 * c["rows"]), key=lambda c: -c["missing"])
    if holes:
        listed = ", ".join(f"{c['name']} ({_share(c['missing'], c['rows'])})" for c in holes[:6]) + (
            ", …" if len(holes) > 6 else ""
        )
        number = next((c for c in holes if c["kind"] == "number"), None)
        remedy = f"fields: {{{_key(number['name'])}: {{missing: median}}}}" if number else ""
        yield _finding(
            "info",
            "missing",
            f"values are missing in {len(holes)} {'column' if len(holes) == 1 else 'columns'}: {listed}",
            remedy,
        )
    wild = sorted(
        (c for c in columns if c.get("outliers", {}).get("sigma")), key=lambda c: -c["outliers"]["sigma"]
    )
    if wild:
        listed = ", ".join(f"{c['name']} ({_rows(c['outliers']['sigma'])})" for c in wild[:6]) + (
            ", …" if len(wild) > 6 else ""
        )
        chosen = next((c["name"] for c in wild if c["role"] == "input"), None)
        yield _finding(
            "info",
            "outliers",
            f"values beyond 4 standard deviations in {len(wild)} {'column' if len(wild) == 1 else 'columns'}: {listed}",
            f"fields: {{{_key(chosen)}: {{outliers: clip}}}}" if chosen else "",
        )


def _spellings(column: Mapping[str, Any]) -> Iterator[Finding]:
    if column["kind"] != "category":
        return
    forms: dict[str, list[str]] = {}
    for value, _ in column["top"]:
        forms.setdefault(" ".join(value.split()).casefold(), []).append(value)
    twice = [" = ".join(map(repr, group)) for group in forms.values() if len(group) > 1]
    if twice:
        yield _finding(
            "info",
            "spellings",
            f"values that differ by case or spaces only: {'; '.join(twice[:3])}",
            "",
            column["name"],
        )
