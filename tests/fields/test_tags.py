"""tags against scikit-learn's MultiLabelBinarizer, in lists and in texts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.preprocessing import MultiLabelBinarizer

from modelworks.core.errors import DataError
from modelworks.fields.tags import Tags

ROWS = [["drama", "war"], ["comedy"], [], ["war", "comedy", "drama"], ["sci-fi", "war"]]


@pytest.mark.parametrize("separator", ["|", ";", ",", " , "])
def test_lists_and_texts_are_sklearns(separator: str) -> None:
    expected = MultiLabelBinarizer().fit_transform(ROWS)
    texts = pa.array([separator.join(row) for row in ROWS])
    for column in (pa.array(ROWS), texts, pa.array([str(row).replace("'", '"') for row in ROWS])):
        field = Tags().fit([column])
        assert np.array_equal(field.encode(column).values, expected)
        assert field.decode(expected) == [sorted(row) for row in ROWS]


def test_probabilities_and_threshold() -> None:
    field = Tags(threshold=0.7).fit([pa.array(ROWS)])
    assert field.decode(np.array([[0.1, 0.7, 0.69, 0.9]])) == [["drama", "war"]]


def test_unknown_missing_and_rare() -> None:
    field = Tags(rare=2).fit([pa.array(ROWS)])
    assert field.state["names"] == ["comedy", "drama", "war"]
    found = field.encode(pa.array([["war", "opera"], None, ["opera"]]))
    assert found.values.tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert found.changed["unknown tag"].tolist() == [0, 2]
    assert found.changed["missing → no tags"].tolist() == [1]
    assert Tags(missing="drop").fit([pa.array(ROWS)]).encode(pa.array([None, ["war"]])).bad == {
        0: "missing tags"
    }
    with pytest.raises(DataError, match="no tags"):
        Tags().fit([pa.array(["", None])])
