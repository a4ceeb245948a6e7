"""CSV against Python's csv module: the same rows, each one given out or counted."""

from __future__ import annotations

import csv
import gzip
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelworks.core.errors import DataError, UserError
from modelworks.core.source import Quarantine
from modelworks.sources.csv import Csv

from .helpers_sources import rows_of

CELL = st.text(st.sampled_from(list('ab1 ,;"\n\r\t中é')), max_size=6)
RAW = st.lists(
    st.sampled_from(
        [
            b"a",
            b"1",
            b",",
            b",",
            b'"',
            b'""',
            b"\n",
            b"\n",
            b"\r\n",
            b"\r",
            b"x y",
            "中".encode(),
            b"\xff",
            b"\0",
        ]
    ),
    max_size=60,
).map(b"".join)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def expected(body: bytes, width: int) -> tuple[list[list[str]], int]:
    """(good rows, bad rows) as the csv module sees them; a quote that is never closed costs its own line alone."""
    text = body.decode("utf-8", "surrogateescape")
    good: list[list[str]] = []
    bad = 0
    while text:
        lines = list(io.StringIO(text, newline=""))
        # Two more lines at the end come out as they are only when no quote is open before them.
        joined = text if text.endswith(("\n", "\r")) else text + "\n"
        closed = list(csv.reader(io.StringIO(joined + "Q,Q\n", newline="")))[-1:] == [["Q", "Q"]]
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
        if closed:
            text = ""
        else:
            rows = rows[:-1]
            reader = csv.reader(io.StringIO(text, newline=""))
            at = 0
            for _ in range(sum(1 for _ in csv.reader(io.StringIO(text, newline=""))) - 1):
                next(reader)
                at = reader.line_num
            text = "".join(lines[at + 1 :])
            bad += 1
        for row in rows:
            broken = any("\0" in cell or any("\udc80" <= c <= "\udcff" for c in cell) for cell in row)
            if len(row) != width or broken:
                bad += 1
            else:
                good.append(row)
    return good, bad


@QUICK
@given(body=RAW)
def test_every_row_is_given_out_or_counted(tmp_path: Path, body: bytes) -> None:
    path = write(tmp_path / "t.csv", b"p,q\n" + body)
    source = Csv(path=path, delimiter=",", header=True, encoding="utf-8", missing=[])
    rows, quarantine = rows_of(source)
    good, bad = expected(body, 2)
    assert [list(row.values()) for row in rows] == good
    assert quarantine.count == bad


@QUICK
@given(body=RAW)
def test_block_edges_change_nothing(tmp_path: Path, body: bytes) -> None:
    """Fed byte by byte, the table reads the same rows and the same bad lines."""
    from modelworks.sources._cells import Table
    from modelworks.sources._sniff import Shape

    def run(size: int) -> tuple[list, list]:
        quarantine = Quarantine()
        table = Table("t", Shape(",", ("p", "q"), 1), [], quarantine)
        data = b"p,q\n" + body
        found = []
        for at in range(0, len(data), size):
            found += [row for batch in table.feed(data[at : at + size]) for row in batch.to_pylist()]
        found += [row for batch in table.close() for row in batch.to_pylist()]
        return found, [(row["where"], row["reason"]) for row in quarantine.rows]

    assert run(1) == run(1 << 20) == run(3)


@QUICK
@given(table=st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=12), crlf=st.booleans())
def test_what_csv_writes_comes_back(tmp_path: Path, table: list[list[str]], crlf: bool) -> None:
    out = io.StringIO()
    # Python before 3.13 writes a lone CR without quotes where the line's end is LF.
    quoting = csv.QUOTE_ALL if any("\r" in cell for row in table for cell in row) else csv.QUOTE_MINIMAL
    writer = csv.writer(out, lineterminator="\r\n" if crlf else "\n", quoting=quoting)
    writer.writerow(["one", "two", "three"])
    writer.writerows(table)
    path = write(tmp_path / "t.csv", out.getvalue())
    rows, quarantine = rows_of(Csv(path=path, delimiter=",", header=True, encoding="utf-8", missing=[]))
    assert [list(row.values()) for row in rows] == table
    assert quarantine.count == 0


