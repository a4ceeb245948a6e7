"""The character model of nanoGPT's README for a CPU, in plain PyTorch: its architecture, schedule and optimizer.

4 layers, 4 heads, 128 wide, context 64, no biases, no dropout, tied head; batch 12 at random places, 2,000 steps of
AdamW (0.9, 0.99), weight decay 0.1 on matrices, rate 1e-3 after 100 steps of warm-up, cosine to 1e-4, clipped at 1.
Other shapes by options. The loss is over the whole validation split, in consecutive windows.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        B, T, D = x.shape
        q, k, v = (
            part.view(B, T, self.heads, D // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(D, 2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, D))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self, size: int, context: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(size, width), nn.Embedding(context, width)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                scaled = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * depth) if scaled else 0.02)

    def forward(self, x):
        x = self.tokens(x) + self.places.weight[: x.shape[1]]
        return F.linear(self.norm(self.layers(x)), self.tokens.weight)


parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, required=True, help="the text")
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--steps", type=int, default=2000)
for name, default in (("width", 128), ("depth", 4), ("heads", 4), ("context", 64), ("batch", 12)):
    parser.add_argument(f"--{name}", type=int, default=default)
parser.add_argument("--skip", type=int, default=0, help="steps left out of the speed")
parser.add_argument("--speed-only", action="store_true", help="no validation")
args = parser.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(args.seed)
text = args.data.read_text("utf-8")
codes = {character: code for code, character in enumerate(sorted(set(text)))}
ids = torch.tensor([codes[character] for character in text])
train, valid = ids[: int(0.9 * len(ids))], ids[int(0.9 * len(ids)) :]
context, batch = args.context, args.batch
model = Gpt(len(codes), context, args.width, args.depth, args.heads)
matrices = [p for p in model.parameters() if p.dim() >= 2]
others = [p for p in model.parameters() if p.dim() < 2]
optimizer = torch.optim.AdamW(
    [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
    lr=1e-3, betas=(0.9, 0.99),
)  # fmt: skip
started = time.perf_counter()
skipped = started
for step in range(args.steps):
    if step == args.skip:
        skipped = time.perf_counter()
    warm = min(1.0, (step + 1) / 101)
    along = max(0.0, (step - 100) / max(args.steps - 100, 1))
    rate = warm * 1e-3 if step < 100 else 1e-4 + 0.5 * (1 + math.cos(math.pi * along)) * 9e-4
    for group in optimizer.param_groups:
        group["lr"] = rate
    at = torch.randint(len(train) - context, (batch,))
    x = torch.stack([train[i : i + context] for i in at])
    y = torch.stack([train[i + 1 : i + 1 + context] for i in at])
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
ended = time.perf_counter()
seconds, counted = ended - started, (args.steps - args.skip) * batch * context
model.eval()
windows = 1 if args.speed_only else (len(valid) - 1) // context
x = valid[: windows * context].view(windows, context)
y = valid[1 : windows * context + 1].view(windows, context)
with torch.inference_mode():
    total = sum(
        float(F.cross_entropy(model(a).flatten(0, 1), b.flatten(), reduction="sum"))
        for a, b in zip(x.split(64), y.split(64), strict=True)
    )
print(
    json.dumps(
        {
            "loss": total / y.numel(), "seconds": seconds, "tokens": args.steps * batch * context,
            "parameters": sum(p.numel() for p in model.parameters()), "rate": counted / (ended - skipped),
        }
    )
)  # fmt: skip
