"""A compressed Run is a Run: it answers, is judged, writes, verifies, and refuses damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelworks.cli import main
from modelworks.core.errors import UserError
from modelworks.core.run import RunFolder
from modelworks.engine.checkpoint import read_tensors
from modelworks.engine.predictor import Predictor
from modelworks.stages.compress import compress, parsed

TEXT = "\n".join(f"Line {n}: the quick brown fox jumps over {n % 7} lazy dogs." for n in range(200))
QUICK = ["--train.threads=1", "--evaluate.bootstrap=20", "--evaluate.gallery=2", "--quiet"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a text, and a trained Run of each."""
    folder = tmp_path_factory.mktemp("compress")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MODELWORKS_STORE", str(folder / "store"))
        random = np.random.default_rng(0)
        x = random.normal(size=(500, 6))
        said = np.where(x[:, 0] * x[:, 1] + x[:, 2] > 0, "yes", "no")
        rows = [",".join([*(f"{v:.3f}" for v in row), word]) for row, word in zip(x, said, strict=True)]
        (folder / "t.csv").write_text("a,b,c,d,e,f,y\n" + "\n".join(rows) + "\n")
        (folder / "t.txt").write_text(TEXT)
        small = ["--model=mlp", "--model.width=96", "--train.epochs=8"]
        assert main(["train", "t.csv", "--target=y", "--name=table", *small, *QUICK]) == 0
        text = ["--fields.text.length=16", "--model.depth=2", "--model.width=64", "--model.heads=2"]
        assert (
            main(["train", "t.txt", "--task=language", "--name=text", "--train.steps=20", *text, *QUICK]) == 0
        )
    return folder


@pytest.fixture(autouse=True)
def _there(place: Path, monkeypatch: pytest.MonkeyPatch, _own_place: None) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("MODELWORKS_STORE", str(place / "store"))


def made(name: str, target: str, child: str) -> RunFolder:
    found = RunFolder(Path("runs") / child)
    return found if found.complete else compress(name, target, child, steps=0, quiet=True)


def answers(run: RunFolder) -> dict[str, list[object]]:
    asked = pa.table({name: np.random.default_rng(1).normal(size=50) for name in "abcdef"})
    return Predictor.load(run).predict(asked.to_batches()[0])


def test_a_table_s_run_in_a_third_of_the_bytes_answers_as_its_parent() -> None:
    parent, child = RunFolder.find("table"), made("table", "size=0.33", "table-small")
    child.verify()
    sizes = [(run.path / "model.safetensors").stat().st_size for run in (child, parent)]
    assert sizes[0] <= 0.33 * sizes[1]
    told = child.json("compression.json")
    rows = told["table"]
    assert rows[0]["what"] == "table"
    chosen = next(row for row in rows if row["what"] == told["chosen"])
    assert chosen["size_bytes"] == sizes[0]
    assert chosen["memory_mb"] > 50
    assert chosen["latency_ms"] > 0
    assert chosen["max_difference"] < 0.1
    # The same judge on the same rows: evaluation.json of the child is what the table says.
    metric = child.evaluation()["splits"]["test"][told["metric"]]
    assert metric["value"] == pytest.approx(chosen["quality"]["value"])
    assert parent.evaluation()["splits"]["test"][told["metric"]]["value"] == pytest.approx(
        rows[0]["quality"]["value"]
    )
    mine, theirs = answers(child), answers(parent)
    assert np.mean([a == b for a, b in zip(mine["prediction"], theirs["prediction"], strict=True)]) > 0.9
    np.testing.assert_allclose(mine["probability_yes"], theirs["probability_yes"], atol=0.1)
    assert "Compression" in (child.path / "report.html").read_text()
    assert "## Compression" in (child.path / "card.md").read_text()
    assert "## Compression" not in (parent.path / "card.md").read_text()
    kinds = {tensor.dtype for tensor in read_tensors(child.path / "model.safetensors").values()}
    assert torch.int8 in kinds


