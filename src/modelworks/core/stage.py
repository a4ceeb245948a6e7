"""Stage: a verb of the life cycle. A kind is one file in `stages/`: its docstring's first line is the help text, and

    def arguments(parser: argparse.ArgumentParser) -> None     # its own flags
    def main(args: argparse.Namespace, settings: list[str]) -> int | None

`settings` are the `--a.b.c=VALUE` flags, in order. `main` raises UserError for what the user can mend. Neither
the module nor `arguments` imports torch: `--help` and a wrong recipe answer at once.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modelworks.core.names import own, summary


@dataclass(frozen=True)
class Stage:
    """A verb, loaded."""

    name: str
    arguments: Callable[[argparse.ArgumentParser], None]
    main: Callable[[argparse.Namespace, list[str]], int | None]


def stages() -> dict[str, str]:
    """Every verb with its one-line help, without importing any."""
    return {name: summary("stages", name) for name in own("stages")}


def load(name: str) -> Stage:
    """The stage of this name."""
    module: Any = importlib.import_module(f"modelworks.stages.{name}")
    return Stage(name, module.arguments, module.main)
