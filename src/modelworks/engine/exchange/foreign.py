"""Hugging Face folders (config.json, safetensors, tokenizer.json) ↔ our settings and tensors. No pickle, no network.

    foreign = read("SmolLM2-135M")              # settings for kind: transformer, tensors by our names
    left = foreign.load(network)                # into a network built with those settings
    write(folder, network, model, task, size=…, length=…, tokenizer=…)

What an architecture is called and how it maps is in `models/_foreign_*.py`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from modelworks.core.errors import UserError, did_you_mean
from modelworks.core.field import Layout
from modelworks.core.kinds import find
from modelworks.core.model import Model
from modelworks.core.settings import read as read_settings
from modelworks.core.settings import to_tree
from modelworks.engine.exchange.shapes import as_built
from modelworks.engine.unfilled import Unfilled
from modelworks.models._foreign import Config, Part, label_tree

_FILES = ("gpt2", "llama", "nanochat", "bert", "vit")
_PREFIXES = ("transformer.", "model.", "bert.", "vit.")
_BUFFERS = (".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq", "embeddings.position_ids")
"""Endings of tensors that are computed, not learned."""
_OTHER_HEADS = ("pooler.", "cls.", "classifier.", "score.", "lm_head.", "qa_outputs.")
"""Beginnings of tensors of heads that a task may do without."""
_AFTER_LANGUAGE = ("instruct", "prefer")
"""Tasks whose head is a language model's."""
_HEADLESS = ("", "embed")
"""Tasks that need the body alone."""


@dataclass(frozen=True)
class Foreign:
    """What a folder or file of someone else's model holds."""

    where: str
    kind: str
    """model_type: gpt2, llama, bert …"""
    model: dict[str, Any]
    """Settings of `body`."""
    task: dict[str, Any] | None
    """Settings of the task that its head was trained for, when the head is there."""
    size: int
    """Vocabulary; vit: labels."""
    length: int
    """Context; vit: side of the image."""
    tensors: dict[str, Tensor]
    """float32, by the names of our network: `model.…` and `head.…`."""
    tokenizer: str | None = None
    """tokenizer.json, whole."""
    tokens: dict[str, Any] = field(default_factory=dict)
    """What tokenizer_config.json or the file says of special tokens: eos_token, bos_token, chat_template …"""
    unused: tuple[str, ...] = ()
    """Tensors that our network has no place for."""
    body: str = "transformer"
    """Kind of model: transformer or vit."""

    def load(self, network: nn.Module) -> list[str]:
        """Copy the tensors into `network` (with parts `model` and `head`); the names it has beyond them, which
        keep their start. Learned positions may be fewer than the file's."""
        own = dict(network.named_parameters())
        wanted = {name: t for name, t in self.tensors.items() if name in own or name.startswith("model.")}
        missing = [name for name in wanted if name not in own]
        if missing:
            raise UserError(
                f"{self.where}: the model has no {', '.join(missing[:3])}",
                f"give it the settings {self.model}",
            )
        with torch.no_grad():
            for name, tensor in wanted.items():
                target = own[name]
                if name.endswith("position.table_TD"):
                    tensor = tensor[: len(target)]
                if tensor.shape != target.shape:
                    raise UserError(
                        f"{self.where}: {name} is {tuple(tensor.shape)}, the model's is {tuple(target.shape)}",
                        "the vocabulary must be the tokenizer's, the width the file's",
                    )
                target.copy_(tensor)
        return [name for name in own if name not in wanted]


# ------------------------------------------------------------------------------------------- reading
def read(folder: str | Path) -> Foreign:
    """A Hugging Face folder. Raises UserError naming what is missing, damaged or not supported."""
    folder = Path(folder).expanduser()
    if folder.is_file():
        if folder.suffix == ".gguf":
            from modelworks.engine.exchange.gguf import read as read_gguf

            return read_gguf(folder)
        raise UserError(f"{folder} is a file", "give the folder with config.json, or a .gguf file")
    tree = _json(folder / "config.json")
    config = Config(tree, f"{folder}/config.json")
    architecture = _of_type(config)
    model, task, size, length = architecture.read(config)
    config.finish()
    settings = read_settings(_body(architecture), model, f"{folder}/config.json")
    found = {_bare(name): tensor for name, tensor in _tensors(folder)}
    task, tensors, unused = gathered(architecture, settings, task, found, str(folder))
    fitting(settings, tensors, size, length, str(folder))
    tokenizer = folder / "tokenizer.json"
    about = folder / "tokenizer_config.json"
    tokens = _json(about) if about.is_file() else {}
    template = folder / "chat_template.jinja"
    if template.is_file():
        tokens["chat_template"] = _text(template)
    text = _text(tokenizer) if tokenizer.is_file() else None
    return Foreign(
        where=str(folder),
        kind=config.type,
        model=model,
        task=task,
        size=size,
        length=length,
        tensors=tensors,
        tokenizer=text,
        tokens=tokens,
        unused=tuple(unused),
        body=getattr(architecture, "BODY", "transformer"),
    )


