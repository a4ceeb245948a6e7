"""The audit: its counts against pandas, its samples against planted faults, its parts against scikit-learn."""

from __future__ import annotations

import json
import string

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from modelworks.core.dataset import Dataset
from modelworks.engine.audit import leakage
from modelworks.engine.audit.audit import audit
from modelworks.engine.audit.copies import count_copies
from modelworks.engine.audit.view import View
from modelworks.engine.data import neighbours


def dataset(columns: dict, chunk: int = 100, splits=None) -> Dataset:
    made = Dataset.from_batches(pa.table(columns).to_batches(chunk), name="made")
    return made if splits is None else made.with_splits(np.asarray(splits, np.uint8))


def codes(result: dict, severity: str = "") -> set[str]:
    return {f["code"] for f in result["findings"] if severity in ("", f["severity"])}


def one(result: dict, code: str, column: str | None = None) -> dict:
    found = [f for f in result["findings"] if f["code"] == code and column in (None, f["column"])]
    assert found, f"{code} is not among {codes(result)}"
    return found[0]


def test_reviews_with_copies_and_contradictions():
    """A small copy of what the Chinese reviews are like: half are copies, some are in both classes."""
    texts = [f"{'很好' if i % 2 else '很差'}的第{i}家店" for i in range(170)]
    labels = ["pos" if i % 2 else "neg" for i in range(170)]
    texts, labels = (
        texts + texts[:163] + texts[:5],
        labels + labels[:163] + ["pos" if v == "neg" else "neg" for v in labels[:5]],
    )
    result = audit(dataset({"text": texts, "label": labels}), "label")
    found = result["duplicates"]
    frame = pd.DataFrame({"text": texts, "label": labels})
    assert found["unique_inputs"] == frame["text"].nunique() == 170
    assert found["duplicate_rows"] == int(frame.duplicated().sum()) == 163
    assert found["conflicting_inputs"] == int((frame.groupby("text")["label"].nunique() > 1).sum()) == 5
    grave = one(result, "repeated_inputs")
    assert grave["severity"] == "error"
    assert "338 rows hold only 170 unique inputs" in grave["message"]
    assert "5 unique inputs are in more than one class" in one(result, "conflicting_labels")["message"]
    assert one(result, "conflicting_labels")["remedy"] == "data: {clean: {duplicates: drop_conflicting}}"
    shown = found["conflict_examples"][0]
    assert {row["label"] for row in shown} == {"pos", "neg"}
    assert len({row["inputs"]["text"] for row in shown}) == 1


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 2), st.sampled_from("xy"), st.integers(0, 3)),
        min_size=1,
        max_size=80,
    ),
    bucket=st.sampled_from([3, 17, 1000]),
)
def test_copies_are_what_pandas_counts(rows, bucket):
    """Over any table and any number of buckets."""
    frame = pd.DataFrame(rows, columns=["a", "b", "y", "split"])
    made = dataset({"a": frame["a"], "b": frame["b"], "y": frame["y"]}, chunk=7, splits=frame["split"])
    found = count_copies(made, ["a", "b"], "y", bucket=bucket)
    groups = frame.groupby(["a", "b"])
    assert found["unique_inputs"] == groups.ngroups
    assert found["repeated_inputs"] == len(frame) - groups.ngroups
    assert found["duplicate_rows"] == int(frame.duplicated(["a", "b", "y"]).sum())
    assert found["conflicting_inputs"] == int((groups["y"].nunique() > 1).sum())
    pairs = {}
    for early, late, names in ((0, 1, "train/valid"), (0, 2, "train/test"), (1, 2, "valid/test")):
        seen = set(map(tuple, frame.loc[frame["split"] == early, ["a", "b"]].to_numpy().tolist()))
        count = sum(
            tuple(r) in seen for r in frame.loc[frame["split"] == late, ["a", "b"]].to_numpy().tolist()
        )
        pairs |= {names: count} if count else {}
    assert found["across_splits"] == pairs
    left = frame[frame["split"] != 3]
    assert ("kept" in found) == (len(left) < len(frame))
    if "kept" in found:
        assert found["kept"]["duplicate_rows"] == int(left.duplicated(["a", "b", "y"]).sum())


