"""What generate and chat share: flags of sampling, a Run loaded to write, text safe to show."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import UserError, printable
from modelworks.core.run import RunFolder

if TYPE_CHECKING:
    from modelworks.engine.language.generate import Generator
    from modelworks.engine.language.sampling import Sampling
    from modelworks.layers.packed import Weights

WEIGHTS = ("float32", "bfloat16", "int8")
_FLAGS: dict[str, tuple[type, str, str]] = {
    "max_tokens": (int, "N", "most new tokens (256)"),
    "temperature": (float, "X", "divides the logits; 0 takes the most likely token (1)"),
    "top_k": (int, "N", "only the so many most likely tokens (0: all)"),
    "top_p": (float, "X", "only the most likely tokens that together reach this probability (1)"),
    "min_p": (float, "X", "only tokens at least so likely, as a share of the most likely (0)"),
    "repetition_penalty": (float, "X", "makes tokens that were there before less likely (1: no)"),
    "presence_penalty": (float, "X", "taken from the logits of tokens that the answer has (0)"),
    "frequency_penalty": (float, "X", "the same, for each time that it has them (0)"),
    "seed": (int, "N", "of the random draws (0)"),
    "lookup": (
        int,
        "N",
        "guess N tokens a step from what followed the same words; the answer is the same (2 for one prompt at "
        "temperature 0, else 0)",
    ),
    "regex": (str, "RE", "the answer matches this regular expression (extra: constrain)"),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say how text is written."""
    parser.add_argument(
        "run", metavar="RUN", help="a Run's name or folder, a Hugging Face folder or a GGUF file"
    )
    for name, (kind, metavar, text) in _FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    parser.add_argument(
        "--stop", action="append", metavar="TEXT", help="text that ends an answer; may be given again"
    )
    parser.add_argument(
        "--schema",
        metavar="FILE",
        help="a JSON schema that the answer obeys, or {} for any (extra: constrain)",
    )
    parser.add_argument("--ignore-end", action="store_true", help="write on after the end of a document")
    parser.add_argument(
        "--weights", choices=WEIGHTS, help="how weights are held while writing (float32, laid out to be read)"
    )
    parser.add_argument("--int8", action="store_true", help="the same as --weights int8: fastest on a CPU")
    parser.add_argument(
        "--draft", metavar="RUN", help="a smaller Run over the same tokens that guesses ahead"
    )


def sampling_of(args: argparse.Namespace, defaults: Mapping[str, Any] | None = None) -> Sampling:
    """The flags as checked settings; what was not given is the settings' own."""
    from modelworks.engine.language.sampling import Sampling

    given = {name: value for name in _FLAGS if (value := getattr(args, name)) is not None}
    given |= {"stop": tuple(args.stop)} if args.stop else {}
    given |= {"json_schema": _schema(args.schema)} if args.schema is not None else {}
    given |= {"ignore_end": True} if args.ignore_end else {}
    return Sampling(**{**(defaults or {}), **given})


def _schema(text: str) -> str:
    if text.lstrip().startswith("{"):
        return text
    return read_text(text, "--schema")


def read_text(name: str, flag: str) -> str:
    """A text file, whole."""
    try:
        return Path(name).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{flag} {name}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{flag} {name}: {error.strerror or error}") from None


def check(name: str) -> None:
    """Something whose task is to go on with a text; said before anything heavy is loaded."""
    from modelworks.core.kinds import find, lightly
    from modelworks.core.task import Task
    from modelworks.engine.language.ready import is_foreign

    if is_foreign(name):
        return
    run = RunFolder.find(name)
    task = run.recipe_tree().get("task")
    kind = task.get("kind") if isinstance(task, Mapping) else task
    with lightly():
        writes = isinstance(kind, str) and find(Task, kind).features == "next"
    if not writes:
        raise UserError(
            f"{run.path}: does not generate text: its task is {kind}",
            "modelworks predict answers rows; generate wants a Run trained with --task language",
        )


def load(args: argparse.Namespace) -> Generator:
    """What the command line names, ready to write."""
    if args.int8 and args.weights not in (None, "int8"):
        raise UserError(f"--int8 and --weights {args.weights} say different things")
    return opened(args.run, "int8" if args.int8 else args.weights, args.draft)


def opened(name: str, weights: Weights | None = None, draft: str | None = None) -> Generator:
    """A Run or a foreign model, its weights packed, and a smaller one that guesses ahead. Without `weights` they are
    packed as they are stored: int8 where the Run was compressed to eight bits or less."""
    for one in (name, draft):
        if one is not None:
            check(one)
    from modelworks.engine.language.generate import Generator
    from modelworks.engine.language.pack import pack
    from modelworks.engine.language.ready import ready

    network, field = ready(name)
    weights = weights or ("int8" if getattr(network, "int8", False) else "float32")
    small = None
    if draft is not None:
        other, theirs = ready(draft)
        names = ("tokenizer", "vocabulary", "specials", "end")
        if theirs.layout != field.layout or any(field.state.get(n) != theirs.state.get(n) for n in names):
            raise UserError(f"{draft}: has other tokens or another context than {name}")
        small = pack(other, weights)
    return Generator(pack(network, weights), field, small)


def show(text: str) -> None:
    """Text of a model: on a terminal, with what could steer it written out."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
