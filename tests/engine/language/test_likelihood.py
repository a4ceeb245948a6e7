"""Likelihoods against plain sums over whole texts, and multiple choice put together by hand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.cli import main
from modelworks.core.errors import DataError, UserError
from modelworks.engine.language import likelihood
from modelworks.engine.language.choices import judge, questions, shown
from modelworks.engine.language.generate import Generator
from modelworks.engine.language.harness import adapted
from modelworks.engine.language.likelihood import Likelihood
from modelworks.engine.language.sampling import Sampling

torch.set_num_threads(1)
WORDS = st.text("abcdefgh ", min_size=1, max_size=12)


def plain(network: Any, context: list[int], answer: list[int]) -> tuple[float, bool]:
    """The same without a cache or a batch."""
    whole = torch.tensor([[*context, *answer]])
    with torch.no_grad():
        logits = network.head.logits(network.model({"text": whole[:, :-1]}))[0].log_softmax(-1)
    logits = logits[len(context) - 1 :]
    chosen = logits.gather(1, torch.tensor(answer)[:, None])
    return float(chosen.sum()), bool((logits.argmax(1) == torch.tensor(answer)).all())


@given(st.lists(st.tuples(st.one_of(st.just(""), WORDS), WORDS), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_a_continuation_is_the_sum_over_its_tokens(language_model: Any, pairs: list[tuple[str, str]]) -> None:
    network, field = language_model("abcdefgh ", length=64)
    scorer = Likelihood(network, field)
    found = scorer.continuations(pairs)
    for (context, answer), score in zip(pairs, found, strict=True):
        kept = context.rstrip()
        moved = context[len(kept) :] + answer
        wanted = plain(network, field.ids(kept) if kept else [field.state["end"]], field.ids(moved))
        assert score.total == pytest.approx(wanted[0], abs=1e-4)
        assert score.greedy == wanted[1]
        assert (score.tokens, score.size) == (len(moved), len(answer.encode()))


def test_batches_change_nothing(language_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network, field = language_model("abcdefgh ", length=64)
    scorer = Likelihood(network, field)
    pairs = [("abc" * n, end) for n in range(5) for end in (" a", "gh", "b" * 9)]
    whole = scorer.continuations(pairs)
    monkeypatch.setattr(likelihood, "TOKENS", 1)
    monkeypatch.setattr(likelihood, "LOGITS", 1)
    alone = scorer.continuations(pairs)
    for one, other in zip(whole, alone, strict=True):
        assert one.total == pytest.approx(other.total, abs=1e-4)
        assert (one.greedy, one.tokens) == (other.greedy, other.tokens)


def test_long_texts_are_judged_once_a_token(language_model: Any) -> None:
    network, field = language_model("abcdefgh ", length=8)
    text = "abc fed gh abba cab head"  # 24 tokens, three windows
    scorer = Likelihood(network, field)
    windows = list(scorer.windows(field.ids(text)))
    assert [token for _, answer in windows for token in answer] == field.ids(text)
    assert all(len(context) + len(answer) <= 9 for context, answer in windows)
    [score] = scorer.texts([text])
    assert score.total == pytest.approx(sum(plain(network, [*c], [*a])[0] for c, a in windows), abs=1e-4)
    assert score.per_byte == pytest.approx(score.total / 24)
    # A context that is too long is cut from the left, and told.
    cut = scorer.continuations([("abcdefgh", "ab")])[0]
    assert cut.cut == 1
    assert cut.total == pytest.approx(plain(network, field.ids("bcdefgh"), field.ids("ab"))[0], abs=1e-4)
    with pytest.raises(UserError, match="9 tokens, and the model's context is 8"):
        scorer.continuations([("a", "abcdefgha")])


def test_what_has_no_likelihood_is_said(language_model: Any) -> None:
    network, field = language_model(end=False)
    scorer = Likelihood(network, field)
    with pytest.raises(UserError, match="no token that begins a document"):
        scorer.texts(["abc"])
    with pytest.raises(UserError, match="nothing to judge"):
        scorer.continuations([("a", "")])
    with pytest.raises(UserError, match="no language model"):
        Likelihood(torch.nn.Linear(1, 1), field)


# ------------------------------------------------------------------------------------------- choices
ROWS = [
    {"question": "ab", "choices": ["c", "dd "], "answer": 1},
    {"context": "ab ", "choices": ["c", "dd", "a"], "answer": "C"},
    {"question": "b", "choices": ["c", "a"], "answer": "a"},
]


def test_rows_are_read_as_questions() -> None:
    one, two, three = questions(ROWS, "q.jsonl")
    assert (one.prompt, one.choices, one.answer) == ("Question: ab\nAnswer:", (" c", " dd"), 1)
    assert (two.prompt, two.choices, two.answer) == ("ab ", ("c", "dd", "a"), 2)
    assert three.answer == 1  # the text itself comes before the letter
    assert one.answered == "Question: ab\nAnswer: dd"
    with_shots = shown(one, [one, two, three], 2, (0, 0))
    assert with_shots.endswith("\n\nQuestion: ab\nAnswer:")
    assert sorted(with_shots.split("\n\n")[:2]) == sorted([two.answered, three.answered])


@pytest.mark.parametrize(
    "change, said",
    [({"choices": ["a"]}, "two or more"), ({"choices": "ab"}, "two or more"), ({"answer": 2}, "none of the 2"),
     ({"answer": True}, "none of the 2"), ({"answer": None}, "none of the 2"), ({"question": 3.5}, None),
     ({"question": None}, "no text under 'question'")],
)  # fmt: skip
def test_a_row_that_is_no_question_is_named(change: dict[str, Any], said: str | None) -> None:
    rows = [ROWS[0], {**ROWS[0], **change}]
    if said is None:
        assert questions(rows, "q")
        return
    with pytest.raises(DataError, match=f"q row 2: .*{said}"):
        questions(rows, "q")


class Liked:
    """A scorer that likes each continuation by a table."""

    def __init__(self, **totals: float) -> None:
        self.totals = totals

    def continuations(self, pairs: list[tuple[str, str]]) -> list[likelihood.Score]:
        texts = [text for _, text in pairs]
        return [
            likelihood.Score(self.totals[text.strip()], len(text), len(text.encode()), False)
            for text in texts
        ]


def test_accuracy_by_sum_and_by_length() -> None:
    asked = questions([{"question": "q", "choices": ["a", "bbbb"], "answer": 1}] * 3, "q")
    scorer: Any = Liked(
        a=-2.0, bbbb=-3.0
    )  # shorter is likelier as a whole, not by byte: 2 and 5 with the blank
    found = judge(scorer, asked)
    assert found["metrics"]["accuracy"]["value"] == 0
    assert found["metrics"]["accuracy_per_byte"]["value"] == 1
    assert found["chance"] == 0.5
    with pytest.raises(UserError, match="3 shots want as many other examples"):
        judge(scorer, asked, shots=3, examples=asked)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.txt").write_text("abab cdcd abab cdcd\n" * 3000)
    small = [
        "--model.width=32",
        "--model.depth=1",
        "--model.heads=2",
        "--fields.text.tokens=char",
        "--fields.text.length=32",
    ]
    rest = [
        "--train.steps=40",
        "--train.threads=1",
        "--evaluate.bootstrap=0",
        "--fields.text.end=true",
        "--quiet",
    ]
    assert main(["train", "t.txt", "--task=language", "--name=t", *small, *rest]) == 0
    rows = [
        {"context": "abab", "choices": [" cdcd", " dcdc"], "answer": 0},
        {"context": "cdcd", "choices": [" baba", " abab"], "answer": 1},
    ]
    Path("q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    capsys.readouterr()
    assert main(["choose", "t", "q.jsonl", "--shots=1", "--output=a.jsonl"]) == 0
    assert "accuracy             1.0000" in capsys.readouterr().out
    first = json.loads(Path("a.jsonl").read_text().splitlines()[0])
    assert first["accuracy"] == first["answer"] == 0
    assert first["log_likelihood"][0] > first["log_likelihood"][1]
    assert main(["choose", "t", "q.jsonl", "--shots=2"]) == 2
    assert "2 shots want as many other examples" in capsys.readouterr().err
    assert main(["choose", "t", "t.txt"]) == 2
    assert "t.txt row 1: has no text under 'question'" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- lm-eval
class Base:
    """What lm-eval's LM has that is used."""

    def __init__(self) -> None:
        self.cache_hook = SimpleNamespace(add_partial=lambda *_: None)


