"""Errors that a user can mend: where it is, what was received, what would work.

`raise UserError("reviews.csv row 812: 'age' wants a number, got 'n/a'", remedy="add missing: [n/a]")`
The command line prints these on one screen and exits with 2; anything else is our own bug.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType


class UserError(ValueError):
    """A mistake in what the user gave us. `remedy` says what would work."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message} ({remedy})" if remedy else message)


@dataclass(frozen=True)
class Problem:
    """One fault of a recipe."""

    where: str
    """Dotted path of the setting, as the user types it: `model.depth`."""
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}; {self.remedy}" if self.remedy else text


class RecipeError(UserError):
    """Every problem of a recipe, together."""

    def __init__(self, problems: Iterable[Problem], source: str = "") -> None:
        self.problems = list(problems)
        prefix = f"{source}: " if source else ""
        super().__init__("\n".join(f"{prefix}{problem}" for problem in self.problems))


class DataError(UserError):
    """Data that cannot be read or used."""


class MissingExtra(UserError):
    """An optional dependency that is not installed."""


def need(module: str, extra: str, purpose: str = "") -> ModuleType:
    """Import an optional dependency, or say in one line which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if (error.name or module).split(".")[0] != module.split(".")[0]:
            raise  # the package is there but broken: its own message is the better one
        what = purpose or f"this needs {module!r}"
        raise MissingExtra(
            f"{what}: {module!r} is not installed", f"pip install 'modelworks[{extra}]'"
        ) from None


_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """What came from data, safe to show: control characters, which could steer a terminal, are written out."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`did you mean 'depth'?`, or the options there are when nothing is close."""
    options = [str(option) for option in options]
    close = difflib.get_close_matches(str(word), options, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(sorted(options)[:20]) + (", …" if len(options) > 20 else "")
    return f"there are: {shown}" if options else ""
