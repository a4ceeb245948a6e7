"""Put multiple-choice questions to a language model, zero- or few-shot, by the likelihood of their answers.

    modelworks choose runs/gpt questions.jsonl
    modelworks choose runs/gpt test.jsonl --shots 5 --examples train.jsonl
    modelworks choose SmolLM2-135M-Instruct.Q4_1.gguf questions.jsonl --output answers.jsonl

A question: {"question": "2 + 2 =", "choices": ["3", "4"], "answer": 1}; the answer may be a letter or the text itself.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from modelworks.core.errors import UserError
from modelworks.stages import _screen, _speak


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks choose`."""
    parser.add_argument(
        "run", metavar="RUN", help="a Run's name or folder, a Hugging Face folder or a GGUF file"
    )
    parser.add_argument("data", metavar="FILE", help="rows with question (or context), choices and answer")
    parser.add_argument(
        "--shots", type=int, default=0, metavar="N", help="answered examples before each question (0)"
    )
    parser.add_argument(
        "--examples", metavar="FILE", help="where they come from (FILE itself, without the question)"
    )
    parser.add_argument(
        "--template", metavar="TEXT", help=r'how a question is put ("Question: {question}\nAnswer:")'
    )
    parser.add_argument(
        "--weights", choices=_speak.WEIGHTS, default="float32", help="how weights are held (float32)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the examples' draw (0)")
    parser.add_argument(
        "--bootstrap", type=int, default=200, metavar="N", help="replicates for the intervals (200)"
    )
    parser.add_argument("--output", metavar="FILE", help="also write each question's answers, as JSON lines")
    parser.add_argument("--json", action="store_true", help="print JSON alone")


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    if settings:
        raise UserError(f"choose takes no settings, got {' '.join(settings)}", "modelworks choose --help")
    if args.shots < 0 or args.bootstrap < 0:
        raise UserError("--shots and --bootstrap want 0 or more")
    output = _screen.output_file(args.output)
    template = None if args.template is None else args.template.replace("\\n", "\n")
    result = choose(
        args.run, args.data, shots=args.shots, examples=args.examples, template=template, weights=args.weights,
        seed=args.seed, bootstrap=args.bootstrap,
    )  # fmt: skip
    answers = result.pop("answers")
    if output is not None:
        output.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in answers), "utf-8")
    if args.json:
        print(json.dumps(result))
        return 0
    print(f"{result['rows']:,} questions, {result['shots']} shots; by chance {result['chance']:.4f}")
    for name, entry in result["metrics"].items():
        interval = f" (95 % {entry['low']:.4f}–{entry['high']:.4f})" if "low" in entry else ""
        print(f"  {name:<20} {entry['value']:.4f}{interval}")
    if result["cut"]:
        print(f"note: {result['cut']:,} prompts were cut from the left: the model's context is shorter")
    return 0


def choose(
    run: str | Path,
    data: str | Path,
    *,
    shots: int = 0,
    examples: str | Path | None = None,
    template: str | None = None,
    weights: Any = "float32",
    seed: int = 0,
    bootstrap: int = 200,
) -> dict[str, Any]:
    """See engine/language/choices.py for what comes back."""
    _speak.check(str(run))
    from modelworks.engine.language.choices import judge, questions
    from modelworks.engine.language.likelihood import Likelihood

    asked = questions(_rows(data), str(data), template)
    shown = asked if examples is None else questions(_rows(examples), str(examples), template)
    generator = _speak.opened(str(run), weights)
    scorer = Likelihood(generator.network, generator.field)
    return judge(scorer, asked, shots=shots, examples=shown, seed=seed, bootstrap=bootstrap)


def _rows(data: str | Path) -> list[dict[str, Any]]:
    import numpy as np

    from modelworks.core.dataset import Dataset
    from modelworks.engine.data.open import source_for

    dataset = Dataset.ingest(source_for(str(data)), name=str(data)[:100])
    if dataset.quarantine.count:
        reason = next(iter(dataset.quarantine.reasons), "")
        raise UserError(
            f"{data}: {dataset.quarantine.count:,} rows are unreadable: {reason}", "every question counts"
        )
    return dataset.take(np.arange(dataset.rows)).to_pylist()
