"""Recipes: every problem at once, in the user's words; flags, YAML and Python give the same tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelworks.core.errors import RecipeError, UserError
from modelworks.core.settings import dump_yaml, merge, overrides, parse_yaml, to_tree
from modelworks.engine.intake import draft
from modelworks.engine.recipe import Recipe


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("a,b,y\n" + "".join(f"{i},{i % 3},{i % 2}\n" for i in range(40)), "utf-8")
    return path


def problems(tree: dict[str, Any]) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        Recipe.check(tree, "r.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_all_problems_at_once(table: Path) -> None:
    found = problems(
        {
            "data": {"source": str(table), "split": {"tset": 0.2}},
            "model": {"kind": "resnet", "dept": 18},
            "task": {"kind": "clasify"},
            "train": {"epochs": -1, "optimizer": {"kind": "adamw", "lr": "fast"}, "batch_size": "huge"},
            "fields": {"a": {"kind": "number", "scale": "minimax"}},
            "sead": 1,
        }
    )
    text = "\n".join(found)
    assert "data.split.tset: split has no setting 'tset'; did you mean 'test'?" in text
    assert "model.dept: resnet has no setting 'dept'; did you mean 'depth'?" in text
    assert "task: there is no kind 'clasify' among tasks; did you mean 'classify'?" in text
    assert "train.epochs: wants greater than 0, got -1" in text
    assert "train.optimizer.lr" in text
    assert "train.batch_size" in text
    assert "fields.a.scale: got 'minimax'; did you mean 'minmax'?" in text
    assert "sead: recipe has no setting 'sead'; did you mean 'seed'?" in text
    assert len(found) == 8


def test_missing_file_suggests_a_name(table: Path) -> None:
    (message,) = problems({"data": str(table.with_name("row.csv"))})
    assert "rows.csv" in message


def test_flags_yaml_and_python_give_the_same_tree(table: Path, tmp_path: Path) -> None:
    flags = overrides(
        ["--model.kind=mlp", "--model.hidden=[8]", "--train.optimizer.lr=1e-3", "--fields.a.kind=number"]
    )
    by_flag = draft(str(table), flags, target="y", name="x")
    recipe = tmp_path / "x.yaml"
    recipe.write_text(
        f"name: x\ntarget: y\ndata: {table}\nmodel: {{kind: mlp, hidden: [8]}}\n"
        "train: {optimizer: {lr: 1e-3}}\nfields: {a: {kind: number}}\n",
        "utf-8",
    )
    by_yaml = draft(recipe, {})
    python = {
        "model": {"kind": "mlp", "hidden": [8]},
        "train": {"optimizer": {"lr": 0.001}},
        "fields": {"a": {"kind": "number"}},
    }
    by_python = draft(table, python, target="y", name="x")
    trees = [to_tree(Recipe.check(tree)) for tree in (by_flag, by_yaml, by_python)]
    assert trees[0] == trees[1] == trees[2]


def test_a_stored_tree_reads_back_as_itself(table: Path) -> None:
    recipe = Recipe.check(
        {
            "data": str(table),
            "model": {"kind": "vit", "depth": 3},
            "task": {"kind": "classify", "target": "y"},
        }
    )
    again = Recipe.check(parse_yaml(dump_yaml(to_tree(recipe))))
    assert to_tree(again) == to_tree(recipe)


def test_a_new_kind_drops_the_old_kinds_settings() -> None:
    assert merge({"kind": "resnet", "depth": 50}, {"kind": "vit"}) == {"kind": "vit"}
    assert merge({"kind": "resnet", "depth": 50}, "vit") == {"kind": "vit"}
    assert merge({"kind": "resnet", "depth": 50}, {"depth": 18}) == {"kind": "resnet", "depth": 18}
    assert merge("resnet", {"depth": 18}) == {"kind": "resnet", "depth": 18}


@pytest.mark.parametrize(
    "text, said",
    [
        ("a: !!python/object/apply:os.system ['echo hi']", "could not determine a constructor"),
        ("a: 1\na: 2", "given twice"),
        ("a: [1, 2", "line"),
        ("a:\n\t- 1", "line"),
        ("&a [*a]", ""),
        ("? {a: 1}\n: 2", "plain name"),
        ("a: " + "[" * 3000 + "]" * 3000, "deep"),
    ],
)
def test_hostile_yaml_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(UserError, match=said):
        draft(path, {})


def test_exponents_are_numbers() -> None:
    assert overrides(["--a=1e-3", "--b=3", "--c=yes please", "--d.e=null"]) == {
        "a": 0.001,
        "b": 3,
        "c": "yes please",
        "d": {"e": None},
    }


@pytest.mark.parametrize("flag", ["--a", "--=3", "a.b=3", "--a b=3"])
def test_what_is_no_setting_is_refused(flag: str) -> None:
    with pytest.raises(RecipeError, match="--a.b.c=VALUE"):
        overrides([flag])
