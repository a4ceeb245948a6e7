"""Drift: nothing where what is asked is like training, much where it is not; the index against its definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from modelworks.core.run import RunFolder
from modelworks.fields.category import Category
from modelworks.fields.number import Number
from modelworks.serving.drift import Drift

some = np.random.default_rng(3)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A Run of which only the audit is there: 10,000 normal numbers in twenty bins."""
    counts, edges = np.histogram(some.normal(50, 10, 10_000), 20)
    column = {"name": "age", "histogram": {"edges": edges.tolist(), "counts": counts.tolist()}}
    found = RunFolder(tmp_path)
    found.write_json("data.json", {"columns": [column, {"name": "colour"}]})
    return found


def asked(run: RunFolder, numbers: np.ndarray, colours: list[str | None]) -> dict:
    age = Number().fit([pa.array(some.normal(50, 10, 2000))])
    colour = Category().fit([pa.array(["red"] * 60 + ["blue"] * 30 + ["green"] * 10)])
    drift = Drift(run, {"age": age, "colour": colour})
    for name, field, column in (
        ("age", age, pa.array(numbers)),
        ("colour", colour, pa.array(colours, pa.string())),
    ):
        for start in range(0, len(column), 100):
            part = column.slice(start, 100)
            drift.add(name, part, field.encode(part))
    return {key: {labels["field"]: value for labels, value in rows} for key, rows in drift.gauges().items()}


def test_like_training_is_no_drift(run: RunFolder) -> None:
    found = asked(run, some.normal(50, 10, 1000), ["red"] * 600 + ["blue"] * 300 + ["green"] * 100)
    assert found["drift_psi"]["age"] < 0.05
    assert found["drift_psi"]["colour"] == pytest.approx(0, abs=1e-9)
    assert found["drift_unknown_share"] == {"colour": 0}


def test_a_shift_is_seen_and_the_index_is_its_definition(run: RunFolder) -> None:
    found = asked(run, some.normal(70, 10, 1000), ["red"] * 100 + ["blue"] * 300 + ["green"] * 600)
    assert found["drift_psi"]["age"] > 1
    trained, now = np.array([0.6, 0.3, 0.1]), np.array([0.1, 0.3, 0.6])
    assert found["drift_psi"]["colour"] == pytest.approx(((now - trained) * np.log(now / trained)).sum())


def test_unknown_and_missing_values_are_shares(run: RunFolder) -> None:
    numbers = np.where(np.arange(1000) % 4 == 0, np.nan, 50.0)
    found = asked(run, numbers, ["red", None, "mauve", "blue"] * 250)
    assert found["drift_missing_share"] == {"age": 0.25, "colour": 0.25}
    assert found["drift_unknown_share"] == {"colour": 0.25}
