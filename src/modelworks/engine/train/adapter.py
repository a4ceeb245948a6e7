"""Adapters: small matrices beside large frozen ones, trained in their place and merged into them at the end.

    train: {adapter: {kind: lora, rank: 8, alpha: 16, match: ["*attention*", "*feedforward*"]}}

Only they and what the source of the weights did not have (a new head) are trained; see layers/adapted.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field as Setting
from pydantic import PositiveInt, model_validator

from modelworks.core.errors import UserError, did_you_mean
from modelworks.core.settings import Settings
from modelworks.engine.train.choice import as_kind

if TYPE_CHECKING:
    from torch import nn


class Adapter(Settings):
    """What is trained in the place of large matrices."""

    kind: Literal["lora", "dora"] = "lora"
    """lora adds a product of two thin matrices; dora learns each output's length besides."""
    rank: PositiveInt = 8
    """Width of the thin matrices. Layers that hold several matrices have a pair for each."""
    alpha: float = Setting(default=16.0, gt=0)
    """The change is multiplied by alpha / rank."""
    match: list[str] = Setting(default=["*attention*", "*feedforward*"], min_length=1)
    """Which linear layers, by name pattern with `*`."""
    base: Literal["float32", "int8"] = "float32"
    """How these layers' own, frozen matrices are held while training: as they are, or as int8 with a scale for each
    output, a quarter of the memory (after Dettmers et al. 2023). The Run is a plain float32 model all the same."""
    dropout: float = Setting(default=0.0, ge=0, lt=1)
    """Share of the inputs dropped before the thin matrices in training."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return as_kind(value)


def adapt(network: nn.Module, settings: Adapter, seed: int, new: Sequence[str] = ()) -> list[str]:
    """Freeze the network but for the parameters named in `new`, put adapters beside the layers that match, and
    return those layers' names. The adapters start from `seed` alone."""
    import torch
    from torch import nn

    from modelworks.layers.adapted import Adapted
    from modelworks.layers.quantised import QuantisedLinear

    layers = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    for pattern in settings.match:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise UserError(
                f"train.adapter.match: no linear layer matches {pattern!r}", did_you_mean(pattern, layers)
            )
    fresh = set(new)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in fresh)
    chosen = [
        name
        for name in layers
        if any(fnmatchcase(name, pattern) for pattern in settings.match) and f"{name}.weight" not in fresh
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name in chosen:
            base = QuantisedLinear(layers[name]) if settings.base == "int8" else layers[name]
            magnitude = settings.kind == "dora"
            _put(network, name, Adapted(base, settings.rank, settings.alpha, settings.dropout, magnitude))
    return chosen


def merge(network: nn.Module) -> None:
    """Plain layers again, that do the same; adapters are gone."""
    from modelworks.layers.adapted import Adapted

    found = [(name, module) for name, module in network.named_modules() if isinstance(module, Adapted)]
    for name, adapted in found:
        _put(network, name, adapted.merged())


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, last = name.rpartition(".")
    setattr(network.get_submodule(owner), last, module)
