"""Profiles: the fast way over plain numbers says what looking at each value says."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core import profile as module
from modelworks.core.profile import MISSING, Profiler, as_number


def profiled(chunks: list[pa.Array], monkeypatch: pytest.MonkeyPatch, fast: bool) -> dict:
    with monkeypatch.context() as patch:
        patch.setattr(module, "_FEW", 0 if fast else 10**9)
        profiler = Profiler("x")
        for chunk in chunks:
            profiler.update(chunk)
        found = asdict(profiler.result())
    found.pop("examples")
    return found


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_fast_and_slow_agree(written: bool, ordered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values = np.round(rng.normal(size=3000) * 100, 3)
    values = np.sort(values) if ordered else values
    cells = [
        None if i % 13 == 0 else (f" {v} " if i % 7 == 0 else str(v)) if written else float(v)
        for i, v in enumerate(values)
    ]
    chunks = [pa.array(cells[i : i + 700]) for i in range(0, 3000, 700)]
    fast, slow = (profiled(chunks, monkeypatch, way) for way in (True, False))
    skipped = {"mean_length", "max_length", "cjk", "top", "distinct", "many"}
    for key in set(fast) - skipped:
        same = (
            math.isclose(fast[key], slow[key], rel_tol=1e-9)
            if isinstance(fast[key], float)
            else fast[key] == slow[key]
        )
        assert same, (key, fast[key], slow[key])
    assert fast["increasing"] == ordered


@given(st.one_of(st.floats(allow_nan=True), st.integers(), st.text(max_size=12)))
@settings(max_examples=300, deadline=None)
def test_a_number_is_finite_or_none(value: object) -> None:
    number = as_number(value)
    assert number is None or math.isfinite(number)


@pytest.mark.parametrize(
    "text, number",
    [
        ("1,024", 1024),
        ("12%", 0.12),
        (" 3 ", 3),
        ("-.5", -0.5),
        ("1e3", 1000),
        ("1e999", None),
        ("", None),
        ("1-2", None),
        ("１２", 12),
    ],
)
def test_numbers_as_people_write_them(text: str, number: float | None) -> None:
    assert as_number(text) == (None if number is None else pytest.approx(number))


def test_missing_words_are_not_values() -> None:
    profiler = Profiler("x")
    profiler.update(pa.array([*sorted(MISSING), "5", None]))
    found = profiler.result()
    assert found.missing == len(MISSING) + 1
    assert found.numeric == 1
