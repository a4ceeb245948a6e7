"""Threads: how many a training step is worth.

Threads must meet after every operation; where a whole step takes a millisecond, waiting costs more than a second
core brings. The rule counts floating-point operations, not seconds, so that a resumed run chooses the same number
and adds its sums in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from modelworks.core.field import Field
from modelworks.core.task import Task
from modelworks.engine.data.store import Rows
from modelworks.engine.network import Network, prepare_batch

WORTHWHILE = 5e7
"""Operations of a step from which a second thread pays (docs/experiments.md)."""


def settle(network: Network, task: Task, fields: Mapping[str, Field], rows: Rows, batch_size: int) -> int:
    """Set torch's threads for this training: one for small steps, else as many as torch has chosen."""
    positions = np.arange(min(batch_size, 64, len(rows)))
    batch = prepare_batch(rows.gather(positions, list(fields)), fields, torch.device("cpu"))
    was_training = network.training
    network.eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad(), FlopCounterMode(display=False) as counter:
        for player in task.players(network):
            player.loss(batch)
    network.train(was_training)
    # A backward pass costs two forward ones.
    operations = 3 * counter.get_total_flops() * batch_size / len(positions)
    if operations < WORTHWHILE:
        torch.set_num_threads(1)
    return torch.get_num_threads()
