"""SVG charts as plain text: no script, no fonts, no network. Colours come from the page's CSS (light and dark).

    lines([Series("valid", steps, losses, colour=2)], title="loss", x="step", log_y=True)

Every function gives Markup that is safe to put into HTML: all text in it is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from modelworks.report.words import compact, number
from modelworks.report.words import value as amount

WIDTH, HEIGHT = 440, 264
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 14, 40
_HOVER = 60
"""Points of a line that answer to the mouse."""
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
    kept = [value for value in values if math.isfinite(value) and (not log or value > 0)]
    if not kept:
        kept = [1.0] if log else [0.0, 1.0]
    least, most = min(kept), max(kept)
    if log:
        margin = (most / least) ** 0.05 if most > least else 2.0
        return Axis(low or least / margin, high or most * margin, start, stop, True)
    room = 0.05 * (most - least) or max(abs(most) * 0.1, 1e-9)
    return Axis(least - room if low is None else low, most + room if high is None else high, start, stop)


# ------------------------------------------------------------------------------------------- pieces
def frame(body: str, label: str, width: int = WIDTH, height: int = HEIGHT, kind: str = "") -> Markup:
    """The outer element; a square one is never drawn larger than it is."""
    limit = f' style="max-width:{width}px"' if kind == "square" else ""
    return Markup(  # noqa: S704 - every text inside was escaped by `text` or here
        f'<svg class="chart {escape(kind)}"{limit} viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}" '
        f'preserveAspectRatio="xMidYMid meet">{body}</svg>'
    )


def text(
    x: float, y: float, content: str, kind: str = "", anchor: str = "middle", turn: float | None = None
) -> str:
    """One piece of text."""
    rotate = "" if turn is None else f' transform="rotate({turn} {x} {y})"'
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}"{rotate}>{escape(content)}</text>'


def short(content: str, longest: int) -> str:
    """Text that fits; wide (Chinese, Japanese, Korean) characters count double."""
    used = 0
    for index, letter in enumerate(content):
        used += 2 if ord(letter) > 0x2E80 else 1
        if used > longest:
            return content[: max(index - 1, 1)] + "…"
    return content


def _axes(x: Axis, y: Axis, x_label: str, y_label: str) -> str:
    parts = []
    for value in y.ticks():
        parts.append(f'<line class="grid" x1="{x.start}" x2="{x.stop}" y1="{y(value)}" y2="{y(value)}"/>')
        parts.append(text(x.start - 6, y(value) + 4, compact(value), "tick", "end"))
    for value in x.ticks():
        parts.append(
            f'<line class="mark" x1="{x(value)}" x2="{x(value)}" y1="{y.start}" y2="{y.start + 4}"/>'
        )
        parts.append(text(x(value), y.start + 17, compact(value), "tick"))
    parts.append(f'<line class="axis" x1="{x.start}" x2="{x.stop}" y1="{y.start}" y2="{y.start}"/>')
    parts.append(text((x.start + x.stop) / 2, y.start + 34, x_label, "label"))
    if y_label:
        parts.append(text(13, (y.start + y.stop) / 2, y_label, "label", turn=-90))
    return "".join(parts)


def thin(x: Sequence[float], y: Sequence[float], longest: int = _LONGEST) -> list[tuple[float, float]]:
    """At most about `longest` points, the least and the greatest of each stretch among them; non-finite ones left out."""
    points = [
        (float(a), float(b)) for a, b in zip(x, y, strict=False) if math.isfinite(a) and math.isfinite(b)
    ]
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
    series: Sequence[Series],
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    log_x: bool = False,
    log_y: bool = False,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
    marks: Sequence[tuple[float, str]] = (),
    height: int = HEIGHT,
) -> Markup:
    """Lines over a common axis. `marks`: (x, what) as upright lines; `diagonal`: from corner to corner."""
    points = [thin(one.x, one.y) for one in series]
    points = [[p for p in one if (not log_y or p[1] > 0) and (not log_x or p[0] > 0)] for one in points]
    bands = [v for one in series for v in (*one.low, *one.high)]
    x_low, x_high = x_range or (None, None)
    y_low, y_high = y_range or (None, None)
    x_all = [p[0] for one in points for p in one]
    if x_range is None and x_all and not log_x:  # a line starts at the very side
        x_low, x_high = min(x_all), max(x_all) if max(x_all) > min(x_all) else min(x_all) + 1
    x = axis(x_all, _LEFT, WIDTH - _RIGHT, log=log_x, low=x_low, high=x_high)
    y = axis(
        [*(p[1] for one in points for p in one), *bands],
        height - _BOTTOM,
        _TOP,
        log=log_y,
        low=y_low,
        high=y_high,
    )
    body = [_axes(x, y, x_label, y_label)]
    if diagonal:
        body.append(
            f'<line class="diagonal" x1="{x(x.low)}" y1="{y(y.low)}" x2="{x(x.high)}" y2="{y(y.high)}"/>'
        )
    for place, what in marks:
        body.append(
            f'<line class="upright" x1="{x(place)}" x2="{x(place)}" y1="{y.start}" y2="{y.stop}"><title>{escape(what)}</title></line>'
        )
    for one in series:
        if len(one.low):
            edge = [*zip(one.x, one.high, strict=False), *reversed(list(zip(one.x, one.low, strict=False)))]
            body.append(
                f'<polygon class="band s{one.colour}" points="{" ".join(f"{x(a)},{y(b)}" for a, b in edge)}"/>'
            )
    for one, kept in zip(series, points, strict=True):
        body.append(_line(one, kept, x, y))
    told = "; ".join(
        f"{one.name} from {number(kept[0][1])} to {number(kept[-1][1])}"
        for one, kept in zip(series, points, strict=True)
        if kept and one.style != "faint"
    )
    return frame("".join(body), f"{title}: {told or 'no data'}", height=height)


def _line(one: Series, kept: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    if not kept:
        return ""
    body = ""
    if one.style != "dots" and len(kept) > 1:
        path = "M" + "L".join(f"{x(a)} {y(b)}" for a, b in kept)
        body = f'<path class="line s{one.colour} {one.style}" d="{path}"/>'
    if one.style == "faint":
        return body
    shown = one.style in ("dots", "marked") or len(kept) == 1
    every = 1 if one.style == "dots" else max(1, len(kept) // _HOVER)
    for index in range(0, len(kept), every):
        a, b = kept[index]
        kind = f"dot s{one.colour}" if shown else "hover"
        radius = 3 if shown else 7
        body += f'<circle class="{kind}" cx="{x(a)}" cy="{y(b)}" r="{radius}"><title>{escape(one.name)} at {compact(a)}: {number(b)}</title></circle>'
    return body


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    *,
    title: str,
    colour: int = 1,
    width: int = WIDTH,
    top: float | None = None,
) -> Markup:
    """Lying bars, one a label, each with its value."""
    row, left = 22, 130
    most = top or max([v for v in values if math.isfinite(v)], default=1.0) or 1.0
    height = row * len(labels) + 8
    body = []
    for index, (label, value) in enumerate(zip(labels, values, strict=True)):
        y, reach = 4 + index * row, round(max(value, 0) / most * (width - left - 64), 1)
        body.append(f"<g><title>{escape(label)}: {number(value)}</title>")
        body.append(text(left - 8, y + 15, short(label, 19), "tick", "end"))
        body.append(
            f'<rect class="fill s{colour}" x="{left}" y="{y + 3}" width="{max(reach, 1)}" height="{row - 7}" rx="2"/>'
        )
        body.append(text(left + reach + 6, y + 15, amount(value), "tick", "start") + "</g>")
    return frame(
        "".join(body),
        f"{title}: " + ", ".join(f"{a} {number(b)}" for a, b in list(zip(labels, values, strict=True))[:8]),
        width,
        height,
    )


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    title: str,
    x_label: str = "",
    y_label: str = "rows",
    colour: int = 1,
    zero: bool = False,
    height: int = HEIGHT,
) -> Markup:
    """Standing bars between edges. `zero`: mark where the x axis is 0."""
    if len(edges) < 2 or len(edges) != len(counts) + 1:
        return frame("", f"{title}: no data")
    x = Axis(edges[0], edges[-1], _LEFT, WIDTH - _RIGHT)
    y = axis([0, *counts], height - _BOTTOM, _TOP, low=0)
    body = [_axes(x, y, x_label, y_label)]
    for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
        top = y(count)
        body.append(
            f'<rect class="fill s{colour}" x="{x(left) + 0.5}" y="{top}" width="{max(round(x(right) - x(left) - 1, 1), 0.5)}" '
            f'height="{round(y.start - top, 1)}"><title>{number(left)} to {number(right)}: {number(count)}</title></rect>'
        )
    if zero and edges[0] < 0 < edges[-1]:
        body.append(f'<line class="upright" x1="{x(0)}" x2="{x(0)}" y1="{y.start}" y2="{y.stop}"/>')
    return frame(
        "".join(body),
        f"{title}: {number(sum(counts))} values from {number(edges[0])} to {number(edges[-1])}",
        height=height,
    )


def sparkbars(counts: Sequence[float], label: str) -> Markup:
    """A histogram the size of a word, for a table's cell."""
    most = max(counts, default=0) or 1
    wide = 96 / max(len(counts), 1)
    body = "".join(
        f'<rect class="fill s1" x="{i * wide + 0.4:.1f}" y="{23 - 21 * c / most:.1f}" width="{max(wide - 0.8, 0.6):.1f}" height="{max(21 * c / most, 0.6 if c else 0):.1f}"/>'
        for i, c in enumerate(counts)
    )
    return frame(body, label, 96, 24, "spark")


