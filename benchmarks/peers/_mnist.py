"""What the MNIST peers share: arguments, data, the two networks in torch, and how speed is counted.

Images are float32, standardised by the training set's mean and deviation. Speed is counted from the end of the
first epoch on: start-up, first calls and caches are nobody's merit.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=["mlp", "cnn"], required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=60_000, help="training images used")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--layout", choices=["nchw", "channels_last"], default="nchw")
    return parser.parse_args()


def load(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x (N, 784) or (N, 1, 28, 28) float32, y (N,) int64; training and test."""
    train, test = (np.load(args.data / f"{part}_images.npy") for part in ("train", "test"))
    train_y, test_y = (
        np.load(args.data / f"{part}_labels.npy").astype(np.int64) for part in ("train", "test")
    )
    train, train_y = train[: args.limit], train_y[: args.limit]
    mean, deviation = train.mean() / 255, train.std() / 255
    shape = (-1, 784) if args.model == "mlp" else (-1, 1, 28, 28)
    scaled = [
        ((x.astype(np.float32) / 255 - mean) / deviation).astype(np.float32).reshape(shape)
        for x in (train, test)
    ]
    return scaled[0], train_y, scaled[1], test_y


def network(args: argparse.Namespace):
    """The hand-written torch module; parameters start as torch starts them."""
    import torch
    from torch import nn

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.model == "mlp":
        return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    # Pooling before the activation gives the same values as after it and costs less: the peer gets that too.
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


class Clock:
    """Marks the end of each epoch."""

    def __init__(self) -> None:
        self.marks = [time.perf_counter()]

    def mark(self) -> None:
        self.marks.append(time.perf_counter())

    def rate(self, samples: int) -> float:
        """Samples a second from the second epoch on."""
        return samples * (len(self.marks) - 2) / (self.marks[-1] - self.marks[1])


def torch_accuracy(module, x: np.ndarray, y: np.ndarray) -> float:
    import torch

    module.eval()
    with torch.inference_mode():
        found = torch.cat([module(part).argmax(1) for part in torch.from_numpy(x).split(1000)])
    return float((found.numpy() == y).mean())


def report(args: argparse.Namespace, clock: Clock, accuracy: float, parameters: int) -> None:
    rate = clock.rate(min(args.limit, 60_000))
    print(json.dumps({"rate": rate, "accuracy": accuracy, "parameters": parameters, "epochs": args.epochs}))
