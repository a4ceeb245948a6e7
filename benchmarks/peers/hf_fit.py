"""Hugging Face Trainer on the same module: fused AdamW without decay is Adam; no logging, saving or clipping."""

from __future__ import annotations

import tempfile

import _mnist
import torch
from torch import nn
from torch.nn import functional as F
from transformers import Trainer, TrainerCallback, TrainingArguments

args = _mnist.arguments()
x, y, test_x, test_y = _mnist.load(args)


class Rows(torch.utils.data.Dataset):
    def __init__(self) -> None:
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int):
        return {"x": self.x[index], "labels": self.y[index]}


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = _mnist.network(args)

    def forward(self, x, labels):
        logits = self.network(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class Marks(TrainerCallback):
    def on_epoch_end(self, *_, **__) -> None:
        clock.mark()


module = Classifier()
with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
        module,
        TrainingArguments(
            folder, num_train_epochs=args.epochs, per_device_train_batch_size=args.batch, learning_rate=1e-3,
            weight_decay=0.0, lr_scheduler_type="constant", max_grad_norm=0.0, optim="adamw_torch_fused", seed=args.seed,
            save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Rows(), callbacks=[Marks()],
    )  # fmt: skip
    clock = _mnist.Clock()
    trainer.train()
_mnist.report(
    args,
    clock,
    _mnist.torch_accuracy(module.network, test_x, test_y),
    sum(p.numel() for p in module.parameters()),
)