def test_random_split_leak_is_what_random_splits_do():
    """The expected share of held-out rows with a twin in training, against many random splits."""
    random = np.random.default_rng(0)
    values = random.integers(0, 120, 300)
    expected = count_copies(dataset({"a": values}), ["a"], None)["random_split_leak"]
    leaks = []
    for _ in range(300):
        held = random.random(300) < 0.2
        leaks.append(np.isin(values[held], values[~held]).mean())
    assert expected == pytest.approx(np.mean(leaks), abs=0.01)


def test_table_faults_are_found_with_their_numbers():
    """Each fault is planted once, and counted by pandas."""
    random = np.random.default_rng(1)
    rows = 600
    y = random.integers(0, 2, rows)
    frame = pd.DataFrame(
        {
            "key": np.arange(rows) + 1000,
            "age": np.where(random.random(rows) < 0.1, np.nan, random.normal(40, 10, rows)),
            "income": np.r_[random.normal(0, 1, rows - 3), 50.0, 60.0, -70.0],
            "empty": [None] * rows,
            "constant": ["same"] * rows,
            "boat": [f"B{i}" if v else None for i, v in enumerate(y)],
            "copy": y * 2.0 + 1,
            "city": random.choice(["Paris", "paris ", "Rome"], rows),
            "y": np.where(y, "yes", "no"),
        }
    )
    result = audit(dataset({name: pa.array(frame[name], from_pandas=True) for name in frame}), "y")
    columns = {column["name"]: column for column in result["columns"]}
    assert columns["age"]["missing"] == int(frame["age"].isna().sum())
    low, high = frame["income"].quantile([0.25, 0.75])
    reach = 1.5 * (high - low)
    assert columns["income"]["outliers"]["iqr"] == int(
        ((frame["income"] < low - reach) | (frame["income"] > high + reach)).sum()
    )
    far = (frame["income"] - frame["income"].mean()).abs() > 4 * frame["income"].std(ddof=0)
    assert columns["income"]["outliers"]["sigma"] == int(far.sum()) == 3
    assert one(result, "leak", "copy")["severity"] == "error"
    assert "whether it is missing" in one(result, "leak", "boat")["message"]
    assert one(result, "leak", "copy")["remedy"] == "fields: {copy: ignore}"
    for code, name in (("empty", "empty"), ("constant", "constant"), ("id", "key"), ("spellings", "city")):
        assert one(result, code, name)
    assert f"age ({100 * frame['age'].isna().mean():.1f} %)" in one(result, "missing")["message"]
    assert "income (3 rows)" in one(result, "outliers")["message"]
    assert not {"leak"} & {f["code"] for f in result["findings"] if f["column"] in ("age", "income", "city")}


def test_honest_data_raises_no_alarm():
    """Breast cancer is easy, yet no single column gives it away."""
    frame = load_breast_cancer(as_frame=True).frame
    result = audit(dataset({name: frame[name] for name in frame}), "target")
    assert not codes(result, "error")
    assert not codes(result, "warning")


def test_numbers_as_target():
    """A rescaled copy of the target is found at any monotone scale, noise is not."""
    random = np.random.default_rng(2)
    y = random.lognormal(0, 1, 500)
    result = audit(dataset({"a": random.normal(size=500), "b": np.exp(y / 4), "c": -3 * y, "y": y}), "y")
    assert {f["column"] for f in result["findings"] if f["code"] == "leak"} == {"b", "c"}
    assert result["target_kind"] == "number"


def test_splits_classes_and_order():
    """A class that training lacks, imbalance, rare classes, sorted rows, missing labels."""
    labels = ["a"] * 400 + ["b"] * 60 + ["c"] * 5 + [None] * 3
    splits = [0] * 300 + [2] * 100 + [0] * 60 + [2] * 5 + [0] * 3
    result = audit(
        dataset({"x": np.random.default_rng(0).normal(size=468), "label": labels}, splits=splits), "label"
    )
    assert result["splits"] == {"train": 363, "test": 105}
    assert "test has classes that train does not have: c" in one(result, "unseen_classes")["message"]
    assert "(80 : 1)" in one(result, "imbalance")["message"]
    assert "3 rows have no label" in one(result, "unlabelled")["message"]
    assert one(result, "rare_classes")
    assert one(result, "sorted")
    assert result["balance"]["classes"] == [["a", 400], ["b", 60], ["c", 5]]


