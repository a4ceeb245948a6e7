"""Optimizer: which rule turns gradients into steps, with what settings, for which parameters.

optimizer = Optimizer(kind="adamw", lr=1e-3).build(network.named_parameters())
set_lr(optimizer, schedule.factor(step, total))
tensors, scalars = optimizer_tensors(optimizer)         # by parameter name, for a checkpoint
load_optimizer_tensors(fresh_optimizer, tensors, scalars)  # bit for bit
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from modelworks.core.errors import DataError, UserError, did_you_mean
from modelworks.core.settings import Settings
from modelworks.engine.train.choice import as_kind, refuse_foreign, resolved

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_ADAM = {"lr": 1e-3, "weight_decay": 0.0, "betas": (0.9, 0.999), "eps": 1e-8}
# Each kind's settings and their defaults: torch's, but for the rates of gd, sgd and rmsprop.
KINDS: dict[str, dict[str, Any]] = {
    "gd": {"lr": 0.1, "weight_decay": 0.0},
    "sgd": {"lr": 0.1, "weight_decay": 0.0, "momentum": 0.0, "dampening": 0.0, "nesterov": False},
    "adam": {**_ADAM, "amsgrad": False},
    "adamw": {**_ADAM, "weight_decay": 0.01, "amsgrad": False},
    "muon": {
        "lr": 1e-3, "weight_decay": 0.1, "momentum": 0.95, "nesterov": True, "newton_schulz_steps": 5,
        "precision": "auto", "scale": "spectral", "betas": (0.9, 0.95), "eps": 1e-8, "adamw_lr": None,
        "adamw_names": ("*embed*", "*position*", "head*", "*.head*", "lm_head*"),
    },
    "adagrad": {
        "lr": 1e-2, "weight_decay": 0.0, "lr_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10,
    },
    "adadelta": {"lr": 1.0, "weight_decay": 0.0, "rho": 0.9, "eps": 1e-6},
    "adamax": {**_ADAM, "lr": 2e-3},
    "nadam": {**_ADAM, "lr": 2e-3, "momentum_decay": 4e-3},
    "radam": _ADAM,
    "rmsprop": {
        "lr": 1e-3, "weight_decay": 0.0, "alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "centered": False,
    },
    "rprop": {"lr": 1e-2, "etas": (0.5, 1.2), "step_sizes": (1e-6, 50.0)},
    "asgd": {"lr": 1e-2, "weight_decay": 0.0, "lambd": 1e-4, "alpha": 0.75, "t0": 1e6},
    "adafactor": {"lr": 1e-2, "weight_decay": 0.0, "beta2_decay": -0.8, "update_clip": 1.0},
}  # fmt: skip
_TORCH = {
    "gd": "SGD", "sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "adagrad": "Adagrad", "adadelta": "Adadelta",
    "adamax": "Adamax", "nadam": "NAdam", "radam": "RAdam", "rmsprop": "RMSprop", "rprop": "Rprop",
    "asgd": "ASGD", "adafactor": "Adafactor",
}  # fmt: skip
# Where one fused kernel does the whole step, and on which devices.
_FUSED = dict.fromkeys(("gd", "sgd", "adam", "adamw"), ("cpu", "cuda")) | {"adagrad": ("cpu",)}


class Group(Settings):
    """Parameters that are treated otherwise, by name. The first group that matches a parameter counts."""

    match: str | list[str]
    """Name patterns with `*`, as in `model.encoder.*`."""
    lr_scale: float = Setting(default=1.0, ge=0)
    """Multiplies the learning rate."""
    weight_decay: float | None = Setting(default=None, ge=0)
    """Replaces the weight decay; None: as for the others."""
    frozen: bool = False
    """Not trained at all."""

    @property
    def patterns(self) -> list[str]:
        return [self.match] if isinstance(self.match, str) else self.match


class Optimizer(Settings):
    """The optimizer. A setting left at None takes the kind's own default (see KINDS)."""

    kind: Literal[
        "gd", "sgd", "adam", "adamw", "muon", "adagrad", "adadelta", "adamax", "nadam", "radam", "rmsprop",
        "rprop", "asgd", "adafactor",
    ] = "adamw"  # fmt: skip
    """`gd` is plain descent, meant for `batch_size: full`; `muon` uses AdamW for what is not a matrix."""
    lr: float | None = Setting(default=None, gt=0)
    """Learning rate at the schedule's peak."""
    weight_decay: float | None = Setting(default=None, ge=0)
    """Decoupled in adamw, muon and adafactor; added to the gradient (L2) in the others."""
    momentum: float | None = Setting(default=None, ge=0, lt=1)
    dampening: float | None = Setting(default=None, ge=0, le=1)
    """sgd: share of the gradient kept out of the momentum."""
    nesterov: bool | None = None
    """Look ahead along the momentum (Nesterov 1983)."""
    betas: tuple[float, float] | None = None
    """Decay of the first and second moment, each in [0, 1)."""
    eps: float | None = Setting(default=None, gt=0)
    """Added to the denominator."""
    amsgrad: bool | None = None
    """Keep the largest second moment (Reddi et al. 2018)."""
    alpha: float | None = Setting(default=None, ge=0, lt=1)
    """rmsprop: decay of the squared gradient; asgd: power of the rate's decay."""
    rho: float | None = Setting(default=None, ge=0, lt=1)
    """adadelta: decay of the averages."""
    centered: bool | None = None
    """rmsprop: divide by the variance instead of the second moment."""
    momentum_decay: float | None = Setting(default=None, ge=0)
    lr_decay: float | None = Setting(default=None, ge=0)
    """adagrad: rate = lr / (1 + step · lr_decay)."""
    initial_accumulator_value: float | None = Setting(default=None, ge=0)
    """adagrad: start of the sum of squares."""
    etas: tuple[float, float] | None = None
    """rprop: factors that shrink and grow a step, (in (0, 1), over 1)."""
    step_sizes: tuple[float, float] | None = None
    """rprop: smallest and largest step."""
    lambd: float | None = Setting(default=None, ge=0)
    """asgd: decay term."""
    t0: float | None = Setting(default=None, ge=0)
    """asgd: step at which averaging starts."""
    beta2_decay: float | None = Setting(default=None, lt=0)
    """adafactor: power of the second moment's decay (Shazeer & Stern 2018)."""
    update_clip: float | None = Setting(default=None, gt=0)
    """adafactor: largest root mean square of an update."""
    newton_schulz_steps: int | None = Setting(default=None, ge=1, le=20)
    """muon: iterations of the orthogonalisation."""
    precision: Literal["auto", "float32", "bfloat16"] | None = None
    """muon: of the orthogonalisation; auto is bfloat16 where the processor has units for it, else the weights' own."""
    scale: Literal["spectral", "original"] | None = None
    """muon: 0.2·√max(m, n), which suits AdamW's rates (Liu et al. 2025), or √max(1, m/n) (Jordan 2024)."""
    adamw_lr: float | None = Setting(default=None, gt=0)
    """muon: learning rate of what AdamW trains; None: the same."""
    adamw_names: list[str] | None = None
    """muon: matrices that AdamW trains (embeddings, the head), by name pattern."""
    no_decay: Literal["norms_and_biases", "none"] | list[str] = "norms_and_biases"
    """Parameters without weight decay; a list of name patterns may hold `norms_and_biases` too."""
    layer_decay: float | None = Setting(default=None, gt=0, le=1)
    """Multiplies the rate once for each layer below the head, so that what lies deep moves least (Howard & Ruder 2018,
    with the count of BEiT, Bao et al. 2021); None: the same rate everywhere."""
    groups: list[Group] = []
    """Parameters with a rate or decay of their own, or frozen."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return as_kind(value)

    @model_validator(mode="after")
    def _fits_kind(self) -> Optimizer:
        refuse_foreign(self, self.kind, KINDS)
        if self.betas and not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas want two numbers in [0, 1), got {list(self.betas)}")
        if self.etas and not 0 < self.etas[0] < 1 < self.etas[1]:
            raise ValueError(f"etas want one number in (0, 1) and one over 1, got {list(self.etas)}")
        if self.step_sizes and not 0 < self.step_sizes[0] < self.step_sizes[1]:
            raise ValueError(f"step_sizes want two rising numbers over 0, got {list(self.step_sizes)}")
        if self.kind == "sgd" and self.nesterov and (not self.momentum or self.dampening):
            raise ValueError("nesterov wants a momentum over 0 and no dampening")
        return self

    @property
    def hyper(self) -> dict[str, Any]:
        """This kind's settings with its defaults filled in."""
        return resolved(self, self.kind, KINDS)

    def build(self, named_parameters: Iterable[tuple[str, Tensor]]) -> torch.optim.Optimizer:
        """A torch optimizer over these parameters; those of a frozen group stop requiring gradients."""
        import torch

        hyper = self.hyper
        groups = _grouped(self, list(named_parameters), hyper)
        parameters = [p for group in groups for _, p in group["params"]]
        if self.kind == "muon":
            from modelworks.engine.train.muon import Muon

            names = ("lr", "weight_decay", "momentum", "nesterov", "precision", "scale", "betas", "eps")
            return Muon(groups, steps=hyper["newton_schulz_steps"], **{name: hyper[name] for name in names})
        if "update_clip" in hyper:
            hyper["d"] = hyper.pop("update_clip")
        if self.kind in _FUSED and all(
            p.device.type in _FUSED[self.kind] and p.is_floating_point() for p in parameters
        ):
            hyper["fused"] = True
        return getattr(torch.optim, _TORCH[self.kind])(groups, **hyper)