def scatter(
    x_values: Sequence[float],
    y_values: Sequence[float],
    *,
    title: str,
    x_label: str,
    y_label: str,
    names: Sequence[str] = (),
) -> Markup:
    """Points, both axes alike, with the diagonal where both are equal."""
    pairs = [
        (float(a), float(b))
        for a, b in zip(x_values, y_values, strict=False)
        if math.isfinite(a) and math.isfinite(b)
    ]
    both = [value for pair in pairs for value in pair]
    x, y = axis(both, _LEFT, WIDTH - _RIGHT), axis(both, WIDTH * 0.72 - _BOTTOM, _TOP)
    body = [
        _axes(x, y, x_label, y_label),
        f'<line class="diagonal" x1="{x(x.low)}" y1="{y(y.low)}" x2="{x(x.high)}" y2="{y(y.high)}"/>',
    ]
    for index, (a, b) in enumerate(pairs):
        name = f"{names[index]}: " if index < len(names) else ""
        body.append(
            f'<circle class="point s1" cx="{x(a)}" cy="{y(b)}" r="2.6"><title>{escape(name)}true {number(a)}, predicted {number(b)}</title></circle>'
        )
    return frame("".join(body), f"{title}: {len(pairs):,} points", height=round(WIDTH * 0.72))


def heatmap(
    matrix: Sequence[Sequence[float]],
    labels: Sequence[str],
    *,
    title: str,
    row_title: str = "truth",
    column_title: str = "prediction",
) -> Markup:
    """A square of counts, each row shaded by its share; numbers where there is room."""
    count = len(matrix)
    longest = max((sum(2 if ord(c) > 0x2E80 else 1 for c in str(label)) for label in labels), default=1)
    named = count <= 40
    margin = 30 + (min(longest, 14) * 6.2 if named else 0)
    cell = min(56.0, max((560 - margin) / max(count, 1), 2.0))
    side = round(margin + cell * count + 8)
    size = min(12.5, max(7.5, cell * 0.34))
    body = [
        text(margin + cell * count / 2, 14, column_title, "label"),
        text(12, margin + cell * count / 2, row_title, "label", turn=-90),
    ]
    for i, row in enumerate(matrix):
        total = sum(row) or 1
        y = margin + i * cell
        if named:
            name = short(str(labels[i]), 14) if i < len(labels) else str(i)
            body.append(
                f'<text x="{margin - 6:.1f}" y="{y + cell / 2 + 4:.1f}" class="tick" text-anchor="end" style="font-size:{size:.1f}px">{escape(name)}</text>'
            )
            # Short names fit over their column; long ones are turned.
            turned = min(longest, 14) * size * 0.62 > cell
            place = (
                f'text-anchor="start" transform="rotate(-90 {margin + i * cell + cell / 2 + 4:.1f} {margin - 6:.1f})"'
                if turned
                else 'text-anchor="middle"'
            )
            body.append(
                f'<text x="{margin + i * cell + cell / 2 + (4 if turned else 0):.1f}" y="{margin - 6:.1f}" class="tick" {place} style="font-size:{size:.1f}px">{escape(name)}</text>'
            )
        for j, value in enumerate(row):
            share = value / total
            if not value and count > 40:
                continue
            x = margin + j * cell
            tip = f"{labels[i] if i < len(labels) else i} taken for {labels[j] if j < len(labels) else j}: {number(value)} of {number(total)}"
            kind = "s1" if i == j else "s2"
            body.append(
                f'<g><title>{escape(tip)}</title><rect class="cell" x="{x:.1f}" y="{y:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}"/>'
                f'<rect class="fill {kind}" x="{x:.1f}" y="{y:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}" fill-opacity="{min(1.0, share**0.6):.3f}"/>'
            )
            if cell >= 17 and value:
                body.append(
                    f'<text x="{x + cell / 2 - 0.5:.1f}" y="{y + cell / 2 + size * 0.36:.1f}" class="count {"on" if share > 0.42 else ""}" text-anchor="middle" style="font-size:{_fit(value, cell, size):.1f}px">{compact(value) if value >= 1e4 else number(value)}</text>'
                )
            body.append("</g>")
    return frame("".join(body), f"{title}: {count} by {count} classes", side, side, "square")


def _fit(value: float, cell: float, size: float) -> float:
    return min(size, (cell - 4) / (0.58 * len(compact(value) if value >= 1e4 else number(value))))
