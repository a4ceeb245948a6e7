"""List the kinds there are (fields, models, tasks, sources) and the samples.

modelworks list models
modelworks list models resnet        its settings
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from modelworks.core.describe import descriptions
from modelworks.core.errors import UserError, did_you_mean
from modelworks.core.kinds import find, lightly, names
from modelworks.core.names import summary
from modelworks.core.settings import Kinded, to_tree

WHAT = ("fields", "models", "tasks", "sources", "samples", "verbs")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks list`."""
    parser.add_argument("what", metavar="|".join(WHAT), help="what to list")
    parser.add_argument("kind", nargs="?", metavar="KIND", help="one of them, with its settings")
    parser.add_argument("--json", action="store_true", help="as JSON")


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    if args.what not in WHAT:
        raise UserError(f"list: there is no {args.what!r}; {did_you_mean(args.what, WHAT)}")
    with lightly():
        if args.kind:
            return _one(args.what, args.kind, args.json)
        sample: Any = find(contracts()["sources"], "sample") if args.what == "samples" else None
    if sample is not None:
        lines = {
            name: f"{entry.title}; {entry.rows:,} rows; {entry.licence}"
            for name, entry in sample.samples.items()
        }
    else:
        folder = "stages" if args.what == "verbs" else args.what
        lines = {name: summary(folder, name) for name in names(folder)}
    if args.json:
        print(json.dumps(lines, ensure_ascii=False, indent=1))
    else:
        width = max(map(len, lines), default=0)
        for name, text in lines.items():
            print(f"{name:<{width}}  {text}")
    return 0


def contracts() -> dict[str, type[Kinded]]:
    """The contract of each folder of kinds."""
    from modelworks.core.field import Field
    from modelworks.core.model import Model
    from modelworks.core.source import Source
    from modelworks.core.task import Task

    return {"fields": Field, "models": Model, "tasks": Task, "sources": Source}


def _one(what: str, name: str, as_json: bool) -> int:
    folders = contracts()
    if what not in folders:
        raise UserError(f"list {what}: takes no KIND")
    kind = find(folders[what], name)
    if as_json:
        print(json.dumps(kind.model_json_schema(), ensure_ascii=False, indent=1))
        return 0
    print((kind.__doc__ or summary(what, name)).strip().split("\n\n")[0] + "\n")
    told = descriptions(kind)
    width = max(map(len, kind.model_fields), default=0)
    for setting, info in kind.model_fields.items():
        default = (
            "needed" if info.is_required() else repr(to_tree(info.get_default(call_default_factory=True)))
        )
        print(f"  {setting:<{width}}  {default:<14}  {told.get(setting, '')}")
    return 0
