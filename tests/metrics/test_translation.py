"""BLEU against sacrebleu's corpus score, in one batch or several."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.metrics.translation import TranslationMeter, bleu

sacrebleu = pytest.importorskip("sacrebleu")
WORDS = ["a", "dog", "runs", "in", "the", "park", ".", "big"]
TEXT = st.lists(st.sampled_from(WORDS), min_size=0, max_size=9).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT.filter(bool)), min_size=1, max_size=6))
def test_bleu_is_sacrebleus(pairs) -> None:
    texts = dict(enumerate(dict.fromkeys(sum(pairs, ())), 1))
    ids = {text: number for number, text in texts.items()}
    meter = TranslationMeter("y", lambda rows: [texts[int(row[0])] for row in rows], bootstrap=0)
    for number, (written, wanted) in enumerate(pairs):
        answer = {"nll": np.ones((1, 1)), "right": np.ones((1, 1)), "next": np.array([[ids[wanted]]])}
        meter.update(answer | {"written": np.array([[ids[written]]])}, {"row": np.array([number])})
    wanted = sacrebleu.corpus_bleu([a for a, _ in pairs], [[b for _, b in pairs]], force=True).score
    assert meter.result()["bleu"]["value"] == pytest.approx(wanted, abs=1e-6)


def test_perplexity_by_hand() -> None:
    meter = TranslationMeter("y", list, bootstrap=0)
    answer = {
        "nll": np.array([[1.0, 3.0], [2.0, 9.0]]),
        "right": np.array([[1, 0], [0, 1]]),
        "next": np.array([[4, 5], [6, -1]]),
    }
    meter.update(answer, {"row": np.arange(2)})
    found = meter.result()
    assert found["perplexity"]["value"] == pytest.approx(math.exp(2))
    assert found["token_accuracy"]["value"] == pytest.approx(1 / 3)
    assert "bleu" not in found


def test_bleu_of_replicates_at_once() -> None:
    sums = np.array([[4, 3, 2, 1, 4, 3, 2, 1, 4, 4], [2, 1, 0, 0, 4, 3, 2, 1, 4, 8]], float)
    found = bleu(sums)
    assert found.shape == (2,)
    assert found[0] == pytest.approx(100)
    assert found[1] == pytest.approx(100 * math.exp(-1) * (2 / 4 * 1 / 3 * 0.5 / 2 * 0.25 / 1) ** 0.25)
