"""Make a Run smaller or faster: a new Run within a target, measured against its parent.

    modelworks compress runs/titanic --target size=0.25 --name titanic-small     a quarter of the bytes, or size=2MB
    modelworks compress runs/titanic --target latency=0.5 --name titanic-fast    half the time, or latency=2ms
    modelworks compress runs/titanic --target drop=0.5 --name titanic-tiny       the smallest that loses half a point

Quantisation, low rank, pruning and what trains after them are tried, alone and together; every try is measured on
the Run's own held-out rows, and the table is part of the new Run. What the new Run cannot reach is an error that
names the best that was reached. A drop counts points of a metric that is a share, else per cent. Validation rows choose
among the plans, so that the test rows tell what the choice is worth; a Run without them chooses on its test rows.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import UserError, did_you_mean, printable
from modelworks.core.run import RUNS, RunFolder
from modelworks.stages._progress import Line, silent

if TYPE_CHECKING:
    from modelworks.engine.compress.edits import Target
    from modelworks.engine.compress.measure import Measurer, Row

TRIES, STEPS = 16, 300
EDITS = ("quantise", "factorise", "magnitude", "prune")
_SIZES = {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9}
_TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_FORMS = "size=0.25, size=2MB, latency=0.5, latency=2ms or drop=0.5"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks compress`."""
    parser.add_argument("run", metavar="RUN", help="a Run's name or folder")
    parser.add_argument(
        "--target", metavar="WHAT=N", required=True, help=f"{_FORMS}: shares are of the parent's"
    )
    parser.add_argument("--name", required=True, help="the new Run's folder under runs/")
    parser.add_argument("--overwrite", action="store_true", help="replace a Run of this name")
    parser.add_argument(
        "--tries", type=int, default=TRIES, metavar="N", help=f"plans tried at the most ({TRIES})"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=STEPS,
        metavar="N",
        help=f"training steps of a plan that trains ({STEPS}); 0: none does",
    )
    parser.add_argument("--only", metavar="KIND,…", help=f"make no edits but these: {', '.join(EDITS)}")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    from modelworks.core.settings import overrides

    changes = overrides(settings)
    if set(changes) - {"data"}:
        raise UserError(
            f"compress takes no setting but data, got {', '.join(sorted(set(changes) - {'data'}))}",
            "--data.source.path=FILE says where the Run's rows are now",
        )
    compress(
        RunFolder.find(args.run),
        args.target,
        args.name,
        data=changes.get("data") or {},
        tries=args.tries,
        steps=args.steps,
        only=args.only.split(",") if args.only else (),
        overwrite=args.overwrite,
        quiet=args.quiet,
    )
    return 0


def compress(
    run: RunFolder | str | Path,
    target: str,
    name: str,
    *,
    data: Mapping[str, Any] | None = None,
    tries: int = TRIES,
    steps: int = STEPS,
    only: Sequence[str] = (),
    overwrite: bool = False,
    quiet: bool = False,
) -> RunFolder:
    """A new Run within the target. Raises UserError, naming the best that was reached, where none was found."""
    what, amount, unit = parsed(target)
    run = run if isinstance(run, RunFolder) else RunFolder.find(run)
    if not re.fullmatch(r"[\w\-][\w.\-]*", name):
        raise UserError(f"--name {name!r}: a name is letters, digits, '-', '_' and '.'")
    child = RUNS / name
    if child.resolve() == run.path.resolve():
        raise UserError(f"--name {name}: is the Run that is to be compressed", "another name")
    if child.exists() and not overwrite:
        raise UserError(f"{child} is there already", "--overwrite to replace it, or another --name")
    if tries < 1 or steps < 0:
        raise UserError(f"--tries {tries} --steps {steps}", "at least 1, and at least 0")
    for kind in only:
        if kind not in EDITS:
            raise UserError(f"--only {kind}: there is no such edit", did_you_mean(kind, EDITS))

    from modelworks.engine.compress import write
    from modelworks.engine.compress.measure import Measurer
    from modelworks.engine.compress.parent import ParentRun
    from modelworks.engine.compress.search import search, told

    say = silent if quiet else _say
    say(f"{run.path} → {child}, {target}")
    with Line(quiet) as line:
        parent = ParentRun.open(run, data or {}, steps, line)
        line.note("measuring the parent")
        measurer = Measurer(parent)
    whole = measurer.row
    say(
        f"  parent {measurer.metric} {whole.quality['value']:.4f} on {measurer.main} · {whole.size_bytes:,} bytes"
        f" · {whole.latency_ms:.3g} ms a row"
    )
    wanted = replace(_target(what, amount, unit, whole), only=tuple(only))
    found = search(parent, measurer, wanted, tries, say)
    if found.row is None or found.network is None:
        raise UserError(
            f"{run.path}: nothing can be done to this network", "is it one matrix of a few numbers?"
        )
    if not found.met:
        raise UserError(
            f"{run.path}: {target} was not reached by {len(found.rows)} plans; the best was"
            f" {told(found.row, measurer)}",
            _remedy(what, steps, tries, len(found.rows)),
        )
    finished = write.begin(parent, name)
    try:
        amounts = {"what": what, "amount": amount, "unit": unit or "share of the parent's"}
        if wanted.drop is not None:  # what holds where the plan was chosen may not hold where it is judged
            lost = {measurer.chooser: found.row.price, measurer.main: found.row.lost}
            amounts["met_on"] = [split for split, points in lost.items() if points <= wanted.drop]
        _finish(finished, parent, measurer, found, amounts)
    except BaseException:
        shutil.rmtree(finished.path, ignore_errors=True)  # half a Run is none
        raise
    if not quiet:
        show(measurer, [whole, *found.rows], found.row)
    if wanted.drop is not None and found.row.lost > wanted.drop:
        more = f"{found.row.lost:.2f} {measurer.unit} are lost on {measurer.main}"
        say(f"  {more}: more than on {measurer.chooser}, whose rows chose among the plans")
    say(f"  report  {finished.path / 'report.html'}")
    return finished