def test_given_split_column_is_used():
    made = dataset(
        {"x": ["p", "q", "p", "r"], "y": ["0", "1", "0", "1"], "split": ["train", "train", "test", "test"]}
    )
    result = audit(made, "y")
    assert result["splits"] == {"train": 2, "test": 2}
    assert (
        "1 row of test (50 %) has the same inputs as a row of train"
        in one(result, "duplicates_across_splits")["message"]
    )
    assert "split" not in result["inputs"]


def test_dropped_copies_are_told_but_not_warned_of():
    texts = [f"text number {i % 60} in a row" for i in range(120)]
    result = audit(dataset({"text": texts, "y": ["a", "b"] * 60}, splits=[0] * 60 + [3] * 60), "y")
    assert one(result, "duplicate_rows")["severity"] == "info"
    assert "none remains after cleaning" in one(result, "duplicate_rows")["message"]


def test_near_duplicate_texts_and_only_those():
    """One word changed in twenty is found across splits; different texts are not."""
    random = np.random.default_rng(3)
    words = ["".join(random.choice(list(string.ascii_lowercase), 6)) for _ in range(400)]
    texts = [" ".join(random.choice(words, 30)) for _ in range(200)]
    twins = [text.replace(text.split()[11], "changed", 1).upper() + "!" for text in texts[:40]]
    result = audit(dataset({"text": texts + twins, "y": [0, 1] * 120}, splits=[0] * 200 + [2] * 40), "y")
    near = result["near_duplicates"]
    assert near["across_splits"] == {"train/test": 40}
    assert near["pairs"] == 40
    assert result["duplicates"]["across_splits"] == {}
    assert (
        "40 rows of test (100 % of those looked at) nearly repeat a row of train"
        in one(result, "near_duplicates_across_splits")["message"]
    )
    assert (
        f"a sample of {near['sample']} of 240 rows" in one(result, "near_duplicates_across_splits")["message"]
    )


def test_near_texts_keep_pairs_by_true_similarity():
    """Every pair that is kept has the Jaccard similarity that sets of shingles give; the others are below."""
    texts = ["the quick brown fox jumps over the lazy dog again and again " + "x" * i for i in range(12)]

    def shingles(text: str) -> set[str]:
        return {text[i : i + neighbours.SHINGLE] for i in range(len(text) - neighbours.SHINGLE + 1)}

    found = {pair[:2]: pair[2] for pair in neighbours.near_texts(texts)}
    for i in range(len(texts)):
        for j in range(i + 1, len(texts)):
            one_, two = shingles(neighbours.normalise(texts[i])), shingles(neighbours.normalise(texts[j]))
            if (i, j) in found:
                assert found[i, j] == pytest.approx(len(one_ & two) / len(one_ | two))
    assert found


def test_near_duplicate_pictures():
    """Brighter and slightly noisy copies of digits are found; different digits are not."""
    random = np.random.default_rng(4)
    pictures = load_digits().images[:120].repeat(4, 1).repeat(4, 2) * 12
    twins = np.clip(pictures[:30] * 1.1 + random.normal(0, 2, pictures[:30].shape), 0, 255)
    both = np.ascontiguousarray(np.concatenate([pictures, twins]).astype(np.uint8))
    result = audit(
        dataset(
            {"image": pa.FixedShapeTensorArray.from_numpy_ndarray(both), "y": ["a", "b"] * 75},
            splits=[0] * 120 + [2] * 30,
        ),
        "y",
    )
    near = result["near_duplicates"]
    assert near["modality"] == "image"
    assert near["across_splits"]["train/test"] >= 28
    assert near["pairs"] <= 33
    assert result["columns"][0]["pictures"]["sizes"] == [["32×32 L", 150]]


def test_near_duplicate_rows_of_a_table():
    random = np.random.default_rng(5)
    table = random.normal(size=(200, 4))
    table = np.concatenate([table, table[:25] + 1e-9])
    result = audit(dataset({f"x{i}": table[:, i] for i in range(4)} | {"y": random.integers(0, 2, 225)}), "y")
    assert 23 <= result["near_duplicates"]["pairs"] <= 25


