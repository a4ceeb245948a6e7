"""Go on with a text: prints the continuation alone.

    modelworks generate runs/shakespeare --prompt "To be" --max-tokens 64 --temperature 0
    modelworks generate runs/shakespeare --prompts lines.txt --json
    echo "To be" | modelworks generate runs/shakespeare

Without --prompt, standard input is one prompt, its last line end left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import UserError
from modelworks.stages import _speak

if TYPE_CHECKING:
    from modelworks.engine.language.generate import Generator
    from modelworks.engine.language.sampling import Sampling

BATCH = 16
"""Prompts that are continued at a time."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks generate`."""
    parser.add_argument(
        "--prompt", action="append", metavar="TEXT", help="what to go on with; may be given again"
    )
    parser.add_argument(
        "--prompts",
        metavar="FILE",
        help='a prompt a line, or .jsonl with {"prompt": …}; - for standard input',
    )
    parser.add_argument("--json", action="store_true", help="a JSON object a prompt, with tokens and times")
    parser.add_argument("--beams", type=int, metavar="N", help="search N continuations for the most likely")
    parser.add_argument(
        "--length-penalty", type=float, metavar="X", help="beams: 0 likes short answers, more long ones (1)"
    )
    _speak.add_flags(parser)


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    if settings:
        raise UserError(f"generate takes no settings, got {' '.join(settings)}", "modelworks generate --help")
    if args.beams is not None and (args.beams < 1 or args.temperature):
        raise UserError("--beams wants 1 or more, and takes no --temperature")
    if args.length_penalty is not None and args.beams is None:
        raise UserError("--length-penalty is for --beams")
    _speak.check(args.run)
    prompts = _prompts(args)
    sampling = _speak.sampling_of(args, {"logprobs": args.json})
    generator = _speak.load(args)
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        if args.beams:
            _search(generator, batch, sampling, args)
        elif args.json or len(prompts) > 1:
            _answer(generator, batch, sampling, start, args.json)
        else:
            for chunk in generator.stream([generator.field.ids(batch[0])], sampling):
                _speak.show(chunk.text)
            _speak.show("\n")
    return 0


def _prompts(args: argparse.Namespace) -> list[str]:
    prompts = list(args.prompt or [])
    if args.prompts:
        text = sys.stdin.read() if args.prompts == "-" else _speak.read_text(args.prompts, "--prompts")
        lines = [line for line in text.splitlines() if line.strip()]
        prompts += list(_json_lines(lines, args.prompts)) if args.prompts.endswith(".jsonl") else lines
        if not prompts:
            raise UserError(f"--prompts {args.prompts}: has no prompts")
    if not prompts:
        if sys.stdin.isatty():
            raise UserError(
                "there is nothing to go on with", '--prompt "…", --prompts FILE or standard input'
            )
        prompts = [sys.stdin.read().removesuffix("\n").removesuffix("\r")]
    return prompts


def _json_lines(lines: Sequence[str], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"--prompts {name} line {number}: is no JSON: {error}") from None
        prompt = found.get("prompt") if isinstance(found, dict) else found
        if not isinstance(prompt, str):
            raise UserError(f'--prompts {name} line {number}: wants {{"prompt": "…"}}')
        yield prompt


def _answer(
    generator: Generator, prompts: Sequence[str], sampling: Sampling, first: int, details: bool
) -> None:
    """Several prompts at a time; answers in the prompts' order."""
    ids = [generator.field.ids(prompt) for prompt in prompts]
    begin = time.perf_counter()
    answers = generator.generate(ids, sampling, range(first, first + len(ids)))
    seconds = time.perf_counter() - begin
    written = sum(len(answer.ids) for answer in answers)
    for prompt, read, answer in zip(prompts, ids, answers, strict=True):
        if not details:
            _speak.show(answer.text + "\n")
            continue
        _tell(
            prompt=prompt,
            text=answer.text,
            reason=answer.reason,
            prompt_tokens=len(read),
            tokens=len(answer.ids),
            logprob=sum(answer.logprobs),
            seconds=round(seconds, 4),
            tokens_per_second=round(written / seconds, 2),
            batch=len(prompts),
        )


def _search(
    generator: Generator, prompts: Sequence[str], sampling: Sampling, args: argparse.Namespace
) -> None:
    """Beam search; the likeliest continuation of each prompt."""
    ids = [generator.field.ids(prompt) for prompt in prompts]
    penalty = 1.0 if args.length_penalty is None else args.length_penalty
    begin = time.perf_counter()
    found = generator.beam(ids, beams=args.beams, max_tokens=sampling.max_tokens, length_penalty=penalty)
    seconds = time.perf_counter() - begin
    for prompt, read, (best, *_) in zip(prompts, ids, found, strict=True):
        tokens = [token for token in best.ids if token != generator.end]
        text = generator.field.decode([tokens])[0]
        if args.json:
            _tell(
                prompt=prompt,
                text=text,
                reason="length" if len(tokens) == len(best.ids) else "end",
                prompt_tokens=len(read),
                tokens=len(best.ids),
                logprob=best.logprob,
                seconds=round(seconds, 4),
            )
        else:
            _speak.show(text + "\n")


def _tell(**facts: Any) -> None:
    print(json.dumps(facts, ensure_ascii=False), flush=True)
