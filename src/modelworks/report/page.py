"""Page: the templates and the style, rendered offline into one file. Autoescape is on for every template."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from modelworks import __version__
from modelworks.report import words

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Figure:
    """A chart with its caption."""

    title: str
    svg: Markup
    key: tuple[tuple[str, int], ...] = ()
    """(name, colour) of each line."""
    note: str = ""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "metric": words.metric_name,
        "percent": words.percent,
        "duration": words.duration,
        "interval": words.interval,
        "size": words.size,
    }
    environment.globals |= {"version": __version__, "plural": words.plural}
    return environment


@cache
def style() -> Markup:
    """The style sheet: our own file, so it is safe as it is."""
    return Markup((_TEMPLATES / "style.css").read_text("utf-8"))  # noqa: S704


def render(template: str, **context: Any) -> str:
    """A template, rendered."""
    return _environment().get_template(template).render(style=style(), **context)


def render_text(template: str, **context: Any) -> str:
    """A template of plain text (Markdown): values are made safe by the caller."""
    environment = _environment().overlay(autoescape=False)
    return environment.get_template(template).render(**context)
