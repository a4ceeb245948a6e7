"""Plain: what ExecuTorch's kernels lack or get wrong, in terms of those that they have and get right (1.5.1).

program = plain(program)

sort    places are counted, N² comparisons a row: rows are short where a network sorts (tokens, quantiles)
shift   x >> n is ⌊x / 2ⁿ⌋
add     a + αb in two steps: its kernel forgets α where a is a single number
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def plain(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program without these."""
    aten = torch.ops.aten
    return program.run_decompositions(
        {
            aten.add.Tensor: _add,
            aten.sort.default: _sort,
            aten.sort.stable: lambda x, *, stable=None, dim=-1, descending=False: _sort(x, dim, descending),
            aten.argsort.default: lambda x, dim=-1, descending=False: _sort(x, dim, descending)[1],
            aten.argsort.stable: lambda x, *, stable, dim=-1, descending=False: _sort(x, dim, descending)[1],
            aten.__rshift__.Scalar: _shifted,
        }
    )


def _add(one: Any, other: Any, *, alpha: float = 1) -> Any:
    return NotImplemented if alpha == 1 else one + other * alpha


def _shifted(x: Tensor, by: int) -> Tensor:
    return torch.div(x, 1 << by, rounding_mode="floor")


def _sort(x: Tensor, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """(values, indices), equal ones in the order that they came in."""
    x_XN = x.movedim(dim, -1)
    place_N = torch.arange(x_XN.shape[-1], device=x.device)
    one_XN1, other_X1N = x_XN.unsqueeze(-1), x_XN.unsqueeze(-2)
    ahead_XNN = other_X1N > one_XN1 if descending else other_X1N < one_XN1
    earlier_NN = place_N < place_N.unsqueeze(-1)
    rank_XN = (ahead_XNN | ((other_X1N == one_XN1) & earlier_NN)).sum(-1)
    here_XNN = rank_XN.unsqueeze(-2) == place_N.unsqueeze(-1)
    index_XN = (here_XNN * place_N).sum(-1)
    return x_XN.gather(-1, index_XN).movedim(-1, dim), index_XN.movedim(-1, dim)
