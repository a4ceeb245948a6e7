"""Folders of files, with classes and splits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelworks.core.errors import DataError, UserError
from modelworks.sources.folder import Folder

from .helpers_sources import rows_of


def make(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_classes(tmp_path: Path) -> None:
    root = make(
        tmp_path / "pets",
        {"cat/1.jpg": b"", "cat/deep/2.PNG": b"", "dog/3.jpeg": b"", ".DS_Store": b"", "dog/._3.jpeg": b""},
    )
    rows, quarantine = rows_of(Folder(path=root))
    assert rows == [
        {"image": "cat/1.jpg", "label": "cat"},
        {"image": "cat/deep/2.PNG", "label": "cat"},
        {"image": "dog/3.jpeg", "label": "dog"},
    ]
    assert quarantine.count == 0
    assert Folder(path=root).root == root


@pytest.mark.parametrize("valid", ["val", "valid", "Validation"])
def test_splits(tmp_path: Path, valid: str) -> None:
    root = make(
        tmp_path,
        {
            "train/yes/1.wav": b"",
            f"{valid}/yes/2.wav": b"",
            "test/no/3.wav": b"",
            "train/4.wav": b"",
            "5.wav": b"",
        },
    )
    rows, quarantine = rows_of(Folder(path=root))
    assert sorted((row["audio"], row["label"], row["split"]) for row in rows) == sorted(
        [
            ("train/yes/1.wav", "yes", "train"),
            (f"{valid}/yes/2.wav", "yes", "valid"),
            ("test/no/3.wav", "no", "test"),
        ]
    )
    assert quarantine.reasons == {"is in no class folder": 1, "is in no split's folder": 1}


def test_without_classes(tmp_path: Path) -> None:
    root = make(tmp_path, {"1.png": b"", "2.png": b""})
    assert rows_of(Folder(path=root))[0] == [{"image": "1.png"}, {"image": "2.png"}]


def test_texts_hold_the_text(tmp_path: Path) -> None:
    root = make(
        tmp_path,
        {
            "pos/1.txt": "很好 good".encode(),
            "neg/2.txt": "质量很差，不喜欢".encode("gbk"),
            "neg/3.txt": b" \n",
            "neg/4.txt": b"a\0b",
        },
    )
    rows, quarantine = rows_of(Folder(path=root))
    assert sorted((row["text"], row["label"]) for row in rows) == [
        ("很好 good", "pos"),
        ("质量很差，不喜欢", "neg"),
    ]
    assert quarantine.reasons == {"is empty": 1, "is not text": 1}


def test_other_files_are_counted(tmp_path: Path) -> None:
    root = make(
        tmp_path, {"a/1.png": b"", "a/2.png": b"", "b/x.wav": b"", "b/readme.md": b"hi", "b/noend": b""}
    )
    rows, quarantine = rows_of(Folder(path=root))
    assert len(rows) == 2
    assert quarantine.reasons == {"is no image file": 3}
    assert rows_of(Folder(path=root, modality="audio"))[0] == [{"audio": "b/x.wav", "label": "b"}]


def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside", {"secret.png": b"s"})
    root = make(tmp_path / "in", {"a/1.png": b""})
    (root / "a/out.png").symlink_to(outside / "secret.png")
    (root / "a/gone.png").symlink_to(root / "nothing.png")
    (root / "a/loop").symlink_to(root)
    (root / "a/same.png").symlink_to(root / "a/1.png")
    os.mkfifo(root / "a/pipe.png")
    rows, quarantine = rows_of(Folder(path=root))
    assert [row["image"] for row in rows] == ["a/1.png", "a/same.png"]
    assert {row["where"]: row["reason"] for row in quarantine.rows} == {
        "a/out.png": "is a link that leads outside the folder",
        "a/gone.png": "is a link to nothing",
        "a/loop": "is a link to a folder",
        "a/pipe.png": "is not a plain file",
    }


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    root = make(tmp_path / "f", {"a/1.png": b""})
    with open(os.fsencode(root) + b"/a/\xff.png", "wb"):
        pass
    rows, quarantine = rows_of(Folder(path=root))
    assert (len(rows), quarantine.reasons) == (1, {"has a name that is not UTF-8": 1})
    assert len(Folder(path=root).fingerprint()) == 64


def test_fingerprint_follows_content(tmp_path: Path) -> None:
    one, two = (make(tmp_path / name, {"a/1.png": b"x", "b/2.png": b"y"}) for name in ("one", "two"))
    assert Folder(path=one).fingerprint() == Folder(path=two).fingerprint()
    (two / "b/2.png").write_bytes(b"z")
    assert Folder(path=one).fingerprint() != Folder(path=two).fingerprint()


def test_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "pets.zip").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="unpack it and give the folder"):
        rows_of(Folder(path=tmp_path / "pets.zip"))
    with pytest.raises(DataError, match="no image, audio or text file in this folder"):
        rows_of(Folder(path=tmp_path / "empty"))
    with pytest.raises(UserError, match="did you mean 'empty'"):
        rows_of(Folder(path=tmp_path / "emty"))
