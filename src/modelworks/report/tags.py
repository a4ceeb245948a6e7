"""Tags: SVG elements as text, every attribute and every text escaped."""

from __future__ import annotations

from markupsafe import Markup, escape


def tag(name: str, content: str = "", /, title: object = None, **attributes: object) -> str:
    """`tag("rect", cls="fill", x=1.25)` → `<rect class="fill" x="1.2"/>`. `content` must be made by `tag` or
    escaped; `title` shows under the mouse; `_` in a name stands for `-`, None leaves an attribute out."""
    written = "".join(
        f' {"class" if key == "cls" else key.replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if title is not None:
        content = f"<title>{escape(title)}</title>{content}"
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def _value(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def text(x: float, y: float, content: str, cls: str = "", anchor: str = "middle", **more: object) -> str:
    """One piece of text."""
    return tag("text", str(escape(content)), x=x, y=y, cls=cls or None, text_anchor=anchor, **more)


def turned(x: float, y: float) -> str:
    """The transform of text that runs upwards through a point."""
    return f"rotate(-90 {x:.1f} {y:.1f})"


def frame(body: str, label: str, width: int, height: int, kind: str = "") -> Markup:
    """The outer element; a square one is never drawn larger than it is."""
    limit = f"max-width:{width}px" if kind == "square" else None
    look = {"cls": f"chart {kind}".strip(), "viewBox": f"0 0 {width} {height}", "style": limit}
    return Markup(tag("svg", body or "<g/>", **look, role="img", aria_label=label))  # noqa: S704 - all is escaped


def short(content: str, longest: int) -> str:
    """Text that fits; wide (Chinese, Japanese, Korean) characters count double."""
    used = 0
    for index, letter in enumerate(content):
        used += 2 if ord(letter) > 0x2E80 else 1
        if used > longest:
            return content[: max(index - 1, 1)] + "…"
    return content


def wide(content: str) -> int:
    """Width in half characters."""
    return sum(2 if ord(letter) > 0x2E80 else 1 for letter in content)
