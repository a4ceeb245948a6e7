"""litgpt's own `pretrain` on a text: a GPT of a given shape from scratch, characters, windows of one length, float32.

It has no learned positions: rotary ones stand for them. As it comes it compiles the model by torch.compile.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from _text import told
from litgpt import GPT, Config
from litgpt.args import EvalArgs, TrainArgs
from litgpt.data import DataModule
from litgpt.pretrain import setup
from torch.utils.data import DataLoader

args, size, ids = told()
sys.argv[1:] = ["shape"]  # it reads the command line again to write down its settings
windows = ids.unfold(0, args.context + 1, args.context)
marks: list[float] = []


class Marked(DataLoader):
    """Notes when each batch is asked for: the last step's end is the next one's asking."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        for batch in super().__iter__():
            marks.append(time.perf_counter())
            yield batch


class Text(DataModule):
    """The windows."""

    def connect(self, tokenizer=None, batch_size=1, max_seq_length=None) -> None:
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        order = torch.Generator().manual_seed(args.seed)
        return Marked(windows, batch_size=self.batch_size, shuffle=True, drop_last=True, generator=order)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(windows[: self.batch_size], batch_size=self.batch_size)


config = Config(
    name="shape", block_size=args.context, vocab_size=size, padded_vocab_size=size, n_layer=args.depth,
    n_head=args.heads, n_embd=args.width, rotary_percentage=1.0, parallel_residual=False, bias=False,
    norm_class_name="LayerNorm", mlp_class_name="GptNeoxMLP", intermediate_size=4 * args.width,
)  # fmt: skip
with tempfile.TemporaryDirectory() as folder:
    setup(
        "shape", model_config=config, out_dir=Path(folder), precision="32-true", data=Text(),
        train=TrainArgs(
            save_interval=None, log_interval=1, global_batch_size=args.batch, micro_batch_size=args.batch,
            max_tokens=(args.steps + 1) * args.batch * args.context, max_norm=1.0, lr_warmup_steps=1, tie_embeddings=True,
        ),
        eval=EvalArgs(interval=10**9, max_iters=1, initial_validation=False, final_validation=False),
        optimizer={
            "class_path": "torch.optim.AdamW",
            "init_args": {"lr": 1e-3, "weight_decay": 0.1, "betas": (0.9, 0.99)},
        },
        devices=1, logger_name="csv", seed=args.seed,
    )  # fmt: skip
with torch.device("meta"):
    parameters = sum(p.numel() for p in GPT(config).parameters()) - size * args.width  # the head is tied
counted = (args.steps - args.skip) * args.batch * args.context
print(json.dumps({"rate": counted / (marks[args.steps] - marks[args.skip]), "parameters": parameters}))
