"""Every kind of task, found by its file, keeps the contract of core/task.py."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelworks.core import kinds
from modelworks.core.describe import descriptions
from modelworks.core.field import Field, Layout
from modelworks.core.settings import read, to_tree
from modelworks.core.task import Task
from modelworks.metrics import higher_is_better

KINDS = kinds.names("tasks")
TARGETS = {
    "index": Layout("index", (), size=3),
    "vector": Layout("vector", (1,)),
    "multihot": Layout("multihot", (3,), size=3),
    "none": None,
}


def fitted(kind, values, **settings):
    return kinds.find(Field, kind)(**settings).fit([pa.array(values)])


# Targets with values, for the kinds that learn one number, category or set of tags a row.
FIELDS = {
    "index": lambda: fitted("category", ["a", "b", "c", "b"], unknown="quarantine"),
    "vector": lambda: fitted("number", [1.0, 2.0, 4.0], missing="drop", indicator=False),
    "multihot": lambda: fitted("tags", ["a|b", "c"]),
}
STORED = {
    "index": np.array([0, 1, 2, 1], np.uint8),
    "vector": np.array([[-1.0], [0.2], [1.3], [0.0]], np.float32),
    "multihot": np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0]], np.uint8),
}


def own_form(kind):
    """The form of target that a kind recognises, or None."""
    found = {form: kind.recognise(layout) for form, layout in TARGETS.items()}
    best = max(found, key=found.get)
    return best if found[best] > 0 else None


SUPERVISED = [
    (name, own_form(kinds.find(Task, name))) for name in KINDS if own_form(kinds.find(Task, name)) in FIELDS
]


def test_there_are_kinds():
    assert {"classify", "multilabel", "regress", "adversarial"} <= set(KINDS)
    assert (
        dict(SUPERVISED).items()
        >= {"classify": "index", "regress": "vector", "multilabel": "multihot"}.items()
    )


@pytest.mark.parametrize("name", KINDS)
def test_settings_read_back_and_have_docstrings(name):
    kind = kinds.find(Task, name)
    task = kind()
    assert read(kind, {k: v for k, v in to_tree(task).items() if k != "kind"}) == task
    assert json.dumps(to_tree(task))
    assert set(descriptions(kind)) >= set(kind.model_fields)


@pytest.mark.parametrize("name", KINDS)
def test_direction_agrees_with_the_metrics(name):
    kind = kinds.find(Task, name)
    assert kind.primary
    assert kind.minimise != higher_is_better(kind.primary)


@pytest.mark.parametrize("name", KINDS)
def test_no_kind_claims_a_table_without_a_target(name):
    assert kinds.find(Task, name).recognise(None) == 0


def test_settings_are_read_without_torch():
    code = (
        "import sys\n"
        "from modelworks.core import kinds\n"
        "from modelworks.core.task import Task\n"
        "with kinds.lightly():\n"
        "    kinds.every(Task)\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )


@pytest.mark.parametrize("members", [0, 3])
@pytest.mark.parametrize("name, form", SUPERVISED)
def test_from_features_to_answer(name, form, members):
    torch.manual_seed(0)
    task, fields = kinds.find(Task, name)(target="y"), {"y": FIELDS[form]()}
    head = task.head(6, members, fields)
    output = head(torch.randn(4, *([members] if members else []), 6))
    batch = {"y": fields["y"].prepare(torch.from_numpy(STORED[form])), "row": torch.arange(4)}
    total, count = task.loss(output, batch)
    assert total.dim() == 0
    assert int(count) == 4
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())

    predicted = {key: values.detach().numpy() for key, values in task.predict(output).items()}
    assert all(len(values) == 4 for values in predicted.values())
    answer = task.answer(predicted, fields)
    assert len(answer["prediction"]) == 4
    assert all(len(column) == 4 for column in answer.values())

    meter = task.meter(fields, bootstrap=8)
    meter.update(predicted, {"y": batch["y"].numpy(), "row": np.arange(4)})
    found = meter.result()
    assert task.primary in found
    assert all(entry["low"] <= entry["high"] for entry in found.values() if "low" in entry)
    json.dumps(found, allow_nan=False)
    json.dumps(meter.details(), allow_nan=False)


@pytest.mark.parametrize("name, form", SUPERVISED)
def test_baseline_is_one_row_like_predict(name, form):
    task, fields = kinds.find(Task, name)(target="y"), {"y": FIELDS[form]()}
    predicted = task.predict(task.head(6, 0, fields)(torch.randn(4, 6)))
    found = task.baseline(fields, STORED[form])
    assert found.keys() == predicted.keys()
    for key, values in found.items():
        assert values.shape == (1, *predicted[key].shape[1:])
    meter = task.meter(fields, bootstrap=0)
    meter.update(
        {key: np.repeat(values, 4, 0) for key, values in found.items()},
        {"y": STORED[form], "row": np.arange(4)},
    )
    assert task.primary in meter.result()


@pytest.mark.parametrize("name, form", SUPERVISED)
def test_the_one_player_updates_everything(name, form):
    from modelworks.engine.network import Network

    task, fields = kinds.find(Task, name)(target="y"), {"y": FIELDS[form]()}

    class Body(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 6)

        def forward(self, batch):
            return self.layer(batch["x"])

    network = Network(Body(), task.head(6, 0, fields))
    (player,) = task.players(network)
    assert {key for key, _ in player.parameters} == {key for key, _ in network.named_parameters()}
    batch = {"x": torch.randn(4, 2), "y": fields["y"].prepare(torch.from_numpy(STORED[form]))}
    assert player.loss(batch)[1] == 4