def test_swapped_labels_of_digits_are_found():
    """Twenty labels are falsified; those that are told are falsified ones."""
    random = np.random.default_rng(6)
    pictures, labels = load_digits(return_X_y=True)
    false = random.choice(len(labels), 20, replace=False)
    labels[false] = (labels[false] + random.integers(1, 10, 20)) % 10
    made = dataset(
        {
            "image": pa.FixedShapeTensorArray.from_numpy_ndarray(pictures.reshape(-1, 8, 8).astype(np.uint8)),
            "y": labels.astype(str),
        },
        500,
    )
    found = audit(made, "y")["suspicious_labels"]
    told = {example["row"] for example in found["examples"]}
    assert found["reliable"]
    assert found["count"] >= 12
    assert len(told & set(false.tolist())) >= 0.8 * len(told)


def test_neighbours_that_know_nothing_stay_silent():
    random = np.random.default_rng(7)
    made = dataset(
        {"a": random.normal(size=400), "b": random.normal(size=400), "y": random.choice(["p", "q"], 400)}
    )
    result = audit(made, "y")
    assert not result["suspicious_labels"]["reliable"]
    assert "suspicious_labels" not in codes(result)


def test_nearest_is_scikit_learns():
    features = np.random.default_rng(8).normal(size=(700, 6)).astype(np.float32)
    own = leakage.nearest(features, 5)
    reference = NearestNeighbors(n_neighbors=5).fit(features).kneighbors(return_distance=False)
    assert all(set(a) == set(b) for a, b in zip(own.tolist(), reference.tolist(), strict=True))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=60))
def test_auc_is_scikit_learns(pairs):
    values, positive = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    if positive.all() or not positive.any():
        assert leakage.auc(values, positive) == 0.5
    else:
        area = roc_auc_score(positive, values)
        assert leakage.auc(values, positive) == pytest.approx(max(area, 1 - area))


def test_class_name_in_the_text_is_a_leak():
    random = np.random.default_rng(9)
    labels = random.choice(["sport", "politics", "科技"], 300)
    texts = [
        f"number {i} of many long articles, filed under {label}, read on" for i, label in enumerate(labels)
    ]
    result = audit(dataset({"text": texts, "label": labels.tolist()}), "label")
    assert "the class name in its text alone tells 'label'" in one(result, "leak", "text")["message"]


def test_sample_is_seeded_stated_and_bounded():
    made = dataset({"a": np.arange(5000) % 977, "b": np.arange(5000) % 13, "y": np.arange(5000) % 2})
    first, again = audit(made, "y", sample=1000), audit(made, "y", sample=1000)
    assert first["sample"] == 1000
    assert first["leakage"]["sample"] <= 1000
    drop = {"seconds"}
    assert {k: v for k, v in first.items() if k not in drop} == {
        k: v for k, v in again.items() if k not in drop
    }
    view = View(
        made.with_splits(np.r_[np.zeros(4000), np.full(900, 2), np.full(100, 3)].astype(np.uint8)), "y", {}, 0
    )
    rows = view.draw(1000, even=True)
    assert len(rows) == len(set(rows)) == 1000
    assert (np.bincount(view.codes(rows), minlength=4) == [500, 0, 500, 0]).all()
    assert (np.bincount(view.codes(view.draw(4900)), minlength=4) == [4000, 0, 900, 0]).all()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_table_gives_json(data):
    """Whatever the cells: a result that JSON takes strictly, findings that are whole."""
    rows = data.draw(st.integers(1, 30))
    cell = st.one_of(
        st.none(), st.text(max_size=12), st.sampled_from(["1", "2.5", "n/a", "2024-01-02", "1e400", "inf"])
    )
    floats = st.one_of(st.none(), st.floats(width=64))
    columns = {
        "text": pa.array(data.draw(st.lists(cell, min_size=rows, max_size=rows)), pa.string()),
        "number": pa.array(data.draw(st.lists(floats, min_size=rows, max_size=rows)), pa.float64()),
        "list": pa.array(
            data.draw(st.lists(st.lists(st.text(max_size=3), max_size=3), min_size=rows, max_size=rows)),
            pa.list_(pa.string()),
        ),
        "bytes": pa.array(
            data.draw(st.lists(st.binary(max_size=9), min_size=rows, max_size=rows)), pa.binary()
        ),
    }
    target = data.draw(st.sampled_from([None, *columns]))
    result = audit(dataset(columns, 11), target)
    json.dumps(result, allow_nan=False)
    assert all(f["severity"] in ("error", "warning", "info") and f["message"] for f in result["findings"])
