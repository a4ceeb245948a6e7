"""Entities and their scores, against seqeval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.metrics.entities import PLACES, EntityMeter, chunks, encode, parse

seqeval = pytest.importorskip("seqeval.metrics")
labeling = pytest.importorskip("seqeval.metrics.sequence_labeling")

TYPES = ["LOC", "ORG", "PER"]
TAGS = ["O", *(f"{place}-{name}" for name in TYPES for place in PLACES)]
ROWS = st.lists(st.lists(st.sampled_from(TAGS), min_size=1, max_size=8), min_size=1, max_size=6)


def codes(rows: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    padded = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = [1 + TAGS.index(tag) for tag in row]
    return padded, np.array([len(row) for row in rows])


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_entities_are_seqevals(rows) -> None:
    flat = np.concatenate([[1 + TAGS.index(tag) for tag in row] for row in rows])
    first = np.concatenate([np.arange(len(row)) == 0 for row in rows])
    wanted, offset = [], 0
    for row in rows:
        wanted += [(begin + offset, end + offset, name) for name, begin, end in labeling.get_entities(row)]
        offset += len(row)
    found = [(begin, end, TYPES[kind]) for begin, end, kind in chunks(flat, first).tolist()]
    assert found == sorted(wanted)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_scores_are_seqevals(rows, random) -> None:
    guess = [[tag if random.random() < 0.7 else random.choice(TAGS) for tag in row] for row in rows]
    truth, length = codes(rows)
    meter = EntityMeter("y", TYPES, bootstrap=4)
    half = len(rows) // 2  # batches do not matter
    for part in (slice(0, half), slice(half, None)):
        if len(length[part]):
            batch = {"y": truth[part], "y.length": length[part], "row": np.arange(len(rows))[part]}
            meter.update({"prediction": codes(guess)[0][part]}, batch)
    found = {name: entry["value"] for name, entry in meter.result().items()}
    assert found["token_accuracy"] == pytest.approx(seqeval.accuracy_score(rows, guess))
    if any(tag != "O" for row in rows + guess for tag in row):
        for name in ("precision", "recall", "f1"):
            score = getattr(seqeval, f"{name}_score")
            assert found[name] == pytest.approx(score(rows, guess, zero_division=0))
        assert found["f1_macro"] == pytest.approx(
            seqeval.f1_score(rows, guess, average="macro", zero_division=0)
        )
        report = seqeval.classification_report(rows, guess, output_dict=True, zero_division=0)
        for name in TYPES:
            assert found[f"f1_{name}"] == pytest.approx(report.get(name, {"f1-score": 0.0})["f1-score"])


def test_scores_by_hand() -> None:
    """Three true entities, three found: one right, one of the wrong type, one a word short."""
    truth = np.array([[2, 3, 1, 6, 10, 11]])  # LOC 0–1, ORG 3, PER 4–5
    guess = np.array([[2, 3, 1, 10, 10, 1]])
    meter = EntityMeter("y", TYPES, bootstrap=0)
    meter.update({"prediction": guess}, {"y": truth, "y.length": np.array([6]), "row": np.array([0])})
    found = {name: entry["value"] for name, entry in meter.result().items()}
    assert found["f1"] == found["precision"] == found["recall"] == pytest.approx(1 / 3)
    assert (found["f1_LOC"], found["f1_ORG"], found["f1_PER"]) == (1, 0, 0)
    assert found["token_accuracy"] == pytest.approx(4 / 6)


def test_a_row_that_was_cut_misses_its_entities() -> None:
    meter = EntityMeter("y", TYPES, bootstrap=0)
    truth = {"y": np.array([[1, 2, 1, 2]]), "y.length": np.array([4]), "row": np.array([0])}
    meter.update({"prediction": np.array([[1, 2]]), "words": np.array([2])}, truth)
    assert meter.result()["recall"]["value"] == 0.5


@pytest.mark.parametrize("scheme", ["bio", "bioes"])
def test_what_is_written_is_read(scheme) -> None:
    row = np.ones(9, np.int64)
    wanted = [[0, 0, 2], [1, 3, 2], [4, 4, 1], [6, 8, 0]]
    for begin, end, kind in wanted:
        encode(begin, end, kind, row, scheme)
    assert chunks(row, np.arange(9) == 0).tolist() == wanted
    assert (scheme == "bioes") == bool(np.isin((row[row > 1] - 2) % 4, (2, 3)).any())


def test_tags_of_other_schemes() -> None:
    assert [parse(tag) for tag in ("M-X", "L-X", "U-X", "B_X", "O")] == [
        ("I", "X"),
        ("E", "X"),
        ("S", "X"),
        ("B", "X"),
        ("", ""),
    ]
    assert parse("NOUN") is None
