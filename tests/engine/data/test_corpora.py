"""corpora: what is left out is what a plain reading of each rule says, counted and shown."""

from __future__ import annotations

import itertools
import random
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.dataset import Dataset
from modelworks.core.errors import RecipeError
from modelworks.engine.data.corpora import REASONS, Corpora, Screened, screen
from modelworks.engine.data.neighbours import normalise
from modelworks.engine.data.quality import language, repeated_share

PROSE = (
    "The committee said on Tuesday that it had agreed to look at the plan with care, and that nobody was to be "
    "asked for money before the work in the harbour is done. Many of the people who live there have waited long."
)
HAN = (
    "委员会星期二表示，同意认真研究这个方案，港口的工程完成以前不向任何人收费。住在那里的许多人已经等了很久。"
)


def run(texts: list[Any], live: list[bool] | None = None, **options: Any) -> Screened:
    columns: dict[str, Any] = {"text": pa.array(texts, pa.string())}
    dataset = Dataset.from_batches([pa.record_batch(columns).slice(0, 3), pa.record_batch(columns).slice(3)])
    return screen(dataset, "text", Corpora(**options), np.array(live or [True] * len(texts)))


def reasons(screened: Screened) -> list[str]:
    return [REASONS[code].removeprefix("document: ") for code in screened.codes]


def test_copies_of_documents_in_play() -> None:
    texts = ["a b", "c", " a b\n", None, "c", "a b", "A b"]
    found = run(texts)
    assert reasons(found) == ["", "", "copy", "", "copy", "copy", ""]
    assert found.counts == {"document: copy": 3}
    assert found.examples["document: copy"][1] == {"row": 4, "same_inputs_as": 1, "values": {"text": "c"}}
    assert reasons(run(texts, [False, True, True, True, False, True, True])) == [
        "",
        "",
        "",
        "",
        "",
        "copy",
        "",
    ]
    assert not run(texts, exact=False).codes.any()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.none() | st.sampled_from(["a", "b ", "b", "", "\0", "狗"]), min_size=4, max_size=12))
def test_copies_are_what_a_set_finds(texts: list[str | None]) -> None:
    seen: set[str] = set()
    expected = []
    for text in texts:
        key = (text or "").strip()
        expected.append("" if text is None else "length" if not text else "copy" if key in seen else "")
        if text:
            seen.add(key)
    assert reasons(run(texts)) == expected


def test_copies_stay_within_splits_and_copies_of_a_mixture() -> None:
    batch = pa.record_batch(
        {"text": ["a", "a", "a", "a"], "split": ["train", "test", "train", "test"], "copy": [0, 0, 1, 0]}
    )
    found = screen(Dataset.from_batches([batch]), "text", Corpora(near=0.8), np.ones(4, bool))
    assert reasons(found) == ["", "", "", "copy"]


def test_near_copies_are_those_of_the_full_comparison() -> None:
    """Every pair compared by plain sets of 5-grams; near copies of far similarity are all found."""
    chance = random.Random(0)
    words = [f"{a}{b}" for a, b in itertools.product(["ka", "lo", "mi", "tu", "re"], ["n", "st", "p", "x"])]
    texts: list[str] = []
    for _ in range(40):
        base = [chance.choice(words) for _ in range(60)]
        texts.append(" ".join(base))
        for changes in (1, 2, 25):
            other = list(base)
            for _ in range(changes):
                other[chance.randrange(60)] = chance.choice(words)
            texts.append(" ".join(other))
    chance.shuffle(texts)
    grams = [{normalise(text)[at : at + 5] for at in range(len(normalise(text)) - 4)} for text in texts]
    kept: list[int] = []
    expected = []
    for at, gram in enumerate(grams):
        near = any(len(gram & grams[one]) / len(gram | grams[one]) >= 0.8 for one in kept)
        expected.append(near)
        kept += [] if near else [at]
    found = run(texts, near=0.8)
    marked = found.codes > 0
    assert sum(expected) > 40
    assert not (marked & ~np.array(expected)).any()
    assert (marked & np.array(expected)).sum() >= 0.97 * sum(expected)
    example = found.examples["document: near copy"][0]
    assert example["measured"] >= 0.8 and example["same_inputs_as"] < example["row"]


RULES = {
    "length": "short",
    "symbols": PROSE + " #a #b #c #d #e #f #g #h ... … {x}",
    "word length": " ".join(re.sub(r"\W", "", PROSE[at : at + 60]) for at in range(0, 190, 12)) + " the of",
    "no words": " ".join(str(1900 + at) for at in range(60)) + " the of and to",
    "bullets": "\n".join(f"- {line}" for line in PROSE.split()),
    "repeated lines": "\n".join([PROSE, "Read more of the story", "Share"] + ["Read more of the story"] * 4),
    "repeated phrases": PROSE + " " + PROSE,
    "language": "Der Ausschuss teilte am Dienstag mit, dass er den Plan sorgfältig prüfen werde, und zwar bald, ohne "
    "von den Leuten Geld zu verlangen, bevor die Arbeiten im Hafen abgeschlossen sind.",
}


def test_each_rule_catches_its_document_and_none_catches_prose() -> None:
    options = {"quality": True, "languages": ["en", "zh"], "characters": (20, 100_000)}
    found = run([*RULES.values(), PROSE, HAN], **options)
    assert reasons(found) == [*RULES, "", ""]
    assert all(len(shown) == 1 and "measured" in shown[0] for shown in found.examples.values())
    assert reasons(run([*RULES.values()])) == [""] * len(RULES)
    assert reasons(run([PROSE, HAN, HAN[:20] + "・ひらがなカタカナです"], languages=["zh"])) == [
        "language",
        "",
        "language",
    ]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=25), st.integers(2, 5))
def test_repeated_phrases_are_counted_word_by_word(words: list[str], size: int) -> None:
    places = range(len(words) - size + 1)
    covered = {
        at + step
        for at in places
        for step in range(size)
        if any(words[at : at + size] == words[other : other + size] for other in places if other != at)
    }
    assert repeated_share(words, size) == (len(covered) / len(words) if words else 0)


def test_languages() -> None:
    assert [language(text) for text in (PROSE, HAN, "これは本です。", "Это книга", "123", "a 狗")] == [
        "en", "zh", "ja", "other", "other", "zh"
    ]  # fmt: skip


def test_what_cannot_be_is_refused() -> None:
    for bad in ({"near": 0.2}, {"languages": ["xx"]}, {"characters": (-1, 5)}, {"phrase": 1}):
        with pytest.raises(RecipeError):
            Corpora(**bad)
