"""The command line: `modelworks VERB …`. Verbs are the files of stages/; --help imports no torch."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence

from modelworks.core.errors import UserError, did_you_mean, printable

# pydantic would search every installed package for plugins of its own at each start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

_EXAMPLES = """\
examples:
  modelworks train titanic.csv --target survived     train on a table; fields, task and model are inferred
  modelworks train sample:mnist --train.epochs=3     real sample data, fetched once
  modelworks predict runs/titanic new.csv --output answers.csv
  modelworks report runs/titanic                     the report as one offline HTML page
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 our bug, 2 the user can mend it, 130 interrupted."""
    # What is imported stays: looking for garbage after every 700 new objects is a twentieth of the start.
    gc.set_threshold(50_000)
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    if not debug:  # libraries in Rust print their stacks where this is set
        os.environ["RUST_BACKTRACE"] = "0"
    try:
        return _run(arguments)
    except UserError as error:
        if debug:
            raise
        _complain(str(error))
        return 2
    except KeyboardInterrupt:
        train = "; `modelworks train --resume` goes on from the last checkpoint"
        _complain("interrupted" + (train if "train" in arguments[:1] else ""))
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if debug:
            raise
        _complain(f"{error.filename or 'system'}: {error.strerror or error}")
        return 2
    except MemoryError:
        _complain("out of memory; lower train.batch_size or train.micro_batch")
        return 2
    except Exception as error:
        if debug:
            raise
        _complain(f"a bug in modelworks: {type(error).__name__}: {error}")
        print("            run again with --debug for the traceback, and please report it", file=sys.stderr)
        return 1


def _run(arguments: list[str]) -> int:
    from modelworks.core.stage import load, stages

    if arguments[:1] in (["--version"], ["-V"]):
        from modelworks import __version__

        print(f"modelworks {__version__}")
        return 0
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        if len(arguments) > 1:
            return _run([arguments[1], "--help"])
        width = max(map(len, stages()))
        print(
            "usage: modelworks VERB [arguments] [--a.b.c=VALUE …]\n\nOne tool for the whole life of a model.\n\nverbs:"
        )
        for name, text in stages().items():
            print(f"  {name:<{width}}  {text.rstrip('.')}")
        print(f"\n{_EXAMPLES}\n`modelworks VERB --help` tells more. --debug shows tracebacks.")
        return 0
    verb, *rest = arguments
    if verb not in stages():
        raise UserError(
            f"there is no verb {verb!r}; {did_you_mean(verb, stages())}", "modelworks --help lists them"
        )
    stage = load(verb)
    parser = _Parser(
        prog=f"modelworks {verb}",
        description=stages()[verb],
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    stage.arguments(parser)
    # Settings travel beside argparse: it would have to know every one of them.
    known = {flag for action in parser._actions for flag in action.option_strings}
    settings = [a for a in rest if a.startswith("--") and "=" in a and a.split("=", 1)[0] not in known]
    parsed = parser.parse_args([a for a in rest if a not in settings])
    return stage.main(parsed, settings) or 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        unknown = message.partition("unrecognized arguments: ")[2]
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            word = unknown.split()[0]
            if "." in word and "=" not in word:
                raise UserError(f"{self.prog}: {word} has no value", f"with an equals sign: {word}=VALUE")
            raise UserError(
                f"{self.prog}: {word} is not known; {did_you_mean(word, flags)}",
                "settings are given as --a.b.c=VALUE",
            )
        raise UserError(f"{self.prog}: {message}", f"{self.prog} --help")


def _complain(text: str) -> None:
    lines = printable(text).split("\n") or ["unknown error"]
    shown = lines[:20] + ([f"… and {len(lines) - 20} more"] if len(lines) > 20 else [])
    for number, line in enumerate(shown):
        print(("modelworks: " if number == 0 else "            ") + line[:2000], file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
