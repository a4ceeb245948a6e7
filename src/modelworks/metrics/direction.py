"""Which way each metric is better; needs nothing, so that recipes are checked without numpy."""

from __future__ import annotations

_LOWER = frozenset(
    {"loss", "brier", "ece", "mse", "rmse", "mae", "mape", "median_ae", "pinball", "frechet", "perplexity"}
)
_LOWER_ENDINGS = ("_loss", "_error", "_distance", "_gap")


def higher_is_better(name: str) -> bool:
    """True for accuracy and its like, False for losses, errors and distances.

    A metric we do not know is judged by its ending, so a user's own `my_loss` or `my_error` works."""
    name = name.rsplit("/", 1)[-1]  # "valid/loss" reads as "loss"
    return name not in _LOWER and not name.endswith(_LOWER_ENDINGS)
