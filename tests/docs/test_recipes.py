"""Every recipe trains, at a tiny budget, and says of itself how to run it, how long it takes and what it gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modelworks.api import Run
from modelworks.cli import main

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))
TINY = ["--train.steps=2", "--evaluate.bootstrap=5", "--train.threads=1"]


def commands(recipe: Path) -> list[str]:
    """The commands in a recipe's header."""
    return re.findall(r"^# +modelworks (train .+)$", recipe.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_as_its_header_says(recipe: Path) -> None:
    assert commands(recipe)
    for line in commands(recipe):
        words = line.split()
        assert words[1] == str(recipe.relative_to(ROOT))
        assert main(["train", str(recipe), *words[2:], *TINY]) == 0
    name = recipe.stem
    run = Run(Path("runs") / name)
    run.verify()
    assert run.evaluation()["splits"]["test"]
    assert run.recipe_tree()["train"]["steps"] == 2


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_its_time_figure_and_machine(recipe: Path) -> None:
    text = recipe.read_text("utf-8")
    assert re.search(r"^# time +\S", text, re.MULTILINE)
    assert re.search(r"^# figure +\S", text, re.MULTILINE)
    assert re.search(r"^# machine +\S", text, re.MULTILINE)


def test_the_classics_are_the_five_listings() -> None:
    assert {path.stem for path in RECIPES if path.parent.name == "classics"} == {
        "one-sigmoid", "mnist-mlp", "digits-gan", "mlp-regressor", "small-cnn",
    }  # fmt: skip


def test_the_demo_builds_what_the_makefile_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "recipes/mnist-cnn.yaml" in makefile
    for target in ("demo", "test", "check", "bench", "docs"):
        assert re.search(rf"^{target}: ", makefile, re.MULTILINE), target
