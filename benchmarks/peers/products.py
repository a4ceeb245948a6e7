"""How fast this machine multiplies 2,048 × 2,048 float32 matrices: torch.mm, and oneDNN as torch's compiler calls it."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch

parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, required=True)
torch.set_num_threads(parser.parse_args().threads)
SIZE = 2048
a, b = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)


def rate(product: Callable[[], torch.Tensor]) -> float:
    """GFLOP/s, the median of 12 after 3 to warm up."""
    seconds = []
    for _ in range(15):
        started = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - started)
    return 2 * SIZE**3 / sorted(seconds[3:])[6] / 1e9


with torch.no_grad():
    onednn = rate(lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""))
    print(json.dumps({"mkl": rate(lambda: a @ b), "onednn": onednn}))
