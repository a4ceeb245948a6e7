"""What a peer of pretraining.py is told: a text, a shape and how long; its characters as numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch


def told() -> tuple[argparse.Namespace, int, torch.Tensor]:
    """(the command line, how many different characters there are, the text as their numbers); threads are set."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="the text")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    for name in ("steps", "width", "depth", "heads", "context", "batch", "skip"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    text = args.data.read_text("utf-8")
    codes = {character: code for code, character in enumerate(sorted(set(text)))}
    return args, len(codes), torch.tensor([codes[character] for character in text])
