"""Choices: multiple-choice questions put to a language model: the answer that it finds likeliest is its own.

    asked = questions(rows, "questions.jsonl")
    result = judge(scorer, asked, shots=5, examples=asked)
    result["metrics"]["accuracy"]

A row has `question` (or `context`, a text to go on with), `choices` (a list) and `answer` (a place from 0 on, a letter
or one of the choices). Zero-shot asks at once; few-shot shows answered questions first (Brown et al. 2020,
arXiv:2005.14165). By the sum of log-likelihoods short answers win, so it is also taken by byte and by token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelworks.core.errors import DataError, UserError
from modelworks.engine.language.likelihood import Likelihood, Score
from modelworks.metrics.bootstrap import Sums, blocks

ASKED = "Question: {question}\nAnswer:"
BETWEEN = "\n\n"
WAYS: dict[str, Callable[[Score], float]] = {
    "accuracy": lambda score: score.total,
    "accuracy_per_byte": lambda score: score.per_byte,
    "accuracy_per_token": lambda score: score.per_token,
}
"""Metric → what the chosen answer has most of."""
AT_ONCE = 64
"""Questions that are scored together."""


@dataclass(frozen=True)
class Question:
    """What is asked, what may be answered, what is right."""

    prompt: str
    choices: tuple[str, ...]
    answer: int

    @property
    def answered(self) -> str:
        """As an example."""
        return self.prompt + self.choices[self.answer]


def questions(rows: Sequence[Mapping[str, Any]], where: str, template: str | None = None) -> list[Question]:
    """The rows as questions; raises DataError with the first that is none. `template`: {column} stands for its text."""
    if not rows:
        raise DataError(f"{where}: has no questions")
    return [_question(row, f"{where} row {number}", template) for number, row in enumerate(rows, 1)]


def _question(row: Mapping[str, Any], where: str, template: str | None) -> Question:
    if template is None:
        template = "{context}" if row.get("question") is None and row.get("context") is not None else ASKED
    wanted = re.findall(r"\{(\w+)\}", template)
    missing = [name for name in wanted if not isinstance(row.get(name), (str, int, float))]
    if missing:
        raise DataError(
            f"{where}: has no text under {missing[0]!r}", "question, choices and answer, or --template"
        )
    prompt = re.sub(r"\{(\w+)\}", lambda found: str(row[found[1]]), template)
    choices = row.get("choices")
    if (
        not isinstance(choices, (list, tuple))
        or len(choices) < 2
        or not all(isinstance(one, str) and one.strip() for one in choices)
    ):
        raise DataError(f"{where}: `choices` wants a list of two or more texts, got {choices!r:.80}")
    # A blank before an answer is part of it: tokens begin with theirs.
    blank = "" if prompt[-1:].isspace() or not prompt else " "
    answer = _place(row.get("answer"), [one.strip() for one in choices], where)
    return Question(prompt, tuple(blank + one.strip() for one in choices), answer)


def _place(answer: Any, choices: Sequence[str], where: str) -> int:
    """Which choice an answer means: a place from 0 on, one of the texts, or a letter."""
    if isinstance(answer, str):
        text = answer.strip()
        if text in choices:
            return list(choices).index(text)
        if len(text) == 1 and 0 <= ord(text.upper()) - ord("A") < len(choices):
            return ord(text.upper()) - ord("A")
        answer = int(text) if text.isdecimal() else answer
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    raise DataError(
        f"{where}: `answer` is none of the {len(choices)} choices: {answer!r:.80}",
        "0, 1 … or A, B … or the text",
    )


def shown(asked: Question, examples: Sequence[Question], shots: int, seed: Sequence[int]) -> str:
    """The prompt of a question with answered examples before it, drawn without the question itself."""
    others = [one for one in examples if one != asked]
    if shots > len(others):
        raise UserError(
            f"{shots} shots want as many other examples, and there are {len(others)}", "--examples FILE"
        )
    chosen = np.random.default_rng(seed).permutation(len(others))[:shots]
    return BETWEEN.join([others[at].answered for at in chosen] + [asked.prompt])


def judge(
    scorer: Likelihood,
    asked: Sequence[Question],
    *,
    shots: int = 0,
    examples: Sequence[Question] = (),
    seed: int = 0,
    bootstrap: int = 200,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """{"metrics": {accuracy …: {value, low, high}}, "chance", "rows", "cut", "answers": [a dict a question]}."""
    sums = Sums(len(WAYS) + 1, bootstrap)
    answers: list[dict[str, Any]] = []
    cut = 0
    for start in range(0, len(asked), AT_ONCE):
        part = asked[start : start + AT_ONCE]
        pairs = []
        for row, one in enumerate(part, start):
            prompt = shown(one, examples, shots, (seed, row))
            pairs += [(prompt, choice) for choice in one.choices]
        scores = iter(scorer.continuations(pairs))
        right_NF = np.ones((len(part), len(WAYS) + 1))
        for row, one in enumerate(part):
            mine = [next(scores) for _ in one.choices]
            chosen = {
                name: max(range(len(mine)), key=lambda at, way=way, mine=mine: way(mine[at]))
                for name, way in WAYS.items()
            }
            right_NF[row, :-1] = [chosen[name] == one.answer for name in WAYS]
            cut += any(score.cut for score in mine)
            answers.append({
                "prompt": one.prompt, "choices": [choice.strip() for choice in one.choices], "answer": one.answer,
                **chosen,
                "log_likelihood": [round(score.total, 6) for score in mine], "tokens": [score.tokens for score in mine],
            })  # fmt: skip
        for rows, weights_NR in blocks(np.arange(start, start + len(part)), bootstrap, seed):
            sums.add(right_NF[rows], weights_NR)
        if progress:
            progress(start + len(part))
    metrics = {name: sums.summary(lambda s, at=at: s[..., at] / s[..., -1]) for at, name in enumerate(WAYS)}
    chance = float(np.mean([1 / len(one.choices) for one in asked]))
    return {
        "metrics": metrics,
        "chance": chance,
        "rows": len(asked),
        "shots": shots,
        "cut": cut,
        "answers": answers,
    }