def test_the_harness_answers_lm_eval_s_three_questions(language_model: Any) -> None:
    network, field = language_model("abcdefgh ", length=32)
    generator = Generator(network, field)
    model = adapted(Base, generator, "tiny")
    asked = [SimpleNamespace(args=("abc", " de")), SimpleNamespace(args=("", "gh"))]
    scores = Likelihood(network, field).continuations([one.args for one in asked])
    assert model.loglikelihood(asked) == [(score.total, score.greedy) for score in scores]
    texts = ["abc def", "hgfedcba" * 9]
    rolling = [score.total for score in Likelihood(network, field).texts(texts)]
    assert model.loglikelihood_rolling([SimpleNamespace(args=(text,)) for text in texts]) == pytest.approx(
        rolling
    )
    prompts = [
        ("abc", {"until": ["zz"], "max_gen_toks": 6}),
        ("gh", {"until": "zz", "max_gen_toks": 3, "do_sample": False}),
    ]
    written = model.generate_until([SimpleNamespace(args=one) for one in prompts])
    for (prompt, told), text in zip(prompts, written, strict=True):
        wanted = Sampling(temperature=0, max_tokens=told["max_gen_toks"])
        assert text == generator.generate([field.ids(prompt)], wanted)[0].text
    stopped = model.generate_until(
        [SimpleNamespace(args=("abc", {"until": [written[0][2]], "max_gen_toks": 6}))]
    )
    assert written[0][2] not in stopped[0]


