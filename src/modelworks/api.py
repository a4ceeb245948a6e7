"""The Python interface: the same verbs as the command line.

import modelworks
run = modelworks.train("reviews.csv", target="stars")
run.evaluate("more.csv"); run.predict(frame).to_pandas()
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.run import RunFolder

if TYPE_CHECKING:
    import pyarrow as pa

    from modelworks.core.dataset import Dataset


class Run(RunFolder):
    """A Run with the verbs that apply to it."""

    def predict(self, data: Any) -> pa.Table:
        """The rows of a file, frame or dict with `prediction` and probabilities, as an Arrow table.

        One picture, sound or text file, a list of such files, or pictures as an array are rows too."""
        from modelworks.stages.predict import predict

        return predict(self, data)

    def evaluate(self, data: Any = None, *, bootstrap: int = 200) -> dict[str, Any]:
        """Metrics on labelled data; on the Run's own held-out rows when none is given."""
        from modelworks.stages.evaluate import evaluate

        return self.evaluation() if data is None else evaluate(self, data, bootstrap=bootstrap)

    def report(self) -> Path:
        """The offline HTML report."""
        return self.path / "report.html"

    def _repr_html_(self) -> str:
        from modelworks.report.notebook import run_html

        return run_html(self.path)


class Audit(dict[str, Any]):
    """What `modelworks audit` found; shows itself in a notebook."""

    def _repr_html_(self) -> str:
        from modelworks.report.notebook import audit_html

        return audit_html(self)


def train(
    source: Any,
    target: str | None = None,
    *,
    task: Any = None,
    model: Any = None,
    init: str | None = None,
    name: str | None = None,
    seed: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Run:
    """Train on a file, a folder, `sample:NAME`, a data frame or a recipe; returns the Run.

    `settings` is laid over what is inferred: `{"train": {"epochs": 3}, "fields": {"age": {"scale": "minmax"}}}`."""
    from modelworks.engine.intake import draft
    from modelworks.stages.train import run_recipe

    changes = settings or {}
    tree = draft(
        source, changes, target=target, task=task, model=model, init=init, name=name, seed=seed, resume=resume
    )
    return Run(run_recipe(tree, changes, resume=resume, overwrite=overwrite, quiet=quiet).path)


def load(run: str | Path) -> Run:
    """A Run by its name under runs/ or its path."""
    return Run(RunFolder.find(run).path)


def open(source: Any) -> Dataset:
    """Read data into a Dataset: a file, a folder, `sample:NAME`, a data frame."""
    from modelworks.core.dataset import Dataset
    from modelworks.engine.data.open import source_for

    return Dataset.ingest(
        source_for(source), name=str(source)[:100] if isinstance(source, (str, Path)) else ""
    )


def audit(source: Any, target: str | None = None) -> Audit:
    """Profile every column of some data and list what is wrong with it."""
    from modelworks.stages.audit import audit as run_audit

    return Audit(run_audit(source, target))


def evaluate(run: str | Path, data: Any = None) -> dict[str, Any]:
    """`load(run).evaluate(data)`."""
    return load(run).evaluate(data)


def predict(run: str | Path, data: Any) -> pa.Table:
    """`load(run).predict(data)`."""
    return load(run).predict(data)
