"""Unfilled: a network that is to be loaded is built without drawing the parameters that the file brings.

with Unfilled():
    network = build(model, task, fields, seed)       # parameters hold what memory held: load every one of them

What is filled in place by torch's own generator is left as it is. Random buffers that no file holds come from a
generator of their own, whatever a network's seed, and are drawn as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DRAWN: set[Any] = {
    nn.init.normal_, nn.init.trunc_normal_, nn.init.uniform_, nn.init.kaiming_normal_, nn.init.kaiming_uniform_,
    nn.init.xavier_normal_, nn.init.xavier_uniform_, nn.init.orthogonal_, Tensor.normal_, Tensor.uniform_,
}  # fmt: skip
"""What fills its first argument with draws."""


class Unfilled(TorchFunctionMode):
    """While it lasts, nothing is filled by torch's own generator."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in DRAWN and kwargs.get("generator") is None:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