def _grouped(
    settings: Optimizer, named: list[tuple[str, Tensor]], hyper: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """torch parameter groups; parameters treated alike share one, in order of first appearance."""
    names = [name for name, _ in named]
    assert len(set(names)) == len(names), "parameter names repeat"
    for rule in settings.groups:
        for pattern in rule.patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UserError(
                    f"optimizer.groups: no parameter matches {pattern!r}", did_you_mean(pattern, names)
                )
    depths = _depths(names) if settings.layer_decay is not None else {}
    buckets: dict[tuple[float, float | None, str], list[tuple[str, Tensor]]] = {}
    for name, p in named:
        rule = next((r for r in settings.groups if _matches(name, r.patterns)), None)
        if rule and rule.frozen:
            p.requires_grad_(False)
            continue
        decay = hyper.get("weight_decay")
        if decay is not None:
            decay = 0.0 if _undecayed(settings.no_decay, name, p) else decay
            decay = rule.weight_decay if rule and rule.weight_decay is not None else decay
        lr, algorithm = hyper["lr"], ""
        if settings.kind == "muon":
            # A matrix with one row or column has nothing to orthogonalise: its update is just normalised.
            matrix = p.ndim >= 2 and min(p.shape[0], p[0].numel()) > 1
            algorithm = "muon" if matrix and not _matches(name, hyper["adamw_names"]) else "adamw"
            lr = lr if algorithm == "muon" or hyper["adamw_lr"] is None else hyper["adamw_lr"]
        lr *= (rule.lr_scale if rule else 1.0) * (settings.layer_decay or 1.0) ** depths.get(name, 0)
        buckets.setdefault((lr, decay, algorithm), []).append((name, p))
    if not buckets:
        raise UserError("there is nothing to train", "every parameter is frozen or the model has none")
    groups = []
    for (lr, decay, algorithm), members in buckets.items():
        group: dict[str, Any] = {"params": members, "lr": lr, "initial_lr": lr}
        if decay is not None:
            group["weight_decay"] = decay
        groups.append(group | ({"algorithm": algorithm} if algorithm else {}))
    return groups


def _depths(names: list[str]) -> dict[str, int]:
    """How many layers below the head each parameter lies: a layer is what shares the first number in the name, as in
    `model.blocks.3.norm.weight`; what comes before the first layer is one layer deeper, what comes after is at 0."""
    numbers: dict[str, int | None] = {}
    for name in names:
        found = re.search(r"\.(\d+)\.", name) if name.startswith("model.") else None
        numbers[name] = int(found[1]) if found else None
    layers = [number for number in numbers.values() if number is not None]
    if not layers:
        return dict.fromkeys(names, 0)
    count, first = max(layers) + 1, next(at for at, name in enumerate(names) if numbers[name] is not None)
    return {
        name: count - number if number is not None else count + 1 if at < first else 0
        for at, (name, number) in enumerate(numbers.items())
    }


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _undecayed(rule: str | list[str], name: str, p: Tensor) -> bool:
    rules = [rule] if isinstance(rule, str) else rule
    # By name too: a stacked ensemble's biases are matrices.
    norm_or_bias = p.ndim < 2 or name.rsplit(".", 1)[-1].startswith("bias")
    return ("norms_and_biases" in rules and norm_or_bias) or (rules != ["none"] and _matches(name, rules))


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group's rate = its own peak rate × the schedule's factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


# ------------------------------------------------------------------------------------------- checkpoints
# torch keeps these counters on the CPU unless the step is fused or captured.
_COUNTERS = ("step", "mu_product")


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's state as `PARAMETER:STATE` → tensor (not copied) and JSON-able scalars."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {"groups": [], "state": {}}
    for group in optimizer.param_groups:
        scalars["groups"].append({"names": list(group["param_names"]), "lr": float(group["lr"])})
        for name, p in zip(group["param_names"], group["params"], strict=True):
            for key, value in optimizer.state.get(p, {}).items():
                if hasattr(value, "shape"):
                    tensors[f"{name}:{key}"] = value.detach()
                elif value is not None:
                    scalars["state"].setdefault(name, {})[key] = value
    return tensors, scalars


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]
) -> None:
    """Restore what `optimizer_tensors` gave. Raises DataError when the parameters are not the same."""
    import torch

    rates = {name: group["lr"] for group in scalars["groups"] for name in group["names"]}
    own = {
        name: (p, group)
        for group in optimizer.param_groups
        for name, p in zip(group["param_names"], group["params"], strict=True)
    }
    if set(rates) != set(own):
        odd = sorted(set(rates) ^ set(own))
        raise DataError(
            f"the checkpoint's optimizer has other parameters: {', '.join(odd[:5])}",
            "resume with the recipe it was made with",
        )
    states: dict[str, dict[str, Any]] = {name: dict(values) for name, values in scalars["state"].items()}
    for key, value in tensors.items():
        name, _, part = key.rpartition(":")
        if name not in own:
            raise DataError(f"the checkpoint's optimizer has state for {name!r}, which is not trained here")
        p, group = own[name]
        counter = part in _COUNTERS and not (group.get("fused") or group.get("capturable"))
        device = torch.device("cpu") if counter else p.device
        # The parameter's own memory layout: fused kernels pair the two element by element.
        like = (
            torch.empty_like(p, dtype=value.dtype)
            if value.shape == p.shape
            else torch.empty_like(value, device=device)
        )
        if value.ndim and value.numel() == p.numel() and value.shape != p.shape:
            raise DataError(
                f"the checkpoint's optimizer state {key!r} has shape {tuple(value.shape)}, "
                f"the parameter {tuple(p.shape)}"
            )
        states.setdefault(name, {})[part] = like.to(device).copy_(value)
    optimizer.state.clear()
    for name, (p, _) in own.items():
        if name in states:
            optimizer.state[p] = states[name]
    for group in optimizer.param_groups:
        group["lr"] = rates[group["param_names"][0]]
