"""Which kind wins for columns as people have them."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest

from modelworks.core.field import Field
from modelworks.core.kinds import every
from modelworks.core.profile import ColumnProfile, Profiler

KINDS = every(Field)
RNG = np.random.default_rng(0)
ROWS = 400


def profile_of(column: pa.Array) -> ColumnProfile:
    profiler = Profiler("x")
    for start in range(0, len(column), 150):
        profiler.update(column.slice(start, 150))
    return profiler.result()


def scores(column: pa.Array) -> dict[str, float]:
    profile = profile_of(column)
    return {name: kind.recognise(profile) for name, kind in KINDS.items()}


def pick(*options: object) -> list:
    return [options[at] for at in RNG.integers(0, len(options), ROWS)]


FIRST = ["Anna", "Bo", "Chen", "Dora", "Emil", "Fay", "Gus", "Hana", "Ines", "Jo"]
WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "ran",
    "slept",
    "house",
    "red",
    "blue",
    "over",
    "under",
    "big",
    "small",
    "tree",
    "car",
]
PNG, WAV = b"\x89PNG\r\n\x1a\n", b"RIFF0000WAVEfmt "
COLUMNS = {
    "fare": ("number", RNG.lognormal(3, 1, ROWS).round(2).astype(str).tolist()),
    "age with gaps": ("number", [None if at % 5 == 0 else str(at % 80) for at in RNG.permutation(ROWS)]),
    "stars": ("number", pick(1, 2, 3, 4, 5)),
    "price with commas": ("number", [f"{at:,}" for at in RNG.integers(1000, 10**6, ROWS)]),
    "sex": ("category", pick("male", "female")),
    "class": ("category", pick("1st", "2nd", "3rd")),
    "port": ("category", pick("S", "C", "Q", None)),
    "truth": ("category", pick(True, False)),
    "country": ("category", pick(*[f"Republic of {a}{b}" for a in FIRST[:4] for b in "xyz"])),
    "cabin": (
        "category",
        [None if at % 4 else f"{'ABC'[at % 3]}{at % 150}" for at in RNG.permutation(ROWS * 4)],
    ),
    "ticket": (
        "category",
        [str(at) if at % 3 else f"PC {at % 300}" for at in RNG.integers(1000, 1500, ROWS)],
    ),
    "name": ("text", [f"{FIRST[at % 10]}son, Mr. {FIRST[at // 10 % 10]} Q{at}" for at in range(ROWS)]),
    "review": ("text", [" ".join(RNG.choice(WORDS, 12)) for _ in range(ROWS)]),
    "评论": (
        "text",
        ["".join(RNG.choice(list("东西很好快送餐不错味道一般下次还来"), 14)) for _ in range(ROWS)],
    ),
    "surname": ("text", sorted({"".join(RNG.choice(list("aeioubdgklmnrst"), 7)) for _ in range(ROWS)})),
    "smiles": ("text", sorted({"".join(RNG.choice(list("CNO(=)c1"), 24)) for _ in range(ROWS)})),
    "day": ("date", [f"2024-{1 + at % 12:02}-{1 + at % 28:02}" for at in range(ROWS)]),
    "日期": ("date", [f"2024年{1 + at % 12}月{1 + at % 28}日" for at in range(ROWS)]),
    "stamp": ("date", [datetime.datetime(2024, 1, 1) + datetime.timedelta(hours=at) for at in range(ROWS)]),
    "genres": ("tags", pick("drama|war", "comedy", "comedy|drama", "war|comedy")),
    "toppings": ("tags", pick("ham, egg", "egg, corn", "corn, ham, egg", "ham")),
    "labels": ("tags", pick(["a", "b"], ["b"], [])),
    "photo": ("image", [PNG + bytes([at % 256]) for at in range(ROWS)]),
    "photo path": ("image", [f"pictures/{at}.JPG" for at in range(ROWS)]),
    "photo struct": ("image", [{"bytes": PNG, "path": str(at)} for at in range(ROWS)]),
    "clip": ("audio", [WAV + bytes([at % 256]) for at in range(ROWS)]),
    "clip path": ("audio", [f"{at}.flac" for at in range(ROWS)]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_the_kind_wins(name: str) -> None:
    expected, values = COLUMNS[name]
    found = scores(pa.array(values))
    best = max(found, key=lambda kind: found[kind])
    assert best == expected, found
    assert found[best] >= 0.3
    field = KINDS[best](**KINDS[best].propose(profile_of(pa.array(values))))
    if expected not in ("image", "audio"):
        encoded = field.fit([pa.array(values)]).encode(pa.array(values))
        assert encoded.bad == {}


@pytest.mark.parametrize("shape", [(28, 28), (8, 8, 3), (1, 8, 8)])
def test_tensors_are_images(shape: tuple[int, ...]) -> None:
    found = scores(pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((3, *shape), np.uint8)))
    assert found.pop("image") > 0.9
    assert max(found.values()) == 0


@pytest.mark.parametrize(
    "values",
    [
        list(range(1, ROWS)),
        [str(at) for at in range(ROWS)],
        [f"U-{at:05}" for at in RNG.permutation(ROWS)],
        [f"{at:032x}" for at in RNG.integers(0, 2**62, ROWS)],
        ["same"] * ROWS,
        [3] * ROWS,
        [None] * ROWS,
        ["NA"] * ROWS,
    ],
)
def test_ids_and_constants_teach_nothing(values: list) -> None:
    assert max(scores(pa.array(values)).values()) <= 0.05


def test_few_integers_can_be_classes() -> None:
    classes = scores(pa.array(pick(0, 1, 2)))
    assert classes["number"] > classes["category"] >= 0.6  # a number as an input, a class as a target
    assert scores(pa.array(RNG.integers(0, 300, ROWS)))["category"] <= 0.1


def test_what_is_proposed() -> None:
    chinese, english = profile_of(pa.array(COLUMNS["评论"][1])), profile_of(pa.array(COLUMNS["review"][1]))
    assert KINDS["text"].propose(chinese)["tokens"] == "char"
    assert KINDS["text"](**KINDS["text"].propose(english)).tokens == "word"
    target = KINDS["number"](**KINDS["number"].propose(english, target=True)).fit(
        [pa.array([1.0, 2.0, None])]
    )
    assert target.layout.shape == (1,)
    assert target.encode(pa.array([None, 1.0])).bad == {0: "missing value"}
    labels = KINDS["category"](**KINDS["category"].propose(english, target=True)).fit([pa.array(["a", "b"])])
    assert labels.layout.size == 2
