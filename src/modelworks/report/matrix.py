"""The confusion matrix as SVG: a square of counts, each row shaded by its share."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from modelworks.report.tags import frame, short, tag, text, turned, wide
from modelworks.report.words import compact, number

_NAMED = 40
"""Classes up to which names are written."""
_LETTERS = 14
_SIDE, _CELL = 560, 56.0


def heatmap(
    matrix: Sequence[Sequence[float]], labels: Sequence[str], *, title: str, row_title: str = "truth",
    column_title: str = "prediction",
) -> Markup:  # fmt: skip
    """Counts with their numbers where there is room; hits in one colour, misses in another."""
    count, names = len(matrix), [str(label) for label in labels]
    names += [str(index) for index in range(len(names), count)]
    longest = min(max(map(wide, names), default=1), _LETTERS)
    margin = 30 + (longest * 6.2 if count <= _NAMED else 0)
    cell = min(_CELL, max((_SIDE - margin) / max(count, 1), 2.0))
    size = min(12.5, max(7.5, cell * 0.34))
    middle = margin + cell * count / 2
    body = [
        text(middle, 14, column_title, "label"),
        text(12, middle, row_title, "label", transform=turned(12, middle)),
    ]
    if count <= _NAMED:
        upright = longest * size * 0.62 > cell  # long names do not fit over their column
        body += [
            _names(short(name, _LETTERS), i, margin, cell, size, upright) for i, name in enumerate(names)
        ]
    for i, row in enumerate(matrix):
        total = sum(row) or 1
        for j, value in enumerate(row):
            if value or count <= _NAMED:
                tip = f"{names[i]} taken for {names[j]}: {number(value)} of {number(total)}"
                place = (margin + j * cell, margin + i * cell)
                body.append(_cell(place, cell, size, value, value / total, i == j, tip))
    side = round(margin + cell * count + 8)
    return frame("".join(body), f"{title}: {count} by {count} classes", side, side, "square")


def _names(name: str, index: int, margin: float, cell: float, size: float, upright: bool) -> str:
    """A class's name beside its row and over its column."""
    along, style = margin + index * cell + cell / 2 + 4, f"font-size:{size:.1f}px"
    beside = text(margin - 6, along, name, "tick", "end", style=style)
    if upright:
        over = text(
            along, margin - 6, name, "tick", "start", style=style, transform=turned(along, margin - 6)
        )
    else:
        over = text(along - 4, margin - 6, name, "tick", style=style)
    return beside + over


def _cell(
    place: tuple[float, float], cell: float, size: float, value: float, share: float, hit: bool, tip: str
) -> str:
    x, y = place
    box = {"x": x, "y": y, "width": cell - 1, "height": cell - 1}
    body = tag("rect", cls="cell", **box)
    if value:
        body += tag("rect", cls="fill s1" if hit else "fill s2", **box, fill_opacity=min(1.0, share**0.6))
    if value and cell >= 17:
        shown = compact(value) if value >= 1e4 else number(value)
        style = f"font-size:{min(size, (cell - 4) / (0.58 * len(shown))):.1f}px"
        kind = "count on" if share > 0.42 else "count"
        body += text(x + cell / 2 - 0.5, y + cell / 2 + size * 0.36, shown, kind, style=style)
    return tag("g", body, title=tip)
