"""Export a Run for other programs: a folder with the model, how to encode for it, and how to use it without us.

modelworks export runs/titanic --format onnx --output titanic-onnx
modelworks export runs/poems --format gguf --output poems-gguf --half

What a format is lies in its file of engine/export. An export is read back by its own runtime and compared with the Run
on rows of its own data before the folder is there; hf and gguf where transformers or llama_cpp is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelworks.core.errors import UserError, did_you_mean
from modelworks.core.names import own
from modelworks.core.run import RunFolder

FOLDER = "engine/export"
ROWS = 100
"""Rows compared."""
LEAST = 0.9
"""Share of the texts that an export must encode as training did."""
HALF_SHARE = 0.02
"""What float16 weights may change, of the largest number that comes out."""


def formats() -> tuple[str, ...]:
    """The formats: the files of engine/export."""
    return own(FOLDER)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks export`."""
    parser.add_argument("run", metavar="RUN", help="a Run's name or folder")
    parser.add_argument(
        "--format",
        choices=formats(),
        required=True,
        help="onnx; torch: a .pt2 package; executorch: .pte; hf: config.json, safetensors, tokenizer; gguf",
    )
    parser.add_argument(
        "--output", metavar="DIR", required=True, help="a folder that is not there yet, or empty"
    )
    parser.add_argument("--half", action="store_true", help="hf, gguf: float16 weights instead of float32")
    parser.add_argument("--data", metavar="FILE", help="rows to compare on, instead of the recipe's")


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    if settings:
        raise UserError(f"export takes no settings, got {' '.join(settings)}", "modelworks export --help")
    run = RunFolder.find(args.run)
    print(f"{run.path} → {export(run, args.format, args.output, half=args.half, data=args.data)}")
    return 0


def export(
    run: RunFolder, format: str, output: str | Path, *, half: bool = False, data: str | None = None
) -> str:
    """Write the Run for other programs; returns what was written, and for which of them."""
    if format not in formats():
        raise UserError(f"there is no format {format!r}; {did_you_mean(format, formats())}")
    kind: Any = importlib.import_module(f"modelworks.engine.export.{format}")
    task = str(run.recipe_tree().get("task", {}).get("kind", ""))
    graph = not hasattr(kind, "TASKS")
    if not graph and task not in kind.TASKS:
        raise UserError(f"--format {format} has no place for task {task}", "--format onnx takes every task")
    if graph and half:
        raise UserError(f"--half is for hf and gguf, not for {format}")
    folder = Path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--output {folder}: is not empty", "name a new folder")
    kind.need_runtime()
    with _whole(folder) as partial:
        write = _write_graph if graph else _write_weights
        about = write(run, format, kind, partial, data, half)
        card = run.path / "card.md"
        if card.exists():
            shutil.copyfile(card, partial / "card.md")
    found = about["verification"]
    what = f"{folder / kind.FILE}" if graph else f"{folder} for {about['for']}"
    if "skipped" in found:
        return f"{what}: not compared with the Run, for {found['skipped']}; see {folder}/README.md"
    rows = f"{found['rows']} rows at batch {', '.join(found['batches'])}"
    alike = found.get("encoded", {"rows": 0, "equal": 0})
    odd = alike["rows"] - alike["equal"]
    more = f"; {odd} of {alike['rows']} rows it encodes otherwise than training did" if odd else ""
    return f"{what}: max difference {found['max_difference']:.3g} on {rows}{more}; see {folder}/README.md"


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A place to write in, which is `folder` in the end, or nothing is."""
    there = folder.exists()
    parent = folder if there else folder.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=".export-", dir=parent))
    try:
        made = place / "made"
        made.mkdir()
        yield made
        if there:  # perhaps a link, or a volume: what cannot be replaced is filled
            for path in made.iterdir():
                path.rename(folder / path.name)
        else:
            made.rename(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _write_weights(
    run: RunFolder, format: str, kind: Any, folder: Path, data: str | None, half: bool
) -> dict[str, Any]:
    """The files of a format that holds the weights alone, for a program that knows the architecture."""
    import torch

    from modelworks.engine.export import _readme_weights
    from modelworks.engine.predictor import Predictor
    from modelworks.engine.recipe import of_run

    predictor = Predictor.load(run)
    model = of_run(run.recipe_tree(), str(run.path / "recipe.yaml")).model
    about = kind.write(run, predictor, model, folder, torch.float16 if half else torch.float32)
    about["weights"] = "float16" if half else "float32"
    about |= _read_back(run, predictor, kind, folder, data, half)
    _tell(folder, format, about)
    text = _readme_weights.readme(format, run.name, predictor.task.kind, about)
    (folder / "README.md").write_text(text, "utf-8")
    return about


def _read_back(
    run: RunFolder, predictor: Any, kind: Any, folder: Path, data: str | None, half: bool
) -> dict[str, Any]:
    """The comparison with the Run and the versions; or why there is none."""
    from importlib.metadata import version

    from modelworks.engine.export import _compare, _graph, _rows

    if importlib.util.find_spec(kind.RUNTIME) is None:
        return {"verification": {"skipped": f"{kind.RUNTIME} is not installed here"}}
    try:
        rows = _rows.Rows.of(run, predictor, ROWS, data)
    except UserError as error:
        if data is not None:
            raise
        return {"verification": {"skipped": str(error)}}
    graph = _graph.Graph(predictor, rows.example())
    try:
        opened = kind.open_(folder, graph, rows.steps)
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError, OSError) as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return {
            "verification": {"skipped": f"{kind.PACKAGE} {version(kind.PACKAGE)} does not open it ({why})"}
        }
    found = _compare.compare(graph, rows, opened, HALF_SHARE if half else kind.SHARE)
    if alike := _compare.encoded(graph, rows, opened):
        found["encoded"] = alike
        if alike["equal"] < LEAST * alike["rows"] and "tokenizer" in alike["by"]:
            raise UserError(
                f"the folder's tokenizer encodes {alike['equal']} of {alike['rows']} texts as training did",
                "--format onnx has a contract of its own for the encoding",
            )
    return {"versions": {kind.PACKAGE: version(kind.PACKAGE)}, "verification": found}


def _tell(folder: Path, format: str, about: dict[str, Any]) -> None:
    text = json.dumps({"format": format, **about}, ensure_ascii=False, indent=1)
    (folder / "verification.json").write_text(text + "\n", "utf-8")


def _write_graph(
    run: RunFolder, format: str, kind: Any, folder: Path, data: str | None, half: bool
) -> dict[str, Any]:
    """The folder's files; what verification.json holds and the versions."""
    from modelworks.engine.export import _compare, _contract, _graph, _readme, _rows, _serving
    from modelworks.engine.predictor import Predictor

    predictor = Predictor.load(run)
    rows = _rows.Rows.of(run, predictor, ROWS, data)
    graph = _graph.Graph(predictor, rows.example())
    program = graph.trace(rows.example(), getattr(kind, "ALONE", False))
    outputs = graph.outputs(program)
    about = kind.write(graph, program, outputs, folder)
    tree = _contract.contract(graph, outputs, predictor, run.name)
    _contract.write(folder, tree)
    opened = kind.open_(folder) if format == "onnx" else kind.open_(folder, list(graph.names))
    found = about["verification"] = _compare.compare(graph, rows, opened)
    if proof := _contract.proved(folder, rows, graph):
        found["contract"] = proof
    _tell(folder, format, about)
    if format == "onnx":
        _serving.write(folder, run.name, tree)
    (folder / "README.md").write_text(_readme.readme(format, tree, about, rows.shown()), "utf-8")
    return about
