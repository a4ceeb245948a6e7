"""SVG charts as plain text: no script, no fonts, no network. Colours come from the page's CSS.

    lines([Series("valid", steps, losses, colour=2)], title="loss", x_label="step", log_y=True)

Every function gives Markup that is safe to put into HTML: all text in it is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from modelworks.report.tags import frame, short, tag, text, turned
from modelworks.report.words import compact, number
from modelworks.report.words import value as amount

WIDTH, HEIGHT = 440, 264
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 14, 40
_HOVER = 60
"""Points of a line that answer to the mouse."""
_LARGEST, _LEAST = 1e100, 1e-100
_LONGEST = 400
"""Points of a line that are drawn; the extremes of each stretch are kept."""


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 1
    """1 to 6: a colour of the theme; 0: grey."""
    style: str = ""
    """"", dash, faint, dots (no line) or marked (line and points)."""
    low: Sequence[float] = field(default=())
    high: Sequence[float] = field(default=())
    """A band around the line."""


@dataclass(frozen=True)
class Axis:
    """Data values → pixels along one side."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(max(value, 1e-300)), math.log10(low), math.log10(high)
        share = (value - low) / ((high - low) or 1.0)
        return round(self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start), 1)

    def ticks(self, count: int = 5) -> list[float]:
        return log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high, count)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2, 2.5 or 5 times a power of ten) from low to high."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    rough = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999), 10 * power)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    found = [index * step for index in range(first, last + 1)]
    return [0.0 if abs(value) < step * 1e-9 else float(f"{value:.12g}") for value in found]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 between where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if math.log10(high / low) <= 2 else (1,)
    every = max(1, (last - first) // 6)
    found = [m * 10.0**p for p in range(first, last + 1, every) for m in steps]
    return [value for value in found if low * 0.999 <= value <= high * 1.001]


def axis(
    values: Sequence[float],
    start: float,
    stop: float,
    *,
    log: bool = False,
    low: float | None = None,
    high: float | None = None,
) -> Axis:
    """An axis that holds all finite values, with a little room; given ends are kept."""
    kept = [value for value in values if drawable(value) and (value > _LEAST or not log)]
    if not kept:
        kept = [1.0] if log else [0.0, 1.0]
    least, most = min(kept), max(kept)
    if log:
        margin = (most / least) ** 0.05 if most > least else 2.0
        return Axis(low or least / margin, high or most * margin, start, stop, True)
    room = 0.05 * (most - least) or max(abs(most) * 0.1, 1e-9)
    return Axis(least - room if low is None else low, most + room if high is None else high, start, stop)


def _axes(x: Axis, y: Axis, x_label: str, y_label: str) -> str:
    """Grid, ticks and names of both axes."""
    parts = []
    for value in y.ticks():
        parts.append(tag("line", cls="grid", x1=x.start, x2=x.stop, y1=y(value), y2=y(value)))
        parts.append(text(x.start - 6, y(value) + 4, compact(value), "tick", "end"))
    for value in x.ticks():
        parts.append(tag("line", cls="mark", x1=x(value), x2=x(value), y1=y.start, y2=y.start + 4))
        parts.append(text(x(value), y.start + 17, compact(value), "tick"))
    parts.append(tag("line", cls="axis", x1=x.start, x2=x.stop, y1=y.start, y2=y.start))
    parts.append(text((x.start + x.stop) / 2, y.start + 34, x_label, "label"))
    if y_label:
        middle = (y.start + y.stop) / 2
        parts.append(text(13, middle, y_label, "label", transform=turned(13, middle)))
    return "".join(parts)


def _diagonal(x: Axis, y: Axis) -> str:
    return tag("line", cls="diagonal", x1=x(x.low), y1=y(y.low), x2=x(x.high), y2=y(y.high))


def _upright(x: Axis, y: Axis, place: float, what: str | None = None) -> str:
    return tag("line", cls="upright", x1=x(place), x2=x(place), y1=y.start, y2=y.stop, title=what)


def drawable(value: float) -> bool:
    """Whether a number can be placed: finite, and not so large that spans overflow."""
    return math.isfinite(value) and abs(value) < _LARGEST


def thin(x: Sequence[float], y: Sequence[float], longest: int = _LONGEST) -> list[tuple[float, float]]:
    """About `longest` points at most, the extremes of each stretch among them; undrawable ones left out."""
    pairs = zip(x, y, strict=False)
    points = [(float(a), float(b)) for a, b in pairs if drawable(a) and drawable(b)]
    if len(points) <= longest:
        return points
    stretch = math.ceil(2 * len(points) / longest)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        ends = {
            min(range(len(part)), key=lambda i: part[i][1]),
            max(range(len(part)), key=lambda i: part[i][1]),
        }
        kept += [part[i] for i in sorted(ends)]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


# ------------------------------------------------------------------------------------------- charts
def lines(
    series: Sequence[Series], *, title: str, x_label: str = "", y_label: str = "",
    log_x: bool = False, log_y: bool = False, x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None, diagonal: bool = False,
    marks: Sequence[tuple[float, str]] = (), height: int = HEIGHT,
) -> Markup:  # fmt: skip
    """Lines over common axes. `marks`: (x, what) as upright lines; `diagonal`: from corner to corner."""
    points = [thin(one.x, one.y) for one in series]
    points = [
        [p for p in one if (p[1] > _LEAST or not log_y) and (p[0] > _LEAST or not log_x)] for one in points
    ]
    x_all = [p[0] for one in points for p in one]
    y_all = [*(p[1] for one in points for p in one), *(v for one in series for v in (*one.low, *one.high))]
    x_low, x_high = x_range or (None, None)
    y_low, y_high = y_range or (None, None)
    if x_range is None and x_all and not log_x:  # a line starts at the very side
        x_low, x_high = min(x_all), max(max(x_all), min(x_all) + 1e-9)
    x = axis(x_all, _LEFT, WIDTH - _RIGHT, log=log_x, low=x_low, high=x_high)
    y = axis(y_all, height - _BOTTOM, _TOP, log=log_y, low=y_low, high=y_high)
    body = [_axes(x, y, x_label, y_label), _diagonal(x, y) if diagonal else ""]
    body += [_upright(x, y, place, what) for place, what in marks]
    body += [_band(one, x, y) for one in series if len(one.low)]
    body += [_line(one, kept, x, y) for one, kept in zip(series, points, strict=True)]
    told = "; ".join(
        f"{one.name} from {number(kept[0][1])} to {number(kept[-1][1])}"
        for one, kept in zip(series, points, strict=True)
        if kept and one.style != "faint"
    )
    return frame("".join(body), f"{title}: {told or 'no data'}", WIDTH, height)


def _band(one: Series, x: Axis, y: Axis) -> str:
    upper = list(zip(one.x, one.high, strict=False))
    lower = list(zip(one.x, one.low, strict=False))
    around = " ".join(f"{x(a)},{y(b)}" for a, b in [*upper, *reversed(lower)])
    return tag("polygon", cls=f"band s{one.colour}", points=around)


def _line(one: Series, kept: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    """A line, and points that answer to the mouse."""
    if not kept:
        return ""
    body = ""
    if one.style != "dots" and len(kept) > 1:
        path = "M" + "L".join(f"{x(a)} {y(b)}" for a, b in kept)
        body = tag("path", cls=f"line s{one.colour} {one.style}".strip(), d=path)
    if one.style == "faint":
        return body
    shown = one.style in ("dots", "marked") or len(kept) == 1
    look = {"cls": f"dot s{one.colour}", "r": 3} if shown else {"cls": "hover", "r": 7}
    every = 1 if one.style == "dots" else max(1, len(kept) // _HOVER)
    for a, b in kept[::every]:
        body += tag("circle", title=f"{one.name} at {compact(a)}: {number(b)}", **look, cx=x(a), cy=y(b))
    return body


def bars(labels: Sequence[str], values: Sequence[float], *, title: str, colour: int = 1) -> Markup:
    """Lying bars, one a label, each with its value."""
    row, left = 22, 130
    most = max([value for value in values if drawable(value) and value > 0], default=1.0)
    body = []
    for index, (label, value) in enumerate(zip(labels, values, strict=True)):
        y, reach = 4 + index * row, min(max(value, 0) / most, 1) * (WIDTH - left - 64)
        look = {"cls": f"fill s{colour}", "x": left, "y": y + 3, "height": row - 7, "rx": 2}
        inside = text(left - 8, y + 15, short(label, 19), "tick", "end")
        inside += tag("rect", **look, width=max(reach, 1.0))
        inside += text(left + reach + 6, y + 15, amount(value), "tick", "start")
        body.append(tag("g", inside, title=f"{label}: {amount(value)}"))
    told = ", ".join(
        f"{label} {amount(value)}" for label, value in list(zip(labels, values, strict=True))[:8]
    )
    return frame("".join(body), f"{title}: {told}", WIDTH, row * len(labels) + 8)


def histogram(
    edges: Sequence[float], counts: Sequence[float], *, title: str, x_label: str = "", y_label: str = "rows",
    zero: bool = False, height: int = HEIGHT,
) -> Markup:  # fmt: skip
    """Standing bars between edges. `zero`: mark where the x axis is 0."""
    if len(edges) < 2 or len(edges) != len(counts) + 1 or not all(map(drawable, [*edges, *counts])):
        return frame("", f"{title}: no data", WIDTH, height)
    x = Axis(edges[0], edges[-1], _LEFT, WIDTH - _RIGHT)
    y = axis([0, *counts], height - _BOTTOM, _TOP, low=0)
    body = [_axes(x, y, x_label, y_label)]
    for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
        told = f"{number(left)} to {number(right)}: {amount(count)}"
        box = {"x": x(left) + 0.5, "y": y(count), "height": y.start - y(count)}
        body.append(tag("rect", cls="fill s1", **box, width=max(x(right) - x(left) - 1, 0.5), title=told))
    if zero and edges[0] < 0 < edges[-1]:
        body.append(_upright(x, y, 0))
    told = f"{title}: {amount(sum(counts))} values from {number(edges[0])} to {number(edges[-1])}"
    return frame("".join(body), told, WIDTH, height)


def sparkbars(counts: Sequence[float], label: str) -> Markup:
    """A histogram the size of a word, for a table's cell."""
    most, step, body = max(counts, default=0) or 1, 96 / max(len(counts), 1), ""
    for index, count in enumerate(counts):
        tall = max(21 * count / most, 0.6) if count else 0.0
        box = {"x": index * step + 0.4, "y": 23 - tall, "width": max(step - 0.8, 0.6)}
        body += tag("rect", cls="fill s1", **box, height=tall)
    return frame(body, label, 96, 24, "spark")


def scatter(
    x_values: Sequence[float], y_values: Sequence[float], *, title: str, x_label: str, y_label: str,
    names: Sequence[str] = (), height: int = 316,
) -> Markup:  # fmt: skip
    """Points, both axes alike, with the diagonal where both are equal."""
    pairs = [(float(a), float(b)) for a, b in zip(x_values, y_values, strict=True)]
    both = [value for pair in pairs for value in pair if drawable(value)]
    x, y = axis(both, _LEFT, WIDTH - _RIGHT), axis(both, height - _BOTTOM, _TOP)
    body = [_axes(x, y, x_label, y_label), _diagonal(x, y)]
    for index, (a, b) in enumerate(pairs):
        if not (drawable(a) and drawable(b)):
            continue
        name = f"{names[index]}: " if index < len(names) else ""
        told = f"{name}{x_label} {number(a)}, {y_label} {number(b)}"
        body.append(tag("circle", cls="point s1", cx=x(a), cy=y(b), r=2.6, title=told))
    return frame("".join(body), f"{title}: {len(pairs):,} points", WIDTH, height)
