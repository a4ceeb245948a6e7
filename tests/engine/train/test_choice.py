"""Kind-dependent settings: defaults, short form, refusal with the right path and list."""

import subprocess
import sys
from pathlib import Path

import pytest

import modelworks
from modelworks.core.errors import RecipeError
from modelworks.core.settings import Settings, read, to_tree
from modelworks.engine.train.optim import KINDS, Optimizer
from modelworks.engine.train.schedule import KINDS as SCHEDULES
from modelworks.engine.train.schedule import Schedule


class _Tree(Settings):
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()


def test_short_form_is_the_kind():
    tree = read(_Tree, {"optimizer": "adam", "schedule": "cosine"})
    assert (tree.optimizer.kind, tree.schedule.kind) == ("adam", "cosine")
    assert read(_Tree, to_tree(tree)) == tree


def test_a_setting_of_another_kind_is_refused_at_its_path():
    with pytest.raises(RecipeError) as caught:
        read(
            _Tree,
            {"optimizer": {"kind": "adagrad", "momentum": 0.9}, "schedule": {"kind": "linear", "power": 2}},
        )
    first, second = caught.value.problems
    assert first.where == "optimizer.momentum"
    assert "adagrad has no setting 'momentum'" in first.message
    assert "initial_accumulator_value" in first.remedy
    assert "sgd" in first.remedy
    assert second.where == "schedule.power"


def test_every_table_entry_is_a_setting():
    for kind, names in KINDS.items():
        assert set(names) <= set(Optimizer.model_fields)
        assert Optimizer(kind=kind).hyper == dict(names)
    for names in SCHEDULES.values():
        assert set(names) <= set(Schedule.model_fields)
    assert set(KINDS) == set(Optimizer.model_fields["kind"].annotation.__args__)
    assert set(SCHEDULES) == set(Schedule.model_fields["kind"].annotation.__args__)


@pytest.mark.parametrize(
    "bad",
    [{"betas": [0.9, 1.0]}, {"lr": -1}, {"kind": "sgd", "nesterov": True}, {"kind": "rprop", "etas": [2, 3]}],
)
def test_bad_values_are_refused(bad):
    with pytest.raises(RecipeError):
        Optimizer(**bad)


def test_settings_import_neither_torch_nor_numpy():
    modules = ", ".join(
        f"modelworks.engine.{module}"
        for module in (
            "train.optim",
            "train.schedule",
            "train.guard",
            "train.lr_find",
            "data.split",
            "data.clean",
        )
    )
    code = f"import sys, {modules}; print([m for m in ('torch', 'numpy', 'pyarrow') if m in sys.modules])"
    source = Path(modelworks.__file__).parents[1]
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
