"""Train on a file, a folder, a sample or a recipe; gives an evaluated, reported Run.

modelworks train reviews.csv --target stars --name reviews
modelworks train recipe.yaml --train.epochs=5 --resume
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import UserError, printable
from modelworks.stages._progress import Line, silent

# Everything heavier than this file is imported where it is used: `train --help` answers at once.
if TYPE_CHECKING:
    from modelworks.core.dataset import Dataset
    from modelworks.core.run import RunFolder
    from modelworks.engine.intake import Taken

Echo = Callable[[str], None]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks train`; every other setting is --a.b.c=VALUE."""
    recipe_arguments(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the Run of this name from its last checkpoint; start it if there is none",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a Run of this name")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check recipe, data and shapes by one forward pass; train nothing",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say what to learn from what."""
    parser.add_argument(
        "source",
        metavar="FILE|RECIPE",
        help="a data file, a folder, sample:NAME, hf:OWNER/NAME, or a recipe .yaml",
    )
    parser.add_argument("--target", metavar="COLUMN", help="the column to learn")
    parser.add_argument(
        "--task", metavar="KIND", help="what is learned: classify, regress, … (modelworks list tasks)"
    )
    parser.add_argument(
        "--model", metavar="KIND", help="the architecture: mlp, cnn, … (modelworks list models)"
    )
    parser.add_argument(
        "--init", metavar="RUN|FOLDER", help="start from this Run's weights, or from a Hugging Face folder's"
    )
    parser.add_argument("--name", help="the Run's folder under runs/; taken from the file when left out")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of everything random (0)")


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    from modelworks.core.settings import overrides
    from modelworks.engine.intake import draft

    changes = overrides(settings)
    tree = draft(
        args.source,
        changes,
        target=args.target,
        task=args.task,
        model=args.model,
        init=args.init,
        name=args.name,
        seed=args.seed,
        resume=args.resume,
    )
    run_recipe(
        tree, changes, resume=args.resume, overwrite=args.overwrite, dry_run=args.dry_run, quiet=args.quiet
    )
    return 0


def run_recipe(
    tree: Mapping[str, Any],
    changes: Mapping[str, Any],
    *,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
) -> RunFolder:
    """The story of a training, from a checked draft to a sealed Run. `changes`: settings given beside the file."""
    from modelworks.core.run import RUNS, RunFolder
    from modelworks.engine.intake import shown, take_in
    from modelworks.engine.train.resume import resumed

    echo: Echo = silent if quiet else _say
    run = RunFolder(RUNS / tree["name"])
    going_on = resume and not dry_run and (run.path / "recipe.yaml").is_file()
    shown_source, told = shown(tree["data"].source), []
    if going_on:
        tree, told = resumed(run, tree, changes)
    if going_on and run.complete:
        if told:
            raise UserError(
                f"{run.path} is complete: too late for {'; '.join(told)}", "train under another --name"
            )
        echo(f"{run.path} is complete; nothing to resume")
        return run
    if not (dry_run or resume or overwrite) and (run.complete or (run.path / "checkpoints").exists()):
        raise UserError(
            f"{run.path} is there already", "--resume to go on, --overwrite to replace it, or another --name"
        )
    echo(f"{shown_source} → {run.path}")
    for note in told:
        echo(f"  note    {note}")
    with Line(quiet) as line:
        taken = take_in(tree, run if going_on else None, line, lambda dataset: _tell_data(echo, dataset))
    _tell_plan(echo, taken)
    if dry_run:
        _dry_run(taken, echo)
        return run
    if going_on and told:
        run.write_recipe(tree)
    from modelworks.engine.train.calibrate import calibrate

    taken.recipe = calibrate(taken.recipe, taken.fields, taken.rows("train"), echo)
    if taken.recipe.train.distil is not None:
        from modelworks.engine.train.teacher import lessons

        echo(f"  teacher {taken.recipe.train.distil.teacher}")
        taken.prepared.lessons = lessons(taken)
    if not going_on:
        _begin(run, taken)
    from modelworks.engine.train.learn import learn
    from modelworks.stages._finish import finish

    learned = learn(run, taken.recipe, taken.fields, taken.prepared, resume=going_on, echo=echo, quiet=quiet)
    if learned is not None:  # on the first process alone
        finish(run, taken, learned, echo)
    return run


def _begin(run: RunFolder, taken: Taken) -> None:
    """The folder with all that a resumed process needs; recipe.yaml comes last and makes it a Run."""
    from modelworks.core.settings import to_tree

    (run.path / "recipe.yaml").unlink(missing_ok=True)  # from here on the old one, half removed, is no Run
    if run.path.exists():
        shutil.rmtree(run.path)
    run.path.mkdir(parents=True)
    run.write_fields(taken.fields)
    run.write_json("data.json", {"hashes": {"source": taken.dataset.fingerprint}})
    run.write_recipe(to_tree(taken.recipe))


def _dry_run(taken: Taken, echo: Echo) -> None:
    """One forward pass of a few rows."""
    import numpy as np
    import torch

    from modelworks.core.settings import dump_yaml, to_tree
    from modelworks.engine.network import prepare_batch
    from modelworks.engine.train.begin import begin

    recipe, rows = taken.recipe, taken.rows("train")
    assert recipe.task is not None
    assert recipe.model is not None
    beginning = begin(recipe, taken.fields)
    network = beginning.network
    if beginning.transferred is not None:
        echo(f"  init    {beginning.transferred}")
    batch = prepare_batch(rows.gather(np.arange(min(8, len(rows)))), taken.fields, torch.device("cpu"))
    for player in recipe.task.players(network):
        loss, count = player.loss(batch)
        echo(
            f"  forward {player.name}: loss {float(loss.detach()) / max(int(count), 1):.4f} over {int(count)} rows"
        )
    echo(
        "\n" + dump_yaml(to_tree(recipe)) + "\ndry run: recipe, data and shapes are fine; nothing was trained"
    )


def _say(text: str) -> None:
    print(printable(text), flush=True)


def _tell_data(echo: Echo, dataset: Dataset) -> None:
    from modelworks.core.dataset import SPLITS

    counts = " · ".join(f"{name} {dataset.count(name):,}" for name in SPLITS if dataset.count(name))
    echo(f"  data    {dataset.rows:,} rows × {len(dataset.columns)} columns · {counts}")
    if dataset.quarantine.count:
        echo(
            f"  warning {dataset.quarantine.count:,} rows could not be read: {_top(dataset.quarantine.reasons)}"
        )


def _tell_plan(echo: Echo, taken: Taken) -> None:
    from modelworks.engine.train.regime import describe

    recipe = taken.recipe
    assert recipe.task is not None
    assert recipe.model is not None
    for note in [*taken.notes, *taken.split["messages"]]:
        echo(f"  note    {note}")
    kinds = ", ".join(f"{name} ({field.kind})" for name, field in list(recipe.inputs.items())[:8])
    more = len(recipe.inputs) - 8
    echo(f"  inputs  {kinds}{f' and {more} more' if more > 0 else ''}")
    if taken.prepared.report["quarantined"]:
        lost = sum(taken.prepared.report["quarantined"].values())
        echo(f"  warning {lost:,} rows quarantined: {_top(taken.prepared.report['quarantined'])}")
    learned = f"{recipe.task.kind} {recipe.task.target}".strip()
    echo(f"  learn   {learned} · {recipe.model.kind} · {describe(recipe.train)}")


def _top(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} ({count:,})" for reason, count in list(reasons.items())[:3])