def test_the_harness_agrees_with_lm_eval_s_own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights through lm-eval's HFLM, where it and transformers are installed."""
    pytest.importorskip("lm_eval")
    pytest.importorskip("transformers")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from modelworks.engine.language.harness import harness

    monkeypatch.chdir(tmp_path)
    Path("t.txt").write_text("the quick brown fox jumps over the lazy dog, 123 times\n" * 1200)
    flags = [
        "--fields.text.tokens=bpe",
        "--fields.text.vocabulary=320",
        "--fields.text.length=32",
        "--fields.text.end=true",
    ]
    small = [
        "--model.preset=llama",
        "--model.width=32",
        "--model.depth=2",
        "--model.heads=2",
        "--model.kv_heads=1",
        "--model.hidden=64",
    ]
    rest = ["--train.steps=5", "--train.threads=1", "--quiet", "--evaluate.bootstrap=0"]
    assert main(["train", "t.txt", "--task=language", "--name=t", *flags, *small, *rest]) == 0
    assert main(["export", "t", "--format=hf", "--output=hf"]) == 0
    ours, theirs = (
        harness("runs/t"),
        HFLM(pretrained="hf", device="cpu", batch_size=1, dtype="float32", max_length=32),
    )
    pairs = [
        ("the quick", " brown"),
        ("the quick ", "brown fox"),
        ("", "lazy dog"),
        ("a b c " * 30, "times; the"),
    ]

    def asked(kind: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
        return [
            Instance(request_type=kind, doc={}, arguments=one, idx=at) for at, one in enumerate(arguments)
        ]

    for one, other in zip(
        ours.loglikelihood(asked("loglikelihood", pairs)),
        theirs.loglikelihood(asked("loglikelihood", pairs)),
        strict=True,
    ):
        assert one[0] == pytest.approx(other[0], abs=1e-3)
        assert one[1] == other[1]
    texts: list[tuple[Any, ...]] = [("jumps over the lazy dog, " * 12,), ("fox",)]
    assert ours.loglikelihood_rolling(asked("loglikelihood_rolling", texts)) == pytest.approx(
        theirs.loglikelihood_rolling(asked("loglikelihood_rolling", texts)), abs=1e-2
    )
    told: list[tuple[Any, ...]] = [
        ("the quick brown", {"until": ["dog"], "max_gen_toks": 8, "do_sample": False})
    ]
    assert ours.generate_until(asked("generate_until", told)) == theirs.generate_until(
        asked("generate_until", told)
    )
