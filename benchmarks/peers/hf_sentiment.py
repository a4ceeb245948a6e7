"""Hugging Face Trainer on the reviews: a BERT of the same size from scratch, characters, padded batch by batch.

`--group` sorts batches by length, as its documentation advises for speed.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

PAD, UNKNOWN, CLS = 0, 1, 2

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--epochs", type=int, required=True)
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--limit", type=int)
parser.add_argument("--group", action="store_true")
args = parser.parse_args()
torch.set_num_threads(args.threads)
set_seed(args.seed)


def plain(text: str) -> str:
    """The same clean-up as modelworks' text field: NFKC, lower case."""
    return unicodedata.normalize("NFKC", text).lower()


with args.data.open(encoding="utf-8", newline="") as file:
    lines = list(csv.DictReader(file))
train_lines = [line for line in lines if line["split"] == "train"][: args.limit]
test_lines = [line for line in lines if line["split"] == "test"][: args.limit]
counts = Counter(character for line in train_lines for character in plain(line["text"]))
kept = [character for character, count in counts.most_common(20_000 - 3) if count >= 2]
ids = {character: number for number, character in enumerate(kept, 3)}


def encode(line: dict[str, str]) -> dict:
    tokens = [CLS, *(ids.get(character, UNKNOWN) for character in plain(line["text"])[:128])]
    return {"input_ids": tokens, "labels": int(line["label"] == "pos")}


class Rows(torch.utils.data.Dataset):
    def __init__(self, lines: list[dict[str, str]]) -> None:
        self.rows = [encode(line) for line in lines]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        return self.rows[index]


def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
    """Padded to the longest text of the batch."""
    longest = max(len(row["input_ids"]) for row in rows)
    tokens = np.full((len(rows), longest), PAD, np.int64)
    for index, row in enumerate(rows):
        tokens[index, : len(row["input_ids"])] = row["input_ids"]
    tokens_BT = torch.from_numpy(tokens)
    labels_B = torch.tensor([row["labels"] for row in rows])
    return {"input_ids": tokens_BT, "attention_mask": (tokens_BT != PAD).long(), "labels": labels_B}


class Marks(TrainerCallback):
    def on_epoch_end(self, *_, **__) -> None:
        marks.append(time.perf_counter())


train, test = Rows(train_lines), Rows(test_lines)
config = BertConfig(
    vocab_size=len(ids) + 3, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512,
    max_position_embeddings=129, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.0, num_labels=2, pad_token_id=PAD,
)  # fmt: skip
model = BertForSequenceClassification(config)
steps = -(-len(train) // 64) * args.epochs
with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
        model,
        TrainingArguments(
            folder, num_train_epochs=args.epochs, per_device_train_batch_size=64, learning_rate=5e-4, weight_decay=0.01,
            lr_scheduler_type="linear", warmup_steps=steps // 10, max_grad_norm=1.0, optim="adamw_torch_fused", seed=args.seed,
            train_sampling_strategy="group_by_length" if args.group else "random", save_strategy="no", logging_strategy="no",
            report_to="none", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False,
        ),
        train_dataset=train, data_collator=collate, callbacks=[Marks()],
    )  # fmt: skip
    marks = [time.perf_counter()]
    trainer.train()
model.eval()
found = []
with torch.inference_mode():
    for start in range(0, len(test), 64):
        batch = collate([test[index] for index in range(start, min(start + 64, len(test)))])
        found.append(
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            .logits.argmax(1)
            .numpy()
        )
predicted = np.concatenate(found)
truth = np.array([row["labels"] for row in test.rows])
print(
    json.dumps(
        {
            "rate": len(train) * (len(marks) - 2) / (marks[-1] - marks[1]),
            "accuracy": float((predicted == truth).mean()),
            "positive": float(predicted.mean()),
            "parameters": sum(p.numel() for p in model.parameters()),
        }
    )
)
