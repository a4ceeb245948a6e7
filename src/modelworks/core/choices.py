"""Choices that several families offer, named once: activations, norms, initialisations, pooling, positions."""

from __future__ import annotations

from typing import Literal

Activation = Literal[
    "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu", "elu", "softplus", "relu2", "identity"
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
