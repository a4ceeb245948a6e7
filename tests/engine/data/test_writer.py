"""writer: what it writes, Python's own csv module reads back."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from modelworks.engine.data.writer import writer_for

TEXTS = st.none() | st.text(st.sampled_from([*'a,"\n\r\t ', "狗", "🙈"])) | st.text()
SAFE = TEXTS.filter(lambda text: text is None or not any(0xD800 <= ord(one) < 0xE000 for one in text))


@given(
    rows=st.lists(
        st.tuples(SAFE, st.none() | st.floats(allow_nan=False), st.none() | st.integers(-(2**40), 2**40)),
        min_size=1,
    )
)
def test_csv_comes_back_cell_by_cell(tmp_path_factory, rows) -> None:  # type: ignore[no-untyped-def]
    out: Path = tmp_path_factory.mktemp("written") / "out.csv"
    texts, numbers, lists = zip(*rows, strict=True)
    batch = pa.record_batch(
        {
            'a "name", of a text': pa.array(texts, pa.string()),
            "number": pa.array(numbers, pa.float64()),
            "list": pa.array([None if one is None else [one, 1] for one in lists], pa.list_(pa.int64())),
        }
    )
    with writer_for(out, None) as writer:
        writer.write(batch, {"prediction": [True] * len(rows)})
        writer.write(batch.slice(0, 1), {"prediction": [None]})
    wanted = [
        [text or "", "" if number is None else repr(number), "" if one is None else f"[{one}, 1]", "True"]
        for text, number, one in rows
    ]
    with out.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ['a "name", of a text', "number", "list", "prediction"], *wanted, [*wanted[0][:3], ""],
        ]  # fmt: skip
