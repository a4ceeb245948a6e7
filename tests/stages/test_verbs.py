"""The verbs as a user types them, on small real-shaped data of every modality."""

from __future__ import annotations

import csv
import io
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelworks.cli import main

FAST = ["--train.steps=4", "--quiet"]


def table(path: Path, rows: int = 120) -> Path:
    rng = np.random.default_rng(0)
    words = ["good", "fine", "bad", "poor"]
    lines = ["age,city,joined,review,label"]
    for row in range(rows):
        kind = int(rng.integers(0, 2))
        word = words[2 * kind + int(rng.integers(0, 2))]
        age = "" if row % 17 == 0 else f"{rng.normal(30 + 10 * kind, 5):.1f}"
        lines.append(
            f"{age},{rng.choice(['Rome', 'Oslo', '北京'])},2024-0{1 + row % 9}-11,the film was {word} number {row},{'no' if kind else 'yes'}"
        )
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def pictures(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for label, colour in (("cat", 40), ("dog", 200)):
        (folder / label).mkdir(parents=True)
        for number in range(30):
            pixels = rng.integers(0, 50, (12, 12, 3), np.uint8) + np.uint8(colour)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def sounds(folder: Path) -> Path:
    for label, hertz in (("low", 200), ("high", 1800)):
        (folder / label).mkdir(parents=True)
        for number in range(25):
            t = np.arange(2000 + 40 * number) / 8000
            samples = (8000 * np.sin(2 * np.pi * hertz * t)).astype("<i2")
            with wave.open(str(folder / label / f"{number}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                file.writeframes(samples.tobytes())
    return folder


def run(*words: Any) -> int:
    return main([str(word) for word in words])


@pytest.mark.parametrize("make, model", [(table, "fusion"), (pictures, "cnn"), (sounds, "cnn")])
def test_train_predict_evaluate_report(
    tmp_path: Path, make: Any, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make(tmp_path / ("data.csv" if make is table else "data"))
    assert run("train", data, "--target", "label", "--name", "a", *FAST) == 0
    folder = tmp_path / "runs" / "a"
    listed = set(json.loads((folder / "manifest.json").read_text())["files"])
    assert {
        "recipe.yaml", "model.safetensors", "metrics.jsonl", "evaluation.json", "data.json", "report.html", "card.md",
        "environment.json", "fields/fields.json",
    } <= listed  # fmt: skip
    assert f"kind: {model}" in (folder / "recipe.yaml").read_text()
    assert run("predict", "a", data, "--output", "out.csv") == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8")))
    labels = {row["label"] for row in rows}
    assert len(rows) == {table: 120, pictures: 60, sounds: 50}[make]
    for row in rows:
        assert row["prediction"] in labels
        assert sum(float(row[f"probability_{label}"]) for label in labels) == pytest.approx(1, abs=1e-4)
    assert run("evaluate", "a", data, "--json") == 0
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    accuracy = np.mean([row["prediction"] == row["label"] for row in rows])
    assert result["splits"]["data"]["accuracy"]["value"] == pytest.approx(accuracy)
    assert run("report", "a") == 0
    assert run("runs") == 0
    assert "complete" in capsys.readouterr().out


def test_predictions_keep_order_and_count_what_is_odd(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = table(tmp_path / "data.csv")
    assert run("train", data, "--target", "label", "--name", "a", *FAST) == 0
    odd = tmp_path / "odd.csv"
    odd.write_text(
        "city,age,review\nAtlantis,31,the film was good\nOslo,not a number,fine\nRome,,\n", "utf-8"
    )
    assert run("predict", "a", odd, "--output", "out.jsonl") == 0
    told = capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [row["city"] for row in rows] == ["Atlantis", "Oslo", "Rome"]
    assert rows[0]["prediction"] in ("yes", "no")
    assert rows[1]["prediction"] is None
    assert "joined: column is missing: 3" in told
    assert "city: unknown category: 1" in told
    assert "1 rows have no prediction" in told
    errors = [
        json.loads(line) for line in (tmp_path / "out.jsonl.errors.jsonl").read_text("utf-8").splitlines()
    ]
    assert errors[0]["row"] == 1
    assert "age" in errors[0]["error"]


def test_standard_input_and_parquet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow.parquet as pq

    data = table(tmp_path / "data.csv")
    assert run("train", data, "--target", "label", "--name", "a", *FAST) == 0
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data.read_bytes())))
    assert run("predict", "a", "-", "--limit", "5") == 0
    assert len(list(csv.DictReader(capsys.readouterr().out.splitlines()))) == 5
    assert run("predict", "a", data, "--output", "out.parquet") == 0
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 120


def test_init_writes_what_train_would_do(tmp_path: Path) -> None:
    data = table(tmp_path / "data.csv")
    assert run("init", data, "--target", "label", "--name", "a", "--train.steps=4") == 0
    assert run("train", "a.yaml", "--quiet") == 0
    assert run("train", data, "--target", "label", "--name", "b", *FAST) == 0
    a, b = (
        (tmp_path / "runs" / name / "recipe.yaml").read_text("utf-8").replace("name: a", "name: b")
        for name in "ab"
    )
    assert a == b
    assert (tmp_path / "runs/a/model.safetensors").read_bytes() == (
        tmp_path / "runs/b/model.safetensors"
    ).read_bytes()


def test_a_changed_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = table(tmp_path / "data.csv")
    assert run("train", data, "--target", "label", "--name", "a", *FAST) == 0
    weights = tmp_path / "runs/a/model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    assert run("predict", "a", data) == 2
    assert "differs from its manifest" in capsys.readouterr().err


def test_resume_refuses_another_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = table(tmp_path / "data.csv")
    assert run("train", data, "--target", "label", "--name", "a", *FAST) == 0
    (tmp_path / "runs/a/manifest.json").unlink()
    assert (
        run(
            "train",
            data,
            "--target",
            "label",
            "--name",
            "a",
            "--resume",
            "--seed",
            "0",
            "--train.optimizer.lr=0.5",
            "--quiet",
        )
        == 2
    )
    assert "own recipe" in capsys.readouterr().err
    assert (
        run("train", data, "--target", "label", "--name", "a", "--resume", "--train.steps=6", "--quiet") == 0
    )
    assert run("train", data, "--target", "label", "--name", "a", "--quiet") == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, said",
    [
        (["trian", "x.csv"], "did you mean 'train'"),
        (["train", "nowhere.csv"], "nowhere.csv"),
        (["train"], "required"),
        (["train", "data.csv", "--targte", "x"], "did you mean '--target'"),
        (["train", "data.csv", "--target", "lable"], "did you mean 'label'"),
        (["train", "data.csv", "--target", "label", "--name", "../x"], "a name is"),
        (["train", "data.csv", "--target", "label", "--train.metric=acuracy"], "did you mean 'accuracy'"),
        (["train", "data.csv", "--target", "label", "--fields.agee.kind=number"], "did you mean 'age'"),
        (
            ["train", "data.csv", "--target", "label", "--model", "resnet", "--fields.review=ignore"],
            "resnet reads image",
        ),
        (["predict", "none", "data.csv"], "there is no Run"),
        (["list", "modles"], "did you mean 'models'"),
        (["completion", "bsh"], "did you mean 'bash'"),
    ],
)
def test_mistakes_are_told_in_one_screen(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table(tmp_path / "data.csv")
    assert run(*words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    assert len(told.splitlines()) <= 22


def test_schema_knows_every_kind_and_checks_a_stored_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("schema") == 0
    found = json.loads(capsys.readouterr().out)
    assert "models.resnet" in found["$defs"]
    assert found["$defs"]["models.resnet"]["properties"]["depth"]["default"] == 18
    refs = {part for part in json.dumps(found).split('"') if part.startswith("#/$defs/")}
    assert {ref.removeprefix("#/$defs/") for ref in refs} <= set(found["$defs"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_verbs(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("completion", shell) == 0
    assert "predict" in capsys.readouterr().out


def test_python_interface(tmp_path: Path) -> None:
    import pandas as pd

    import modelworks

    frame = pd.read_csv(table(tmp_path / "data.csv"))
    trained = modelworks.train(frame, target="label", name="p", quiet=True, settings={"train": {"steps": 4}})
    answers = trained.predict(frame.drop(columns="label")).to_pandas()
    assert list(answers["review"]) == list(frame["review"])
    assert set(answers["prediction"]) <= {"yes", "no"}
    assert trained.evaluate()["primary"] == "accuracy"
    assert trained.evaluate(frame)["rows"]["data"] == 120
    assert "<" in trained._repr_html_()
    assert "<table" in modelworks.open(frame)._repr_html_()
    assert "<" in modelworks.audit(frame, target="label")._repr_html_()
    assert modelworks.load("p").name == "p"
