"""Write: a compressed network as a Run of its own.

write(parent, measurer, found, target, "titanic-small")
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from modelworks.core.run import RUNS, RunFolder
from modelworks.core.sealed import sha256
from modelworks.engine.checkpoint import write_tensors
from modelworks.engine.compress.edits import FILE
from modelworks.engine.compress.measure import Measurer, memory
from modelworks.engine.compress.parent import ParentRun
from modelworks.engine.compress.quantise import tensors
from modelworks.engine.compress.search import Found

OWN = ("model.safetensors", "evaluation.json", "report.html", "card.md", "manifest.json", "recipe.yaml", FILE)
"""What a compressed Run does not take over from its parent."""
LEFT = ("checkpoints", "gallery", "gallery.json", "report", "init.json")


def begin(parent: ParentRun, name: str) -> RunFolder:
    """The new Run's folder with what it shares with its parent; recipe.yaml comes last, and makes it a Run."""
    run = RunFolder(RUNS / name)
    (run.path / "recipe.yaml").unlink(missing_ok=True)
    if run.path.exists():
        shutil.rmtree(run.path)
    run.path.mkdir(parents=True)
    for path in sorted(parent.run.path.iterdir()):
        if path.name in (*OWN, *LEFT) or path.is_symlink():
            continue
        if path.is_dir():
            shutil.copytree(path, run.path / path.name)
        else:
            shutil.copy2(path, run.path / path.name)
    return run


def finish(
    run: RunFolder,
    parent: ParentRun,
    measurer: Measurer,
    found: Found,
    told: dict[str, Any],
    evaluation: dict[str, Any],
    before_sealing: Callable[[RunFolder], None],
) -> None:
    """Weights, evaluation, compression.json with its table, report and card, manifest. `told`: of the target."""
    assert found.network is not None
    assert found.row is not None
    write_tensors(run.path / "model.safetensors", tensors(found.network))
    run.write_json("evaluation.json", evaluation)
    run.write_recipe({**parent.run.recipe_tree(), "name": run.name})
    table: dict[str, Any] = {
        "parent": {
            "name": parent.run.name,
            "manifest_sha256": sha256(parent.run.path / "manifest.json"),
        },
        "target": told,
        "edits": found.edits,
        "chosen": found.row.what,
        "metric": measurer.metric,
        "lost_in": measurer.unit,
        "chosen_on": measurer.chooser,
        "split": measurer.main,
        "measured": MEASURED,
    }
    # The Run must be sealed to be loaded by the process whose memory is measured, and again with the figures.
    run.write_json(FILE, table | {"table": []})
    run.seal()
    row = measurer.one()
    measurer.row.memory_mb, found.row.memory_mb = memory(parent.run, row), memory(run, row)
    run.unseal()
    run.write_json(FILE, table | {"table": [row.plain() for row in (measurer.row, *found.rows)]})
    before_sealing(run)
    run.seal()


MEASURED = {
    "size_bytes": "model.safetensors as it lies on disk, names included; the fitted fields are the parent's",
    "quality": "the primary metric on the split named, with its 95 % interval by bootstrap; of a language model in"
    " float32 of the rounded weights, which generation multiplies as int8",
    "lost": "points (hundredths) of a metric that is a share, points of others, per cent of one that is better"
    " when lower; on the rows of `split`",
    "price": "the same on the rows that chose among the plans: validation rows, where there are some",
    "latency_ms": "processor time of one row on one thread, mean over four rows of the fastest of several rounds;"
    " of a language model, one token after 64 others; latency_share is of the parent's, taken in turns with it",
    "max_difference": "the largest difference between the parent's and this network's answers to 100 rows",
    "memory_mb": "most resident memory of a process of its own that loads the Run and answers one row",
}
