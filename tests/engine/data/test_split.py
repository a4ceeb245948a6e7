"""Splits: nothing straddles, shares are met, places are stable, small and odd data end well or clearly."""

from collections import Counter
from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit

from modelworks.core.dataset import SPLITS, Dataset
from modelworks.core.errors import DataError, RecipeError, UserError
from modelworks.engine.data import split as module
from modelworks.engine.data.split import Split, split
from modelworks.engine.data.strata import apportion


def dataset(chunk=7, **columns):
    table = pa.table(columns)
    return Dataset.from_batches(table.to_batches(max_chunksize=chunk))


def places(data):
    return np.array([SPLITS[code] for code in data.splits])


def run(data, inputs=("x",), target=None, seed=0, categorical=None, **kwargs):
    done, notes = split(data, Split(**kwargs), target, list(inputs), seed, categorical)
    return places(done), notes


tables = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from("abc"), st.integers(0, 8)), min_size=30, max_size=150
)


@settings(max_examples=60, deadline=None)
@given(tables, st.sampled_from(["random", "stratified"]), st.booleans(), st.integers(0, 2**32 - 1))
def test_equal_inputs_never_straddle(rows, by, stable, seed):
    x, y, _ = zip(*rows, strict=True)
    data = dataset(x=x, y=y)
    try:
        where, notes = run(data, target="y", by=by, stable=stable, seed=seed)
    except DataError:
        # Few distinct rows: nothing fair can be cut from them, or by thresholds chance gave a split none.
        assert stable or len(set(x)) < 30
        return
    for value in set(x):
        assert len({w for w, v in zip(where, x, strict=True) if v == value}) == 1
    assert notes["straddling"] == {}
    assert notes["duplicate_rows"] == len(x) - len(set(x))
    assert set(where) == {"train", "valid", "test"}
    assert set(y) == {label for w, label in zip(where, y, strict=True) if w == "train"}
    again, _ = run(data, target="y", by=by, stable=stable, seed=seed)
    assert (again == where).all()


@settings(max_examples=60, deadline=None)
@given(tables, st.booleans(), st.integers(0, 99))
def test_groups_never_straddle(rows, stable, seed):
    x, _, g = zip(*rows, strict=True)
    try:
        where, _ = run(
            dataset(x=x, g=g), by="group", column="g", valid=0.2, test=0.2, stable=stable, seed=seed
        )
    except DataError:
        assert stable or len(set(g)) < 3
        return
    for value in set(g):
        assert len({w for w, v in zip(where, g, strict=True) if v == value}) == 1
    assert set(where) == {"train", "valid", "test"}


@settings(max_examples=60, deadline=None)
@given(st.integers(30, 300), st.floats(0.05, 0.4), st.floats(0.05, 0.4), st.integers(0, 99))
def test_shares_of_distinct_rows_are_exact(n, valid, test, seed):
    where, _ = run(dataset(x=range(n)), by="random", valid=valid, test=test, seed=seed)
    counts = Counter(where)
    assert counts["test"] == max(round(test * n), 1)
    assert counts["valid"] == max(round(valid * n), 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 80), min_size=2, max_size=6), st.floats(0.1, 0.3), st.integers(0, 99))
def test_classes_keep_their_share(sizes, share, seed):
    """Each class is within one row of its share, as scikit-learn's stratified split is, and stays learnable."""
    y = np.repeat(np.arange(len(sizes)), sizes)
    if round(len(y) * share) < 1 or sum(size - 1 for size in sizes) < 2 * len(y) * share + 2:
        return
    where, _ = run(
        dataset(x=range(len(y)), y=y),
        target="y",
        by="stratified",
        categorical=True,
        valid=share,
        test=share,
        seed=seed,
    )
    for kind, size in enumerate(sizes):
        got = Counter(where[y == kind])
        assert got["train"] >= 1
        if size > 4:
            assert abs(got["test"] - share * size) <= 2
            assert abs(got["valid"] - share * size) <= 2
    if min(sizes) >= 10:
        held = round(share * len(y))
        _, other = next(StratifiedShuffleSplit(1, test_size=held, random_state=0).split(y, y))
        theirs, ours = (
            np.bincount(y[other], minlength=len(sizes)),
            np.bincount(y[where == "test"], minlength=len(sizes)),
        )
        assert abs(theirs - ours).max() <= 1


def test_apportion_is_largest_remainder():
    assert apportion(np.array([33, 33, 34]), np.array([32, 32, 33]), 0.1).tolist() == [3, 3, 4]
    assert apportion(np.array([1, 1, 98]), np.array([0, 0, 97]), 0.1).tolist() == [0, 0, 10]
    assert apportion(np.array([5, 5]), np.array([4, 4]), 0.5).sum() == 5
    assert apportion(np.array([2, 2]), np.array([1, 1]), 0.9).tolist() == [1, 1]
    assert apportion(np.array([5]), np.array([4]), 0.0).tolist() == [0]


