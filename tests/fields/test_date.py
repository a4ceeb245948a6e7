"""date: the forms it reads, against Python and pandas, and the features it gives."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import DataError
from modelworks.fields.date import Date, parse

UTC = datetime.UTC


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-01 15:20", "2024/05/01 15:20:00", "2024.5.1 15:20", "2024-05-01T15:20:00Z", "2024-05-01T23:20:00+08:00",
        "2024年5月1日 15时20分", "2024年5月1日下午3点20分", "1 May 2024 15:20", "May 1st, 2024 3:20 PM", "Wed, 1 May 2024 15:20:00",
        "05/01/2024 3:20 pm", "01.05.2024 15:20", "01-05-2024 15:20",
    ],
)  # fmt: skip
def test_common_forms(text: str) -> None:
    assert parse(text) == datetime.datetime(2024, 5, 1, 15, 20, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text", ["", "soon", "2024-13-01", "31/31/2024", "12345678901", "2024-02-30", "20241301", "5"]
)
def test_what_is_no_date(text: str) -> None:
    assert parse(text) is None


def test_day_or_month_first_is_learned() -> None:
    european = Date().fit([pa.array(["01/05/2024", "13/05/2024"])])
    american = Date().fit([pa.array(["01/05/2024", "05/13/2024"])])
    assert european.decode(european.encode(pa.array(["02/03/2024"])).values) == ["2024-03-02"]
    assert american.decode(american.encode(pa.array(["02/03/2024"])).values) == ["2024-02-03"]
    assert list(american.encode(pa.array(["13/05/2024"])).bad) == [0]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)), min_size=2, max_size=8
    )
)
def test_features_are_those_of_the_calendar(moments: list[datetime.datetime]) -> None:
    moments = [moment.replace(microsecond=0) for moment in moments]
    field = Date().fit([pa.array(moments, pa.timestamp("s"))])
    found = field.encode(pa.array(moments, pa.timestamp("s"))).values
    for moment, row in zip(moments, found, strict=True):
        turns = [(moment.month - 1) / 12, moment.weekday() / 7, (moment.day - 1) / 31]
        if field.state["clock"]:
            turns.append((moment - moment.replace(hour=0, minute=0, second=0)).total_seconds() / 86400)
        expected = [wave(2 * np.pi * turn) for turn in turns for wave in (np.sin, np.cos)]
        assert row[1:] == pytest.approx(expected, abs=1e-5)
    as_text = field.encode(pa.array([moment.isoformat() for moment in moments]))
    assert np.array_equal(as_text.values, found)
    if np.ptp([moment.year for moment in moments]) > 1:
        assert found[:, 0].mean() == pytest.approx(0, abs=1e-4)
        assert found[:, 0].std() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_arrow_times_of_any_unit(unit: str) -> None:
    stamps = pd.date_range("2020-02-28", periods=40, freq="7h")
    texts = Date().fit([pa.array(stamps.strftime("%Y-%m-%d %H:%M:%S").tolist())])
    column = pa.array(stamps).cast(pa.timestamp(unit))
    assert np.allclose(texts.encode(column).values, Date().fit([column]).encode(column).values, atol=1e-6)
    assert texts.decode(texts.encode(column).values[:1]) == ["2020-02-28T00:00:00"]


def test_missing_policies() -> None:
    column = pa.array(["2024-05-01", "", None, "xx", "2024-06-01"])
    field = Date().fit([column])
    found = field.encode(column)
    assert field.layout.shape == (8,)
    assert found.values[1].tolist() == [0] * 7 + [1]
    assert found.bad.keys() == {3}
    assert found.changed["missing → mean"].tolist() == [1, 2]
    assert Date(missing="drop").fit([column]).encode(column).bad.keys() == {1, 2, 3}
    assert Date(bad="missing").fit([column]).encode(column).changed["missing → mean"].tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="2 missing"):
        Date(missing="error").fit([column]).encode(column)
    with pytest.raises(DataError, match="no dates"):
        Date().fit([pa.array(["x"])])
