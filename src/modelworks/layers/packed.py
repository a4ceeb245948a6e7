"""Packed weights: linear layers laid out for reading only, which is what bounds writing a text token by token.

    layer = PackedLinear(linear.weight, linear.bias, "int8")
    y = layer(x)                                    # (…, I) → (…, O), in x's dtype

float32    oneDNN's own layout; torch's default product on a CPU is MKL's, slower on AMD and for few rows
bfloat16   half the bytes; inputs are rounded to bfloat16, sums are float32
int8       a quarter: each output's weights as int8 times one scale; inputs as bfloat16, sums float32. Batches of more
           than MANY rows also keep them as bfloat16, which holds every int8: the int8 product's time grows with rows
docs/experiments.md has what was measured. N rows, I inputs, O outputs, C candidates.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Weights = Literal["float32", "bfloat16", "int8"]

FEW = 32
"""Rows up to which the int8 product is faster than turning the weights into bfloat16 first."""
MANY = 8
"""Rows up to which it is faster than weights that are bfloat16 already; larger batches are worth keeping them so."""
STRIDE = 16
"""torch's int8 product reads its inputs so many at a time, also beyond their end: widths are filled up with zeros."""
DEEP = 1024
"""Inputs above which oneDNN adds the products of one row in another order than those of more rows: a lone row is
read as two there, which takes as long, so that a row's result never depends on how many there are."""
BEST = 64
"""Outputs of a head that are computed again exactly: those that a choice is made among."""


