"""World: the processes that train together, over torch.distributed; one process is the case that does nothing.

Started by `torchrun` (or any launcher that sets RANK, WORLD_SIZE, MASTER_ADDR). Rows of a step's global batch are
dealt to the ranks, losses and counts are summed over all, gradients are divided by the global count: the numbers
are those of one process, up to the order of additions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from modelworks.core.errors import UserError

_MASK = 2**63 - 1


@dataclass
class World:
    """This process among all."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def join(cls, device: str | None = None) -> World:
        """Join the processes the launcher started; alone when there is no launcher."""
        size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        chosen = _device(device or best_device())
        if chosen.type == "cuda" and chosen.index is None and size > 1:
            chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        return cls(rank, size, chosen)

    @property
    def generator(self) -> torch.Generator:
        """The generator of augmentation and dropout on this device."""
        if self.device.type == "cuda":
            return torch.cuda.default_generators[self.device.index or 0]
        return torch.default_generator

    def seed(self, seed: int, step: int) -> None:
        """Make all that is random in this step a function of (seed, step, rank)."""
        # An odd multiplier spreads neighbouring steps over the whole seed space.
        value = (
            seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + self.rank * 0x94D049BB133111EB
        ) & _MASK
        torch.default_generator.manual_seed(value)
        if self.device.type != "cpu":
            torch.manual_seed(value)

    def share(self, positions: np.ndarray) -> np.ndarray:
        """This rank's rows of a global batch."""
        return positions if self.size == 1 else positions[self.rank :: self.size]

    def sum(self, total: float, count: int) -> tuple[float, int]:
        """Loss sum and count over all ranks."""
        if self.size == 1:
            return total, count
        both = torch.tensor(
            [total, float(count)],
            dtype=torch.float64,
            device=self.device if self.device.type == "cuda" else "cpu",
        )
        dist.all_reduce(both)
        return float(both[0]), int(both[1])

    def sum_gradients(self, parameters: Sequence[tuple[str, Tensor]]) -> None:
        """Sum the gradients over all ranks, in one message."""
        if self.size == 1:
            return
        for _, parameter in parameters:  # a rank may have had no rows
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        grads = [p.grad for _, p in parameters if p.grad is not None]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        dist.all_reduce(flat)
        start = 0
        for grad in grads:
            grad.copy_(flat[start : start + grad.numel()].view_as(grad))
            start += grad.numel()

    def agree(self, value: float) -> float:
        """Rank 0's value, on every rank: decisions that depend on a clock must be the same everywhere."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        if self.device.type == "cuda":
            shared = shared.to(self.device)
        dist.broadcast(shared, 0)
        return float(shared)

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


def _device(name: str) -> torch.device:
    """The device of this name, tried out: torch knows names of devices that it was not built for."""
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n")[0][:200]
        raise UserError(
            f"train.device: {name!r} cannot be used: {reason}", "cpu, cuda, cuda:1, mps"
        ) from None
    return device


def best_device() -> str:
    """`cuda` or `mps` where there is one, else `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
