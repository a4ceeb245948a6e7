"""The contract, over every kind of field: promises hold after `prepare`, chunks do not matter, nothing raises."""

from __future__ import annotations

import datetime
import io
import itertools
import json
import subprocess
import sys
import wave

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pictures

from modelworks.core.field import Encoded, Field
from modelworks.core.kinds import every

KINDS = every(Field)


def png(seed: int, size: tuple[int, int] = (9, 7)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Pictures.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def wav(seed: int, seconds: float = 0.2, rate: int = 4000) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        noise = np.random.default_rng(seed).normal(0, 3000, int(seconds * rate))
        file.writeframes(noise.astype("<i2").tobytes())
    return stream.getvalue()


TEXTS = ["the quick fox", "jumps over, the lazy dog", "", "东西很好 good", None, "the the the " * 30]
CHATS = [
    '[{"role": "user", "content": "the quick fox"}, {"role": "assistant", "content": "jumps"}]',
    '{"instruction": "over", "output": "the lazy dog"}',
    "no JSON",
    None,
    '[{"from": "human", "value": "东西"}, {"from": "gpt", "value": "很好"}]',
]
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 6, 5), dtype=np.uint8)
COLUMNS: dict[str, list[tuple[dict, pa.Array]]] = {
    "number": [
        ({}, pa.array(["1", " 2.5 ", "1,024", "12%", None, "NA", "-3e2"] * 6)),
        ({"scale": "quantile", "outliers": "clip"}, pa.array([1.0, 2.0, float("nan"), 4.0, 1e6] * 8)),
        ({"scale": "log", "indicator": True, "missing": "mode"}, pa.array([3, 1, None, 900, 3] * 8)),
    ],
    "category": [
        ({"rare": 2}, pa.array(["b", "a", "10", "2", None, "a", "b", "once"] + ["2", "10"] * 9)),
        ({"unknown": "quarantine"}, pa.array([3, 1, 2, 2] * 9)),
        ({}, pa.array([True, False, None] * 9)),
    ],
    "text": [
        ({"tokens": kind, "length": length}, pa.array(TEXTS * 5))
        for kind in ("char", "word", "byte", "bpe")
        for length in (None, 4)
    ],
    "corpus": [
        ({"tokens": kind, "vocabulary": 400, "length": 2000, "end": kind != "char"}, pa.array(TEXTS * 5))
        for kind in ("char", "byte", "bpe", "wordpiece", "unigram")
    ],
    "words": [
        ({}, pa.array([["the", "fox"], ["the"], None, [], ["jumps", "over"]] * 4)),
        ({"length": 4}, pa.array(TEXTS * 5)),
        ({"tokens": "wordpiece", "vocabulary": 60}, pa.array([["the", "foxes"], ["don't"], ["the"]] * 6)),
    ],
    "spans": [
        ({}, pa.array([["O", "B-A", "I-A"], ["S-B"], ["O"], None] * 5)),
        ({"scheme": "bioes"}, pa.array(['[[0, 3, "A"]]', "[]", None] * 6)),
    ],
    "chat": [
        ({"tokens": "byte"}, pa.array(CHATS * 5)),
        ({"tokens": "byte", "length": 40, "template": "chatml"}, pa.array(CHATS * 5)),
    ],
    "image": [
        ({}, pa.FixedShapeTensorArray.from_numpy_ndarray(PIXELS)),
        ({"size": (4, 8), "channels": 3}, pa.FixedShapeTensorArray.from_numpy_ndarray(PIXELS)),
        ({"resize": "pad"}, pa.array([png(seed, (5 + seed % 5, 9)) for seed in range(24)], pa.binary())),
    ],
    "audio": [
        ({}, pa.array([wav(seed, 0.1 + 0.01 * seed) for seed in range(20)], pa.binary())),
        (
            {"features": "waveform", "rate": 2000},
            pa.array([wav(seed, 0.1 + 0.01 * seed) for seed in range(20)], pa.binary()),
        ),
    ],
    "date": [
        ({}, pa.array(["2024-05-01", "2023/1/2", None, "1 May 2024", "2024年5月1日"] * 6)),
        ({}, pa.array([datetime.datetime(2020, 1, day, day) for day in range(1, 20)])),
    ],
    "tags": [
        ({}, pa.array(["a|b", "b|c", "", None, "c"] * 6)),
        ({}, pa.array([["x", "y"], [], None, ["y"]] * 6)),
    ],
}
CASES = [(kind, *case) for kind, cases in COLUMNS.items() for case in cases]
NAMES = [f"{kind}-{index}" for index, (kind, _, _) in enumerate(CASES)]


