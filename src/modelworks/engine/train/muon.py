"""Muon: momentum whose matrices are orthogonalised by Newton–Schulz (Jordan 2024), with AdamW for the rest.

    Muon([{"params": matrices}, {"params": others, "algorithm": "adamw"}], lr=1e-3)

Unlike torch.optim.Muon, the precision of the orthogonalisation is chosen (bfloat16 is far slower than float32
on a CPU without units for it, and four times as fast on one with them), matrices of one shape are done together,
convolutions count as matrices (out, rest), and one optimizer holds both kinds of group.

Letters: N matrices, R rows ≤ C columns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

# Quintic whose slope at 0 is as steep as keeps singular values within about [0.7, 1.2] (Jordan 2024).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
# Elements orthogonalised at once: bounds the copies a step makes.
_CHUNK = 1 << 26


def orthogonalise(matrices_NRC: Tensor, steps: int = 5) -> Tensor:
    """U·V' of each matrix's singular value decomposition, roughly: singular values near 1."""
    a, b, c = COEFFICIENTS
    wide = matrices_NRC.shape[-2] <= matrices_NRC.shape[-1]
    x_NRC = matrices_NRC if wide else matrices_NRC.mT
    # The Frobenius norm bounds the largest singular value, so the iteration starts within its basin.
    x_NRC = x_NRC / torch.linalg.vector_norm(x_NRC, dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(steps):
        gram_NRR = x_NRC @ x_NRC.mT
        poly_NRR = torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=b, alpha=c)
        x_NRC = torch.baddbmm(x_NRC, poly_NRR, x_NRC, beta=a)
    return x_NRC if wide else x_NRC.mT


def update_scale(rule: str, rows: int, columns: int) -> float:
    """What a matrix's rate is multiplied by."""
    return 0.2 * math.sqrt(max(rows, columns)) if rule == "spectral" else math.sqrt(max(1.0, rows / columns))


class Muon(torch.optim.Optimizer):
    """Groups with `algorithm: "muon"` (the default) hold matrices, those with "adamw" anything."""

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95,
        nesterov: bool = True, steps: int = 5, precision: str = "auto", scale: str = "spectral",
        betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8,
    ) -> None:  # fmt: skip
        assert precision in ("auto", "float32", "bfloat16"), precision
        assert scale in ("spectral", "original"), scale
        defaults = {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "steps": steps, "precision": precision, "scale": scale, "betas": betas, "eps": eps,
            "algorithm": "muon",
        }  # fmt: skip
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                if group["algorithm"] == "muon" and p.ndim < 2:
                    raise ValueError(f"muon wants matrices, got a parameter of shape {tuple(p.shape)}")
            # Read by those who restore a checkpoint: the step counter lies beside the weights.
            group["fused"] = group["algorithm"] == "adamw" and all(_fusible(p) for p in group["params"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step on every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                (self._muon if group["algorithm"] == "muon" else self._adamw)(group, params)
        return loss

    def _muon(self, group: dict[str, Any], params: list[Tensor]) -> None:
        grads = [p.grad for p in params if p.grad is not None]
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum_buffer"] for p in params]
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        updates = torch._foreach_lerp(grads, buffers, group["momentum"]) if group["nesterov"] else buffers
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        alike: dict[tuple[Any, ...], list[int]] = {}
        for index, update in enumerate(updates):
            rows, columns = len(update), update[0].numel()
            alike.setdefault(
                (min(rows, columns), max(rows, columns), update.dtype, update.device), []
            ).append(index)
        for (low, high, _, _), members in alike.items():
            size = max(1, _CHUNK // (low * high))
            for start in range(0, len(members), size):
                chunk = members[start : start + size]
                _apply(group, [params[i] for i in chunk], [updates[i].flatten(1) for i in chunk])

    def _adamw(self, group: dict[str, Any], params: list[Tensor]) -> None:
        for p in params:
            if not self.state[p]:
                counter = torch.zeros((), dtype=torch.float32, device=p.device if group["fused"] else "cpu")
                self.state[p].update(
                    step=counter, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p)
                )
        states = [self.state[p] for p in params]
        adamw(
            params, [p.grad for p in params if p.grad is not None], [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states], [], [s["step"] for s in states], fused=group["fused"] or None,
            amsgrad=False, beta1=group["betas"][0], beta2=group["betas"][1], lr=group["lr"],
            weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
        )  # fmt: skip


def _apply(group: dict[str, Any], params: list[Tensor], updates_RC: list[Tensor]) -> None:
    """Orthogonalise matrices of one shape (up to transposition) together and subtract them."""
    tall = [len(update) > update.shape[1] for update in updates_RC]
    stack_NRC = torch.stack(
        [update.mT if flip else update for update, flip in zip(updates_RC, tall, strict=True)]
    )
    stack_NRC = orthogonalise(stack_NRC.to(_dtype(group["precision"], stack_NRC)), group["steps"])
    for p, flip, update_RC in zip(params, tall, stack_NRC.to(params[0].dtype), strict=True):
        matrix = update_RC.mT if flip else update_RC
        rate = group["lr"] * update_scale(group["scale"], *matrix.shape)
        p.add_(matrix.reshape(p.shape), alpha=-rate)


def _dtype(precision: str, like: Tensor) -> torch.dtype:
    if precision == "auto":
        fast = like.dtype == torch.float32 and _multiplies_bf16(like.device.type)
        return torch.bfloat16 if fast else like.dtype
    return torch.float32 if precision == "float32" else torch.bfloat16


@functools.cache
def _multiplies_bf16(device: str) -> bool:
    """Whether the device has units for bfloat16: without them it is tens of times slower than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(False)
    return device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _fusible(p: Tensor) -> bool:
    return p.device.type in ("cpu", "cuda") and p.is_floating_point()
