"""Choices that several families offer, named once: activations, norms, initialisations, pooling, positions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field as Setting

from modelworks.core.settings import Settings

Activation = Literal[
    "relu",
    "leaky_relu",
    "sigmoid",
    "tanh",
    "gelu",
    "gelu_tanh",
    "silu",
    "elu",
    "softplus",
    "relu2",
    "identity",
]
Normalisation = Literal["batch", "layer", "rms", "group", "none"]
"""Norms of images' channels."""
RowNormalisation = Literal["batch", "layer", "rms", "none"]
"""Norms of one vector a row."""
StepNormalisation = Literal["layer", "rms"]
"""Norms of each step of a sequence."""
Initialisation = Literal["default", "normal", "xavier", "he", "orthogonal"]
Pool = Literal["mean", "max", "last", "cls", "attention"]
Positions = Literal["learned", "sinusoidal", "rope", "alibi", "none"]
Order = Literal["pre", "post"]
Stem = Literal["auto", "imagenet", "small"]
Downsample = Literal["max", "average", "stride"]


class RopeScaling(Settings):
    """Longer contexts than rope was trained for, as Llama 3.1 does: slow frequencies are slowed by `factor`."""

    factor: float = Setting(default=8.0, ge=1)
    """How many times slower the slowest frequencies turn."""
    low: float = Setting(default=1.0, gt=0)
    """Frequencies with fewer turns than this within `length` are slowed in full."""
    high: float = Setting(default=4.0, gt=0)
    """Those with more turns are left alone; between the two the change is linear in the turns."""
    length: int = Setting(default=8192, gt=0)
    """The context that the model was trained for first."""
