"""Plain PyTorch as tutorials write it: TensorDataset, DataLoader(shuffle=True), Adam with its defaults."""

from __future__ import annotations

import _mnist
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

args = _mnist.arguments()
x, y, test_x, test_y = _mnist.load(args)
module = _mnist.network(args)
loader = DataLoader(
    TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=args.batch, shuffle=True
)
optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
clock = _mnist.Clock()
module.train()
for _ in range(args.epochs):
    for batch_x, batch_y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(module(batch_x), batch_y)
        loss.backward()
        optimizer.step()
    clock.mark()
_mnist.report(
    args, clock, _mnist.torch_accuracy(module, test_x, test_y), sum(p.numel() for p in module.parameters())
)
