"""Sentences in columns: what is read, what is refused, and that no sentence is lost in silence."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from modelworks.core.errors import DataError, UserError
from modelworks.core.source import Quarantine
from modelworks.engine.data.open import source_for
from modelworks.sources.conll import Conll

CONLL = "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\n\n\n# text = a\nPeter NNP I-NP B-PER\n"


def rows(source: Conll, quarantine: Quarantine | None = None) -> list[dict]:
    return pa.Table.from_batches(source.read(quarantine or Quarantine())).to_pylist()


def test_columns_comments_and_documents(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(CONLL)
    quarantine = Quarantine()
    source = source_for(str(tmp_path / "a.conll"))
    assert isinstance(source, Conll)
    assert rows(source, quarantine) == [
        {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]},
        {"tokens": ["Peter"], "tags": ["B-PER"]},
    ]
    assert quarantine.count == 0
    assert rows(Conll(path=tmp_path / "a.conll", tag=1))[0]["tags"] == ["NNP", "VBZ"]


def test_places_in_words_and_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.bmes.gz"
    path.write_bytes(gzip.compress("科0\tB-ORG\r\n技1\tM-ORG\r\n5\tO\r\n\r\n".encode()))
    quarantine = Quarantine()
    with pytest.raises(DataError, match="no sentence"):  # the 5 is its own place, so nothing is left of it
        rows(Conll(path=path, placed=True), quarantine)
    assert quarantine.count == 1
    assert rows(Conll(path=path))[0] == {"tokens": ["科0", "技1", "5"], "tags": ["B-ORG", "M-ORG", "O"]}


def test_a_sentence_without_a_tag_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.bio").write_text("a O\nb\n\nc O\n")
    quarantine = Quarantine()
    assert [row["tokens"] for row in rows(Conll(path=tmp_path / "a.bio"), quarantine)] == [["c"]]
    assert quarantine.count == 1
    assert "line 2" in quarantine.rows[0]["reason"]


def test_a_folder_of_splits(tmp_path: Path) -> None:
    for name in ("x.train.conll", "dev.conll", "test.bmes"):
        (tmp_path / name).write_text(f"{name} O\n")
    (tmp_path / "README.txt").write_text("about")
    source = Conll(path=tmp_path)
    assert [(row["tokens"], row["split"]) for row in rows(source)] == [
        (["x.train.conll"], "train"),
        (["dev.conll"], "valid"),
        (["test.bmes"], "test"),
    ]
    before = source.fingerprint()
    (tmp_path / "dev.conll").write_text("other O\n")
    assert source.fingerprint() != before
    (tmp_path / "train.bio").write_text("a O\n")
    with pytest.raises(UserError, match="of split train"):
        rows(source)
