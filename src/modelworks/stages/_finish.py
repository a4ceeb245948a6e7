"""What follows training: weights, evaluation, gallery, audit, report, card, manifest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.run import RunFolder
from modelworks.core.task import Task
from modelworks.engine import judge, usercode
from modelworks.engine.audit.audit import audit
from modelworks.engine.checkpoint import write_tensors
from modelworks.engine.data import seen
from modelworks.engine.data.prepare import Prepared
from modelworks.engine.data.windows import rows_of
from modelworks.engine.facts import environment
from modelworks.engine.intake import Taken
from modelworks.engine.predictor import Predictor
from modelworks.engine.recipe import Recipe
from modelworks.engine.train.learn import Learned
from modelworks.stages._gallery import write_gallery

TOLD = ("roc_auc", "f1", "f1_macro", "r2", "mae", "rmse", "log_loss")
"""Metrics told beside the primary one, where they are measured."""
AUDITED = 10_000
"""Rows that the audit within a training looks at where it samples; `modelworks audit` takes more."""


def finish(run: RunFolder, taken: Taken, learned: Learned, echo: Callable[[str], None]) -> None:
    """Write everything that a complete Run holds, and seal it."""
    from modelworks.report import card
    from modelworks.report import run as page

    recipe, fields, prepared, dataset, task = (
        taken.recipe,
        taken.fields,
        taken.prepared,
        taken.dataset,
        taken.recipe.task,
    )
    assert task is not None
    device = str(next(learned.network.parameters()).device)
    write_tensors(run.path / "model.safetensors", learned.network.state_dict())
    result = measure(recipe, task, fields, prepared, learned.network, learned.metric)
    result["training"] = {
        "seconds": round(learned.end.seconds, 3),
        "steps": learned.end.step,
        "samples": learned.end.samples,
        **({"tokens": learned.end.samples * learned.tokens_a_row} if learned.tokens_a_row > 1 else {}),
        "stopped": learned.end.message,
        "parameters": learned.parameters,
    }
    mistakes, trivial = result.pop("mistakes"), result.pop("trivial")
    write_reference(run, trivial, prepared)
    run.write_json("evaluation.json", result)
    predictor = Predictor(learned.network, task, fields, recipe.evaluate.batch_size)
    write_gallery(run, predictor, dataset, mistakes)
    names = [field.column or name for name, field in fields.items()]
    column = fields[task.target].column or task.target if task.target in fields else None
    run.write_json(
        "data.json",
        {
            **audit(dataset, column, fields, AUDITED),
            "cleaning": {
                **_plain(taken.cleaning),
                **prepared.report,
                "split": taken.split,
                "listed": prepared.cleaning(),
            },
            "hashes": {"source": dataset.fingerprint},
            "columns_used": names,
        },
    )
    run.write_json("environment.json", environment(recipe.seed, device, usercode.hashes(run.recipe_tree())))
    card.write(run.path)
    page.write(run.path)
    run.seal()
    tell(echo, run, result)


def measure(
    recipe: Recipe, task: Task, fields: Mapping[str, Field], prepared: Prepared, network: Any, metric: str
) -> dict[str, Any]:
    """evaluation.json of the held-out splits, and the test split's (else the validation's) worst mistakes; `task` is
    the one that built the network, for its head learned what it is judged by."""
    trivial = judge.trivial_answer(task, fields, rows_of(prepared, "train", task, fields))
    found: dict[str, Any] = {
        "trivial": trivial,
        "primary": task.primary or "loss",
        "chosen_by": metric,
        "splits": {},
        "baseline": {},
        "details": {},
        "seconds": {},
        "rows": {},
    }
    mistakes: list[judge.Mistake] = []
    for split in ("valid", "test"):
        if not prepared.report["rows"].get(split):
            continue
        started = time.perf_counter()
        store = rows_of(prepared, split, task, fields)
        judged = judge.evaluate(
            network,
            task,
            fields,
            store,
            batch_size=recipe.evaluate.batch_size,
            bootstrap=recipe.evaluate.bootstrap,
            seed=recipe.seed,
            gallery=recipe.evaluate.gallery,
            baseline=trivial,
        )
        if not math.isfinite(judged["metrics"]["loss"]["value"]):
            raise UserError(
                f"{split}: the trained network's answers are no numbers: training diverged",
                "lower train.optimizer.lr, or set train.clip",
            )
        found["splits"][split], found["baseline"][split] = judged["metrics"], judged["baseline"]
        found["details"][split], found["rows"][split] = judged["details"], len(store)
        found["seconds"][split] = round(time.perf_counter() - started, 3)
        mistakes = judged["mistakes"] or mistakes
    found["mistakes"] = mistakes
    return found


def write_reference(run: RunFolder, trivial: Mapping[str, np.ndarray] | None, prepared: Prepared) -> None:
    """reference.safetensors: what a later evaluation compares with, once the training data may be gone."""
    from safetensors.numpy import save

    arrays = {f"baseline.{name}": np.ascontiguousarray(value) for name, value in (trivial or {}).items()}
    run.write_bytes("reference.safetensors", save({**arrays, **seen.remember(prepared.store("train"))}))


def tell(echo: Callable[[str], None], run: RunFolder, result: Mapping[str, Any]) -> None:
    """The result in a few lines: the primary metric with its interval, beside the baseline's."""
    metric = result["primary"]
    for split, metrics in result["splits"].items():
        shown = [metric, *(name for name in TOLD if name in metrics and name != metric)][:4]
        parts = []
        for name in shown:
            if name not in metrics:
                continue
            entry = metrics[name]
            text = f"{name} {entry['value']:.4f}"
            if name == metric and entry.get("low") is not None:
                text += f" (95 % {entry['low']:.4f}–{entry['high']:.4f})"
            base = result["baseline"].get(split, {}).get(name)
            if name == metric and base:
                text += f", baseline {base['value']:.4f}"
            parts.append(text)
        echo(f"  {split:<7} {' · '.join(parts)}")
    training = result.get("training")
    if training:
        what = "tokens" if "tokens" in training else "rows"
        speed = training.get("tokens", training["samples"]) / max(training["seconds"], 1e-9)
        echo(
            f"  trained {training['steps']:,} steps in {training['seconds']:.1f} s, {speed:,.0f} {what}/s;"
            f" {training['stopped']}"
        )
    echo(f"  report  {run.path / 'report.html'}")


def _plain(report: Any) -> dict[str, Any]:
    """A cleaning report as plain data."""
    if hasattr(report, "to_dict"):
        return report.to_dict()
    return dict(report) if isinstance(report, Mapping) else {}
