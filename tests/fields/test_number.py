"""number against scikit-learn's scalers and imputer, and the policies for cells that are no number."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import preprocessing
from sklearn.impute import SimpleImputer

from modelworks.core.errors import DataError
from modelworks.core.profile import Profiler
from modelworks.fields._sample import Moments, Sample, edges
from modelworks.fields.number import Number

RNG = np.random.default_rng(0)
VALUES = np.concatenate([RNG.lognormal(2, 1, 1500), np.full(300, 5.0)])


def encoded(field: Number, values: np.ndarray) -> np.ndarray:
    return field.encode(pa.array(values)).values


@pytest.mark.parametrize(
    ("scale", "reference"),
    [
        ("standard", preprocessing.StandardScaler()),
        ("minmax", preprocessing.MinMaxScaler()),
        ("robust", preprocessing.RobustScaler()),
        ("quantile", preprocessing.QuantileTransformer(n_quantiles=1000, output_distribution="normal")),
    ],
)
def test_scales_are_sklearns(scale: str, reference: preprocessing.StandardScaler) -> None:
    field = Number(scale=scale, outliers="none").fit([pa.array(VALUES[:700]), pa.array(VALUES[700:])])
    new = np.concatenate([VALUES[::7], [0.001, 1e5]])
    expected = reference.fit(VALUES[:, None]).transform(new[:, None])[:, 0]
    assert np.allclose(encoded(field, new)[:, 0], expected, atol=2e-6)
    assert np.allclose(field.decode(encoded(field, VALUES)), VALUES, rtol=1e-4)


def test_log_is_symmetric_and_standard() -> None:
    values = np.concatenate([VALUES, -VALUES, [0.0]])
    field = Number(scale="log").fit([pa.array(values)])
    expected = preprocessing.StandardScaler().fit_transform(
        (np.sign(values) * np.log1p(abs(values)))[:, None]
    )
    assert np.allclose(encoded(field, values), expected, atol=1e-6)
    assert np.allclose(field.decode(encoded(field, values)), values, rtol=1e-5, atol=1e-5)


def test_smooth_is_robust_and_bent() -> None:
    field = Number(scale="smooth").fit([pa.array(VALUES[:700]), pa.array(VALUES[700:])])
    new = np.concatenate([VALUES[::7], [-1e5, 0.001, 1e5]])
    z = preprocessing.RobustScaler().fit(VALUES[:, None]).transform(new[:, None])[:, 0]
    assert np.allclose(encoded(field, new)[:, 0], z / np.sqrt(1 + (z / 3) ** 2), atol=2e-6)
    assert np.allclose(field.decode(encoded(field, VALUES)), VALUES, rtol=1e-3)
    far = encoded(field, np.array([-9e99, 9e99]))[:, 0]
    assert far.tolist() == [-3.0, 3.0]
    assert np.isfinite(field.decode(far)).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            [0.0] * 9 + [4.0],
            [0.0] * 9 + [2 / np.sqrt(1 + (2 / 3) ** 2)],
        ),  # no quartiles apart: half the range
        ([7.0] * 10, [0.0] * 10),  # nothing apart: 1
    ],
)
def test_smooth_columns_that_hardly_vary(values: list[float], expected: list[float]) -> None:
    field = Number(scale="smooth").fit([pa.array(values)])
    assert encoded(field, np.array(values))[:, 0] == pytest.approx(expected, abs=1e-6)
    assert field.decode(encoded(field, np.array(values))) == pytest.approx(values, abs=1e-5)


@pytest.mark.parametrize(
    ("policy", "strategy"), [("mean", "mean"), ("median", "median"), ("mode", "most_frequent")]
)
def test_missing_values_are_sklearns(policy: str, strategy: str) -> None:
    values = VALUES.copy()
    values[::9] = np.nan
    field = Number(scale="none", missing=policy).fit([pa.array(values)])
    expected = SimpleImputer(strategy=strategy).fit_transform(values[:, None])
    found = field.encode(pa.array(values))
    assert np.allclose(found.values[:, :1], expected, rtol=1e-6)
    assert np.array_equal(found.values[:, 1], np.isnan(values))
    assert found.changed[f"missing → {policy}"].tolist() == np.flatnonzero(np.isnan(values)).tolist()


def test_other_policies_for_missing() -> None:
    column = pa.array(["1", "NA", "3", "xx"])
    assert Number(missing="constant", constant=7, scale="none").fit([column]).encode(column).values[1, 0] == 7
    assert Number(missing="drop").fit([column]).encode(column).bad == {
        1: "missing value",
        3: "wants a number, got 'xx'",
    }
    with pytest.raises(DataError, match="1 missing"):
        Number(missing="error").fit([column]).encode(column)
    taken = (
        Number(bad="missing", missing_texts=["three"]).fit([column]).encode(pa.array(["xx", "Three", "3"]))
    )
    assert taken.bad == {}
    assert taken.changed["missing → median"].tolist() == [0, 1]
    assert taken.changed["not a number → missing"].tolist() == [0]
    assert Number(usual_missing=False).fit([column]).encode(column).bad.keys() == {1, 3}
    assert Number().fit([pa.array([1, 2, 3])]).layout.shape == (1,)
    assert Number(indicator=False).fit([column]).layout.shape == (1,)


@pytest.mark.parametrize(
    ("by", "limit", "low", "high"),
    [
        ("quantile", 0.05, np.quantile(VALUES, 0.05), np.quantile(VALUES, 0.95)),
        ("sigma", 2.0, VALUES.mean() - 2 * VALUES.std(), VALUES.mean() + 2 * VALUES.std()),
        (
            "iqr",
            1.5,
            np.quantile(VALUES, 0.25) - 1.5 * np.subtract(*np.quantile(VALUES, [0.75, 0.25])),
            np.quantile(VALUES, 0.75) + 1.5 * np.subtract(*np.quantile(VALUES, [0.75, 0.25])),
        ),
    ],
)
def test_outliers(by: str, limit: float, low: float, high: float) -> None:
    column = pa.array(VALUES)
    clipped = Number(outliers="clip", by=by, limit=limit, scale="minmax").fit([column])
    kept = np.clip(VALUES, low, high)
    found = clipped.encode(column)
    assert np.allclose(found.values[:, 0], (kept - kept.min()) / (kept.max() - kept.min()), atol=1e-6)
    outside = np.flatnonzero(kept != VALUES)
    assert found.changed["outlier → clipped"].tolist() == outside.tolist()
    dropped = Number(outliers="drop", by=by, limit=limit).fit([column]).encode(column)
    assert sorted(dropped.bad) == outside.tolist()
    usable = np.delete(dropped.values[:, 0], outside)
    assert abs(usable.mean()) < 1e-5
    assert abs(usable.std() - 1) < 1e-5


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (np.round(RNG.lognormal(12, 0.5, 900)), "log"),  # prices
        (np.sort(RNG.exponential(30, 900)) + 1, "log"),  # durations
        (RNG.lognormal(12, 0.5, 900) - 100_000, "standard"),  # some below zero
        (RNG.poisson(2, 900), "standard"),  # zeros
        (RNG.uniform(1, 100, 900), "standard"),  # wide, but no tail
        (101 - RNG.lognormal(2, 0.5, 900).clip(0, 100), "standard"),  # a tail downwards
        (RNG.lognormal(0, 0.1, 900) + 9, "standard"),  # a tail, but not wide
    ],
)
def test_targets_that_are_sizes_are_learned_on_a_log_scale(values: np.ndarray, scale: str) -> None:
    profiler = Profiler("y")
    profiler.update(pa.array(values))
    target = Number(**Number.propose(profiler.result(), target=True))
    assert target.scale == scale
    assert Number(**Number.propose(profiler.result())).scale == "smooth"


def test_cells_as_people_write_them() -> None:
    field = Number(scale="none").fit([pa.array([1.0])])
    column = pa.array(["1,024", "12%", " 3 ", "+4", ".5", "1e3", "1_0", "0x1", "inf", "1e101"])
    found = field.encode(column)
    assert found.values[:6, 0].tolist() == pytest.approx([1024, 0.12, 3, 4, 0.5, 1000])
    assert sorted(found.bad) == [6, 7, 8, 9]


def test_constant_and_empty_columns() -> None:
    field = Number().fit([pa.array([0.1] * 50)])
    assert np.abs(encoded(field, np.array([0.1, 0.1]))).max() < 1e-9
    assert field.layout.bins == [[]]
    with pytest.raises(DataError, match="no numbers"):
        Number().fit([pa.array(["x", None])])


@pytest.mark.parametrize("scale", ["standard", "smooth"])
def test_bins_are_quantiles_of_what_the_model_sees(scale: str) -> None:
    values = VALUES[:1500]
    field = Number(bins=4, scale=scale).fit([pa.array(values)])
    seen = encoded(field, values)[:, 0]
    expected = np.quantile(seen, [0, 0.25, 0.5, 0.75, 1], method="nearest")
    assert field.layout.bins[0] == pytest.approx(expected, abs=1e-6)


def test_bins_that_ties_free_go_to_the_other_values() -> None:
    tail = np.arange(1.0, 101.0)
    column = pa.array(np.concatenate([np.zeros(900), tail]))
    found = np.array(Number(bins=10, scale="none").fit([column]).layout.bins[0])
    assert len(found) == 11
    assert found[0] == 0
    assert np.abs(np.diff(found[1:]) - 10).max() <= 1  # even in the tail
    few = Number(bins=64, scale="none").fit([pa.array([3.0, 1.0, 1.0, 2.0] * 40)])
    assert few.layout.bins == [[1.0, 2.0, 3.0]]
    one = Number(bins=1, scale="none").fit([column])
    assert one.layout.bins == [[0.0, 100.0]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=60), st.integers(1, 12))
def test_as_many_bins_as_asked_for_or_as_values_allow(values: list[int], bins: int) -> None:
    found = edges(np.array(values, np.float64), bins)
    distinct = sorted(set(values))
    assert len(found) == (min(bins + 1, len(distinct)) if len(distinct) > 1 else 0)
    assert set(found) <= set(distinct)
    assert found == sorted(set(found))
    if found:
        assert (found[0], found[-1]) == (distinct[0], distinct[-1])


def test_large_columns_are_sampled_evenly_and_alike_in_any_chunks() -> None:
    values = np.arange(50_000.0)
    one, many = Sample(2_000), Sample(2_000)
    one.add(values)
    for part in np.array_split(values, 77):
        many.add(part)
    assert np.array_equal(one.values, many.values)
    assert len(one.values) == 2_000
    # Kolmogorov–Smirnov at p = 0.001: 1.95 / √n.
    assert np.abs(np.searchsorted(one.values, values) / 2_000 - values / 50_000).max() < 1.95 / np.sqrt(2_000)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=20), min_size=1, max_size=6))
def test_moments_of_chunks_are_moments_of_all(parts: list[list[float]]) -> None:
    moments, everything = Moments(), np.concatenate([np.array(part, np.float64) for part in parts])
    for part in parts:
        moments.add(np.array(part, np.float64))
    if len(everything):
        size = max(1.0, np.abs(everything).max())
        assert moments.mean == pytest.approx(everything.mean(), abs=1e-9 * size)
        assert moments.std == pytest.approx(everything.std(), abs=1e-6 * size)
