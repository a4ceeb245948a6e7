"""Which steps of a padded batch are real: `mask_BT = padding_mask(length_B, x_BTD.shape[1])`.

None means that every step is real, so that attention and pooling take their fastest path. The lengths are
looked at only where that is free: eagerly on the CPU. On a device, and while a graph is captured, the mask is
always built, so that the program does not depend on the values.
"""

from __future__ import annotations

import torch
from torch import Tensor


def padding_mask(length_B: Tensor | None, steps: int) -> Tensor | None:
    """bool (B, T), True where a step is real; None when all are. An empty row counts as one (zero) step."""
    if length_B is None:
        return None
    eager = type(length_B) is Tensor and length_B.device.type == "cpu" and not torch.compiler.is_compiling()
    if eager and int(length_B.min()) >= steps:
        return None
    return torch.arange(steps, device=length_B.device) < length_B.clamp(min=1)[:, None]
