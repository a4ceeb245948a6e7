"""Parquet, JSON, Excel, text and frames in memory, against the libraries that wrote the files."""

from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelworks.core.errors import DataError, UserError
from modelworks.core.settings import dump_yaml, read, to_tree
from modelworks.sources.dataframe import Dataframe
from modelworks.sources.excel import Excel
from modelworks.sources.jsonl import Jsonl
from modelworks.sources.parquet import Parquet
from modelworks.sources.text import Text

from .helpers_sources import rows_of

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=5,
)


# ------------------------------------------------------------------------------------------- parquet
def test_parquet_gives_what_was_written(tmp_path: Path) -> None:
    table = pa.table(
        {
            "n": pa.array(range(20_000)),
            "c": pa.array([f"v{at % 7}" for at in range(20_000)]).dictionary_encode(),
            "s": pa.array([None if at % 3 else "中文" for at in range(20_000)], pa.large_string()),
            "image": pa.array([{"bytes": b"\x89PNG", "path": "a.png"}] * 20_000),
            "tags": pa.array([["a", "b"]] * 20_000),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=6_000)
    rows, quarantine = rows_of(Parquet(path=tmp_path / "t.parquet"))
    assert rows == table.to_pylist()
    assert quarantine.count == 0
    rows, _ = rows_of(Parquet(path=tmp_path / "t.parquet", columns=["s", "n"]))
    assert rows == table.select(["s", "n"]).to_pylist()
    with pytest.raises(DataError, match="did you mean 'image'"):
        rows_of(Parquet(path=tmp_path / "t.parquet", columns=["imag"]))


def test_parquet_wide_rows_come_in_small_batches(tmp_path: Path) -> None:
    from modelworks.core.source import Quarantine

    pq.write_table(
        pa.table({"b": [np.random.default_rng(at).bytes(1 << 20) for at in range(40)]}),
        tmp_path / "t.parquet",
    )
    sizes = [batch.nbytes for batch in Parquet(path=tmp_path / "t.parquet").read(Quarantine())]
    assert max(sizes) < 20 << 20
    assert sum(sizes) >= 40 << 20


def test_parquet_text_that_is_no_utf8_costs_its_row(tmp_path: Path) -> None:
    bad = pa.array([b"fine", b"\xff\xfe", b"good"]).view(pa.string())
    pq.write_table(pa.table({"s": bad}), tmp_path / "t.parquet")
    rows, quarantine = rows_of(Parquet(path=tmp_path / "t.parquet"))
    assert [row["s"] for row in rows] == ["fine", "good"]
    assert quarantine.rows[0]["where"] == "t.parquet row 2"


def test_parquet_damaged_group_is_counted_whole(tmp_path: Path) -> None:
    table = pa.table({"n": pa.array(np.random.default_rng(0).random(9_000))})
    path = tmp_path / "t.parquet"
    pq.write_table(
        table, path, row_group_size=3_000, compression="zstd", write_page_checksum=True, use_dictionary=False
    )
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    middle = column.data_page_offset + column.total_compressed_size // 2
    data[middle : middle + 8] = bytes(8)
    path.write_bytes(data)
    rows, quarantine = rows_of(Parquet(path=path))
    assert (len(rows), quarantine.count) == (6_000, 3_000)
    assert [row["n"] for row in rows[3_000:]] == table.column("n").to_pylist()[6_000:]


# ------------------------------------------------------------------------------------------- json
@FEW
@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUE, min_size=1), min_size=1, max_size=8
    )
)
def test_json_forms_agree_and_keep_values(tmp_path: Path, rows: list[dict]) -> None:
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    (tmp_path / "t.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1), "utf-8")
    (tmp_path / "p.json").write_text("\n".join(json.dumps(row, indent=1) for row in rows), "utf-8")
    lines, quarantine = rows_of(Jsonl(path=tmp_path / "t.jsonl"))
    assert quarantine.count == 0
    assert lines == rows_of(Jsonl(path=tmp_path / "t.json"))[0] == rows_of(Jsonl(path=tmp_path / "p.json"))[0]
    assert len(lines) == len(rows)
    for got, row in zip(lines, rows, strict=True):
        for key, value in row.items():
            kept = got[key]
            # Text of a mixed column reads back as the value it was.
            assert (
                kept == value
                or json.loads(kept if isinstance(kept, str) else json.dumps(kept)) == value
                or isinstance(value, list)
            )


def test_json_types_and_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    lines = ['{"a": 1, "t": ["x", "y"]}', "{", '{"a": 2.5, "b": true}', "", "[1]", '{"b": null, "m": 1}', '{"m": {"k": "中"}}',
             '{"a": "\\ud800"}', "{}"]  # fmt: skip
    path.write_bytes(gzip.compress("\n".join(lines).encode() + b'\n{"a": "\xff"}\n'))
    rows, quarantine = rows_of(Jsonl(path=path))
    assert rows == [
        {"a": 1.0, "t": ["x", "y"], "b": None, "m": None},
        {"a": 2.5, "t": None, "b": True, "m": None},
        {"a": None, "t": None, "b": None, "m": "1"},
        {"a": None, "t": None, "b": None, "m": '{"k": "中"}'},
    ]
    assert [row["where"] for row in quarantine.rows] == [f"t.jsonl.gz line {n}" for n in (2, 5, 8, 9, 10)]


def test_json_list_is_streamed(tmp_path: Path) -> None:
    """Elements that cross the edges of blocks come whole, in a list far longer than a block."""
    rows = [{"n": at, "s": "中" * (at % 50)} for at in range(40_000)]
    (tmp_path / "t.json").write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    assert rows_of(Jsonl(path=tmp_path / "t.json"))[0] == rows


# ------------------------------------------------------------------------------------------- excel
def test_excel_keeps_types(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    frame = pd.DataFrame({
        "n": [1, 2, 3], "x": [0.5, None, 2.0], "s": ["中文", None, "b"], "when": pd.to_datetime(["2024-01-02", None, "2024-03-04"]),
        "mixed": [1, "a", 2.5], "yes": [True, False, True],
    })  # fmt: skip
    with pd.ExcelWriter(tmp_path / "t.xlsx") as writer:
        frame.to_excel(writer, sheet_name="first", index=False, startrow=2)
        frame[["n"]].to_excel(writer, sheet_name="second", index=False)
    rows, _ = rows_of(Excel(path=tmp_path / "t.xlsx"))
    assert [row["n"] for row in rows] == [1, 2, 3]
    assert [row["x"] for row in rows] == [0.5, None, 2.0]
    assert [row["s"] for row in rows] == ["中文", None, "b"]
    assert rows[0]["when"] == datetime.datetime(2024, 1, 2)
    assert [row["mixed"] for row in rows] == ["1", "a", "2.5"]
    assert [row["yes"] for row in rows] == [True, False, True]
    assert list(rows_of(Excel(path=tmp_path / "t.xlsx", sheet="second"))[0][0]) == ["n"]
    assert list(rows_of(Excel(path=tmp_path / "t.xlsx", sheet=2))[0][0]) == ["n"]
    with pytest.raises(DataError, match="did you mean 'second'"):
        rows_of(Excel(path=tmp_path / "t.xlsx", sheet="secnd"))
    with pytest.raises(DataError, match="it has 2"):
        rows_of(Excel(path=tmp_path / "t.xlsx", sheet=3))


# ------------------------------------------------------------------------------------------- text
def test_text_units(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"one\r\ntwo\n\n  \nthree, four\n" + b"\xff\n" + "五".encode())
    rows, quarantine = rows_of(Text(path=path, encoding="utf-8"))
    assert [row["text"] for row in rows] == ["one", "two", "three, four", "五"]
    assert quarantine.rows[0]["where"] == "t.txt line 6"
    rows, _ = rows_of(Text(path=path, unit="paragraph", encoding="utf-8"))
    assert [row["text"] for row in rows] == ["one\ntwo", "three, four\n五"]
    rows, _ = rows_of(Text(path=path, unit="file", encoding="utf-8"))
    assert [row["text"] for row in rows] == ["one\ntwo\n\n  \nthree, four\n五"]


# ------------------------------------------------------------------------------------------- memory
COLUMNS = {"a": [1, 2, None], "s": ["x", "中", None]}


@pytest.mark.parametrize(
    "data",
    [
        COLUMNS,
        pa.table(COLUMNS),
        pa.record_batch(COLUMNS),
        pl.DataFrame(COLUMNS),
        pl.DataFrame(COLUMNS).with_columns(pl.col("s").cast(pl.Categorical)),
        pd.DataFrame(COLUMNS).astype({"a": "Int64"}),
        [{"a": 1, "s": "x"}, {"s": "中", "a": 2}, {}],
        pa.table(COLUMNS).to_reader(),
    ],
    ids=["dict", "table", "batch", "polars", "categorical", "pandas", "rows", "reader"],
)
def test_every_frame_gives_the_same_rows(data: object) -> None:
    rows, _ = rows_of(Dataframe(data=data))
    assert rows == pa.table(COLUMNS).to_pylist()


def test_fingerprint_follows_content() -> None:
    one = Dataframe(data=pd.DataFrame({"a": [1, 2]}))
    assert one.fingerprint() == Dataframe(data={"a": [1, 2]}).fingerprint()
    assert one.fingerprint() != Dataframe(data={"a": [1, 3]}).fingerprint()
    assert one.fingerprint() != Dataframe(data={"b": [1, 2]}).fingerprint()


def test_frame_is_described_not_stored() -> None:
    source = Dataframe(data={"a": [1, 2]})
    tree = to_tree(source)
    assert tree == {
        "kind": "dataframe",
        "data": {"fingerprint": source.fingerprint(), "rows": 2, "columns": ["a"]},
    }
    assert "fingerprint" in dump_yaml(tree)
    with pytest.raises(
        UserError, match="2 rows were in memory and are not in the recipe: give the data again"
    ):
        read(Dataframe, {"data": tree["data"]})
    assert Dataframe(data={}).data == {
        "fingerprint": Dataframe(data={}).fingerprint(),
        "rows": 0,
        "columns": [],
    }


def test_frames_of_odd_columns() -> None:
    frame = pd.DataFrame([[1, "x", 2], ["b", None, 3]], columns=["m", "d", "d"])
    rows, _ = rows_of(Dataframe(data=frame))
    assert rows == [{"m": "1", "d": "x", "d_2": 2}, {"m": "b", "d": None, "d_2": 3}]
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    rows, _ = rows_of(Dataframe(data={"image": images, "label": np.array(["a", "b"])}))
    assert rows[1]["label"] == "b"
    assert list(rows[1]["image"]) == list(range(12, 24))
    with pytest.raises(UserError, match="differ in length"):
        rows_of(Dataframe(data={"a": [1], "b": [1, 2]}))
    with pytest.raises(UserError, match="int is no table"):
        Dataframe(data=3)
