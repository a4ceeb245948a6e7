"""Gauge: a metric, its interval and its baseline as one small picture for a table's row."""

from __future__ import annotations

from markupsafe import Markup

from modelworks.report.svg import frame
from modelworks.report.words import number

_UNIT = ("loss", "mse", "rmse", "mae", "mape", "median_ae")
"""Metrics that are no share of one."""


def gauge(
    metric: str, value: float | None, low: float | None, high: float | None, baseline: float | None
) -> Markup:
    """From 0 to 1: grey tick for the baseline, bar for the interval, dot for the value; empty for other metrics."""
    if value is None or not 0 <= value <= 1 or metric in _UNIT or metric.endswith(("_loss", "_error")):
        return Markup("")
    place = lambda v: round(6 + 120 * min(max(v, 0.0), 1.0), 1)  # noqa: E731 - a name for one expression
    body = '<line class="grid" x1="6" x2="126" y1="9" y2="9" style="stroke-width:3"/>'
    if baseline is not None:
        body += f'<line class="upright" style="stroke-dasharray:none;stroke-width:2" x1="{place(baseline)}" x2="{place(baseline)}" y1="3" y2="15"><title>baseline {number(baseline)}</title></line>'
    if low is not None and high is not None:
        body += f'<line class="line s1" style="stroke-width:5;opacity:.4" x1="{place(low)}" x2="{place(high)}" y1="9" y2="9"/>'
    body += f'<circle class="dot s1" cx="{place(value)}" cy="9" r="4"><title>{number(value)}</title></circle>'
    return frame(body, f"{number(value)} of 1", 132, 18, "gauge")
