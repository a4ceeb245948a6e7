"""Cross-entropy of a linear layer's outputs, in pieces: the logits of a large vocabulary never fill memory.

    total = linear_cross_entropy(x_ND, weight_VD, target_N)        # sum over the targets that count

Where all logits together would pass LIMIT elements, the rows are cut; the gradient of each piece is taken while its
logits are there, so nothing is computed twice (Wijmans et al. 2024, arXiv:2411.09009, does so on GPUs).
A target of −1 does not count. N rows, D width, V vocabulary, C rows of a piece.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from modelworks.layers.linear import linear

LIMIT = 1 << 22
"""Logits held at once: 16 MiB in float32, so that a piece is worked on while the caches still hold it."""


def logits(x: Tensor, weight_VD: Tensor, softcap: float | None = None) -> Tensor:
    """x (…, D) → float32 logits (…, V); `softcap` bounds them smoothly: c·tanh(z/c) (Gemma 2, arXiv:2408.00118)."""
    found = linear(x, weight_VD).float()
    return found if softcap is None else softcap * torch.tanh(found / softcap)


def linear_cross_entropy(
    x_ND: Tensor, weight_VD: Tensor, target_N: Tensor, softcap: float | None = None, limit: int = LIMIT
) -> Tensor:
    """Sum of −log softmax(logits)[target] over the rows whose target is not −1. float32, ()."""
    if len(x_ND) * len(weight_VD) <= limit:
        return F.cross_entropy(logits(x_ND, weight_VD, softcap), target_N, ignore_index=-1, reduction="sum")
    return _Pieces.apply(x_ND, weight_VD, target_N, softcap, max(1, limit // len(weight_VD)))  # type: ignore[return-value]


@torch.no_grad()
def linear_nll(
    x_ND: Tensor, weight_VD: Tensor, target_N: Tensor, softcap: float | None = None, limit: int = LIMIT
) -> Tensor:
    """−log softmax(logits)[target] of each row, 0 where the target is −1. float32 (N,)."""
    rows = max(1, limit // len(weight_VD))
    pieces = [
        F.cross_entropy(logits(x_CD, weight_VD, softcap), target_C, ignore_index=-1, reduction="none")
        for x_CD, target_C in zip(x_ND.split(rows), target_N.split(rows), strict=True)
    ]
    return torch.cat(pieces)


def linear_nll_grad(
    x_ND: Tensor, weight_VD: Tensor, target_N: Tensor, softcap: float | None = None, limit: int = LIMIT
) -> Tensor:
    """linear_nll with gradients: the logits of each piece are made again for its backward pass. float32 (N,)."""
    counted_M = (target_N >= 0).nonzero()[:, 0]

    def piece(x_CD: Tensor, weight_VD: Tensor, target_C: Tensor) -> Tensor:
        return F.cross_entropy(logits(x_CD, weight_VD, softcap), target_C, reduction="none")

    rows = max(1, limit // len(weight_VD))
    pieces = [
        piece(x_ND[at_C], weight_VD, target_N[at_C])
        if len(counted_M) <= rows
        else checkpoint(piece, x_ND[at_C], weight_VD, target_N[at_C], use_reentrant=False)
        for at_C in counted_M.split(rows)
    ]
    found_N = x_ND.new_zeros(len(x_ND), dtype=torch.float32)
    return found_N.index_put((counted_M,), torch.cat(pieces)) if pieces else found_N  # type: ignore[arg-type]


Scored = tuple[Tensor, Tensor, float | None]
"""(x_ND, weight_VD, softcap): what logits are made of."""


def linear_divergence(
    student: Scored, teacher: Scored, counted_N: Tensor, temperature: float = 1.0, limit: int = LIMIT
) -> Tensor:
    """Sum of KL(softmax(teacher / T) ‖ softmax(student / T)) over the rows that count, for gradients of the student;
    the logits of each piece are made again for its backward pass. float32, ()."""
    (x_ND, weight_VD, cap), (told_ND, told_VD, told_cap) = student, teacher
    at_M = counted_N.nonzero()[:, 0]

    def piece(x_CD: Tensor, weight_VD: Tensor, told_CD: Tensor) -> Tensor:
        with torch.no_grad():
            log_p_CV = (logits(told_CD, told_VD, told_cap) / temperature).log_softmax(-1)
        log_q_CV = (logits(x_CD, weight_VD, cap) / temperature).log_softmax(-1)
        return F.kl_div(log_q_CV, log_p_CV, reduction="sum", log_target=True)

    rows = max(1, limit // len(weight_VD))
    total = x_ND.new_zeros((), dtype=torch.float32)
    for at_C in at_M.split(rows):
        given = (x_ND[at_C], weight_VD, told_ND[at_C])
        total = total + (
            piece(*given) if len(at_M) <= rows else checkpoint(piece, *given, use_reentrant=False)  # type: ignore[operator]
        )
    return total


class _Pieces(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        x_ND, weight_VD, target_N, softcap, rows = inputs
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        total = x_ND.new_zeros((), dtype=torch.float32)
        dx_ND = torch.empty_like(x_ND) if wanted else None
        # Laid out as inputs × outputs: so oneDNN makes it in half the time.
        dweight_DV = weight_VD.new_zeros(weight_VD.shape[::-1], dtype=torch.float32) if wanted else None
        for start in range(0, len(x_ND), rows):
            x_CD, target_C = x_ND[start : start + rows], target_N[start : start + rows]
            logits_CV = logits(x_CD, weight_VD, softcap)
            log_CV = torch.log_softmax(logits_CV, -1)
            total += F.nll_loss(log_CV, target_C, ignore_index=-1, reduction="sum")
            if dx_ND is None or dweight_DV is None:
                continue
            counts_C1 = (target_C >= 0).unsqueeze(1)
            grad_CV = log_CV.exp_()
            hit_C1 = target_C.clamp(min=0).unsqueeze(1)
            grad_CV.scatter_add_(1, hit_C1, torch.full_like(hit_C1, -1, dtype=grad_CV.dtype))
            grad_CV *= counts_C1
            if softcap is not None:  # d c·tanh(z/c) = 1 − (logit/c)²
                grad_CV *= 1 - (logits_CV / softcap).square_()
            grad_CV = grad_CV.to(x_CD.dtype)
            dx_ND[start : start + rows] = linear(grad_CV, weight_VD.to(x_CD.dtype).t())
            dweight_DV += linear(x_CD.t(), grad_CV.t())
        ctx.save_for_backward(dx_ND, dweight_DV)
        ctx.weight_dtype = weight_VD.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        dx_ND, dweight_DV = ctx.saved_tensors
        (grad,) = grads
        dweight_VD = (dweight_DV * grad).t().to(ctx.weight_dtype, memory_format=torch.contiguous_format)
        return dx_ND * grad.to(dx_ND.dtype), dweight_VD, None, None, None
