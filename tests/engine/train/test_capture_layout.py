"""A captured step leaves gradients laid out as the parameters are, whatever views they were computed as."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modelworks.engine.train.capture import Captured
from modelworks.engine.train.fused import stepper


class Joined(nn.Module):
    """A matrix and a bias in one: the gradient of each is a view of the gradient of both."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.bias = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.zeros(3))

    def forward(self, batch):
        return (
            nn.functional.pad(batch["x"], (0, 1), value=1.0)
            @ torch.cat((self.weight, self.bias[:, None]), 1).T
        )


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_a_captured_step_is_the_step(kind) -> None:
    batch = {"x": torch.randn(5, 4, generator=torch.Generator().manual_seed(1))}
    found = []
    for captured in (True, False):
        network = Joined()

        def loss(batch, network=network):
            return network(batch).square().sum(), 5

        optimizer = kind(network.parameters(), lr=0.1, fused=True)
        update = stepper(optimizer)
        capture = Captured(network, list(network.parameters()), loss)
        for _ in range(3):
            if captured:
                assert capture(batch) is not None
            else:
                optimizer.zero_grad()
                total, count = loss(batch)
                (total / count).backward()
            update()
        found.append([p.detach() for p in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
