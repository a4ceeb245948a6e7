"""Corrupt and hostile files: each is refused in one line or its bad rows are counted; nothing else ever happens."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelworks.core.errors import UserError
from modelworks.core.kinds import find
from modelworks.core.source import Source
from modelworks.engine.data.open import source_for

from .helpers_sources import rows_of


def parquet(**options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"n": list(range(1000)), "s": ["text"] * 1000}), out, **options)
    return out.getvalue()


def workbook() -> bytes:
    import openpyxl

    book, out = openpyxl.Workbook(), io.BytesIO()
    for row in (["a", "b"], [1, "x"], [2, "y"]):
        book.active.append(row)
    book.save(out)
    return out.getvalue()


def bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b"x")
    data = bytearray(out.getvalue())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = (3 << 30).to_bytes(4, "little")  # what it says to unpack to
    return bytes(data)


def gz(data: bytes, cut: int | None = None, flip: int | None = None) -> bytes:
    packed = bytearray(gzip.compress(data, mtime=0))
    if flip is not None:
        packed[flip] ^= 0xFF
    return bytes(packed[:cut])


TABLE = b"a,b\n" + b"".join(b"%d,%d\n" % (at, at * 7919 % 1000) for at in range(2000))
JSON = b"".join(b'{"a": %d, "b": "%d"}\n' % (at, at * 7919 % 1000) for at in range(2000))
LIST = json.dumps([{"a": at} for at in range(100)]).encode()
NOISE = random.Random(0).randbytes(20_000)

# name → (content, good rows, quarantined rows); rows None: refused; "any": either, and the two are not both none.
CASES: dict[str, tuple[Callable[[], bytes] | bytes, int | str | None, int | None]] = {
    "empty.csv": (b"", None, None),
    "mark_only.csv": (b"\xef\xbb\xbf", "any", None),
    "newlines.csv": (b"\n" * 5000, "any", None),
    "noise.csv": (NOISE, "any", None),
    "nul.csv": (b"\0" * 5000, "any", None),
    "png.csv": (b"\x89PNG\r\n\x1a\n" + NOISE, None, None),
    "parquet.csv": (parquet, None, None),
    "workbook.csv": (workbook, None, None),
    "elf.csv": (b"\x7fELF" + NOISE, None, None),
    "few_cells.csv": (b"a,b\n1,2\n3\n4,5\n", 2, 1),
    "many_cells.csv": (b"a,b\n1,2\n3,4,5\n4,5\n", 2, 1),
    "open_quote.csv": (b'a,b\n1,2\n"3,4\n5,6\n', 2, 1),
    "open_header.csv": (b'"a,b\n1,2\n', None, None),
    "quote_middle.csv": (b'a,b\n1"2"3,4\n5,"6"7\n', 2, 0),
    "nul_row.csv": (b"a,b\n1,2\n\0,3\n4,5\n", 2, 1),
    "bad_bytes.csv": (("a,b\n" + "中文,2\n好的,4\n" * 20).encode() + b"\xff\xfe,3\n", 40, 1),
    "surrogate.csv": (("a,b\n" + "中文,2\n" * 20).encode() + b"\xed\xa0\x80,3\n", 20, 1),
    "cut.csv.gz": (gz(TABLE, cut=2000), "any", None),
    "flipped.csv.gz": (gz(TABLE, flip=2000), "any", None),
    "header_only.csv.gz": (gz(TABLE, cut=10), None, None),
    "crc.csv.gz": (gz(TABLE, flip=-5), 2000, 1),
    "tail.csv.gz": (gz(TABLE) + b"junk", 2000, 1),
    "bomb.csv.gz": (gz(b"a,b\n" + b"1,2\n" * 1_000_000), 1_000_000, 0),
    "long_field.csv": (b"a,b\n1," + b"x" * 3_000_000 + b"\n2,3\n", 2, 0),
    "wide.csv": (
        b",".join(b"c%d" % at for at in range(20_000)) + b"\n" + b",".join([b"1"] * 20_000) + b"\n",
        1,
        0,
    ),
    "utf16_cut.csv": ("a,b\n1,2\n3,4".encode("utf-16")[:-1], 1, 1),
    "empty.parquet": (b"", None, None),
    "noise.parquet": (NOISE, None, None),
    "magic.parquet": (b"PAR1" + NOISE + b"PAR1", None, None),
    "cut.parquet": (lambda: parquet()[:-300], None, None),
    "headless.parquet": (lambda: b"XXXX" + parquet()[4:], None, None),
    "csv.parquet": (TABLE, None, None),
    "data_zeroed.parquet": (lambda: parquet()[:4] + bytes(400) + parquet()[404:], "any", None),
    "footer_length.parquet": (lambda: parquet()[:-8] + b"\xff\xff\xff\x7fPAR1", None, None),
    "empty.jsonl": (b"", None, None),
    "noise.jsonl": (NOISE, None, None),
    "bad_lines.jsonl": (b'{"a": 1}\n{"a": \nnull\n3\n"x"\n{"a": 2}\n', 2, 4),
    "deep.jsonl": (b'{"a": 1}\n' + b'{"a":' * 100_000 + b"\n", 1, 1),
    "deep_list.json": (b"[" * 200_000, None, None),
    "huge_number.jsonl": (b'{"a": 1}\n{"a": ' + b"9" * 10_000 + b"}\n", 1, 1),
    "infinity.jsonl": (b'{"a": 1e999}\n{"a": NaN}\n{"a": 2}\n', 3, 0),
    "bad_bytes.jsonl": (b'{"a": "\xff"}\n{"a": "b"}\n' * 2 + '{"a": "中文"}\n'.encode() * 30, 32, 2),
    "lone.jsonl": (b'{"a": "\\ud800"}\n{"\\udc00": 1}\n{"a": "b"}\n', 1, 2),
    "no_keys.jsonl": (b"{}\n{}\n", None, None),
    "many_keys.jsonl": (b"".join(b'{"k%d": 1}\n' % at for at in range(10_001)), None, None),
    "cut.jsonl.gz": (gz(JSON, cut=3000), "any", None),
    "cut.json": (LIST[:500], "any", None),
    "fault_inside.json": (LIST.replace(b'{"a": 50}', b'{"a" 50}'), 50, 1),
    "after.json": (LIST + b" junk", 100, 1),
    "numbers.json": (b"[1, 2, 3]", None, None),
    "scalar.json": (b"42", None, None),
    "empty_list.json": (b"[]", None, None),
    "empty.xlsx": (b"", None, None),
    "noise.xlsx": (NOISE, None, None),
    "zip.xlsx": (
        lambda: bomb().replace((3 << 30).to_bytes(4, "little"), (1).to_bytes(4, "little")),
        None,
        None,
    ),
    "bomb.xlsx": (bomb, None, None),
    "cut.xlsx": (lambda: workbook()[:2000], None, None),
    "csv.xlsx": (TABLE, None, None),
    "noise.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + NOISE, None, None),
    "noise.ods": (NOISE, None, None),
    "empty.txt": (b"", None, None),
    "noise.txt": (NOISE, "any", None),
    "cut.txt.gz": (gz(TABLE, cut=2000), "any", None),
    "pdf.txt": (b"%PDF-1.7" + NOISE, None, None),
}


@pytest.mark.parametrize("name", CASES)
def test_corrupt_files(tmp_path: Path, name: str) -> None:
    content, good, bad = CASES[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content())
    try:
        rows, quarantine = rows_of(source_for(str(tmp_path / name)))
    except UserError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert good in (None, "any"), message
        assert name in message
        assert "\n" not in message
        return
    if good is None:
        # Nothing was given out, and either the file had nothing or it is all in quarantine.
        assert not rows
        assert quarantine.count
    elif good == "any":
        assert rows or quarantine.count or name in ("mark_only.csv", "newlines.csv")
    else:
        assert (len(rows), quarantine.count) == (good, bad)
    assert all(row["where"].startswith(name) for row in quarantine.rows)


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes(tmp_path: Path, seed: int) -> None:
    """Real files with some bytes changed: an answer or an error of ours, and no more rows than there were."""
    dice = random.Random(seed)
    name, content = dice.choice([("t.parquet", parquet(compression="snappy")), ("t.xlsx", workbook()), ("t.csv", TABLE),
                                 ("t.jsonl", JSON), ("t.csv.gz", gz(TABLE)), ("t.json", LIST)])  # fmt: skip
    data = bytearray(content)
    for _ in range(dice.randrange(1, 20)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    (tmp_path / name).write_bytes(data)
    try:
        rows, quarantine = rows_of(source_for(str(tmp_path / name)))
    except UserError:
        return
    # A changed byte may part a row in two.
    assert len(rows) <= 2020
    assert rows or quarantine.count or name == "t.xlsx"


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl", "excel", "text"])
def test_what_is_no_plain_file(tmp_path: Path, kind: str) -> None:
    source = find(Source, kind)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path, match in [
        ("pipe", "not a plain file"),
        ("folder", "is a folder"),
        ("gone", "no such file"),
        ("n" * 5000, "name too long"),
    ]:
        with pytest.raises(UserError, match=match):
            rows_of(source(path=tmp_path / path))
    with pytest.raises(UserError):
        rows_of(source(path="a\0b"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    (tmp_path / "t.csv").chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        rows_of(source_for(str(tmp_path / "t.csv")))
