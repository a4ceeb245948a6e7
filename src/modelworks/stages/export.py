"""Export a Run for other programs: a folder that transformers opens, or a file that llama.cpp runs.

modelworks export runs/poems --format hf --output poems-hf
modelworks export runs/poems --format gguf --output poems-gguf --half
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelworks.core.errors import UserError
from modelworks.core.run import RunFolder

FORMATS = ("hf", "gguf")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks export`."""
    parser.add_argument("run", metavar="RUN", help="a Run's name or folder")
    parser.add_argument(
        "--format", choices=FORMATS, required=True, help="hf: config.json, safetensors, tokenizer"
    )
    parser.add_argument(
        "--output", metavar="DIR", required=True, help="a folder that is not there yet, or empty"
    )
    parser.add_argument("--half", action="store_true", help="float16 weights instead of float32")


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    if settings:
        raise UserError(f"export takes no settings, got {' '.join(settings)}", "modelworks export --help")
    run = RunFolder.find(args.run)
    print(f"{run.path} → {export(run, args.format, args.output, half=args.half)}")
    return 0


def export(run: RunFolder, format: str, output: str | Path, *, half: bool = False) -> str:
    """Write the Run's network and tokenizer; returns what was written, and for which class or program."""
    import torch

    from modelworks.core.settings import to_tree
    from modelworks.engine.exchange import foreign, gguf_write
    from modelworks.engine.predictor import Predictor
    from modelworks.engine.recipe import of_run

    folder = Path(output)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"--output {folder}: is not empty", "name a new folder")
    predictor = Predictor.load(run)
    task, recipe = predictor.task, of_run(run.recipe_tree(), str(run.path / "recipe.yaml"))
    tokens = [field for field in task.inputs(predictor.fields).values() if field.layout.form == "tokens"]
    if len(tokens) != 1 or not tokens[0].state.get("tokenizer"):
        raise UserError(
            f"{run.path}: export wants a model of one text with a tokenizer",
            "train with fields.TEXT.tokens: bpe; characters and bytes have no tokenizer.json",
        )
    field, dtype = tokens[0], torch.float16 if half else torch.float32
    told, tokenizer = _tokens(field.state, getattr(task, "documents", False))
    folder.mkdir(parents=True, exist_ok=True)
    common: dict[str, Any] = {"size": field.layout.size, "length": field.layout.length, "tokens": told}
    common |= {"tokenizer": tokenizer, "dtype": dtype}
    tree = to_tree(task)
    if format == "hf":
        name = foreign.write(folder, predictor.network, recipe.model, tree, **common)
        return f"{folder} for transformers' {name}"
    path = folder / f"{run.name}.gguf"
    gguf_write.write(path, predictor.network, recipe.model, tree, **common)
    return f"{path} for llama.cpp"


def _tokens(state: Mapping[str, Any], documents: bool) -> tuple[dict[str, Any], str]:
    """(special tokens and the chat template by Hugging Face's names, tokenizer.json).

    `documents`: the model has only seen texts that an end token begins, so the file puts one before every text."""
    told: dict[str, Any] = dict(state.get("named") or {})
    names = {code: name for name, code in (state.get("specials") or {}).items()}
    end = state.get("end", -1)
    if end in names:
        told["eos_token"] = names[end]
    if template := state.get("template"):
        told["chat_template"] = template
    if state.get("begin", -1) in names:
        told |= {"bos_token": names[state["begin"]], "add_bos_token": True}
    if not (documents and end in names):
        return told, state["tokenizer"]
    first = {"SpecialToken": {"id": names[end], "type_id": 0}}
    texts = [{"Sequence": {"id": one, "type_id": number}} for number, one in enumerate("AB")]
    tree = json.loads(state["tokenizer"])
    tree["post_processor"] = {
        "type": "TemplateProcessing", "single": [first, texts[0]], "pair": [first, *texts],
        "special_tokens": {names[end]: {"id": names[end], "ids": [end], "tokens": [names[end]]}},
    }  # fmt: skip
    told |= {"bos_token": names[end], "add_bos_token": True}
    return told, json.dumps(tree, ensure_ascii=False)
