"""Hugging Face Trainer on a text: a GPT-2 of a given shape from scratch, characters, windows of one length."""

from __future__ import annotations

import json
import tempfile
import time

from _text import told
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed

args, size, ids = told()
set_seed(args.seed)
windows = ids[: len(ids) // args.context * args.context].view(-1, args.context)


class Marks(TrainerCallback):
    def on_step_end(self, *_, **__) -> None:
        marks.append(time.perf_counter())


config = GPT2Config(
    vocab_size=size, n_positions=args.context, n_embd=args.width, n_layer=args.depth, n_head=args.heads,
    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None, use_cache=False,
)  # fmt: skip
model = GPT2LMHeadModel(config)
marks: list[float] = []
with tempfile.TemporaryDirectory() as folder:
    Trainer(
        model,
        TrainingArguments(
            folder, max_steps=args.steps, per_device_train_batch_size=args.batch, learning_rate=1e-3, weight_decay=0.1,
            adam_beta2=0.99, lr_scheduler_type="cosine", max_grad_norm=1.0, optim="adamw_torch_fused", seed=args.seed,
            save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in windows],
        callbacks=[Marks()],
    ).train()  # fmt: skip
counted = (args.steps - args.skip) * args.batch * args.context
print(
    json.dumps(
        {
            "rate": counted / (marks[-1] - marks[args.skip - 1]),
            "parameters": sum(p.numel() for p in model.parameters()),
        }
    )
)