def test_the_command_line_predicts_and_evaluates_it(capsys: pytest.CaptureFixture[str]) -> None:
    made("table", "size=0.33", "table-small")
    assert main(["predict", "table-small", "t.csv", "--output", "answers.csv"]) == 0
    assert Path("answers.csv").read_text().count("\n") == 501
    assert main(["evaluate", "table-small", "t.csv", "--bootstrap=10"]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_a_target_out_of_reach_is_an_error_that_names_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--name", "never", "--steps", "0", "--tries", "4", "--quiet"]
    assert main(["compress", "table", "--target", "size=0.01", *flags]) == 2
    said = capsys.readouterr().err
    assert "was not reached" in said
    assert "of the bytes" in said
    assert not Path("runs/never").exists()


def test_the_smallest_that_loses_little() -> None:
    child = made("table", "drop=3", "table-drop")
    told = child.json("compression.json")
    chosen = next(row for row in told["table"] if row["what"] == told["chosen"])
    assert (told["split"], told["chosen_on"]) == ("test", "valid")
    assert chosen["price"] <= 3
    assert ("test" in told["target"]["met_on"]) == (chosen["lost"] <= 3)
    within = [row["size_bytes"] for row in told["table"][1:] if row["price"] <= 3]
    assert chosen["size_bytes"] == min(within)
    assert chosen["size_share"] < 0.3


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told["edits"].append({"kind": "factorise", "ranks": {"model.nothing": 3}}),
        lambda told: told["edits"][0].update(layers={"model": {}}),
        lambda told: told.update(edits={"kind": "quantise"}),
        lambda told: told.update(edits=[]),
    ],
)
def test_a_run_whose_edits_are_not_its_own_is_refused(change, tmp_path: Path) -> None:
    import shutil

    child = made("table", "size=0.33", "table-small")
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(child.path, copy.path)
    told = json.loads((copy.path / "compression.json").read_text())
    change(told)
    (copy.path / "compression.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="differs from its manifest"):
        Predictor.load(copy)
    copy.seal()  # by a stranger who knows how
    with pytest.raises(UserError):
        Predictor.load(copy)


_BODY = [
    "--model=transformer",
    "--fields.text.length=16",
    "--model.depth=1",
    "--model.width=32",
    "--model.heads=2",
]


@pytest.mark.parametrize(
    "flags",
    [
        ["t.csv", "--target=y", "--model=mlp", "--task.kind=classify", "--task.class_weights=balanced"],
        ["t.txt", "--task=mask", *_BODY],
        ["t.txt", "--task=language", *_BODY, "--model.positions=learned"],
    ],
    ids=["class weights", "mask", "learned positions"],
)
def test_what_the_head_learned_of_the_data_judges_the_compressed_one_too(
    flags: list[str], request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id.replace(" ", "-")
    assert main(["train", *flags, f"--name={name}", "--train.steps=4", *QUICK]) == 0
    parent, child = RunFolder.find(name), made(name, "size=0.5", f"{name}-small")
    metric = parent.evaluation()["primary"]
    was, now = (run.evaluation()["splits"]["test"][metric]["value"] for run in (parent, child))
    assert now == pytest.approx(was, rel=0.05)
    assert child.evaluation()["splits"]["test"]["loss"]["value"] == pytest.approx(
        parent.evaluation()["splits"]["test"]["loss"]["value"], rel=0.05
    )


def test_a_language_model_writes_and_is_written_on(capsys: pytest.CaptureFixture[str]) -> None:
    from modelworks.stages._speak import opened

    child = made("text", "size=0.33", "text-small")
    told = child.json("compression.json")
    assert told["metric"] == "perplexity"
    assert told["lost_in"] == "%"
    chosen = next(row for row in told["table"] if row["what"] == told["chosen"])
    assert chosen["lost"] < 2
    kinds = [type(module).__name__ for module in opened("text-small").network.modules()]
    assert "PackedLinear" in kinds
    weights = {
        module.weights for module in opened("text-small").network.modules() if hasattr(module, "weights")
    }
    assert weights == {"int8"}
    assert (
        main(["generate", "text-small", "--prompt", "Line ", "--max-tokens", "8", "--temperature", "0"]) == 0
    )
    assert capsys.readouterr().out
    settings = ["--init", "text-small", "--task=language", "--name=again", "--train.steps=1"]
    assert main(["train", "t.txt", *settings, *QUICK]) == 0
    found = RunFolder.find("again").json("init.json")
    assert not found["new"]
    assert not found["unfit"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("size=0.25", ("size", 0.25, "")),
        ("size=2MB", ("size", 2e6, "bytes")),
        ("size = 300 kb", ("size", 3e5, "bytes")),
        ("latency=.5", ("latency", 0.5, "")),
        ("latency=2ms", ("latency", 2.0, "ms")),
        ("latency=500us", ("latency", 0.5, "ms")),
        ("drop=0.5", ("drop", 0.5, "points")),
        ("drop=0", ("drop", 0.0, "points")),
    ],
)
def test_targets(text: str, wanted: tuple[str, float, str]) -> None:
    assert parsed(text) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "text", ["", "size", "size=", "size=2", "size=0", "size=-1", "size=1kg", "drop=1MB", "speed=2", "latency=2", "size=nan"]
)  # fmt: skip
def test_targets_that_say_nothing(text: str) -> None:
    with pytest.raises(UserError, match="--target"):
        parsed(text)


def test_what_cannot_be_compressed_is_said_in_one_line() -> None:
    child = made("table", "size=0.33", "table-small")
    with pytest.raises(UserError, match="is compressed already"):
        compress(child, "size=0.5", "twice", quiet=True)
    with pytest.raises(UserError, match="is there already"):
        compress("table", "size=0.5", "table-small", quiet=True)
    with pytest.raises(UserError, match="is the Run that"):
        compress("table", "size=0.5", "table", quiet=True)
    with pytest.raises(UserError, match="there is no such edit"):
        compress("table", "size=0.5", "other", only=["shrink"], quiet=True)
    Path("t.csv").rename("moved.csv")
    try:
        with pytest.raises(UserError, match="--data.source.path"):
            compress("table", "size=0.5", "other", quiet=True)
        moved = {"source": {"path": "moved.csv"}}
        compress("table", "size=0.4", "moved", data=moved, tries=1, steps=0, quiet=True).verify()
    finally:
        Path("moved.csv").rename("t.csv")