def _finish(run: RunFolder, parent: Any, measurer: Measurer, found: Any, target: dict[str, Any]) -> None:
    from modelworks.engine import usercode
    from modelworks.engine.compress import write
    from modelworks.engine.facts import environment
    from modelworks.engine.predictor import Predictor
    from modelworks.report import card
    from modelworks.report import run as page
    from modelworks.stages._finish import measure
    from modelworks.stages._gallery import write_gallery

    before = parent.run.evaluation()
    metric = str(before.get("chosen_by") or measurer.metric)
    task, fields = parent.task, parent.fields
    evaluation = measure(parent.recipe, task, fields, parent.taken.prepared, found.network, metric)
    mistakes = evaluation.pop("mistakes")
    evaluation.pop("trivial")
    if "training" in before:
        evaluation["training"] = before["training"]

    def last(run: RunFolder) -> None:
        predictor = Predictor(found.network, task, fields, parent.recipe.evaluate.batch_size)
        write_gallery(run, predictor, parent.taken.dataset, mistakes)
        hashes = usercode.hashes(parent.run.recipe_tree())
        run.write_json("environment.json", environment(parent.recipe.seed, "cpu", hashes))
        card.write(run.path)
        page.write(run.path)

    write.finish(run, parent, measurer, found, target, evaluation, last)


def parsed(target: str) -> tuple[str, float, str]:
    """(size, latency or drop; the amount; its unit, empty for a share): `size=2MB` → ("size", 2e6, "bytes")."""
    match = re.fullmatch(r"(size|latency|drop)\s*=\s*(\d+\.?\d*|\.\d+)\s*([A-Za-z%]*)", target.strip())
    if match is None:
        raise UserError(f"--target {target}: wants {_FORMS}")
    what, amount, unit = match[1], float(match[2]), match[3].lower()
    table = {"size": _SIZES, "latency": _TIMES}.get(what, {})
    if what == "drop" and unit in ("", "%", "points"):
        return what, amount, "points"
    if unit in table and amount > 0:
        return what, amount * table[unit], "bytes" if what == "size" else "ms"
    if unit or what == "drop":
        raise UserError(f"--target {target}: knows no unit {match[3]!r}", f"wants {_FORMS}")
    if not 0 < amount < 1:
        raise UserError(
            f"--target {target}: a share of the parent's is between 0 and 1",
            "give a unit where you mean an amount: size=2MB, latency=2ms",
        )
    return what, amount, ""


def _target(what: str, amount: float, unit: str, whole: Row) -> Target:
    from modelworks.engine.compress.edits import Target

    if what == "drop":
        return Target(drop=amount)
    if what == "size":
        return Target(size=amount if unit else amount * whole.size_bytes)
    return Target(latency=amount if unit else amount * whole.latency_ms)


def _remedy(what: str, steps: int, tries: int, tried: int) -> str:
    more = [f"--tries {2 * tries}"] if tried >= tries else []
    more += [f"--steps {max(STEPS, 2 * steps)}"]
    easier = {"size": "a larger size", "latency": "a longer latency", "drop": "a larger drop"}[what]
    return f"{', '.join(more)}, or {easier}"


def show(measurer: Measurer, rows: list[Row], chosen: Row) -> None:
    """The table."""
    from rich.table import Table

    from modelworks.stages import _screen

    table = Table(title=f"on {measurer.main}; * the new Run", title_justify="left", box=None, pad_edge=False)
    table.add_column("plan")
    apart = [f"on {measurer.chooser}"] if measurer.chooser != measurer.main else []
    headings = (
        "bytes",
        "share",
        measurer.metric,
        "95 % interval",
        f"lost, {measurer.unit}",
        *apart,
        "ms a row",
        "share",
        "FLOPs",
    )
    for heading in (*headings, "memory, MB", f"difference of {chosen.difference_of}"):
        table.add_column(heading, justify="right")
    for row in rows:
        quality, memory = row.quality, row.memory_mb
        interval = f"{quality['low']:.4f} – {quality['high']:.4f}" if quality["low"] is not None else ""
        table.add_row(
            row.what + (" *" if row is chosen else ""),
            f"{row.size_bytes:,}",
            f"{row.size_share:.3f}",
            f"{quality['value']:.4f}",
            interval,
            f"{row.lost:+.2f}",
            *([f"{row.price:+.2f}"] if apart else []),
            f"{row.latency_ms:.3g}",
            f"{row.latency_share:.2f}",
            f"{row.flops_share:.2f}",
            f"{memory:.0f}" if memory is not None else "",
            f"{row.max_difference:.2g}",
        )
    _screen.show(table)


def _say(text: str) -> None:
    print(printable(text), flush=True)
