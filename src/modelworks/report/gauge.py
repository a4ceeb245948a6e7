"""Gauge: a metric, its interval and its baseline as one small picture for a table's row."""

from __future__ import annotations

from markupsafe import Markup

from modelworks.report.tags import frame, tag
from modelworks.report.words import number

_UNIT = ("loss", "mse", "rmse", "mae", "mape", "median_ae")
"""Metrics that are no share of one."""


def gauge(
    metric: str, value: float | None, low: float | None, high: float | None, baseline: float | None
) -> Markup:
    """On a line from 0 to 1: tick for the baseline, bar for the interval, dot for the value; else empty."""
    if value is None or not 0 <= value <= 1 or metric in _UNIT or metric.endswith(("_loss", "_error")):
        return Markup("")

    def place(share: float) -> float:
        return 6 + 120 * min(max(share, 0.0), 1.0)

    body = tag("line", cls="grid", x1=6, x2=126, y1=9, y2=9, style="stroke-width:3")
    if baseline is not None:
        spot, look = place(baseline), "stroke-dasharray:none;stroke-width:2"
        told = f"baseline {number(baseline)}"
        body += tag("line", cls="upright", style=look, x1=spot, x2=spot, y1=3, y2=15, title=told)
    if low is not None and high is not None:
        look = "stroke-width:5;opacity:.4"
        body += tag("line", cls="line s1", style=look, x1=place(low), x2=place(high), y1=9, y2=9)
    body += tag("circle", cls="dot s1", cx=place(value), cy=9, r=4, title=number(value))
    return frame(body, f"{number(value)} of 1", 132, 18, "gauge")
