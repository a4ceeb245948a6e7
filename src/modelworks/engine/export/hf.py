"""hf: a folder that transformers, vLLM and sentence-transformers open: config.json, safetensors, tokenizer.json.

    about = write(run, predictor, model, folder, dtype=torch.float32)     # {"for": "LlamaForCausalLM", …}
    opened = open_(folder, graph)                                         # as transformers computes it

Texts of one field with a tokenizer, and a ViT's classes of pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import UserError
from modelworks.core.run import RunFolder
from modelworks.engine.export._tokens import common

if TYPE_CHECKING:
    from modelworks.engine.export._graph import Graph
    from modelworks.engine.export._transformers import Opened

RUNTIME = PACKAGE = "transformers"
SHARE = 1e-4
"""Of the largest number: two orders of the same float32 sums differ by that in deep networks with wide scores."""
TASKS = ("classify", "embed", "instruct", "language", "mask", "prefer", "tag")
"""Those that some network has a class for; which of them Hugging Face has one for, the writer knows."""
POOLINGS = {"mean": "mean_tokens", "max": "max_tokens", "last": "lasttoken"}
"""Ours → sentence-transformers'; our cls is a learned vector before the text, for which theirs has no place."""


def need_runtime() -> None:
    """Nothing more is needed to write."""


def write(run: RunFolder, predictor: Any, model: Any, folder: Path, dtype: Any) -> dict[str, Any]:
    """The folder; the class that it is for, and what its README tells."""
    from modelworks.core.settings import to_tree
    from modelworks.engine.exchange import foreign

    task, network = predictor.task, predictor.network
    inputs = list(task.inputs(predictor.fields).values())
    forms = [field.layout.form for field in inputs]
    if forms not in (["tokens"], ["image"]):
        raise UserError(
            f"--format hf has classes for one text or one picture, not for {', '.join(forms) or 'none'}",
            "--format onnx takes every task",
        )
    foreign.home(model, network, to_tree(task))
    if task.kind == "embed" and model.pooling not in POOLINGS:
        raise UserError(
            f"sentence-transformers has no pooling {model.pooling!r}", "--format onnx takes every model"
        )
    labels, pictures = _labels(predictor), forms == ["image"]
    told: dict[str, Any] = (
        {"size": len(labels), "length": _side(inputs[0], network.model.patch)}
        if pictures
        else common(run, predictor)
    )
    name = foreign.write(folder, network, model, to_tree(task), labels=labels, dtype=dtype, **told)
    if pictures:
        foreign.write_json(folder / "preprocessor_config.json", _processor(inputs[0]))
    about = {"for": name, "length": told["length"]}
    if task.kind == "embed":
        _sentence(folder, model.pooling, network.model.width, told["length"])
        about["pooling"] = model.pooling
    return about


def _labels(predictor: Any) -> list[str]:
    """Names of the classes of the head, in its order."""
    task = predictor.task
    if task.kind not in ("classify", "tag"):
        return []
    from modelworks.tasks.classify import class_labels

    field = predictor.fields[task.target]
    if task.kind == "classify":
        return class_labels(field)
    told = field.contract()
    codes = {"O": told["outside"], **told["tags"]}
    return sorted(codes, key=lambda tag: codes[tag])


def open_(folder: Path, graph: Graph, steps: int) -> Opened:
    """The folder as transformers reads it."""
    from modelworks.engine.export._transformers import Opened

    return Opened(folder, graph)


# ------------------------------------------------------------------------------------------- pictures
def _side(field: Any, patch: int) -> int:
    """Pixels. Raises UserError for pictures that ViT's classes read otherwise."""
    _, height, width = field.layout.shape
    odd = [f"pictures of {height} × {width}, not square"] if height != width else []
    if height % patch:
        odd.append(f"a side of {height} pixels, no multiple of a patch's {patch}")
    if (how := field.contract()["resize"]) != "stretch":
        odd.append(f"resize: {how}")
    if odd:
        raise UserError(f"--format hf has no place for {', '.join(odd)}", "--format onnx takes every model")
    return height


def _processor(field: Any) -> dict[str, Any]:
    """preprocessor_config.json: what makes of pixels what the network reads."""
    channels, height, width = field.layout.shape
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": channels == 3,
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [value / 255 for value in field.state["mean"]],
        "image_std": [value / 255 for value in field.state["std"]],
    }


# ------------------------------------------------------------------------------------------- vectors
def _sentence(folder: Path, pooling: str, width: int, length: int) -> None:
    """What sentence-transformers wants to know: tokens pooled, then of length 1."""
    from modelworks.engine.exchange.foreign import write_json

    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for at, (path, kind) in enumerate(kinds.items())
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
    for path in ("1_Pooling", "2_Normalize"):
        (folder / path).mkdir()
    modes = {f"pooling_mode_{theirs}": ours == pooling for ours, theirs in POOLINGS.items()}
    write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": width, "pooling_mode_cls_token": False, **modes},
    )