def gathered(
    architecture: Any,
    settings: Any,
    task: dict[str, Any] | None,
    found: dict[str, Tensor],
    where: str,
) -> tuple[dict[str, Any] | None, dict[str, Tensor], list[str]]:
    """(task when its head is there, tensors by our names, tensors left over) of theirs by bare name."""
    if task is not None and task["kind"] == "language" and not task["tied"] and "lm_head.weight" not in found:
        task = None  # a body alone
    if task is not None and task["kind"] == "classify" and "classifier.weight" not in found:
        task = None
    if task is not None and task["kind"] == "mask" and "cls.predictions.bias" not in found:
        task = None
    depth = getattr(settings, "depth", 0)
    if depth > len(found):  # before a list of them is made
        raise UserError(f"{where}: says that it has {depth:,} layers, and holds {len(found):,} tensors")
    parts = architecture.parts(settings, bool(task and task["tied"]), task["kind"] if task else "")
    used: set[str] = set()
    tensors: dict[str, Tensor] = {}
    for part in parts:
        if part.ours:
            absent = [name for name in part.theirs if name not in found]
            if absent:
                raise UserError(f"{where}: has no tensor {absent[0]!r}", did_you_mean(absent[0], found))
            tensors[part.ours] = part.pack([found[name] for name in part.theirs])
        used.update(part.theirs)
    left = [name for name in found if name not in used and not name.endswith(_BUFFERS)]
    odd = [name for name in left if not name.startswith(_OTHER_HEADS)]
    if odd:
        raise UserError(
            f"{where}: tensor {odd[0]!r} has no place in this architecture"
            + (f", nor have {len(odd) - 1} others" if len(odd) > 1 else ""),
            did_you_mean(odd[0], used),
        )
    return task, tensors, left


def fitting(settings: Any, tensors: Mapping[str, Tensor], size: int, length: int, where: str) -> None:
    """Raises UserError where tensors are of other shapes than the settings say, before anything is built by them."""
    if settings.kind != "transformer":
        return
    with torch.device("meta"), Unfilled():
        body = settings.build({"x": Layout("tokens", size=size, length=length)}, "token")
    for name, parameter in body.named_parameters():
        there = tensors.get(f"model.{name}")
        if there is not None and there.shape != parameter.shape:
            raise UserError(
                f"{where}: {name} is {tuple(there.shape)}, and its settings say {tuple(parameter.shape)}",
                "the file is damaged, or of another model than its settings",
            )


def _architectures() -> list[Any]:
    return [importlib.import_module(f"modelworks.models._foreign_{name}") for name in _FILES]


def _body(architecture: Any) -> type[Model]:
    """The kind of model that it maps to."""
    return find(Model, getattr(architecture, "BODY", "transformer"))


def _of_type(config: Config) -> Any:
    known = {kind: architecture for architecture in _architectures() for kind in architecture.TYPES}
    if config.type not in known:
        raise UserError(
            f"{config.where}: model_type {config.type!r} is not known here", did_you_mean(config.type, known)
        )
    return known[config.type]


def _bare(name: str) -> str:
    """The name without the prefix that a body has below a head."""
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no UTF-8 text: byte {error.start}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "a folder with config.json and *.safetensors") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(_text(path))
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON: {error}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} is no JSON object")
    return tree