def test_bad_rows_are_named_by_line(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", b'a,b\n1,2\n"x,""y\n",3\n4\n5,6,7\n8,9\n\xff,1\n"open,1\n10,11\n')
    rows, quarantine = rows_of(Csv(path=path, encoding="utf-8"))
    assert [row["a"] for row in rows] == ["1", 'x,"y\n', "8", "10"]
    assert [row["where"] for row in quarantine.rows] == [f"t.csv line {n}" for n in (5, 6, 8, 9)]
    assert quarantine.rows[0]["reason"] == "wants 2 cells, has 1"
    assert quarantine.rows[3]["reason"] == "a quote opens here and is never closed"


def test_line_numbers_beyond_fast_blocks(tmp_path: Path) -> None:
    """Lines are counted through blocks that Arrow parsed, quoted newlines too."""
    body = '"two\nlines",x\n' * 100_000 + "bad\n" + '"two\nlines",x\n' * 100_000
    rows, quarantine = rows_of(Csv(path=write(tmp_path / "t.csv", "a,b\n" + body)))
    assert len(rows) == 200_000
    assert quarantine.rows == [
        {"where": "t.csv line 200002", "reason": "wants 2 cells, has 1", "text": "bad"}
    ]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030", "gbk", "latin-1"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_encodings_are_found_out(tmp_path: Path, encoding: str, packed: bool) -> None:
    words = (
        ["Müller", "café", "naïve"]
        if encoding in ("latin-1", "utf-16-le")
        else ["书很好", "不喜欢这本书", "质量差"]
    )
    text = "text,label\n" + "".join(f"{word},{at}\n" for at, word in enumerate(words * 20))
    data = text.encode(encoding)
    path = write(tmp_path / "t.csv.gz", gzip.compress(data)) if packed else write(tmp_path / "t.csv", data)
    rows, quarantine = rows_of(Csv(path=path))
    assert [row["text"] for row in rows] == words * 20
    assert quarantine.count == 0


def test_gbk_after_a_megabyte_of_ascii(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", b"a,b\n" + b"plain,1\n" * 200_000 + "中文很好,2\n".encode("gbk"))
    rows, _ = rows_of(Csv(path=path))
    assert rows[-1] == {"a": "中文很好", "b": "2"}


def test_gbk_bad_byte_costs_one_row(tmp_path: Path) -> None:
    data = (
        "文,b\n".encode("gbk")
        + "中文很好,2\n".encode("gbk") * 50
        + b"\x81\x20,3\n"
        + "中文,4\n".encode("gbk")
    )
    rows, quarantine = rows_of(Csv(path=write(tmp_path / "t.csv", data), encoding="gbk"))
    assert (len(rows), quarantine.count) == (51, 1)
    assert quarantine.rows[0]["where"] == "t.csv line 52"


@pytest.mark.parametrize(
    "text, names, count",
    [
        ("a,b\n1,2\n", ["a", "b"], 1),
        ("1,2\n3,4\n", ["column_1", "column_2"], 2),
        ("x;y\n1,5;2\n", ["x", "y"], 1),
        ("x|y\na|b\n", ["x", "y"], 1),
        ("x\ty\na\tb\n", ["x", "y"], 1),
        ("sep=;\nx;y\n1;2\n", ["x", "y"], 1),
        ("a,a,\n1,2,3\n", ["a", "a_2", "column_3"], 1),
        ("a,a_2,a\n1,2,3\n", ["a", "a_2", "a_3"], 1),
        ("name,age\nTom,3\nAnn,4\n", ["name", "age"], 2),
        ("Tom,3\nAnn,4\n", ["column_1", "column_2"], 2),
        ("0,1,2,label\n5,6,7,a\n", ["0", "1", "2", "label"], 1),
        ("review\ngood\n", ["review"], 1),
        ("a,b\nx,y\na,b\nz,y\n", ["a", "b"], 3),
        ("\n\na,b\n1,2\n", ["a", "b"], 1),
    ],
)
def test_delimiter_and_header(tmp_path: Path, text: str, names: list[str], count: int) -> None:
    rows, quarantine = rows_of(Csv(path=write(tmp_path / "t.csv", text)))
    assert list(rows[0]) == names
    assert (len(rows), quarantine.count) == (count, 0)


def test_settings(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "1,NA\n2,x\n")
    rows, _ = rows_of(Csv(path=path, columns=["n", "t"], missing=["NA"]))
    assert rows == [{"n": "1", "t": None}, {"n": "2", "t": "x"}]
    assert rows_of(Csv(path=path, header=True))[0] == [{"1": "2", "NA": "x"}]
    with pytest.raises(UserError, match="2 cells, but `columns` names 1"):
        rows_of(Csv(path=path, columns=["n"]))
    with pytest.raises(UserError, match="no 'utf-99'"):
        rows_of(Csv(path=path, encoding="utf-99"))
    with pytest.raises(UserError, match="cannot stand between cells"):
        Csv(path=path, delimiter='"')
    wide = write(tmp_path / "w.csv", "a，b\n1，2\n")
    assert rows_of(Csv(path=wide, delimiter="，"))[0] == [{"a": "1", "b": "2"}]


def test_fingerprint_is_of_content_and_of_settings_that_matter(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.csv", "a\nx\n"), write(tmp_path / "2.csv", "a\nx\n")
    import hashlib

    assert Csv(path=one).fingerprint() == Csv(path=two).fingerprint() == hashlib.sha256(b"a\nx\n").hexdigest()
    assert Csv(path=one, header=False).fingerprint() != Csv(path=one).fingerprint()


def test_cut_gzip_keeps_what_is_whole(tmp_path: Path) -> None:
    import random

    lines = [f"{at},{random.Random(at).random()}\n" for at in range(20_000)]
    data = gzip.compress(("a,b\n" + "".join(lines)).encode())
    rows, quarantine = rows_of(Csv(path=write(tmp_path / "t.csv.gz", data[: len(data) // 2])))
    assert 5_000 < len(rows) < 15_000
    assert [f"{row['a']},{row['b']}\n" for row in rows] == lines[: len(rows)]
    assert quarantine.reasons == {"file cut short": 1}
    assert quarantine.rows[0]["where"] == f"t.csv.gz line {len(rows) + 2}"


def test_memory_is_flat(tmp_path: Path) -> None:
    def peak(copies: int) -> int:
        path = write(tmp_path / "t.csv", "a,b\n" + f'x"y,{"some words " * 20}\n' * copies)
        source, count = Csv(path=path), 0
        tracemalloc.start()
        for batch in source.read(Quarantine()):
            count += batch.num_rows
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == copies
        return top

    assert peak(45_000) < 1.15 * peak(15_000)


def test_a_row_beyond_the_limit_costs_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelworks.sources._cells.LONGEST", 3 << 20)
    path = write(tmp_path / "t.csv", b"a,b\n1,2\n" + b"z" * (9 << 20) + b",9\n3,4\n")
    rows, quarantine = rows_of(Csv(path=path, delimiter=","))
    assert rows == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert [row["where"] for row in quarantine.rows] == ["t.csv line 3"]


def test_open_quotes_everywhere_do_not_hang(tmp_path: Path) -> None:
    """`x"y,"` leaves a quote open whether or not one was: the worst file for a reader that tries again."""
    path = write(tmp_path / "t.csv", "a,b\n" + 'x"y,"\n' * 50_000)
    rows, quarantine = rows_of(Csv(path=path, delimiter=","))
    assert len(rows) + quarantine.count == 50_000


def test_nothing_in_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        rows_of(Csv(path=write(tmp_path / "t.csv", "")))
    with pytest.raises(UserError, match=r"did you mean 't\.csv'"):
        rows_of(Csv(path=tmp_path / "tt.csv"))
