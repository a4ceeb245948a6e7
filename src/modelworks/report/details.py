"""Details of an evaluation as charts: confusion matrix, ROC, precision–recall, calibration, residuals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelworks.report.folder import figure, items, table, tables
from modelworks.report.matrix import heatmap
from modelworks.report.page import Figure
from modelworks.report.svg import Series, histogram, lines, scatter
from modelworks.report.words import number

_CURVES = 6
"""Classes whose curves are drawn: as many as there are colours."""
_PAIRS = 10
_POINTS = 1_500
_FEW = 5
"""Rows from which a bin of confidences is shown."""
_CLASSES = 40


def labels_of(details: dict[str, Any]) -> list[str]:
    """The classes' names."""
    return [str(label) for label in items(details.get("labels"))]


def matrix_of(details: dict[str, Any]) -> list[list[float]]:
    """The confusion matrix, rows truth; empty when it is not a square of numbers."""
    rows = [[figure(value) for value in items(row)] for row in items(details.get("confusion"))]
    if not rows or any(len(row) != len(rows) or None in row or min(v or 0 for v in row) < 0 for row in rows):
        return []
    return [[value or 0.0 for value in row] for row in rows]


def confusion(details: dict[str, Any]) -> Figure | None:
    """The confusion matrix; only the most confused classes where there are very many."""
    matrix, labels = matrix_of(details), labels_of(details)
    if len(matrix) < 2:
        return None
    whole, note = len(matrix), "Each row is a true class; the shade is a cell's share of its row."
    labels = [*labels, *(str(i) for i in range(len(labels), whole))][:whole]
    if whole > 60:
        errors = [sum(row) + sum(r[i] for r in matrix) - 2 * row[i] for i, row in enumerate(matrix)]
        kept = sorted(sorted(range(whole), key=lambda i: -errors[i])[:30])
        matrix, labels = [[matrix[i][j] for j in kept] for i in kept], [labels[i] for i in kept]
        note = f"The 30 most confused of {whole} classes."
    return Figure(
        "Confusion matrix",
        heatmap(
            [[int(v) if v == int(v) else v for v in row] for row in matrix], labels, title="Confusion matrix"
        ),
        note=note,
    )


def confused_pairs(details: dict[str, Any]) -> list[dict[str, Any]]:
    """The commonest confusions: truth, prediction, count, share of the truth's rows."""
    matrix, labels = matrix_of(details), labels_of(details)
    found = [
        {
            "truth": labels[i] if i < len(labels) else str(i),
            "prediction": labels[j] if j < len(labels) else str(j),
            "count": int(value),
            "share": value / sum(row),
        }
        for i, row in enumerate(matrix)
        for j, value in enumerate(row)
        if i != j and value
    ]
    return sorted(found, key=lambda pair: -pair["count"])[:_PAIRS] if len(matrix) > 2 else []


