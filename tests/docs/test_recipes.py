"""Every recipe trains, at a tiny budget, and says of itself how to run it, how long it takes and what it gives."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path

import pytest

from modelworks.api import Run
from modelworks.cli import main

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))
TINY = ["--train.steps=2", "--evaluate.bootstrap=5", "--train.threads=1"]
_SPLITS = ("train", "valid", "test")
POEM = "白日依山盡黃河入海流欲窮千里目更上一層樓春眠不覺曉處處聞啼鳥夜來風雨聲花落知多少"
STAND_INS = {
    "news.csv": "title,topic,split\n" + "".join(
        f"今日新闻{n},{'stocks' if n % 2 else 'sports'},{'test' if n > 40 else 'train'}\n" for n in range(60)
    ),
    "multi30k.jsonl": "".join(
        f'{{"en": "{n} dogs run.", "de": "{n} Hunde laufen.", "split": "{_SPLITS[n % 3]}"}}\n' for n in range(60)
    ),
    "shakespeare.jsonl": "".join(
        json.dumps({"text": "To be, or not to be: that is the question.\n" * 9, "split": split}) + "\n" for split in _SPLITS
    ),
    "dialogsum.jsonl": "".join(
        f'{{"dialogue": "A: {n}? B: Yes.", "summary": "B says {n}.", "split": "{_SPLITS[n % 3]}"}}\n' for n in range(60)
    ),
}  # fmt: skip
"""Files that recipes want and that we can do without."""
SMALLER = {"tang-poems": "poems.jsonl"}
"""Recipes on samples of tens of megabytes, and what stands in for them."""
STAND_INS["poems.jsonl"] = "".join(
    json.dumps({"text": "，".join("".join(random.Random(n).choices(POEM, k=5)) for _ in range(4))}) + "\n"
    for n in range(80)
)


def commands(recipe: Path) -> list[str]:
    """The commands in a recipe's header."""
    return re.findall(r"^# +modelworks (train .+)$", recipe.read_text("utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Runs that several recipes want are kept."""
    return tmp_path_factory.mktemp("shelf")


def provide(recipe: Path, shelf: Path) -> None:
    """What a recipe says that it wants: another recipe's Run, or a file; skip where it cannot be had here."""
    for wanted in re.findall(r"^# wants +(\S+)$", recipe.read_text("utf-8"), re.MULTILINE):
        first = next((one for one in RECIPES if wanted == f"runs/{one.stem}"), None)
        if first is not None:
            if not (shelf / first.stem).exists():
                provide(first, shelf)
                assert main(["train", str(first), *TINY, "--quiet"]) == 0
                shutil.copytree(wanted, shelf / first.stem)
            shutil.copytree(shelf / first.stem, wanted, dirs_exist_ok=True)
        elif wanted in STAND_INS:
            Path(wanted).write_text(STAND_INS[wanted], "utf-8")
        elif not Path(wanted).exists():
            pytest.skip(f"{wanted} is not here")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_as_its_header_says(recipe: Path, shelf: Path) -> None:
    assert commands(recipe)
    provide(recipe, shelf)
    smaller = SMALLER.get(recipe.stem)
    if smaller:
        Path(smaller).write_text(STAND_INS[smaller], "utf-8")
    for line in commands(recipe):
        words = line.split()
        assert words[1] == str(recipe.relative_to(ROOT))
        assert (
            main(
                ["train", str(recipe), *words[2:], *TINY, *([f"--data.source={smaller}"] if smaller else [])]
            )
            == 0
        )
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