@settings(max_examples=30, deadline=None)
@given(st.integers(100, 300), st.integers(1, 200), st.integers(0, 99), st.sampled_from(["random", "group"]))
def test_added_rows_move_no_old_ones_when_stable(n, more, seed, by):
    kwargs = {
        "by": by,
        "stable": True,
        "valid": 0.2,
        "test": 0.2,
        "seed": seed,
        "column": "g" if by == "group" else None,
    }
    x = np.arange(n + more)
    before, _ = run(dataset(x=x[:n], g=x[:n] // 2), **kwargs)
    after, _ = run(dataset(x=x[::-1], g=x[::-1] // 2), **kwargs)
    assert (after[::-1][:n] == before).all()


def test_large_data_takes_thresholds(monkeypatch):
    monkeypatch.setattr(module, "EXACT", 1000)
    n = 8_000
    x, y = np.arange(n), np.where(np.arange(n) < 4, "rare", np.where(np.arange(n) % 3, "b", "c"))
    for seed in range(6):
        where, _ = run(dataset(4096, x=x, y=y), target="y", by="stratified", seed=seed, valid=0.2, test=0.3)
        counts = Counter(where)
        assert abs(counts["test"] - 0.3 * n) < 5 * (n * 0.3 * 0.7) ** 0.5
        assert abs(counts["valid"] - 0.2 * n) < 5 * (n * 0.2 * 0.8) ** 0.5
        assert "train" in where[y == "rare"]
        for label in "bc":  # by the law of large numbers each class has its share too
            assert abs((where[y == label] == "test").mean() - 0.3) < 0.05
        same, _ = run(
            dataset(512, x=x, y=y), target="y", by="random", stable=True, seed=seed, valid=0.2, test=0.3
        )
        assert (same == where).all()


def test_another_seed_is_another_split():
    data = dataset(x=range(300))
    one, two = run(data, by="random", seed=0)[0], run(data, by="random", seed=1)[0]
    assert 0.5 < (one == two).mean() < 0.85  # 0.66 for independent 8:1:1 splits


def test_duplicates_with_other_labels_stay_together():
    x = [f"text {i % 100}" for i in range(200)]
    y = ["a" if i < 100 else "b" for i in range(200)]
    where, notes = run(dataset(x=x, y=y), target="y", by="stratified")
    assert (where[:100] == where[100:]).all()
    assert notes["duplicate_rows"] == 100
    assert notes["rows"]["test"] == 20


def test_duplicates_apart():
    data = dataset(x=[0, 1] * 50)
    _, notes = run(data, by="random", duplicates="apart", valid=0.2, test=0.2)
    assert notes["rows"] == {"train": 60, "valid": 20, "test": 20, "drop": 0}
    assert notes["straddling"] == {"valid in train": 20, "test in train": 20, "test in valid": 20}
    with pytest.raises(DataError, match="duplicates: apart"):
        run(data, by="random")


def test_classes_of_multiplied_rows_are_held_out_too():
    """Units larger than their class's quota: the share is still met, over all classes."""
    x = np.repeat(np.arange(300), 3)
    where, notes = run(dataset(x=x, y=x // 3), target="y", by="stratified", categorical=True)
    assert notes["rows"]["test"] == notes["rows"]["valid"] == 90
    assert set(x // 3) == set((x // 3)[where == "train"])


def test_numeric_target_by_quantile():
    y = np.random.default_rng(0).lognormal(size=500)
    where, _ = run(dataset(x=range(500), y=y), target="y", by="stratified", test=0.2)
    low, high = np.quantile(y, [0.1, 0.9])
    assert (where[y < low] == "test").sum() == pytest.approx(10, abs=1)
    assert (where[y > high] == "test").sum() == pytest.approx(10, abs=1)


# ------------------------------------------------------------------------------------------- by time
@pytest.mark.parametrize("cast", [
    int, float, str,
    lambda t: datetime(2020, 1, 1) + timedelta(hours=t),
    lambda t: date(2020, 1, 1) + timedelta(days=t),
    lambda t: (datetime(2020, 1, 1) + timedelta(hours=7 * t)).isoformat(" "),
    lambda t: (datetime(2020, 1, 1) + timedelta(days=t)).strftime("%d/%m/%Y"),
    lambda t: (datetime(2020, 1, 1) + timedelta(days=t)).strftime("%m/%d/%Y %H:%M"),
    lambda t: (datetime(2020, 1, 1) + timedelta(days=t)).strftime("%Y年%m月%d日"),
])  # fmt: skip
def test_time_trains_on_the_past(cast):
    t = np.random.default_rng(0).permutation(100)
    where, _ = run(
        dataset(x=range(100), t=[cast(int(v)) for v in t]),
        inputs=["x", "t"],
        by="time",
        column="t",
        valid=0.1,
        test=0.2,
    )
    assert (where == np.where(t >= 80, "test", np.where(t >= 70, "valid", "train"))).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=3, max_size=80))
def test_equal_times_stay_together(t):
    data = dataset(x=range(len(t)), t=t)
    if len(set(t)) < 3:
        with pytest.raises(DataError, match="distinct times"):
            run(data, by="time", column="t")
        return
    where, _ = run(data, by="time", column="t")
    of = {
        name: [v for v, w in zip(t, where, strict=True) if w == name] for name in ("train", "valid", "test")
    }
    assert max(of["train"]) < min(of["valid"])
    assert max(of["valid"]) < min(of["test"])


def test_time_says_what_it_cannot_read():
    where, notes = run(
        dataset(x=range(9), t=["1", "2", "3", "", "4", "5", None, "6", "7"]), by="time", column="t"
    )
    assert where[3] == where[6] == "train"
    assert any("2 rows have no readable 't'" in message for message in notes["messages"])
    with pytest.raises(DataError, match=r"row 2: 't' wants a time or a number, got 'soon'"):
        run(dataset(x=range(3), t=["1", "2", "soon"]), by="time", column="t")
    with pytest.raises(DataError, match="mixes"):
        run(dataset(x=range(3), t=["1", "2", "2020-01-01"]), by="time", column="t")
    _, notes = run(dataset(x=range(3), t=["01/02/2020", "03/04/2020", "05/06/2020"]), by="time", column="t")
    assert any("day from month" in message for message in notes["messages"])


# ------------------------------------------------------------------------------------------- given, auto
def test_given_is_followed_and_leaks_are_counted():
    given_ = ["Train", "val", " test ", "train", "dev", "training"]
    where, notes = run(dataset(x=[1, 2, 1, 3, 3, 4], split=given_))
    assert where.tolist() == ["train", "valid", "test", "train", "valid", "train"]
    assert notes["by"] == "given"
    assert notes["straddling"] == {"valid in train": 1, "test in train": 1}
    assert any(
        "1 rows of test have inputs that are also in train" in message for message in notes["messages"]
    )


def test_given_without_valid_cuts_it_from_train():
    given_ = ["train"] * 100 + ["test"] * 50
    y = ["a", "b"] * 75
    where, _ = run(dataset(x=range(150), y=y, split=given_), target="y", valid=0.2)
    assert Counter(where) == {"train": 80, "valid": 20, "test": 50}
    assert (where[100:] == "test").all()
    assert (where[0:100:2] == "valid").sum() == 10
    assert Counter(run(dataset(x=range(150), split=given_), valid=0)[0]) == {"train": 100, "test": 50}
    assert "test" not in run(dataset(x=range(100), split=given_[:100]))[0]


def test_given_refuses_other_words():
    data = dataset(x=range(3), fold=["train", "hold", "test"])
    with pytest.raises(DataError, match=r"'fold' names a split in 2 rows, but not in 1: 'hold' \(1\)"):
        run(data, by="given", column="fold")
    with pytest.raises(DataError, match="no row has"):
        run(dataset(x=range(2), split=["test", "test"]), by="given")
    with pytest.raises(DataError, match="did you mean 'fold'"):
        run(data, by="given", column="fodl")


def test_a_column_of_splits_with_odd_values_is_refused():
    """Half of the values name a split: it is meant, so what names none is a mistake that is told."""
    names = ["train"] * 6 + ["test"] * 2 + ["Tset", "hold", "hold", None, ""]
    data = dataset(x=range(13), split=names)
    with pytest.raises(DataError, match="in 8 rows, but not in 5") as error:
        run(data)
    for told in ("'hold' (2)", "'Tset' (1)", "missing (2)", "data.split=random", "rename"):
        assert told in str(error.value)
    assert run(data, by="random", valid=0.2, test=0.2)[1]["by"] == "random"
    many = dataset(x=range(3000), split=["train"] * 1500 + [f"odd {n}" for n in range(1500)])
    with pytest.raises(DataError, match=r"but not in 1,500: .* other values"):
        run(many)


def test_a_column_split_of_other_values_is_no_split_and_said_so():
    _, notes = run(dataset(x=range(60), split=["train"] * 20 + ["a"] * 40))
    assert notes["by"] == "random"
    assert "column 'split' is not followed: 20 of 60 of its values name train" in notes["messages"][0]
    for values in (range(60), [[1]] * 60, ["a", "b"] * 30):
        _, notes = run(dataset(x=range(60), split=values))
        assert notes["by"] == "random"
        assert "none of its values name train" in notes["messages"][0]


def test_auto_chooses():
    many = list(range(60))
    assert run(dataset(x=many, split=["a", "b"] * 30))[1]["by"] == "random"  # not split names
    assert run(dataset(x=many, y=["u", "v"] * 30), target="y")[1]["by"] == "stratified"
    assert run(dataset(x=many, y=[0, 1, 2] * 20), target="y")[1]["by"] == "stratified"
    assert run(dataset(x=many, y=[v * 0.37 for v in many]), target="y")[1]["by"] == "random"
    assert run(dataset(x=many))[1]["by"] == "random"


# ------------------------------------------------------------------------------------------- small and odd
@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=12),
    st.sampled_from([0.0, 0.1, 0.4]),
    st.sampled_from([0.0, 0.1, 0.4]),
    st.integers(0, 9),
)
def test_small_data_is_split_whenever_it_can_be(y, valid, test, seed):
    asked = (valid > 0) + (test > 0)
    data = dataset(x=range(len(y)), y=y)
    spare = len(y) - len(set(y))  # rows that training can give away
    for by in ("stratified", "random"):
        if spare < asked:
            with pytest.raises(DataError, match="too few"):
                run(data, target="y", by=by, valid=valid, test=test, seed=seed, categorical=True)
            continue
        where, _ = run(data, target="y", by=by, valid=valid, test=test, seed=seed, categorical=True)
        assert ("valid" in where) == (valid > 0)
        assert ("test" in where) == (test > 0)
        assert set(y) == {label for label, w in zip(y, where, strict=True) if w == "train"}


def test_dropped_rows_stay_dropped():
    data = dataset(x=range(40)).with_splits(np.array([3] * 10 + [0] * 30, np.uint8))
    where, notes = run(data, by="random")
    assert (where[:10] == "drop").all()
    assert notes["rows"] == {"train": 24, "valid": 3, "test": 3, "drop": 10}


def test_rows_without_a_group_stand_alone():
    where, notes = run(
        dataset(x=range(60), g=[None] * 40 + ["a"] * 10 + ["b"] * 10),
        by="group",
        column="g",
        valid=0.1,
        test=0.1,
    )
    assert len(set(where[:40])) == 3
    assert any("40 rows have no 'g'" in message for message in notes["messages"])
    with pytest.raises(DataError, match="one group"):
        run(dataset(x=range(5), g=["a"] * 5), by="group", column="g")


def test_unmet_shares_are_said():
    _, notes = run(
        dataset(x=range(100), g=[0] * 50 + [1] * 30 + [2] * 20), by="group", column="g", valid=0, test=0.1
    )
    assert any("test holds 20.0% of the rows, not 10.0%" in message for message in notes["messages"])


@pytest.mark.parametrize(
    "bad", [{"valid": 0.6, "test": 0.5}, {"by": "time"}, {"by": "random", "column": "x"}, {"valid": -0.1}]
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(RecipeError):
        Split(**bad)


def test_stratified_wants_a_target():
    with pytest.raises(UserError, match="wants a target"):
        run(dataset(x=range(9)), by="stratified")


def test_keys_in_parts_find_the_same(monkeypatch):
    """The partitioned search, forced into many parts, counts as Python does."""
    from modelworks.engine.data import repeats

    x = np.random.default_rng(0).integers(0, 400, 1000)
    whole = run(dataset(64, x=x), by="random")[1]
    monkeypatch.setattr(repeats, "_PART", 50)
    parts = run(dataset(64, x=x), by="random")[1]
    assert parts == whole
    assert whole["duplicate_rows"] == 1000 - len(set(x.tolist()))


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 80), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_no_more_training_rows_than_asked_and_nothing_else_moves(count, most, seed):
    data = dataset(x=list(range(count)))
    before, _ = run(data, by="random", seed=seed)
    after, notes = run(data, by="random", most=most, seed=seed)
    assert ((before == after) | ((before == "train") & (after == "drop"))).all()
    assert (after == "train").sum() == min(most, (before == "train").sum())
    assert notes["rows"]["drop"] == (after == "drop").sum()
    again, _ = run(data, by="random", most=most + 1, seed=seed)
    assert ((after != "train") | (again == "train")).all()  # more rows are those and others
    assert len(notes["messages"]) == (most < (before == "train").sum())


def test_which_training_rows_are_used_is_the_seeds() -> None:
    data = dataset(x=list(range(200)))
    one, other = (run(data, by="random", most=20, test=0, valid=0, seed=seed)[0] for seed in (0, 1))
    assert (one != other).any()
