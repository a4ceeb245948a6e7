"""Write the recipe that would be inferred for some data, to edit and train.

modelworks init titanic.csv --target survived        writes titanic.yaml
"""

from __future__ import annotations

import argparse
from pathlib import Path

from modelworks.core.errors import UserError
from modelworks.stages import _screen
from modelworks.stages._progress import Line
from modelworks.stages.train import recipe_arguments


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks init`."""
    recipe_arguments(parser)
    parser.add_argument(
        "--output", metavar="FILE.yaml", help="where to write (NAME.yaml); - for standard output"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file")


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    from modelworks.core.settings import dump_yaml, overrides, to_tree
    from modelworks.engine.intake import draft, take_in

    given = None if args.output == "-" else _screen.output_file(args.output)
    tree = draft(
        args.source,
        overrides(settings),
        target=args.target,
        task=args.task,
        model=args.model,
        init=args.init,
        name=args.name,
        seed=args.seed,
    )
    output = given or Path(f"{tree['name']}.yaml")
    if output.exists() and not args.overwrite and args.output != "-":
        raise UserError(f"{output} is there already", "--overwrite, or --output FILE.yaml")
    with Line() as line:
        taken = take_in(tree, progress=line)
    notes = "".join(f"# {note}\n" for note in taken.notes)
    text = f"# modelworks train {output.name}\n{notes}{dump_yaml(to_tree(taken.recipe))}"
    if args.output == "-":
        print(text, end="")
    else:
        output.write_text(text, "utf-8")
        print(f"{output}: edit it, then  modelworks train {output}")
    return 0