def fitted(kind: str, options: dict, column: pa.Array) -> Field:
    return KINDS[kind](**options).fit([column.slice(0, 7), column.slice(7)])


def rows_of(encoded: Encoded) -> list[np.ndarray]:
    if encoded.lengths is None:
        return list(encoded.values)
    assert encoded.lengths.dtype == np.int64
    assert encoded.lengths.min(initial=1) >= 1
    assert encoded.lengths.sum() == len(encoded.values)
    return np.split(encoded.values, np.cumsum(encoded.lengths)[:-1]) if len(encoded.lengths) else []


def batch_of(encoded: Encoded) -> torch.Tensor:
    rows = rows_of(encoded)
    if encoded.lengths is None:
        return torch.from_numpy(encoded.values)
    padded = np.zeros((len(rows), max(map(len, rows)), *encoded.values.shape[1:]), encoded.values.dtype)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return torch.from_numpy(padded)


def same(left: Encoded, right: Encoded) -> None:
    assert left.values.dtype == right.values.dtype
    assert np.array_equal(left.values, right.values)
    assert (left.lengths is None) == (right.lengths is None)
    assert left.lengths is None or np.array_equal(left.lengths, right.lengths)
    assert left.bad == right.bad
    assert {k: v.tolist() for k, v in left.changed.items()} == {
        k: v.tolist() for k, v in right.changed.items()
    }


def test_every_kind_has_a_case() -> None:
    assert set(KINDS) == set(COLUMNS)


@pytest.mark.parametrize(("kind", "options", "column"), CASES, ids=NAMES)
def test_layout_is_kept(kind: str, options: dict, column: pa.Array) -> None:
    field = fitted(kind, options, column)
    layout, encoded = field.layout, field.encode(column)
    stored = batch_of(encoded)
    before = stored.clone()
    generator = torch.Generator().manual_seed(3)
    for batch in (field.prepare(stored), field.prepare(field.augment(stored, generator))):
        rows = len(column)
        if layout.form in ("vector", "image", "multihot"):
            assert batch.dtype == torch.float32
            assert tuple(batch.shape) == (rows, *layout.shape)
            assert torch.isfinite(batch).all()
        elif layout.form == "index":
            assert batch.dtype == torch.int64
            assert tuple(batch.shape) == (rows,)
            assert batch.min() >= 0
            assert batch.max() < layout.size
        else:
            assert encoded.lengths is not None
            assert encoded.lengths.max() <= layout.length
            padding = torch.arange(batch.shape[1]) >= torch.from_numpy(encoded.lengths)[:, None]
            assert (batch[padding] == 0).all()
            if layout.form == "tokens":
                assert batch.dtype == torch.int64
                assert (batch[~padding] >= 1).all()
                assert batch.max() < layout.size
            else:
                assert batch.dtype == torch.float32
                assert tuple(batch.shape[2:]) == layout.shape
    assert torch.equal(stored, before)
    if layout.bins is not None:
        assert len(layout.bins) == layout.shape[0]
        assert all(list(bins) == sorted(set(bins)) and len(bins) <= 65 for bins in layout.bins)
    assert len(field.decode(batch_of(encoded).numpy())) == len(column)


@pytest.mark.parametrize(("kind", "options", "column"), CASES, ids=NAMES)
def test_chunks_do_not_matter(kind: str, options: dict, column: pa.Array) -> None:
    field = fitted(kind, options, column)
    whole, cuts = field.encode(column), [0, 1, 4, 4, len(column)]
    parts = [
        (start, field.encode(column.slice(start, end - start))) for start, end in itertools.pairwise(cuts)
    ]
    assert all(part.values.dtype == whole.values.dtype for _, part in parts)
    assert np.array_equal(whole.values, np.concatenate([part.values for _, part in parts]))
    if whole.lengths is not None:
        assert np.array_equal(whole.lengths, np.concatenate([part.lengths for _, part in parts]))
    assert whole.bad == {start + row: why for start, part in parts for row, why in part.bad.items()}
    for what, rows in whole.changed.items():
        assert rows.tolist() == [
            start + row for start, part in parts for row in part.changed.get(what, [])
        ], what


@pytest.mark.parametrize(("kind", "options", "column"), CASES, ids=NAMES)
def test_state_round_trip(kind: str, options: dict, column: pa.Array) -> None:
    field = fitted(kind, options, column)
    plain = {key: value for key, value in field.state.items() if not isinstance(value, np.ndarray)}
    arrays = {key: value.copy() for key, value in field.state.items() if isinstance(value, np.ndarray)}
    again = KINDS[kind](**options).with_state(json.loads(json.dumps(plain, allow_nan=False)) | arrays)
    same(field.encode(column), again.encode(column))
    assert again.layout == field.layout


