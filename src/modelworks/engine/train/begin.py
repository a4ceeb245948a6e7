"""Begin: the network of a recipe as training starts: built, given what `init` has learned, frozen and adapted.

beginning = begin(recipe, fields)
beginning.network, beginning.transferred
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

from modelworks.core.errors import Problem, RecipeError, UserError, did_you_mean
from modelworks.core.field import Field
from modelworks.core.run import RunFolder
from modelworks.engine.exchange import origin, transfer
from modelworks.engine.network import Network, build
from modelworks.engine.recipe import Recipe
from modelworks.engine.train.adapter import adapt

FILE = "init.json"
"""In the Run: what was copied and what was new."""


@dataclass
class Beginning:
    """A network to train."""

    network: Network
    transferred: transfer.Report | None = None
    adapted: Sequence[str] = ()
    """Layers with adapters."""

    @property
    def counts(self) -> str:
        """`12,288 of 811,008 parameters`, or all of them."""
        total = sum(p.numel() for p in self.network.parameters())
        trained = sum(p.numel() for p in self.network.parameters() if p.requires_grad)
        return f"{total:,} parameters" if trained == total else f"{trained:,} of {total:,} parameters trained"


def begin(recipe: Recipe, fields: Mapping[str, Field], run: RunFolder | None = None) -> Beginning:
    """`run`: one that has a checkpoint, which holds the weights: `init` is not read again."""
    assert recipe.task is not None
    assert recipe.model is not None
    train = recipe.train
    if train.adapter is not None and not recipe.init:
        raise RecipeError([Problem("train.adapter", "there is nothing to adapt", "init: RUN or FOLDER")])
    beginning = Beginning(build(recipe.model, recipe.task, fields, recipe.seed))
    network = beginning.network
    if recipe.init:
        if run is not None:
            beginning.transferred = transfer.Report(**run.json(FILE))
        else:
            beginning.transferred = transfer.load(network, recipe.task, fields, origin.read(recipe.init))
    if train.adapter is not None and beginning.transferred is not None:
        found = beginning.transferred
        new = [*found.new, *found.unfit, *found.resized]
        beginning.adapted = adapt(network, train.adapter, recipe.seed, new)
    freeze(network, train.freeze)
    return beginning


def freeze(network: Network, patterns: Sequence[str]) -> None:
    """Parameters whose names match are not trained."""
    names = [name for name, _ in network.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(f"train.freeze: no parameter matches {pattern!r}", did_you_mean(pattern, names))
    for name, parameter in network.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError("there is nothing to train", "train.freeze and the adapter leave no parameter")


def remember(run: RunFolder, beginning: Beginning) -> None:
    """Store what was copied."""
    if beginning.transferred is not None:
        run.write_json(FILE, asdict(beginning.transferred))
