"""Words and figures for people: numbers, metric names, sizes, which way a metric is better."""

from __future__ import annotations

import math
from typing import Any

from modelworks.metrics.direction import higher_is_better

_NAMES = {
    "auc": "AUC",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "mcc": "MCC",
    "f1": "F1",
    "ece": "calibration error (ECE)",
    "mse": "MSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "mape": "MAPE",
    "r2": "R²",
    "lr": "learning rate",
    "log_loss": "log-loss",
    "brier": "Brier score",
    "median_ae": "median absolute error",
    "grad_norm": "gradient norm",
}


def number(value: Any, digits: int = 4) -> str:
    """A figure as people read it: 0.9912, 1,204, 3.1e-05; "–" for none."""
    if (
        value is None
        or isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
    ):
        return "–" if value is None or isinstance(value, float) else str(value)
    if isinstance(value, int) or (abs(value) >= 1000 and value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}"
    size = abs(value)
    if size >= 1e7 or 0 < size < 1e-4:
        return f"{value:.{digits - 2}e}"
    if size >= 1000:
        return f"{value:,.0f}"
    if size > 1:
        whole = len(str(int(size)))
        return f"{value:.{max(digits - whole, 1)}f}"
    return f"{value:.{digits}f}"


def value(amount: float) -> str:
    """A value of the data, no digits added: 50, 3.258, 1,204.5."""
    if amount == int(amount) and abs(amount) < 1e12:
        return f"{int(amount):,}"
    size = abs(amount)
    if size >= 1e12 or size < 1e-4:
        return f"{amount:.3g}"
    digits = max(0, 4 - len(str(int(size)))) if size >= 1 else 4
    return f"{amount:,.{digits}f}".rstrip("0").rstrip(".") if digits else f"{amount:,.0f}"


def compact(value: float) -> str:
    """A tick's label: 0, 0.25, 5k, 1.5M, 1e-5."""
    if value == 0:
        return "0"
    size = abs(value)
    for limit, divisor, suffix in ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if size >= limit:
            return f"{value / divisor:.4g}{suffix}" if size < 1e15 else f"{value:.3g}"
    if size < 1e-3:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"


def metric_name(name: str) -> str:
    """`f1_macro` → `F1, macro`; `top_5_accuracy` → `top-5 accuracy`."""
    owner, _, base = name.rpartition("/")
    if owner and owner not in ("train", "valid", "test"):  # a player's: generator/loss
        return f"{owner.replace('_', ' ')} {metric_name(base)}"
    if base in _NAMES:
        return _NAMES[base]
    for average in ("macro", "micro", "weighted"):
        if base.endswith(f"_{average}"):
            return f"{metric_name(base[: -len(average) - 1])}, {average}"
    if base.startswith("top_"):
        return base.replace("top_", "top-", 1).replace("_", " ")
    return base.replace("_", " ")


def better(name: str) -> str:
    """ "higher" or "lower": which way the metric is better."""
    return "higher" if higher_is_better(name) else "lower"


def interval(entry: dict[str, Any]) -> str:
    """`0.981 – 0.989`, or nothing when there is no interval."""
    low, high = entry.get("low"), entry.get("high")
    return "" if low is None or high is None else f"{number(low)} – {number(high)}"


def percent(part: float, whole: float) -> str:
    """A share as people read it."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.1:
        return "< 0.1 %"
    return f"{share:.1f} %" if share < 10 and share else f"{share:.0f} %"


def size(count: float) -> str:
    """Bytes: 1.4 MB."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return str(count)


def duration(seconds: Any) -> str:
    """Seconds as people read them: 3.2 s, 4 min 10 s, 2 h 5 min."""
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def plural(count: int, one: str, many: str = "") -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
