"""predict: a row of output for every row of input, in order, also where the source cannot read one."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import modelworks
from modelworks.cli import main


def begun(tmp_path: Path) -> None:
    """A Run `r` that reads the columns a and b."""
    rows = "".join(f"{n * 0.37 % 5:.2f},{n % 7},{'uv'[n % 2]}\n" for n in range(60))
    (tmp_path / "rows.csv").write_text("a,b,y\n" + rows)
    command = ["train", "rows.csv", "--target=y", "--model=mlp", "--name=r", "--train.steps=2", "--quiet"]
    assert main([*command, "--evaluate.bootstrap=0"]) == 0


BAD = {0, 3, 4, 9, 17, 18, 29}


@pytest.mark.parametrize("limit", [None, 1, 4, 5, 12])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "quoted.csv"])
def test_line_n_of_the_output_is_line_n_of_the_input(tmp_path: Path, ending: str, limit: int | None) -> None:
    begun(tmp_path)
    lines: list[str] = []
    for n in range(30):
        if ending.endswith("csv"):
            lines.append(f"{n},1,2,3" if n in BAD else f"{n},{'x' if n % 3 else chr(34) + 'x' + chr(34)}"
                         if ending == "quoted.csv" else f"{n},1")  # fmt: skip
        else:
            lines.append(
                '{"a": '
                if n in BAD and ending == "jsonl"
                else "7"
                if n in BAD
                else json.dumps({"a": n, "b": 1})
            )
    body = "[" + ",".join(lines) + "]" if ending == "json" else "\n".join(lines) + "\n"
    (tmp_path / f"new.{ending}").write_text(("a,b\n" if ending.endswith("csv") else "") + body)
    some = [] if limit is None else ["--limit", str(limit)]
    assert main(["predict", "r", f"new.{ending}", "--output", "out.csv", *some]) == 0
    with Path("out.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == (limit or 30)
    for n, row in enumerate(rows):
        if n in BAD:
            assert set(row.values()) == {""}
        else:
            assert float(row["a"]) == n
            assert row["prediction"] in (("u", "v") if ending != "quoted.csv" else ("",))
    errors = [json.loads(line) for line in Path("out.csv.errors.jsonl").read_text("utf-8").splitlines()]
    unread = {error["row"] for error in errors if "new." in error["error"]}
    assert unread == {n for n in BAD if n < (limit or 30)}


def test_damaged_rows_of_parquet_keep_their_places(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    begun(tmp_path)
    good = pa.array([b"ok"] * 20, pa.binary())
    broken = pa.array([b"\xff\xfe" if n in BAD else b"ok" for n in range(20)], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 20, (broken if good else good).buffers())
    pq.write_table(pa.table({"a": [float(n) for n in range(20)], "b": [1] * 20, "t": text}), "new.parquet")
    table = modelworks.load("r").predict("new.parquet")
    assert table.column("a").to_pylist() == [None if n in BAD else n for n in range(20)]
    assert [value is None for value in table.column("prediction").to_pylist()] == [
        n in BAD for n in range(20)
    ]
    assert all("new.parquet row" in table.column("error").to_pylist()[n] for n in BAD if n < 20)


def test_a_python_table_says_why_a_place_is_empty(tmp_path: Path, capsys: Any) -> None:
    begun(tmp_path)
    (tmp_path / "new.csv").write_text("a,b\n1,2\n1,2,3\n3,4\n1,2,3\n")
    table = modelworks.load("r").predict("new.csv")
    assert table.column("a").to_pylist() == ["1", None, "3", None]
    assert table.column("error").to_pylist()[1] == "new.csv line 3: wants 2 cells, has 3"
    assert "2 rows could not be read" in capsys.readouterr().err
