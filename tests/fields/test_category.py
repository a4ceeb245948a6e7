"""category: codes, what is rare, unknown or missing, and answers in their own type."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import OrdinalEncoder

from modelworks.core.errors import DataError
from modelworks.fields._counts import Counts
from modelworks.fields.category import Category

COLUMN = pa.array(["b", "a", None, "10", "2", "a", "b", "once"])


def test_codes_are_sklearns_with_zero_for_the_unknown() -> None:
    texts = ["tea", "milk", "juice", "tea", "water"]
    field = Category().fit([pa.array(texts)])
    expected = OrdinalEncoder().fit_transform(np.array(texts)[:, None])[:, 0] + 1
    assert field.encode(pa.array(texts)).values.tolist() == expected.tolist()
    new = field.encode(pa.array(["wine", None, "tea"]))
    assert new.values.tolist() == [0, 0, 3]
    assert new.changed["unknown category"].tolist() == [0]
    assert new.changed["missing"].tolist() == [1]


def test_missing_is_a_category_of_its_own_where_training_has_it() -> None:
    field = Category().fit([COLUMN])
    assert field.state["categories"] == ["2", "10", "a", "b", "once"]
    assert field.layout.size == 7
    assert field.encode(pa.array([None, "NA", "?", "zz"])).values.tolist() == [6, 6, 6, 0]
    assert field.decode(np.array([0, 1, 6])) == [None, "2", None]
    kept = Category(usual_missing=False).fit([pa.array(["none", "mild"])])
    assert kept.state["categories"] == ["mild", "none"]


def test_numbers_inside_names_are_ordered_as_numbers() -> None:
    names = ["class 10", "class 2", "class", "b", "class 2a"]
    assert Category().fit([pa.array(names)]).state["categories"] == [
        "b",
        "class",
        "class 2",
        "class 2a",
        "class 10",
    ]


def test_rare_and_most() -> None:
    assert Category(rare=2).fit([COLUMN]).state["categories"] == ["a", "b"]
    assert Category(most=1).fit([COLUMN]).state["categories"] == ["a"]
    assert Category(order="frequent", usual_missing=True).fit([pa.array(["x", "y", "y"])]).state[
        "categories"
    ] == ["y", "x"]


@pytest.mark.parametrize(
    ("values", "answers"),
    [
        ([3, 1, 10], [1, 3, 10]),
        ([True, False], [False, True]),
        ([2.0, 0.5], [0.5, 2.0]),
        (["10", "9", "8.5"], ["8.5", "9", "10"]),
    ],
)
def test_labels_keep_their_type(values: list, answers: list) -> None:
    field = Category(unknown="quarantine").fit([pa.array(values)])
    assert field.layout.size == len(values)  # no code is kept for the unknown
    found = field.decode(np.arange(len(values)))
    assert found == answers
    assert [type(answer) for answer in found] == [type(value) for value in values]
    assert field.decode(field.encode(pa.array(values)).values) == values


def test_labels_that_are_unknown_or_missing_are_quarantined() -> None:
    field = Category(unknown="quarantine").fit([pa.array(["yes", "no", None])])
    found = field.encode(pa.array(["no", "maybe", None, ""]))
    assert found.bad == {1: "unknown label 'maybe'", 2: "missing label", 3: "missing label"}
    assert found.changed == {}
    with pytest.raises(DataError, match="no categories"):
        Category(unknown="quarantine").fit([pa.nulls(3, pa.string())])


@pytest.mark.parametrize(
    "request_column", [pa.array([1, 3]), pa.array([1.0, 3.0]), pa.array(["1", " 3"]), pa.array(["1.0", "3"])]
)
def test_a_request_may_write_numbers_otherwise(request_column: pa.Array) -> None:
    field = Category().fit([pa.array([1, 2, 3])])
    assert field.decode(field.encode(request_column).values) == [1, 3]


def test_truths_from_text() -> None:
    field = Category(unknown="quarantine").fit([pa.array([True, False])])
    assert field.decode(field.encode(pa.array(["true", "False", "TRUE"])).values) == [True, False, True]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=4), min_size=1, max_size=30))
def test_known_values_come_back(texts: list[str]) -> None:
    field = Category(usual_missing=False).fit([pa.array(["x", *texts])])
    expected = [text if text.strip() else None for text in texts]
    assert field.decode(field.encode(pa.array(texts)).values) == expected


def test_counting_is_bounded_and_keeps_the_frequent() -> None:
    counts = Counts(capacity=100)
    for start in range(0, 5_000, 50):
        counts.add({f"rare{at}": 1 for at in range(start, start + 50)} | {"common": 40, "usual": 20})
    assert len(counts.counter) <= 100
    assert counts.frequent(1, 2) == ["common", "usual"]
