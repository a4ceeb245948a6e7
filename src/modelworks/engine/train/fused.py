"""Fused step: Adam and AdamW as one kernel call, without the optimizer's bookkeeping around it.

torch.optim rebuilds its lists of tensors at every step, which costs a small network as much as the update itself.
The lists are built once here; the state stays the optimizer's own, so checkpoints see no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def stepper(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """`optimizer.step`, or the same without bookkeeping where one kernel does it all."""
    # Exact types: a subclass may do more.
    if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW):
        return lambda: _plain(optimizer)
    if not all(
        g["fused"] and not g["amsgrad"] and not g["capturable"] and not g["differentiable"]
        for g in optimizer.param_groups
    ):
        return lambda: _plain(optimizer)
    return _Adam(optimizer)


def _plain(optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()


class _Adam:
    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self._lists: list[tuple[list[Any], list[Any], list[Any], list[Any]]] | None = None

    def __call__(self) -> None:
        groups = self.optimizer.param_groups
        if self._lists is None or any(p.grad is None for lists in self._lists for p in lists[0]):
            self.optimizer.step()  # makes the state; also when some parameter had no part in the loss
            self._lists = self._collect()
            return
        with torch.no_grad():
            for group, (params, means, squares, steps) in zip(groups, self._lists, strict=True):
                if not params:
                    continue
                torch._foreach_add_(steps, 1)
                kernel = torch._fused_adamw_ if _decoupled(self.optimizer, group) else torch._fused_adam_
                kernel(
                    params,
                    [p.grad for p in params],
                    means,
                    squares,
                    [],
                    steps,
                    lr=group["lr"],
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    amsgrad=False,
                    maximize=group["maximize"],
                )

    def _collect(self) -> list[tuple[list[Any], list[Any], list[Any], list[Any]]] | None:
        found = []
        for group in self.optimizer.param_groups:
            states = [self.optimizer.state[p] for p in group["params"]]
            if not all("exp_avg" in state for state in states):
                return None
            found.append(
                (
                    list(group["params"]),
                    [s["exp_avg"] for s in states],
                    [s["exp_avg_sq"] for s in states],
                    [s["step"] for s in states],
                )
            )
        return found


def _decoupled(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> bool:
    return group.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW))