HOSTILE = {
    "nulls": pa.nulls(3),
    "texts": pa.array(
        [None, "", " ", "NaN", "inf", "x" * 300_000, "\0", "a|b", "🙈" * 9, "../../etc", "[1,", "1e999"]
    ),
    "floats": pa.array([0.0, float("nan"), float("inf"), -1e308, None]),
    "integers": pa.array([0, -1, 2**62, None]),
    "unsigned": pa.array([2**64 - 1], pa.uint64()),
    "truths": pa.array([True, None]),
    "bytes": pa.array(
        [
            b"",
            None,
            b"\xff\xfe",
            b"RIFF\xff\xff\xff\xffWAVEfmt ",
            b"\x89PNG\r\n\x1a\n",
            png(1)[:60],
            wav(1)[:30],
        ]
    ),
    "lists": pa.array([["a"], [], None, ["a", None]]),
    "numbers in lists": pa.array([[1.5], [float("nan")], None]),
    "structs": pa.array([{"bytes": b"x", "path": None}, {"bytes": None, "path": "no/such"}, None]),
    "dates": pa.array([datetime.date(1, 1, 1), None]),
    "far times": pa.array([2**62, -(2**62), None], pa.timestamp("s")),
    "nanoseconds": pa.array([2**62, None], pa.timestamp("ns", "Europe/Paris")),
    "durations": pa.array([1, None], pa.duration("s")),
    "clock": pa.array([datetime.time(1, 2), None]),
    "decimals": pa.array(["1.5", None]).cast(pa.decimal128(9, 2)),
    "dictionary": pa.array(["a", "1", None]).dictionary_encode(),
    "large text": pa.array(["a", None], pa.large_string()),
    "tensors": pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 3, 3), np.uint8)),
    "float tensors": pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 3), np.float32)),
    "nothing": pa.array([], pa.string()),
    "chunked": pa.chunked_array([pa.array(["a"]), pa.array(["1", None])]),
}


@pytest.mark.parametrize(("kind", "options", "column"), CASES, ids=NAMES)
def test_hostile_columns(kind: str, options: dict, column: pa.Array) -> None:
    field = fitted(kind, options, column)
    usual = field.encode(column)
    for name, hostile in HOSTILE.items():
        encoded = field.encode(hostile)
        rows = len(rows_of(encoded))
        assert rows == len(hostile), name
        assert encoded.values.dtype == usual.values.dtype, name
        assert encoded.values.shape[1:] == usual.values.shape[1:], name
        assert all(0 <= row < rows and isinstance(why, str) and why for row, why in encoded.bad.items()), name
        for what, changed in encoded.changed.items():
            assert len(changed), (name, what)
            assert all(0 <= row < rows for row in changed), (name, what)
        if encoded.values.dtype.kind == "f":
            assert np.isfinite(encoded.values).all(), name


@pytest.mark.parametrize("kind", ["number", "category", "text", "date", "tags"])
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    texts=st.lists(
        st.none() | st.text(max_size=12) | st.sampled_from(["1", "a|b", "2024-05-01", "n/a"]), max_size=12
    )
)
def test_any_text(kind: str, texts: list[str | None]) -> None:
    for options, column in COLUMNS[kind][:1]:
        field = FITTED.setdefault(kind, fitted(kind, options, column))
        mixed = pa.array(texts, pa.string())
        whole = field.encode(mixed)
        parts = [field.encode(mixed.slice(row, 1)) for row in range(len(mixed))]
        assert whole.bad == {row: why for row, part in enumerate(parts) for why in part.bad.values()}
        pieces = [whole.values[:0], *(part.values for part in parts)]
        assert np.array_equal(whole.values, np.concatenate(pieces))


FITTED: dict[str, Field] = {}


def test_settings_and_recognition_need_no_torch() -> None:
    script = (
        "import sys\n"
        "from modelworks.core.field import Field\n"
        "from modelworks.core.kinds import every, lightly\n"
        "from modelworks.core.profile import ColumnProfile\n"
        "profile = ColumnProfile('x', rows=9, distinct=5, numeric=9, integer=9, top=[('1', 2)], examples=['1'])\n"
        "with lightly():\n"
        "    kinds = every(Field)\n"
        "for kind in kinds.values():\n"
        "    assert 0 <= kind.recognise(profile) <= 1\n"
        "    kind(**kind.propose(profile)), kind(**kind.propose(profile, True))\n"
        "loaded = {'torch', 'numpy', 'pyarrow', 'PIL'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": ":".join(sys.path)})
