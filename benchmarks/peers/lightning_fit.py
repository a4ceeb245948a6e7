"""Lightning: a LightningModule, a DataLoader and Trainer.fit; logging, bar, checkpoints and summary are off."""

from __future__ import annotations

import logging

import _mnist
import lightning
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning").setLevel(logging.ERROR)
args = _mnist.arguments()
x, y, test_x, test_y = _mnist.load(args)
clock = _mnist.Clock()


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = _mnist.network(args)

    def training_step(self, batch, _):
        batch_x, batch_y = batch
        return F.cross_entropy(self.network(batch_x), batch_y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)

    def on_train_epoch_end(self) -> None:
        clock.mark()


module = Classifier()
loader = DataLoader(
    TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=args.batch, shuffle=True
)
trainer = lightning.Trainer(
    max_epochs=args.epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False,
)  # fmt: skip
trainer.fit(module, loader)
_mnist.report(
    args,
    clock,
    _mnist.torch_accuracy(module.network, test_x, test_y),
    sum(p.numel() for p in module.parameters()),
)
