"""Reference: what the network that training starts from says of each row, taken once, for tasks that compare with it.

prepared.reference = references(run, prepared, task, fields, network)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.run import RunFolder
from modelworks.core.task import Task
from modelworks.engine import judge
from modelworks.engine.data.prepare import Prepared
from modelworks.engine.data.windows import rows_of
from modelworks.engine.network import Network, prepare_batch
from modelworks.engine.recipe import Recipe
from modelworks.engine.train.begin import begin

FILE = "start.safetensors"
"""In the Run: a resumed training compares with the same numbers."""
BATCH = 16


@torch.no_grad()
def reference(
    network: Network, task: Task, fields: Mapping[str, Field], prepared: Prepared, split: str
) -> np.ndarray:
    """`task.refer` of each row of a split."""
    rows = rows_of(prepared, split, task, fields)
    found: np.ndarray | None = None
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    for positions in judge.batches(rows, BATCH):
        batch = prepare_batch(rows.gather(positions), fields, device)
        values = task.refer(network(batch), batch).float().cpu().numpy()
        if found is None:
            found = np.zeros((len(rows), *values.shape[1:]), np.float32)
        found[positions] = values
    network.train(was_training)
    assert found is not None
    return found


def references(
    run: RunFolder,
    prepared: Prepared,
    task: Task,
    fields: Mapping[str, Field],
    network: Network,
    stored: bool,
) -> dict[str, np.ndarray]:
    """Split → reference, of every split; `stored`: as this Run began with."""
    from safetensors.numpy import load_file, save

    path = run.path / FILE
    if stored and path.is_file():
        return load_file(path)
    found = {
        split: reference(network, task, fields, prepared, split)
        for split, rows in prepared.report["rows"].items()
        if rows
    }
    run.write_bytes(FILE, save(found))
    return found


def for_data(
    recipe: Recipe, fields: Mapping[str, Field], prepared: Prepared, split: str
) -> dict[str, np.ndarray]:
    """The reference of other data than a Run was trained on: what training started from is read again."""
    assert recipe.task is not None
    if recipe.task.view != "pairs":
        return {}
    try:
        plain = recipe.but(train=recipe.train.but(adapter=None, freeze=[]))
        network = begin(plain, fields).network
    except UserError as error:
        raise UserError(f"what the Run started from is compared with: {error}") from None
    return {split: reference(network, recipe.task, fields, prepared, split)}
