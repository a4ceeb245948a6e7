"""Findings: what the audit's numbers mean, each with a severity, the numbers, and a remedy for the recipe.

{"severity": "error", "code": "leak", "column": "boat", "message": …, "remedy": "fields: {boat: ignore}"}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelworks.engine.audit.findings_columns import column_findings
from modelworks.engine.audit.phrases import Finding, finding, has, key_of, plural, rows_of, share_of

ORDER = ("error", "warning", "info")
DROP = "data: {clean: {duplicates: drop}}"
CONFLICTS = "data: {clean: {duplicates: drop_conflicting}}"
STRATIFY = "data: {split: {by: stratified}}"
GROUP = "data: {split: {by: group, column: COLUMN}}"
SURE, LIKELY = 0.995, 0.95
"""Skill of one column from which it surely, or likely, holds the answer."""
SURE_AUC, LIKELY_AUC = 0.9995, 0.995
_ALIKE = 0.5
"""Skill from which a column named like the target is told."""


def findings(result: Mapping[str, Any]) -> list[Finding]:
    """Every finding of an audit, gravest first."""
    looks = (_unreadable, _across, _copies, _leaks, _classes, _near, _suspects, _size, column_findings)
    found = [one for look in looks for one in look(result)]
    return sorted(found, key=lambda one: ORDER.index(one["severity"]))


def _unreadable(result: Mapping[str, Any]) -> Iterator[Finding]:
    lost = result["quarantine"]
    if lost["count"]:
        reasons = "; ".join(f"{reason}: {count:,}" for reason, count in list(lost["reasons"].items())[:4])
        message = f"{rows_of(lost['count'])} could not be read and went to quarantine ({reasons})"
        yield finding("warning", "unreadable", message)


def _across(result: Mapping[str, Any]) -> Iterator[Finding]:
    for pair, count in result["duplicates"]["across_splits"].items():
        early, late = pair.split("/")
        rows = result["splits"].get(late, 0)
        yield finding(
            "error" if count > 0.01 * rows else "warning",
            "duplicates_across_splits",
            f"{rows_of(count)} of {late} ({share_of(count, rows)}) {has(count)} the same inputs as a row of "
            f"{early}: scores on {late} are too good",
            DROP,
        )


def _copies(result: Mapping[str, Any]) -> Iterator[Finding]:
    copies, rows, target = result["duplicates"], result["rows"], result["target"]
    kept = copies.get("kept")

    def told(
        severity: str, code: str, key: str, message: str, remedy: str, column: str | None = None
    ) -> Finding:
        """What cleaning has mended is told, but no longer warned of."""
        if kept is None:
            return finding(severity, code, message, remedy, column)
        left = kept[key]
        if left:
            return finding(severity, code, f"{message}; {left:,} remain after cleaning", remedy, column)
        return finding("info", code, f"{message}; none remains after cleaning", "", column)

    twice = copies["duplicate_rows"]
    if twice:
        verb = "repeats" if twice == 1 else "repeat"
        message = f"{rows_of(twice)} ({share_of(twice, rows)}) {verb} another row exactly"
        severity = "warning" if twice > 0.001 * rows else "info"
        yield told(severity, "duplicate_rows", "duplicate_rows", message, DROP)
    names = ", ".join(result["inputs"][:3]) + (" …" if len(result["inputs"]) > 3 else "")
    hold = f"{rows:,} rows hold only {copies['unique_inputs']:,} unique inputs ({names})"
    leak = copies["random_split_leak"]
    if copies["repeated_inputs"] and not result["splits"]:
        severity = "error" if leak > 0.05 else "warning" if leak > 0.005 else "info"
        message = f"{hold}: a plain random split would put {share_of(leak, 1)} of the held-out rows into "
        message += "training too"
        yield finding(severity, "repeated_inputs", message, DROP)
    elif copies["repeated_inputs"]:
        apart = "" if copies["across_splits"] else "; no split shares one with another"
        yield told("info", "repeated_inputs", "repeated_inputs", hold + apart, "")
    count = copies["conflicting_inputs"]
    if count:
        classy = result["target_kind"] == "class"
        where = "in more than one class" if classy else f"with different values of {target!r}"
        message = (
            f"{count:,} unique {'input is' if count == 1 else 'inputs are'} {where} "
            f"({rows_of(copies['conflicting_rows'])}): no model can get all of them right"
        )
        severity = "warning" if classy else "info"
        yield told(severity, "conflicting_labels", "conflicting_inputs", message, CONFLICTS, target)


def _near(result: Mapping[str, Any]) -> Iterator[Finding]:
    near = result["near_duplicates"]
    if not near.get("pairs"):
        return
    seen = f"in a sample of {near['sample']:,} of {near['of']:,} rows"
    for pair, count in near["across_splits"].items():
        early, late = pair.split("/")
        looked = near["sampled"].get(late, 0)
        verb = "repeats" if count == 1 else "repeat"
        yield finding(
            "warning" if count > 0.01 * looked else "info",
            "near_duplicates_across_splits",
            f"{rows_of(count)} of {late} ({share_of(count, looked)} of those looked at) nearly {verb} "
            f"a row of {early}, {seen}",
            GROUP,
        )
    if not near["across_splits"]:
        grave = near["rows"] > 0.05 * near["sample"] and not near["sampled"]
        message = f"{rows_of(near['rows'])} nearly repeat another ({plural(near['pairs'], 'pair')}), {seen}"
        yield finding("warning" if grave else "info", "near_duplicates", message, GROUP if grave else "")


def _leaks(result: Mapping[str, Any]) -> Iterator[Finding]:
    found, target, inputs = result["leakage"], result["target"], set(result["inputs"])
    best: dict[str | None, dict[str, Any]] = {}
    for test in found.get("columns", []):  # of the ways in which a column tells the target, the clearest
        if test["column"] not in best or test["skill"] > best[test["column"]]["skill"]:
            best[test["column"]] = test
    for test in best.values():
        name, skill, area = test["column"], test["skill"], test.get("auc", 0.0)
        figure = f"AUC {area:.4f}" if area > test["value"] else f"{found['measure']} {test['value']:.4f}"
        if name is None:
            if skill > 0.9:
                message = f"rows are sorted by {target!r} ({test['how']} tells it with {figure})"
                yield finding("info", "sorted", f"{message}: shuffle before any split", STRATIFY, target)
            continue
        remedy = f"fields: {{{key_of(name)}: ignore}}"
        if skill >= LIKELY or area >= LIKELY_AUC:
            sure = skill >= SURE or area >= SURE_AUC
            severity = "info" if name not in inputs else "error" if sure and len(inputs) > 1 else "warning"
            used = "" if name in inputs else " (it is not an input now)"
            message = (
                f"{test['how']} alone tells {target!r} with {figure} on {found['sample']:,} sampled rows"
                f"{used}: does it hold the answer, or was it written afterwards?"
            )
            yield finding(severity, "leak", message, remedy, name)
        elif skill > _ALIKE and name in inputs and _alike(name, target):
            message = f"is named like the target {target!r} and tells it with {figure}"
            yield finding("warning", "leak_by_name", message, remedy, name)


def _alike(name: str, target: str) -> bool:
    one, two = ("".join(c for c in text.casefold() if c.isalnum()) for text in (name, target))
    return len(two) >= 3 and (two in one or (one in two and len(one) >= 3))


def _classes(result: Mapping[str, Any]) -> Iterator[Finding]:
    balance, target = result["balance"], result["target"]
    if not balance:
        yield from _numbers(result)
        return
    classes, unlabelled = balance["classes"], balance["unlabelled"]
    if unlabelled:
        yield finding(
            "warning", "unlabelled", f"{rows_of(unlabelled)} {has(unlabelled)} no label", "", target
        )
    if balance["count"] == 1:
        message = f"every row has the class {classes[0][0]!r}: there is nothing to learn"
        yield finding("error", "one_class", message, "", target)
        return
    for split, labels in balance["unseen"].items():
        message = f"{split} has classes that train does not have: {', '.join(labels[:5])}"
        yield finding("error", "unseen_classes", message, STRATIFY, target)
    (largest, most), (smallest, least) = classes[0], balance["smallest"]
    ratio = most / max(least, 1)
    if ratio >= 3:
        share = share_of(most, sum(count for _, count in classes))
        message = f"classes are unequal: {largest!r} has {rows_of(most)} ({share}), "
        message += f"{smallest!r} has {least:,} ({ratio:,.0f} : 1); accuracy alone will flatter"
        severity = "warning" if ratio >= 10 else "info"
        yield finding(severity, "imbalance", message, "task: {class_weights: balanced}", target)
    rare = [label for label, count in classes if count < 10]
    if rare:
        listed = ", ".join(map(str, rare[:5]))
        message = f"{len(rare)} of {balance['count']} classes have fewer than 10 rows: {listed}"
        yield finding("warning", "rare_classes", message, "", target)


def _numbers(result: Mapping[str, Any]) -> Iterator[Finding]:
    """A target of numbers that some rows lack."""
    if result["target_kind"] == "number":
        column = next(column for column in result["columns"] if column["name"] == result["target"])
        lacking = column["rows"] - column.get("numeric", 0)
        if lacking:
            message = f"{rows_of(lacking)} {has(lacking)} no number as target"
            yield finding("warning", "unlabelled", message, "", result["target"])


def _suspects(result: Mapping[str, Any]) -> Iterator[Finding]:
    found = result["suspicious_labels"]
    if not found.get("count") or not found["reliable"]:
        return
    count, looked = found["count"], found["sample"]
    examples = ", ".join(str(example["row"]) for example in found["examples"][:5])
    verb = "bears" if count == 1 else "bear"
    message = f"{rows_of(count)} of {looked:,} looked at ({share_of(count, looked)}) {verb} a label "
    message += f"that the nearest neighbours deny, e.g. rows {examples}"
    severity = "warning" if count > 0.005 * looked else "info"
    yield finding(severity, "suspicious_labels", message, "", result["target"])


def _size(result: Mapping[str, Any]) -> Iterator[Finding]:
    if result["rows"] < 100 and not result.get("continuous"):  # pieces of one text are no cases
        message = f"only {rows_of(result['rows'])}: figures of a held-out part will be very uncertain"
        yield finding("warning", "few_rows", message)
