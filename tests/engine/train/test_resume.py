"""What may change when a Run goes on is taken and told; all else is refused, all at once, and nothing is ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelworks
from modelworks.cli import main
from modelworks.core.run import RunFolder
from modelworks.core.settings import load_yaml
from modelworks.engine.train.resume import differences

ROWS = "a,b,id,y\n" + "".join(f"{n * 0.37 % 5:.2f},{n % 7},k{n},{'xy'[n % 2]}\n" for n in range(60))
BASE = ["--target=y", "--model=mlp", "--fields.id=ignore", "--name=r", "--quiet"]
FAST = ["--train.steps=3", "--evaluate.bootstrap=0", "--data.split.test=0.2", "--train.optimizer.lr=0.01"]


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """An unfinished Run of rows.csv."""
    (tmp_path / "rows.csv").write_text(ROWS)
    assert main(["train", "rows.csv", *BASE, *FAST]) == 0
    (tmp_path / "runs/r/manifest.json").unlink()
    return tmp_path / "runs/r"


def test_flags_and_settings_that_differ_are_refused_together(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "rows.csv", "--target=b", "--model=tabular", "--seed=4", "--task=regress", "--name=r",
               "--resume", "--train.optimizer.lr=0.5", "--data.split.test=0.3", "--data.clean.duplicates=drop",
               "--fields.a=ignore", "--fields.id=category", "--fields.b.scale=minmax", "--train.epochs=9"]  # fmt: skip
    before = (begun / "recipe.yaml").read_bytes()
    assert main(command) == 2
    said = capsys.readouterr().err
    for told in (
        "model: the Run has mlp, asked for is tabular",
        "seed: the Run has 0, asked for is 4",
        "target: the Run has y, asked for is b",
        "task: the Run has classify, asked for is regress",
        "train.optimizer.lr: the Run has 0.01, asked for is 0.5",
        "data.split.test: the Run has 0.2, asked for is 0.3",
        "fields.a: the Run has number, asked for is ignore",
        "fields.id: the Run has ignore, asked for is category",
        "fields.b.scale",
        "leave it out, or train under another --name",
    ):
        assert told in said
    assert "epochs" not in said  # may change
    assert (begun / "recipe.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "change, path",
    [({"model": "tabular"}, "model"), ({"seed": 3}, "seed"), ({"train": {"l2": 0.5}}, "train.l2"),
     ({"data": {"source": "rows.csv", "split": "random"}}, "data.split.by")],
)  # fmt: skip
def test_a_changed_recipe_file_is_refused(
    begun: Path, change: dict[str, Any], path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml

    recipe = {"data": "rows.csv", "name": "r", "target": "y", "model": "mlp"}
    Path("r.yaml").write_text(yaml.safe_dump({**recipe, **change}))
    assert main(["train", "r.yaml", "--resume"]) == 2
    assert f" {path}: the Run has" in capsys.readouterr().err
    Path("r.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["train", "r.yaml", "--resume", "--quiet"]) == 0


def test_what_may_change_is_taken_and_told(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    safe = ["--train.steps=5", "--train.patience=7", "--train.target_metric=0.0001", "--train.target_loss=0.0001",
            "--train.log_every=2", "--train.checkpoint_seconds=9", "--train.checkpoint_steps=2", "--train.threads=1",
            "--train.keep_checkpoints=3", "--train.guard=rewind", "--evaluate.gallery=1"]  # fmt: skip
    assert main(["train", "rows.csv", "--name=r", "--resume", *safe]) == 0
    said = capsys.readouterr().out
    assert "note    train.steps: 3 → 5; the learning rate now falls towards the new end" in said
    assert "note    train.threads: none → 1; sums are added in another order" in said
    assert "train.guard.action: " in said
    stored = load_yaml(begun / "recipe.yaml")
    assert stored["train"]["steps"] == 5
    assert stored["train"]["guard"]["action"] == "rewind"
    assert stored["train"]["optimizer"]["lr"] == 0.01
    assert RunFolder(begun).evaluation()["training"]["steps"] == 5
    # A complete Run has nothing left that could follow a change.
    assert main(["train", "rows.csv", "--name=r", "--resume", *safe]) == 0
    assert main(["train", "rows.csv", "--name=r", "--resume", "--train.steps=9"]) == 2
    assert "is complete" in capsys.readouterr().err
    assert main(["train", "rows.csv", "--name=r", "--resume", "--seed=9"]) == 2


def test_rows_may_move_but_not_change(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.csv").write_text(ROWS.replace("k59", "k58"))
    assert main(["train", "other.csv", "--name=r", "--resume"]) == 2
    assert "data.source.path: the Run has" in capsys.readouterr().err
    assert main(["train", "./rows.csv", "--name=r", "--resume", "--quiet"]) == 0
    (begun / "manifest.json").unlink()
    Path("rows.csv").rename("moved.csv")
    assert main(["train", "moved.csv", "--name=r", "--resume", "--quiet"]) == 0


def test_a_table_in_memory_is_given_again(tmp_path: Path) -> None:
    frame = {"a": [n * 0.37 % 5 for n in range(60)], "y": ["u", "v"] * 30}
    settings = {"train": {"steps": 2}, "model": "mlp"}
    modelworks.train(frame, "y", name="f", settings=settings, quiet=True)
    (tmp_path / "runs/f/manifest.json").unlink()
    other = {**frame, "a": [1.5] * 60}
    with pytest.raises(modelworks.UserError, match=r"data\.source"):
        modelworks.train(other, name="f", resume=True, quiet=True)
    assert modelworks.train(frame, name="f", resume=True, quiet=True).complete


trees = st.recursive(
    st.integers(0, 2) | st.none(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)


@given(trees, trees)
def test_trees_differ_where_they_differ(one: Any, other: Any) -> None:
    assert differences(one, one) == []
    assert bool(differences(one, other)) == (one != other)