def classes(details: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """(precision, recall and F1 of each class, commonest first; how many classes are left out)."""
    found = []
    for entry in tables(details.get("classes")):
        truth, predicted, hits = (figure(entry.get(name)) or 0.0 for name in ("truth", "predicted", "hits"))
        found.append(
            {
                "label": str(entry.get("label", "")),
                "rows": int(truth),
                "precision": hits / predicted if predicted else None,
                "recall": hits / truth if truth else None,
                "f1": 2 * hits / (truth + predicted) if truth + predicted else None,
            }
        )
    found.sort(key=lambda entry: -entry["rows"])
    return found[:_CLASSES], max(0, len(found) - _CLASSES)


def _curve(value: Any) -> tuple[list[float], list[float]]:
    pairs = [(figure(p[0]), figure(p[1])) for p in items(value) if len(items(p)) == 2]
    kept = [(a, b) for a, b in pairs if a is not None and b is not None]
    return [a for a, _ in kept], [b for _, b in kept]


def _curves(
    details: dict[str, Any], name: str, title: str, x_label: str, y_label: str, diagonal: bool
) -> Figure | None:
    drawn = [(label, _curve(value)) for label, value in table(details.get(name)).items()]
    drawn = [(label, curve) for label, curve in drawn if len(curve[0]) > 1]
    if not drawn:
        return None
    series = [Series(label, *curve, colour=i + 1) for i, (label, curve) in enumerate(drawn[:_CURVES])]
    note = "" if len(drawn) <= _CURVES else f"The {_CURVES} commonest of {len(drawn)} classes."
    if len(drawn) == 1:
        note = f"Positive class: {drawn[0][0]}."
    chart = lines(
        series,
        title=title,
        x_label=x_label,
        y_label=y_label,
        x_range=(0, 1),
        y_range=(0, 1),
        diagonal=diagonal,
        height=330,
    )
    return Figure(
        title, chart, tuple((one.name, one.colour) for one in series) if len(drawn) > 1 else (), note
    )


def reliability(details: dict[str, Any]) -> Figure | None:
    """How often the model is right when it says it is so sure."""
    bins = [
        (figure(b.get("confidence")), figure(b.get("accuracy")), figure(b.get("rows")) or 0.0)
        for b in tables(details.get("reliability"))
    ]
    total = sum(n for _, _, n in bins)
    kept = [
        (c, a, n) for c, a, n in bins if c is not None and a is not None and (n >= _FEW or total < 10 * _FEW)
    ]
    if not kept:
        return None
    series = [Series("observed", [c for c, _, _ in kept], [a for _, a, _ in kept], 1, "marked")]
    chart = lines(
        series,
        title="Calibration",
        x_label="confidence",
        y_label="share that is right",
        x_range=(0, 1),
        y_range=(0, 1),
        diagonal=True,
        height=330,
    )
    rows = sum(n for _, _, n in kept)
    sure = sum(n for c, _, n in kept if c >= 0.9)
    return Figure(
        "Calibration",
        chart,
        note="On the diagonal, confidence means what it says. "
        f"{100 * sure / rows if rows else 0:.0f}\u00a0% of rows have a confidence of 0.9 or more.",
    )


def _points(details: dict[str, Any]) -> list[tuple[float, float, str]]:
    found = [
        (figure(p.get("truth")), figure(p.get("prediction")), str(p.get("row", "")))
        for p in tables(details.get("points"))
    ]
    kept = [(t, p, row) for t, p, row in found if t is not None and p is not None]
    return kept[:: max(1, -(-len(kept) // _POINTS))]


def _regression(details: dict[str, Any]) -> list[Figure]:
    points = _points(details)
    if len(points) < 2:
        return []
    truth, predicted = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    residual = predicted - truth
    note = f"{len(points):,} sampled rows." if len(points) < (figure(details.get("rows")) or 0) else ""
    shown = [
        Figure(
            "Predicted and true",
            scatter(
                truth.tolist(),
                predicted.tolist(),
                title="Predicted and true",
                x_label="true",
                y_label="predicted",
                names=[f"row {p[2]}" for p in points],
            ),
            note=note,
        )
    ]
    low, high = np.quantile(residual, [0.005, 0.995])
    if np.isfinite(residual).all() and high > low and (np.diff(np.linspace(low, high, 41)) > 0).all():
        counts, edges = np.histogram(np.clip(residual, low, high), 40, (low, high))
        quantiles = table(details.get("residuals"))
        middle, early, late = (figure(quantiles.get(q)) for q in ("0.5", "0.05", "0.95"))
        told = (
            f"Median {number(middle)}; nine in ten between {number(early)} and {number(late)}."
            if None not in (middle, early, late)
            else ""
        )
        shown.append(
            Figure(
                "Residuals",
                histogram(
                    edges.tolist(),
                    counts.tolist(),
                    title="Residuals",
                    x_label="predicted − true",
                    zero=True,
                    height=316,
                ),
                note=told,
            )
        )
        shown.append(
            Figure(
                "Residuals over truth",
                lines(
                    [Series("residual", truth.tolist(), residual.tolist(), 1, "dots")],
                    title="Residuals over truth",
                    x_label="true",
                    y_label="predicted − true",
                    height=316,
                ),
                note="",
            )
        )
    return shown


def figures(details: dict[str, Any]) -> list[Figure]:
    """Every chart that these details allow, the confusion matrix apart."""
    found: Sequence[Figure | None] = (
        _curves(details, "roc", "ROC", "false positive rate", "true positive rate", True),
        _curves(details, "pr", "Precision–recall", "recall", "precision", False),
        reliability(details),
        *_regression(details),
    )
    return [chart for chart in found if chart is not None]
