"""Rows that were trained on are recognised among others, whatever they come from; memory is bounded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import log_loss

import modelworks
from modelworks.cli import main
from modelworks.core.dataset import Dataset
from modelworks.core.field import Field
from modelworks.core.kinds import find
from modelworks.engine.data import seen
from modelworks.engine.data.prepare import fit, prepare
from modelworks.engine.data.store import Store


def stores(tmp_path: Path, rows: int, shared: int) -> tuple[Store, Store]:
    """Two stores of numbers, texts and pictures of which `shared` rows are the same, in another order."""
    rng = np.random.default_rng(0)

    def table(numbers: np.ndarray) -> pa.Table:
        words = [" ".join(f"w{n % 50}" for n in range(int(k), int(k) + int(k) % 7)) for k in numbers]
        pictures = np.stack(
            [np.random.default_rng(int(k)).integers(0, 255, (5, 5, 3), np.uint8) for k in numbers]
        )
        return pa.table(
            {
                "n": numbers.astype(float),
                "t": words,
                "p": pa.FixedShapeTensorArray.from_numpy_ndarray(pictures),
            }
        )

    first = np.arange(rows)
    second = rng.permutation(np.concatenate([first[:shared], np.arange(10_000, 10_000 + rows - shared)]))
    one, two = (Dataset.from_batches(table(numbers).to_batches(50)) for numbers in (first, second))
    fields = fit({"n": find(Field, "number")(), "t": find(Field, "text")(), "p": find(Field, "image")()}, one)
    return prepare(one, fields, tmp_path / "s").store("train"), prepare(two, fields, tmp_path / "s").store(
        "train"
    )


@pytest.mark.parametrize("shared", [0, 1, 37, 120])
def test_shared_rows_are_counted_exactly(tmp_path: Path, shared: int) -> None:
    one, two = stores(tmp_path, 120, shared)
    found = seen.recognised(seen.remember(one), two)
    assert found == seen.Seen(shared, 120, False)


def test_more_rows_than_are_kept_are_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "KEPT", 100)
    one, two = stores(tmp_path, 600, 300)
    kept = seen.remember(one)
    assert len(kept["seen.hashes"]) == 100
    found = seen.recognised(kept, two)
    assert found is not None
    assert found.sampled
    assert found.rows == pytest.approx(300, abs=90)  # 100 looked at: three standard deviations


def test_padding_and_chunks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = stores(tmp_path, 60, 0)
    whole = np.concatenate(list(seen._hashes(one)))
    monkeypatch.setattr(seen, "_VALUES", 1)
    assert (np.concatenate(list(seen._hashes(one))) == whole).all()
    assert len(set(whole.tolist())) == 60


def test_evaluate_shows_the_baseline_and_warns_of_rows_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=200).round(4), rng.choice(["u", "v", "w"], 200, p=[0.6, 0.3, 0.1])
    lines = [f"{a},{b}" for a, b in zip(x, y, strict=True)]
    (tmp_path / "rows.csv").write_text("x,y\n" + "\n".join(lines) + "\n")
    assert (
        main(["train", "rows.csv", "--target=y", "--model=mlp", "--name=r", "--train.steps=2", "--quiet"])
        == 0
    )
    trained = json.loads((tmp_path / "runs/r/data.json").read_text())["cleaning"]["rows"]["train"]
    capsys.readouterr()
    assert main(["evaluate", "r", "rows.csv"]) == 0
    said = capsys.readouterr().out
    assert f"warning: {trained} of 200 rows are among those that the Run trained on" in said
    assert "baseline" in said
    # The same rows from memory, numbers instead of text.
    result = modelworks.load("r").evaluate({"x": x.tolist(), "y": y.tolist()})
    assert result["trained_on"] == {"rows": trained, "estimate": False}
    new = {"x": (x + 100).tolist(), "y": y.tolist()}
    result = modelworks.load("r").evaluate(new)
    assert result["trained_on"]["rows"] == 0
    dummy = DummyClassifier(strategy="most_frequent").fit(x[:, None], y)
    assert result["baseline"]["data"]["accuracy"]["value"] == pytest.approx(dummy.score(x[:, None], y))
    prior = [(y == label).mean() for label in "uvw"]
    assert result["baseline"]["data"]["log_loss"]["value"] == pytest.approx(
        log_loss(y, [prior] * 200), rel=0.02
    )
    (tmp_path / "new.csv").write_text("x,y\n101.5,u\n102.5,v\n")
    assert main(["evaluate", "r", "new.csv"]) == 0
    assert "warning" not in capsys.readouterr().out
