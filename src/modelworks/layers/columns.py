"""A table's columns, sorted by what they are, and the vectors that stand for them.

    columns = Columns({"age": layout, "city": layout})
    numbers, categories = Numbers(columns.edges, width=16), Categories(columns.sizes, width=8)
    e_BNE, e_BCE = numbers(columns.numbers(batch)), categories(columns.codes(batch))

B rows, N number columns, M bins of a column, C category columns, L labels, E width of a column's vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from modelworks.core.field import Layout


class Columns:
    """Reads a batch of vector, index and multihot inputs as three matrices."""

    def __init__(self, inputs: Mapping[str, Layout]) -> None:
        self._vectors, self._indexed, self._labelled = (
            [name for name, layout in inputs.items() if layout.form == form]
            for form in ("vector", "index", "multihot")
        )
        self.edges: list[list[float]] = []
        """Training quantiles of each number column; empty where it has none, as a missing-value mark."""
        for name in self._vectors:
            width = inputs[name].shape[0]
            self.edges += (inputs[name].bins or [[]] * width)[:width]
        self.sizes = [inputs[name].size for name in self._indexed]
        """Codes of each category column."""
        self.labels = [inputs[name].size for name in self._labelled]
        """Labels of each multihot input."""

    def numbers(self, batch: Mapping[str, Tensor]) -> Tensor:
        """x_BN: every column of every vector, in the order of `edges`."""
        return torch.cat([batch[name] for name in self._vectors], 1)

    def codes(self, batch: Mapping[str, Tensor]) -> Tensor:
        """code_BC, int64, in the order of `sizes`."""
        return torch.stack([batch[name] for name in self._indexed], 1)

    def label_sets(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """x_BL of each multihot input, in the order of `labels`."""
        return [batch[name] for name in self._labelled]


class Numbers(nn.Module):
    """Each number → a vector: x · slope + bias + Σ over bins of (how far x has climbed through it) · vector.

    The share climbed of a bin between two training quantiles is 0 below it, 1 above it and linear inside, so
    that the vector is any piecewise-linear function of x (Gorishniy et al. 2022, "On Embeddings for Numerical
    Features"). It starts as the linear part alone, and beyond the outermost quantiles it stays linear."""

    low_NM: Tensor
    rate_NM: Tensor

    def __init__(
        self, edges: Sequence[Sequence[float]], width: int, piecewise: bool = True, bound: float = 1.0
    ) -> None:
        """`bound`: slopes and biases start uniform in ± this; 1 is torch's own for one input."""
        super().__init__()
        bins = max((len(e) - 1 for e in edges if e), default=0) if piecewise else 0
        low_NM, rate_NM = torch.zeros(len(edges), bins), torch.zeros(len(edges), bins)
        for n, column in enumerate(edges):
            if bins and len(column) > 1:  # where a column has fewer bins, a rate of 0 keeps the rest empty
                edge = torch.tensor(column, dtype=torch.float64)
                low_NM[n, : len(edge) - 1] = edge[:-1]
                rate_NM[n, : len(edge) - 1] = 1 / edge.diff().clamp_min(1e-30)
        self.register_buffer("low_NM", low_NM)
        self.register_buffer("rate_NM", rate_NM)
        weight_NME = torch.zeros(len(edges), 1 + bins, width)
        weight_NME[:, 0].uniform_(-bound, bound)
        self.weight_NME = nn.Parameter(weight_NME)  # the slope, then the bins
        self.bias_NE = nn.Parameter(torch.empty(len(edges), width).uniform_(-bound, bound))

    def forward(self, x_BN: Tensor) -> Tensor:
        x_NB1 = x_BN.t().unsqueeze(2)
        share_NBM = ((x_NB1 - self.low_NM.unsqueeze(1)) * self.rate_NM.unsqueeze(1)).clamp(0, 1)
        input_NBM = torch.cat((x_NB1, share_NBM), 2)
        return torch.baddbmm(self.bias_NE.unsqueeze(1), input_NBM, self.weight_NME).transpose(0, 1)


class Categories(nn.Module):
    """Each category → a vector; one table holds those of all columns."""

    first_C: Tensor

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        first = torch.tensor([0, *sizes], dtype=torch.int64)[:-1].cumsum(0)
        self.register_buffer("first_C", first)  # where each column's vectors begin
        self.table = nn.Embedding(sum(sizes), width)
        nn.init.normal_(self.table.weight, std=width**-0.5)

    def forward(self, code_BC: Tensor) -> Tensor:
        return self.table(code_BC + self.first_C)
