"""A recurrent layer, step by step: what torch's own layers compute, in operations that a graph can be recorded of.

y_BTD = unrolled(nn.LSTM(8, 16, batch_first=True), x_BTD)        # = layer(x_BTD)[0]

torch records nn.LSTM and the like as many steps as the example has; `scan` records one step and how it is repeated.
B rows, T steps, D width of the input, H units, G gates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.nn import functional as F


def unrolled(layer: nn.RNNBase, x_BTD: Tensor) -> Tensor:
    """The outputs (B, T, H) of a layer in one direction, of one layer, that begins with zeros."""
    weight: Any = layer
    # What does not depend on the step before is one product for all steps.
    gates_BTG = F.linear(x_BTD, weight.weight_ih_l0, weight.bias_ih_l0)
    zero_BH = gates_BTG[:, 0, : layer.hidden_size] * 0.0
    recurrent_GH, bias_G = weight.weight_hh_l0, weight.bias_hh_l0

    def lstm(state: tuple[Tensor, Tensor], gates_BG: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        h_BH, c_BH = state
        i, f, g, o = (gates_BG + F.linear(h_BH, recurrent_GH, bias_G)).chunk(4, 1)
        c_BH = f.sigmoid() * c_BH + i.sigmoid() * g.tanh()
        h_BH = o.sigmoid() * c_BH.tanh()
        return (h_BH, c_BH), h_BH.clone()

    def gru(h_BH: Tensor, gates_BG: Tensor) -> tuple[Tensor, Tensor]:
        r_x, z_x, n_x = gates_BG.chunk(3, 1)
        r_h, z_h, n_h = F.linear(h_BH, recurrent_GH, bias_G).chunk(3, 1)
        z = (z_x + z_h).sigmoid()
        h_BH = (1 - z) * (n_x + (r_x + r_h).sigmoid() * n_h).tanh() + z * h_BH
        return h_BH, h_BH.clone()

    def plain(h_BH: Tensor, gates_BG: Tensor) -> tuple[Tensor, Tensor]:
        act = torch.relu if layer.mode == "RNN_RELU" else torch.tanh
        h_BH = act(gates_BG + F.linear(h_BH, recurrent_GH, bias_G))
        return h_BH, h_BH.clone()

    step: Any = {"LSTM": lstm, "GRU": gru}.get(layer.mode, plain)
    start = (zero_BH, zero_BH.clone()) if layer.mode == "LSTM" else zero_BH
    return scan(step, start, gates_BTG, dim=1)[1]
