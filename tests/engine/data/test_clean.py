"""Cleaning against a plain-Python account of the same rows; nothing is lost without being counted."""

import json
import math
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.dataset import Dataset
from modelworks.core.errors import DataError, UserError
from modelworks.engine.data import repeats
from modelworks.engine.data.clean import REASONS, Clean, clean
from modelworks.engine.data.split import Split, split


def dataset(chunk=5, **columns):
    return Dataset.from_batches(pa.table(columns).to_batches(max_chunksize=chunk))


def reference(rows, policy):
    """Why each (inputs, target) is dropped, by dictionaries."""
    targets = defaultdict(set)
    for x, y in rows:
        if y is not None:
            targets[x].add(y)
    seen, reasons = set(), []
    for x, y in rows:
        if y is None:
            reasons.append("missing target")
        elif policy == "drop_conflicting" and len(targets[x]) > 1:
            reasons.append("conflicting")
        elif policy != "keep" and (x, y) in seen:
            reasons.append("duplicate")
        else:
            reasons.append("")
        seen.add((x, y))
    return reasons


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.one_of(st.none(), st.sampled_from("ab"))), min_size=1, max_size=40
    ),
    st.sampled_from(["keep", "drop", "drop_conflicting"]),
    st.sampled_from([2, 1 << 18]),
)
def test_account_is_pythons(rows, policy, part):
    before, repeats._PART = repeats._PART, part
    try:
        x, y = zip(*rows, strict=True)
        expected = reference(rows, policy)
        data = dataset(x=x, y=pa.array(y, pa.string()))
        if all(expected):
            with pytest.raises(DataError, match="leaves none"):
                clean(data, Clean(duplicates=policy), "y", ["x"])
            return
        cleaned, report = clean(data, Clean(duplicates=policy), "y", ["x"])
    finally:
        repeats._PART = before
    assert [REASONS[code] for code in report.codes] == expected
    assert report.counts == {
        reason: expected.count(reason) for reason in REASONS if reason and reason in expected
    }
    assert report.rows_out == cleaned.count("train") == expected.count("")
    assert cleaned.count("drop") == len(rows) - report.rows_out
    assert report.rows_in == len(rows) == cleaned.rows
    kept = [(a, b) for a, b in rows if b is not None]
    assert report.found.get("duplicate", 0) == len(kept) - len(set(kept))
    json.dumps(report.to_dict(), allow_nan=False)


def test_examples_name_the_first_row():
    data = dataset(x=["p", "q", "p", "p"], y=["a", "a", "a", "b"])
    _, report = clean(data, Clean(), "y", ["x"])
    assert report.counts == {}
    assert report.found == {"duplicate": 1, "conflicting": 3}
    assert report.examples["duplicate"] == [{"row": 2, "same_inputs_as": 0, "values": {"x": "p", "y": "a"}}]
    assert {example["row"] for example in report.examples["conflicting"]} == {0, 2, 3}


def test_examples_are_bounded():
    _, report = clean(
        dataset(500, x=[1] * 1000, y=[None] * 500 + ["a"] * 500), Clean(duplicates="drop"), "y", ["x"]
    )
    assert report.counts == {"missing target": 500, "duplicate": 499}
    assert {name: len(shown) for name, shown in report.examples.items()} == {
        "missing target": 20,
        "duplicate": 20,
    }
    assert report.rows("missing target").tolist() == list(range(500))


@pytest.mark.parametrize("y,lost", [
    (pa.array(["a", "", " NA ", "?", None, "b"]), [1, 2, 3, 4]),
    (pa.array([1.0, math.nan, None, 2.0]), [1, 2]),
    (pa.array([1, None, 2]), [1]),
    (pa.array(["a", None, "nan"]).dictionary_encode(), [1, 2]),
    (pa.array([["u"], None, []]), [1]),
])  # fmt: skip
def test_what_counts_as_missing(y, lost):
    _, report = clean(dataset(x=range(len(y)), y=y), Clean(), "y", ["x"])
    assert report.rows("missing target").tolist() == lost


def test_own_words_for_missing():
    """A class that is called "none" can be kept."""
    data = dataset(x=range(4), y=["none", "mild", "none", "Unknown "])
    assert clean(data, Clean(), "y", ["x"])[1].counts == {"missing target": 2}
    assert clean(data, Clean(missing=["unknown"]), "y", ["x"])[1].rows("missing target").tolist() == [3]


def test_missing_targets_can_be_an_error():
    with pytest.raises(DataError, match=r"2 rows have no 'y' \(rows 1, 3\)"):
        clean(dataset(x=range(4), y=["a", None, "b", ""]), Clean(missing_target="error"), "y", ["x"])


def test_given_splits_are_compared_within():
    data = dataset(x=[1, 1, 1, 2], y=["a"] * 4, split=["train", "test", "train", "test"])
    _, report = clean(data, Clean(duplicates="drop"), "y", ["x"])
    assert report.rows("duplicate").tolist() == [2]


def test_without_a_target_inputs_alone_decide():
    _, report = clean(dataset(x=[1, 1, 2]), Clean(duplicates="drop"), None, ["x"])
    assert report.rows("duplicate").tolist() == [1]


def test_cleaned_rows_are_not_split():
    data = dataset(x=list(range(50)) * 2, y=["a", "b"] * 50)
    cleaned, report = clean(data, Clean(duplicates="drop"), "y", ["x"])
    done, notes = split(cleaned, Split(), "y", ["x"], 0)
    assert notes["rows"] == {"train": 40, "valid": 5, "test": 5, "drop": 50}
    assert (np.flatnonzero(done.splits == 3) == report.rows("duplicate")).all()
    assert notes["duplicate_rows"] == 0
    again, _ = clean(done, Clean(), "y", ["x"])
    assert (again.splits == done.splits).all()


def test_documents_are_screened_by_rule_and_counted():
    sentence = "A proper sentence about the weather and the sea."
    data = dataset(text=[sentence, "short", "", sentence, "Another sentence of the usual kind here."])
    cleaned, report = clean(data, Clean(documents={"characters": [20, 1000]}), None, ["text"])
    assert cleaned.count("drop") == 3
    assert report.rows_out == 2
    assert report.counts["document: copy"] == 1
    assert sum(report.counts.values()) == 3
    with pytest.raises(UserError, match="one column of text"):
        clean(data, Clean(documents={}), None, ["text", "other"])
