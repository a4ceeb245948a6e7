"""Mixture of experts: each step's vector goes through the few feed-forward networks that a router picks for it
(Shazeer et al. 2017), and none is dropped.

    layer = Experts(width=128, hidden=512, experts=8, active=2); y_BTD = layer(x_BTD); layer.balance

N steps of all rows, D width, X experts, K active ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelworks.core.choices import Activation
from modelworks.layers.feedforward import Feedforward


class Experts(nn.Module):
    """The K likeliest experts' outputs, weighed by the router's shares among them (Jiang et al. 2024, Mixtral).

    After a pass with gradients `balance` is the load-balancing loss of Fedus et al. 2021: 1 when every expert gets
    its share, up to X when one gets all; a task adds it, times about 0.01, to what it minimises."""

    def __init__(
        self,
        width: int,
        hidden: int,
        experts: int,
        active: int,
        act: Activation = "gelu",
        gated: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.active = active
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(Feedforward(width, hidden, act, gated, bias) for _ in range(experts))
        self.balance: Tensor | None = None

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_ND = x_BTD.flatten(0, -2)
        share_NX = self.router(x_ND).float().softmax(-1)
        gate_NK, chosen_NK = share_NX.topk(self.active, -1)
        gate_NK = gate_NK / gate_NK.sum(-1, keepdim=True)
        if torch.compiler.is_exporting():
            return self._dense(x_ND, gate_NK, chosen_NK).view_as(x_BTD)
        order = chosen_NK.flatten().argsort(stable=True)  # the steps of each expert side by side
        row = order // self.active
        count_X = chosen_NK.flatten().bincount(minlength=len(self.experts))
        if torch.is_grad_enabled():
            load_X = count_X / chosen_NK.numel()
            self.balance = len(self.experts) * (load_X * share_NX.mean(0)).sum()
        # One by one, not by tolist(): a recorder of graphs sees that the pass depends on values, and gives up.
        counts = [int(count) for count in count_X]
        # An expert without steps runs on none, so that every weight has a gradient.
        parts = x_ND[row].split(counts)
        outputs = [expert(part) for expert, part in zip(self.experts, parts, strict=True)]
        weighed = torch.cat(outputs) * gate_NK.flatten()[order].unsqueeze(1).to(x_ND.dtype)
        return torch.zeros_like(x_ND).index_add(0, row, weighed).view_as(x_BTD)

    def _dense(self, x_ND: Tensor, gate_NK: Tensor, chosen_NK: Tensor) -> Tensor:
        """Every expert on every step: how many steps each one gets is no part of a recorded graph."""
        gate_NX = (
            torch.zeros_like(x_ND[:, :1])
            .expand(-1, len(self.experts))
            .scatter_add(1, chosen_NK, gate_NK.to(x_ND.dtype))
        )
        outputs = torch.stack([expert(x_ND) for expert in self.experts], 1)
        return (gate_NX.unsqueeze(2) * outputs).sum(1)
