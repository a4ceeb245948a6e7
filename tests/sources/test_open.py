"""What the user typed → the kind that is meant, or one line saying what would work."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pyarrow as pa
import pytest

import modelworks
from modelworks.core.errors import UserError
from modelworks.core.kinds import names
from modelworks.core.source import Quarantine
from modelworks.engine.data.open import source_for


@pytest.mark.parametrize(
    "name, kind",
    [("a.csv", "csv"), ("A.CSV", "csv"), ("a.tsv.gz", "csv"), ("a.parquet", "parquet"), ("a.jsonl", "jsonl"), ("a.json", "jsonl"),
     ("a.ndjson.gz", "jsonl"), ("a.xlsx", "excel"), ("a.ods", "excel"), ("a.txt", "text"), ("a.txt.gz", "text")],
)  # fmt: skip
def test_files(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).touch()
    assert source_for(str(tmp_path / name)).kind == kind
    assert source_for(tmp_path / name).kind == kind


def test_others(tmp_path: Path) -> None:
    (tmp_path / "data.csv").mkdir()
    assert source_for(tmp_path / "data.csv").kind == "folder"
    assert source_for("sample:digits").kind == "sample"
    assert source_for("hf:owner/name.csv").model_dump()["path"] == "owner/name.csv"
    assert source_for("hf:owner/name/config").config == "config"
    assert source_for({"a": [1]}).kind == "dataframe"
    source = source_for("sample:iris")
    assert source_for(source) is source


@pytest.mark.parametrize(
    "given, match",
    [
        ("reviws.csv", "did you mean 'reviews.csv'"),
        ("reviews", "did you mean 'reviews.csv'"),
        ("gone/x.csv", "there is no folder gone"),
        ("x.docx", "no source reads '.docx'.*what works: .*csv"),
        ("x.cvs", "did you mean '.csv'"),
        ("plain", "without an ending"),
        ("smple:digits", "did you mean 'sample:'"),
        ("sample:digts", "did you mean 'digits'"),
        ("https://example.org/a.csv", "download the file"),
        ("hf:a b", "no data set's name"),
        ("pets.zip", "unpack it"),
        ("", "no data was named"),
        (3, "is no table"),
    ],
)
def test_refused_with_what_works(tmp_path: Path, given: object, match: str) -> None:
    for name in ("reviews.csv", "x.docx", "x.cvs", "plain", "pets.zip"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=match) as caught:
        next(source_for(given).read(Quarantine()))
    assert "\n" not in str(caught.value)


def test_sources_work_without_torch_and_read_lightly(tmp_path: Path) -> None:
    """While torch is not loaded a kind's file is not imported as a whole; reading works all the same."""
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    code = (
        "import sys; from modelworks.engine.data.open import source_for; from modelworks.core.source import Quarantine\n"
        f"source = source_for({str(tmp_path / 't.csv')!r})\n"
        "assert 'pyarrow' not in sys.modules and 'numpy' not in sys.modules\n"
        "print(sum(batch.num_rows for batch in source.read(Quarantine())), len(source.fingerprint()))\n"
        "print(sum(batch.num_rows for batch in source_for({'a': [1, 2]}).read(Quarantine())))\n"
        "assert 'torch' not in sys.modules"
    )
    src = str(Path(modelworks.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": src},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "64", "2"]


def test_every_kind_is_here() -> None:
    assert set(names("sources")) >= {
        "csv",
        "dataframe",
        "excel",
        "folder",
        "hf",
        "jsonl",
        "parquet",
        "sample",
        "text",
    }


class _Rows:
    """Stands for one split of the hub's streaming client."""

    features = types.MappingProxyType({"label": types.SimpleNamespace(names=["no", "yes"])})

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def with_format(self, kind: str) -> _Rows:
        assert kind == "arrow"
        return self

    def iter(self, batch_size: int):
        for start in range(0, self.table.num_rows, batch_size):
            yield self.table.slice(start, batch_size)


def test_hub_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {
        name: _Rows(pa.table({"text": [name] * 300, "split": ["x"] * 300, "label": [0, 1, -1] * 100}))
        for name in ("train", "validation", "extra")
    }
    hub = types.SimpleNamespace(
        load_dataset=lambda path, config, revision, streaming: splits if path == "a/b" else 1 / 0
    )
    monkeypatch.setitem(sys.modules, "datasets", hub)
    quarantine = Quarantine()
    rows = [row for batch in source_for("hf:a/b").read(quarantine) for row in batch.to_pylist()]
    assert [row["split"] for row in rows] == ["train"] * 300 + ["valid"] * 300
    assert [row["label"] for row in rows] == ["no", "yes", None] * 200
    assert quarantine.reasons == {"split not read": 1}
    with pytest.raises(UserError, match="cannot be opened: division by zero"):
        next(source_for("hf:a/c").read(quarantine))
