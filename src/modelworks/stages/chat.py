"""Talk with a language model in the terminal.

    modelworks chat runs/assistant --system "Answer in one sentence." --temperature 0.7
    printf 'Hello\\n/quit\\n' | modelworks chat runs/assistant

/system TEXT sets what the model is told first, /reset forgets the conversation, /help lists this, /quit ends.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from modelworks.core.errors import UserError
from modelworks.stages import _speak

if TYPE_CHECKING:
    from modelworks.engine.language.conversation import Conversation
    from modelworks.engine.language.sampling import Sampling

HELP = (
    "/system TEXT  what the model is told first\n/reset        forget the conversation\n/quit         end\n"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks chat`."""
    parser.add_argument("--system", metavar="TEXT", help="what the model is told first")
    _speak.add_flags(parser)


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    if settings:
        raise UserError(f"chat takes no settings, got {' '.join(settings)}", "modelworks chat --help")
    _speak.check(args.run)
    sampling = _speak.sampling_of(args)
    from modelworks.engine.language.conversation import Conversation

    conversation = Conversation(_speak.load(args), args.system)
    terminal = sys.stdin.isatty()
    if terminal:
        import readline  # noqa: F401  (arrows and history in input())

        _note(f"{args.run}: /help lists what you can do; /quit ends")
    while True:
        try:
            line = (input("> ") if terminal else next(sys.stdin)).strip()
        except (EOFError, StopIteration, KeyboardInterrupt):
            if terminal:
                print()
            return 0
        if line in ("/quit", "/exit"):
            return 0
        if line:
            _turn(conversation, line, sampling)


def _turn(conversation: Conversation, line: str, sampling: Sampling) -> None:
    command, _, rest = line.partition(" ")
    if command == "/reset":
        conversation.reset()
    elif command == "/system":
        conversation.system = rest.strip() or None
    elif command == "/help":
        _note(HELP.rstrip())
    elif command.startswith("/") and command[1:].isalpha():
        _note(f"there is no command {command}; /help lists them")
    else:
        try:
            for text in conversation.ask(line, sampling):
                _speak.show(text)
        except KeyboardInterrupt:  # the answer so far stays in the conversation
            pass
        except UserError as error:
            _note(str(error))
            return
        _speak.show("\n")
        if conversation.forgotten:
            _note(f"the context is full: the first {conversation.forgotten} messages are forgotten")


def _note(text: str) -> None:
    print(text, file=sys.stderr)