def _tensors(folder: Path) -> Iterable[tuple[str, Tensor]]:
    """Every tensor as float32, one after another, of one file or of shards."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(_json(index).get("weight_map", {}).values()))
        if not shards or any(Path(shard).name != shard for shard in shards):
            raise UserError(f"{index}: weight_map names no files beside it")
        files = [folder / shard for shard in shards]
    else:
        files = [folder / "model.safetensors"]
    for file in files:
        if not file.is_file():
            pickled = [path.name for path in folder.glob("*.bin")]
            raise UserError(
                f"{file}: no such file",
                f"{pickled[0]} is a pickle, which is never opened here; save it as safetensors"
                if pickled
                else "a folder with config.json and *.safetensors",
            )
        try:
            with safe_open(file, "pt") as held:
                for name in held.keys():  # noqa: SIM118 - no dictionary
                    tensor = held.get_tensor(name)
                    yield name, tensor.float() if tensor.is_floating_point() else tensor
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file} is damaged: {error}") from None


# ------------------------------------------------------------------------------------------- writing
def write(
    folder: str | Path,
    network: nn.Module,
    model: Any,
    task: Mapping[str, Any],
    *,
    size: int,
    length: int,
    tokenizer: str | None = None,
    tokens: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
    dtype: torch.dtype = torch.float32,
) -> str:
    """A folder that transformers opens: config.json, model.safetensors, tokenizer files. Returns the name of the
    class that it is for. `task`: the task's settings (`kind`, `tied`, `softcap`); `tokens`: special tokens for
    tokenizer_config.json; `labels`: names of the head's classes. Raises UserError naming the settings that no class
    there can express."""
    model = as_built(model, network)
    tied, kind = bool(task.get("tied")), _head(task)
    architecture = _home(model, {**task, "kind": kind})
    state = network.state_dict()
    prefix = architecture.PREFIX if kind in architecture.HEADS else ""
    theirs: dict[str, Tensor] = {}
    parts = architecture.parts(model, tied, kind)
    complete(parts, state, kind, "--format hf")
    for part in parts:
        for name, tensor in zip(part.theirs, unpacked(part, state), strict=True):
            whole = name if name.startswith(_OTHER_HEADS) else prefix + name
            theirs[whole] = tensor.detach().to("cpu", dtype).contiguous().clone()
    config = architecture.write(model, task, size, length)
    if hasattr(architecture, "shapes"):
        config |= architecture.shapes(theirs)
    if labels:
        config |= label_tree(labels)
    config["architectures"] = [
        architecture.TYPES[config["model_type"]] + architecture.HEADS.get(kind, "Model")
    ]
    config["dtype"] = str(dtype).removeprefix("torch.")
    known = dict(tokens or {})
    ids = _ids(tokenizer)
    for key in ("bos_token", "eos_token", "pad_token"):
        config[f"{key}_id"] = ids.get(str(known.get(key)))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        save_file(theirs, folder / "model.safetensors", {"format": "pt"})
    except SafetensorError as error:  # a full disk, which it wraps
        raise UserError(f"model.safetensors cannot be written: {error}") from None
    write_json(folder / "config.json", config)
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(tokenizer, "utf-8")
        template = known.pop("chat_template", None)
        if template:
            (folder / "chat_template.jinja").write_text(template, "utf-8")
        about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length, **known}
        if not config.get("type_vocab_size"):  # segments, which others would take for tokens
            about["model_input_names"] = ["input_ids", "attention_mask"]
        write_json(folder / "tokenizer_config.json", {"clean_up_tokenization_spaces": False, **about})
    return config["architectures"][0]


def complete(parts: Iterable[Part], state: Mapping[str, Tensor], kind: str, where: str) -> None:
    """Raises UserError where a tensor of ours would be left behind."""
    body = ("model.",) if kind in _HEADLESS else ("model.", "head.")
    known = {part.ours for part in parts}
    left = [name for name in state if name.startswith(body) and name not in known]
    if left:
        more = f" and {len(left) - 3} others" if len(left) > 3 else ""
        raise UserError(
            f"{where} has no place for the tensors {', '.join(left[:3])}{more}",
            "--format onnx takes every model",
        )


def home(model: Any, network: nn.Module, task: Mapping[str, Any]) -> Any:
    """The architecture that can hold the model with its head. Raises UserError naming what has no place there."""
    return _home(as_built(model, network), {**task, "kind": _head(task)})


def _head(task: Mapping[str, Any]) -> str:
    """The kind of task whose head it has."""
    kind = str(task.get("kind", ""))
    return "language" if kind in _AFTER_LANGUAGE else kind


def _home(model: Any, task: Mapping[str, Any]) -> Any:
    """The architecture that can hold the model; or an error with what keeps it out of the nearest."""
    fitting = [architecture for architecture in _architectures() if type(model) is _body(architecture)]
    if not fitting:
        raise UserError(f"model {model.kind} has no class in transformers", "kind: transformer and vit have")
    found = [(_refusals(architecture, model, task), architecture) for architecture in fitting]
    reasons, architecture = min(found, key=lambda pair: len(pair[0]))
    if reasons:
        nearest = next(iter(architecture.TYPES.values())) + architecture.HEADS.get(task["kind"], "Model")
        raise UserError(
            f"no class in transformers holds this model: {nearest} comes nearest, and cannot express "
            f"{', '.join(reasons)}",
            "train with other settings, or export it in another format",
        )
    return architecture


def _refusals(architecture: Any, model: Any, task: Mapping[str, Any]) -> list[str]:
    """Why the architecture's classes cannot hold the model with its head: their classifiers of whole texts, for one,
    read another vector than ours."""
    kind, reasons = task["kind"], architecture.refusals(model, task)
    if kind not in (*architecture.HEADS, *_HEADLESS):
        reasons.append(f"task: {kind}")
    elif kind in ("tag", "embed") and getattr(model, "causal", architecture.CAUSAL) != architecture.CAUSAL:
        reasons.append(f"model.causal: {model.causal}")
    return reasons


def unpacked(part: Part, state: Mapping[str, Tensor]) -> list[Tensor]:
    """Theirs, of ours."""
    if not part.ours:
        value, shape = part.constant
        return [torch.full(shape, value) for _ in part.theirs]
    return part.unpack(state[part.ours])


def _ids(tokenizer: str | None) -> dict[str, int]:
    """Special tokens' ids of a tokenizer.json."""
    added = json.loads(tokenizer).get("added_tokens", []) if tokenizer else []
    return {token["content"]: token["id"] for token in added}


def write_json(path: Path, tree: Any) -> None:
    """A file as Hugging Face's are written."""
    path.write_text(json.dumps(to_tree(tree), ensure_ascii=False, indent=2) + "\n", "utf-8")
