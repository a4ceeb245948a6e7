"""Distillation: the loss is the paper's, the lessons are the teacher's answers row by row, the Run is like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

import modelworks
from modelworks.core.errors import RecipeError, UserError
from modelworks.core.run import RunFolder
from modelworks.engine.intake import draft, take_in
from modelworks.engine.predictor import Predictor
from modelworks.engine.train.teacher import lessons
from modelworks.fields.category import Category
from modelworks.fields.number import Number
from modelworks.layers.linear_cross_entropy import linear_divergence
from modelworks.tasks.classify import Classify
from modelworks.tasks.language import Language, Scores
from modelworks.tasks.regress import Regress

torch.set_num_threads(1)
QUICK = {
    "steps": 40,
    "epochs": None,
    "batch_size": 64,
    "threads": 1,
    "optimizer": {"kind": "adam", "lr": 0.02},
}
GENERATOR = torch.Generator().manual_seed(0)
STUDENT, TEACHER = torch.randn(2, 6, 3, generator=GENERATOR)


def classes(*names: str) -> dict:
    return {"y": Category(unknown="quarantine").fit([pa.array([*names])])}


def divergence(teacher: torch.Tensor, student: torch.Tensor, temperature: float) -> float:
    """Hinton et al. 2015 by hand: T² Σ p log(p / q)."""
    p, q = (x.double().div(temperature).exp() for x in (teacher, student))
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    return float(temperature**2 * (p * (p / q).log()).sum())


# ------------------------------------------------------------------------------------------- losses
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_imitation_is_the_papers(temperature: float) -> None:
    task, fields = Classify(target="y"), classes("a", "b", "c")
    lesson = task.lesson(TEACHER, fields, fields)
    assert torch.allclose(lesson, TEACHER.log_softmax(1))
    found = task.imitate(STUDENT, lesson, {}, temperature)
    assert float(found) == pytest.approx(divergence(TEACHER, STUDENT, temperature), rel=1e-5)
    members = torch.stack([STUDENT, STUDENT + TEACHER], 1)
    both = [divergence(TEACHER, one, temperature) for one in members.unbind(1)]
    assert float(task.imitate(members, lesson, {}, temperature)) == pytest.approx(np.mean(both), rel=1e-5)


def test_the_gradient_does_not_fade_with_the_temperature() -> None:
    """At high T the gradient is (z − v) / C of zero-mean logits, whatever T is (the paper's equation 4)."""
    task, fields = Classify(target="y"), classes("a", "b", "c")
    student = STUDENT.double().requires_grad_()
    task.imitate(student, task.lesson(TEACHER, fields, fields), {}, 200.0).backward()
    centred = [x - x.mean(1, keepdim=True) for x in (STUDENT, TEACHER)]
    torch.testing.assert_close(student.grad.float(), (centred[0] - centred[1]) / 3, atol=5e-3, rtol=0)


def test_one_unit_learns_from_two_and_the_other_way_round() -> None:
    fields = classes("no", "yes")
    one, two = Classify(target="y", units="one"), Classify(target="y")
    logit = torch.randn(5, 1, generator=GENERATOR)
    pair = torch.cat([torch.zeros(5, 1), logit], 1)
    assert torch.allclose(one.lesson(logit, fields, fields), two.lesson(pair, fields, fields), atol=1e-6)
    assert float(one.imitate(logit, two.lesson(pair, fields, fields), {}, 3.0)) == pytest.approx(0, abs=1e-5)


def test_classes_are_told_by_name() -> None:
    task = Classify(target="y")
    theirs = {
        "y": Category(unknown="quarantine", order="frequent").fit([pa.array(["c", "c", "a", "b", "b", "b"])])
    }
    ours = classes("a", "b", "c")
    known = theirs["y"].decode(np.arange(3))
    lesson = task.lesson(TEACHER, theirs, ours)
    for code, name in enumerate("abc"):
        assert torch.allclose(lesson[:, code], TEACHER.log_softmax(1)[:, known.index(name)])
    with pytest.raises(UserError, match="does not know the class 'd'"):
        task.lesson(TEACHER, theirs, classes("a", "b", "d"))


def test_numbers_are_told_in_the_students_scale() -> None:
    task = Regress(target="y")
    theirs = {"y": Number(missing="drop", indicator=False).fit([pa.array([90.0, 110.0])])}
    ours = {"y": Number(missing="drop", indicator=False).fit([pa.array([0.0, 400.0])])}
    lesson = task.lesson(torch.tensor([[0.0], [1.0]]), theirs, ours)  # 100 and 110
    assert ours["y"].decode(lesson.numpy()) == pytest.approx([100, 110], rel=1e-5)
    output = torch.randn(2, 1, generator=GENERATOR)
    assert float(task.imitate(output, lesson, {}, 9.0)) == pytest.approx(
        float(F.mse_loss(output, lesson, reduction="sum"))
    )


@pytest.mark.parametrize("limit", [1 << 20, 40])
def test_language_models_imitate_every_token_that_counts(limit: int) -> None:
    x_ND, told_ND = torch.randn(2, 9, 4, generator=GENERATOR)
    weight_VD, told_VD = torch.randn(2, 11, 4, generator=GENERATOR)
    counted = torch.arange(9) % 3 != 0
    x_ND.requires_grad_()
    found = linear_divergence((x_ND, weight_VD, 5.0), (told_ND, told_VD, None), counted, 2.0, limit)
    logits = 5.0 * torch.tanh(x_ND @ weight_VD.T / 5.0)
    log_p = (told_ND @ told_VD.T / 2).log_softmax(-1)
    expected = F.kl_div((logits / 2).log_softmax(-1), log_p, reduction="none", log_target=True)[counted].sum()
    torch.testing.assert_close(found, expected)
    (one,), (other,) = (torch.autograd.grad(y, x_ND) for y in (found, expected))
    torch.testing.assert_close(one, other)
    task = Language(target="t")
    batch = {"t.next": torch.where(counted, 1, -1)[None]}
    total = task.imitate(Scores(x_ND[None], weight_VD, 5.0), Scores(told_ND[None], told_VD, None), batch, 2.0)
    assert float(total.detach()) == pytest.approx(4 * float(expected.detach()), rel=1e-5)


# ------------------------------------------------------------------------------------------- Runs
def frame(rows: int = 400) -> dict[str, list]:
    drawn = np.random.default_rng(0).normal(size=(rows, 4))
    names = ["low", "middle", "high"]
    labels = [names[int(x)] for x in np.digitize(drawn[:, 0] + drawn[:, 1] ** 2, [0.3, 1.5])]
    return {f"x{n}": drawn[:, n].tolist() for n in range(4)} | {"y": labels}


def train(data: dict, target: str, name: str, model: dict, **settings: object) -> modelworks.Run:
    given = {"model": {"kind": "mlp", **model}, "train": QUICK | settings}
    return modelworks.train(data, target, name=name, settings=given, quiet=True)


def test_a_student_hears_its_teacher_on_every_row_and_is_a_run_like_any_other() -> None:
    data, small = frame(), {"width": 16, "depth": 1}
    teacher = train(data, "y", "big", {"width": 64})
    distil = {"teacher": "big", "temperature": 3.0, "weight": 1.0}
    taught = train(data, "y", "small", small, distil=distil, steps=200)
    alone = train(data, "y", "alone", small, steps=200)
    assert taught.recipe_tree()["task"] == alone.recipe_tree()["task"]
    answers = [run.predict(data).to_pandas() for run in (teacher, taught, alone)]
    chances = [torch.tensor(a[[c for c in a if c.startswith("probability_")]].to_numpy()) for a in answers]
    far = [float((one - chances[0]).abs().mean()) for one in chances[1:]]
    assert far[0] < 0.75 * far[1], far  # taught by the teacher alone, it says what the teacher says
    assert taught.evaluate(data)["splits"]["data"]["accuracy"]["value"] > 0.5
    assert Predictor.load(RunFolder("runs/small")).task.kind == "classify"


def test_live_and_stored_lessons_are_the_same_where_nothing_is_augmented() -> None:
    data, losses = frame(), []
    train(data, "y", "big", {"width": 32})
    for live in (False, True):
        distil = {"teacher": "big", "live": live}
        run = train(data, "y", f"live-{live}", {"width": 8}, steps=5, distil=distil, log_every=1)
        losses.append([line["metrics"]["loss"] for line in run.metrics() if line["split"] == "train"])
    assert len(losses[0]) >= 5
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_a_teacher_may_read_the_rows_in_its_own_way() -> None:
    data = frame()
    bounded = {f"x{n}": {"scale": "minmax"} for n in range(4)}
    given = {"model": {"kind": "mlp"}, "train": QUICK, "fields": bounded}
    modelworks.train(data, "y", name="big", settings=given, quiet=True)
    taken = take_in(draft(data, {"train": {"distil": "big", "steps": 1}}, target="y", model="mlp"))
    told = lessons(taken)
    assert told is not None
    store = taken.rows("train")
    rows = store.row_numbers(np.arange(len(store)))
    said = modelworks.load("big").predict({name: [column[r] for r in rows] for name, column in data.items()})
    labels = taken.fields["y"].decode(np.arange(3))
    chances = np.stack([said[f"probability_{label}"].to_numpy() for label in labels], 1)
    np.testing.assert_allclose(told.exp().numpy(), chances, atol=1e-5)


def test_what_cannot_be_taught_is_refused() -> None:
    data = frame()
    train(data, "y", "big", {}, steps=1)
    with pytest.raises(UserError, match="no Run 'bgi'"):
        train(data, "y", "a", {}, distil="bgi")
    with pytest.raises(RecipeError, match="another task, classify"):
        train(data, "x0", "b", {}, distil="big")
    other = {**data, "x1": [x * 2 for x in data["x1"]]}
    with pytest.raises(RecipeError, match="must read what the student reads"):
        train(other, "y", "c", {}, distil={"teacher": "big", "live": True})


def test_a_language_model_is_taught_live(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"To be, or not to be: that is question {n}."}) for n in range(60)]
    (tmp_path / "text.jsonl").write_text("\n".join(lines) + "\n")
    model = {"kind": "transformer", "width": 32, "depth": 1, "heads": 2}
    tiny = {"batch_size": 4, "epochs": None, "steps": 30, "threads": 1}
    given = {"task": "language", "fields": {"text": {"length": 32, "tokens": "char"}}, "model": model}
    modelworks.train("text.jsonl", name="big", settings={**given, "train": tiny}, quiet=True)
    losses = []
    for steps in (1, 30):  # taught by the teacher alone, the loss is the distance from it
        distil = {"teacher": "big", "weight": 1.0, "temperature": 2.0}
        train = {**tiny, "steps": steps, "distil": distil, "log_every": 1}
        settings = {**given, "model": {**model, "width": 16}, "train": train}
        run = modelworks.train("text.jsonl", name=f"small-{steps}", settings=settings, quiet=True)
        losses.append([line["metrics"]["loss"] for line in run.metrics() if line["split"] == "train"][-1])
    assert losses[1] < 0.5 * losses[0], losses
    assert run.evaluation()["primary"] == "perplexity"
    other = {**given, "fields": {"text": {"length": 32, "tokens": "byte"}}}
    with pytest.raises(RecipeError, match="must read what the student reads"):
        modelworks.train("text.jsonl", name="odd", settings={**other, "train": train}, quiet=True)
