"""text in blocks: joined, the rows are the file, whatever is in it and however it is read."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modelworks.core.source import Quarantine
from modelworks.sources import _files
from modelworks.sources._blocks import blocks
from modelworks.sources.text import Text

from .helpers_sources import rows_of

LINES = st.lists(
    st.sampled_from(["a", "狗", "🙈", "\n", "\r\n", "\r", " ", "\0", "\u2028", "ab"]), min_size=1
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    text=LINES.map("".join) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    size=st.integers(1, 20),
    read=st.integers(1, 9),
)
@example("ab\ncd", 3, 1)
def test_joined_rows_are_the_file(tmp_path: Path, text: str, size: int, read: int) -> None:
    text = "x\n" + text  # so that no first character looks like another encoding's mark
    (tmp_path / "t.txt").write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_files, "chunks", lambda path, size=read, chunks=_files.chunks: chunks(path, size))
        rows, quarantine = rows_of(Text(path=tmp_path / "t.txt", unit="block", block=size, encoding="utf-8"))
    pieces = [row["text"] for row in rows]
    assert "".join(pieces) == text
    assert quarantine.count == 0
    assert all(0 < len(piece) <= size for piece in pieces)
    for piece, after in zip(pieces, pieces[1:], strict=False):
        # A piece ends with its line, or is full to the brim with one line; the next line did not fit.
        assert piece.endswith("\n") or (len(piece) == size and "\n" not in piece)
        line = after[: after.find("\n") + 1] or after
        assert not piece.endswith("\n") or len(piece) + len(line) > size


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_encodings_and_gzip(tmp_path: Path, encoding: str) -> None:
    text = "春眠不觉晓，\r\n处处闻啼鸟。\n\n\n" * 3000 + "夜来"
    (tmp_path / "t.txt").write_bytes(text.encode(encoding))
    (tmp_path / "t.txt.gz").write_bytes(gzip.compress(text.encode(encoding)))
    for name in ("t.txt", "t.txt.gz"):
        rows, _ = rows_of(Text(path=tmp_path / name, unit="block"))
        assert "".join(row["text"] for row in rows) == text


def test_bad_lines_are_counted_and_the_rest_is_kept(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes("狗\n".encode() * 50 + b"bad \xff\xfe line\n\nend\nbad \xff")
    rows, quarantine = rows_of(Text(path=tmp_path / "t.txt", unit="block", block=30))
    assert "".join(row["text"] for row in rows) == "狗\n" * 50 + "\nend\n"
    assert [row["where"] for row in quarantine.rows] == ["t.txt line 51", "t.txt line 54"]


def test_a_file_cut_short_gives_what_there_is(tmp_path: Path) -> None:
    whole = "".join(f"line {at * 7919 % 1000003}\n" for at in range(200_000))
    (tmp_path / "t.txt.gz").write_bytes(gzip.compress(whole.encode())[:-5000])
    rows, quarantine = rows_of(Text(path=tmp_path / "t.txt.gz", unit="block"))
    text = "".join(row["text"] for row in rows)
    assert len(text) > 100_000
    assert whole.startswith(text)
    assert list(quarantine.reasons) == ["file cut short"]


def test_memory_does_not_grow_with_the_text() -> None:
    data = (b"a line of text\n" * 70_000 if at % 2 else b"x" * 1_000_000 for at in range(40))
    tracemalloc.start()
    size = sum(map(len, blocks(data, 4096, "t", Quarantine())))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == 20 * (15 * 70_000 + 1_000_000)
    assert peak < 8 << 20