def quantise(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """(int8 (O, I), scale bfloat16 (O,)): weight ≈ int8 · scale, symmetric, a scale for each output."""
    # The kernel wants bfloat16 scales; rounding them first keeps their error out of the weights.
    scale_O = (weight_OI.float().abs().amax(1) / 127).clamp(min=1e-30).bfloat16()
    whole_OI = (weight_OI.float() / scale_O.float()[:, None]).round().clamp(-127, 127)
    return whole_OI.to(torch.int8), scale_O


class PackedLinear(nn.Module):
    """A linear layer that only reads its weights; made from one that is trained."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None, weights: Weights) -> None:
        super().__init__()
        self.weights: Weights = weights
        self.out_features, self.in_features = weight_OI.shape
        self._bias = None if bias_O is None else bias_O.detach().float()
        self._scale_O: Tensor | None = None
        weight_OI = weight_OI.detach()
        self._onednn = weight_OI.device.type == "cpu" and torch.backends.mkldnn.is_available()
        self._wide: Tensor | None = None
        """int8: the same numbers as bfloat16, from the first large batch on."""
        if weights == "int8":
            self._weight, self._scale_O = quantise(F.pad(weight_OI, (0, -self.in_features % STRIDE)))
            return
        self._weight = weight_OI.to(torch.float32 if weights == "float32" else torch.bfloat16).contiguous()
        if self._onednn:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, None)

    def forward(self, x: Tensor) -> Tensor:
        y = self._int8(x) if self.weights == "int8" else self._float(x)
        if self._bias is not None:
            y = y + self._bias
        return y if y.dtype == x.dtype else y.to(x.dtype)

    __call__ = forward  # hooks, which are of no use here, take longer than a small product

    def _float(self, x: Tensor) -> Tensor:
        x = x.to(self._weight.dtype)
        if self._onednn:
            return self._product(x, self._weight)
        return F.linear(x, self._weight)

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.in_features > DEEP and x.numel() == self.in_features:
            twice_2I = x.reshape(1, -1).expand(2, -1)
            y_2O = torch.ops.mkldnn._linear_pointwise.default(twice_2I, weight, None, "none", [], "")
            return y_2O[:1].view(*x.shape[:-1], self.out_features)
        return torch.ops.mkldnn._linear_pointwise.default(x, weight, None, "none", [], "")

    def _int8(self, x: Tensor) -> Tensor:
        assert self._scale_O is not None
        keep = x.dim() == 3 and x.shape[0] > MANY
        x_NI = x.bfloat16().reshape(-1, self.in_features)
        if self.in_features % STRIDE:  # F.pad copies, also where there is nothing to pad
            x_NI = F.pad(x_NI, (0, -self.in_features % STRIDE))
        rows = x_NI.shape[0]
        if rows <= MANY or (rows <= FEW and not keep and self._wide is None):
            y_NO = torch._weight_int8pack_mm(x_NI, self._weight, self._scale_O)
        # int8 values are exact in bfloat16, so only the sums are rounded, and only once.
        elif self._wide is None and not (keep and self._onednn):
            y_NO = F.linear(x_NI, self._weight.bfloat16()).float().mul_(self._scale_O)
        else:
            if self._wide is None:
                self._wide = torch.ops.mkldnn._reorder_linear_weight(self._weight.bfloat16(), None)
            y_NO = torch.ops.mkldnn._linear_pointwise.default(x_NI, self._wide, None, "none", [], "")
            y_NO = y_NO.float().mul_(self._scale_O)
        return y_NO.view(*x.shape[:-1], self.out_features)

    def rows(self, index: Tensor) -> Tensor:
        """Some outputs' weights as float32 (…, I); int8 alone, the others are in a layout of their own."""
        assert self._scale_O is not None
        return self._weight[index, : self.in_features].float() * self._scale_O[index].float()[..., None]


class PackedNorm(nn.Module):
    """RMS norm in three operations, and one for weights: torch's takes twelve on a CPU, a tenth of a token's time.

    x·√D / hypot(‖x‖, √(D·eps)), where `joined` layers that follow multiply by √D and the weights: see `scale`."""

    def __init__(
        self,
        norm: nn.RMSNorm,
        joined: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        """`joined`: what follows has `scale` in its weights; `dtype`: of the outputs."""
        super().__init__()
        eps = torch.finfo(torch.float32).eps if norm.eps is None else norm.eps
        scale_D = self.scale(norm).to(device)
        self._dtype, self._scale_D = dtype, None if joined else scale_D
        self._floor = torch.full_like(scale_D[:1], math.sqrt(len(scale_D) * eps))

    @staticmethod
    def scale(norm: nn.RMSNorm) -> Tensor:
        """float32 (D,): what x / hypot(‖x‖, √(D·eps)) is multiplied with to be the norm's output."""
        width = norm.normalized_shape[-1]
        weight_D = torch.ones(width) if norm.weight is None else norm.weight.detach().float()
        return weight_D * math.sqrt(width)

    def forward(self, x: Tensor) -> Tensor:
        y = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot_(self._floor)
        if self._scale_D is not None:
            y.mul_(self._scale_D)
        return y if y.dtype == self._dtype else y.to(self._dtype)

    __call__ = forward


class PackedHead(nn.Module):
    """A language model's head: (…, D) → float32 logits (…, V).

    Short floats give each logit with three digits, and the best tokens would tie: they are computed again."""

    def __init__(self, table_VD: Tensor, softcap: float | None, weights: Weights) -> None:
        super().__init__()
        self.linear, self.softcap = PackedLinear(table_VD, None, weights), softcap
        self._table_VD = table_VD.detach() if weights == "bfloat16" else None

    def logits(self, features: Tensor) -> Tensor:
        """(…, D) → float32 (…, V)."""
        x_ND = features.reshape(-1, features.shape[-1]).float()
        logits_NV = self.linear(x_ND)
        if self.linear.weights != "float32":
            best_NC = logits_NV.topk(min(BEST, logits_NV.shape[1])).indices
            # A few rows at a time: each brings BEST rows of the table.
            parts = zip(logits_NV.split(FEW), best_NC.split(FEW), x_ND.split(FEW), strict=True)
            for some_NV, some_NC, some_ND in parts:
                # Not by a matrix product: MKL's adds the products of one row in another order than of many.
                some_NV.scatter_(1, some_NC, torch.linalg.vecdot(self._rows(some_NC), some_ND[:, None]))
        if self.softcap is not None:
            logits_NV = self.softcap * torch.tanh(logits_NV / self.softcap)
        return logits_NV.view(*features.shape[:-1], -1)

    def _rows(self, index: Tensor) -> Tensor:
        """Some tokens' weights, float32 (…, D)."""
        return self.linear.rows(index) if self._table_VD is None else self._table_VD[index].float()
