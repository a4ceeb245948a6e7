"""The gallery of a regression: the rows farthest from the truth, with their inputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from modelworks.cli import main
from modelworks.engine.judge import _collect_residuals


def test_the_largest_residuals_are_kept() -> None:
    random = np.random.default_rng(0)
    prediction, truth = random.normal(size=90), random.normal(size=(90, 1))
    worst: list = []
    for start in range(0, 90, 30):
        part = slice(start, start + 30)
        _collect_residuals(worst, prediction[part], truth[part], np.arange(90)[part], 7)
    wanted = np.argsort(-np.abs(prediction - truth[:, 0]))[:7]
    assert [row for _, row, _, _ in sorted(worst, reverse=True)] == wanted.tolist()


def test_a_regression_shows_its_largest_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["x,word,y,split"]
    for i in range(80):
        split = "test" if i % 4 == 0 else "train"
        lines.append(f"{7 * i % 30},{'odd' if i % 2 else 'even'},{900 if i == 40 else 2 * i},{split}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    command = ["train", "t.csv", "--target", "y", "--task", "regress", "--name", "r", "--quiet"]
    command += ["--train.steps=20", "--train.threads=1"]
    monkeypatch.chdir(tmp_path)
    assert main(command) == 0
    run = tmp_path / "runs" / "r"
    first = json.loads((run / "gallery.json").read_text("utf-8"))[0]
    assert first["truth"] == 900
    assert first["confidence"] is None
    assert first["inputs"]["x"]["value"] == "10"
    page = (run / "report.html").read_text("utf-8")
    assert "Largest errors" in page
    assert "Most confident" not in page


def test_the_word_that_decides_is_highlighted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one word tells the classes apart; the mistakes, labelled wrongly on purpose, must point at it."""
    random = np.random.default_rng(0)
    filler = ["the", "film", "was", "long", "and", "seen", "by", "many"]
    lines = []
    for i in range(240):
        words = [filler[k] for k in random.integers(0, len(filler), 6)]
        words.insert(int(random.integers(0, 6)), "dull" if i % 2 else "great")
        split = "test" if i % 6 == 0 or i % 6 == 1 else "train"
        label = "np"[i % 2 == 0] if not (split == "test" and i < 60) else "pn"[i % 2 == 0]
        lines.append(json.dumps({"text": " ".join(words), "label": label, "split": split}))
    (tmp_path / "t.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            ["train", "t.jsonl", "--target=label", "--name=t", "--quiet", "--train.threads=1", "--model=bag"]
        )
        == 0
    )
    gallery = json.loads((tmp_path / "runs" / "t" / "gallery.json").read_text("utf-8"))
    assert len(gallery) >= 10
    for entry in gallery:
        shown = entry["inputs"]["text"]
        assert "".join(piece for piece, _ in shown["weights"]) == shown["value"]
        assert max(shown["weights"], key=lambda pair: pair[1])[0].strip() in ("dull", "great")
