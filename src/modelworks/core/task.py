"""Task: what is learned: the head, the loss as (sum, count), the metrics, the prediction.

The network is `model → features → head → output`. A kind is one file in `tasks/` with one public class
deriving from Task. Adversarial tasks declare several players; the loop stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from modelworks.core.field import Field, Layout
from modelworks.core.model import Features
from modelworks.core.settings import Kinded

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

F = TypeVar("F")
View = Literal["rows", "answers", "pairs"]
"""What of a conversation's rows a task is given (engine/data/conversations.py)."""
Batch = Mapping[str, "Tensor"]
"""Prepared tensors by field name, plus NAME.length for ragged ones, plus `row` (int64 row numbers).
When rows were mixed (mixup, cutmix): `mix.partner` (B,) int64 and `mix.weight` (B,), the share of the row itself."""


@dataclass(frozen=True)
class Player:
    """Which loss updates which parameters. The usual task has one."""

    name: str
    parameters: Sequence[tuple[str, Tensor]]
    """Named, as in `network.named_parameters()`."""
    loss: Callable[[Batch], tuple[Tensor, Tensor | int]]
    """Batch → (sum of the loss over what is counted, count)."""


class Meter(Protocol):
    """Streaming metrics in bounded memory."""

    def update(self, answer: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Add one batch: `Task.predict`'s arrays and the batch's target arrays, with `row` numbers."""
        ...

    def result(self) -> dict[str, dict[str, float]]:
        """Metric → {"value": …, "low": …, "high": …} (95 % bootstrap interval)."""
        ...


class Task(Kinded):
    """Contract of what is learned."""

    folder: ClassVar[str] = "tasks"
    features: ClassVar[Features] = "row"
    """What the task needs of the model."""
    target: str = ""
    """The field that is learned; every other field is an input."""
    target_kind: ClassVar[str] = ""
    """The kind of field that its target is, where the recipe does not say; empty: whatever fits the column best."""
    self_supervised: ClassVar[bool] = False
    """Whether it learns a column from itself: the target is then the only input."""
    packed: ClassVar[bool] = False
    """Whether it wants windows cut from the token stream (engine/data/windows.py) instead of one row after another."""
    view: ClassVar[View] = "rows"
    """answers: conversations with what follows each token where it is an answer's, as NAME.next. pairs: two of each
    row, of the target and of the field `rejected`; then also NAME.reference, of `refer`."""
    primary: ClassVar[str] = ""
    """The metric that chooses the weights, unless the recipe says another."""
    minimise: ClassVar[bool] = False
    """Whether less of the primary metric is better."""

    @classmethod
    def propose(cls, columns: Sequence[str]) -> dict[str, Any]:
        """Parts of a recipe that says no target, from the data's columns: `{"target": …, "fields": {…}}`."""
        return {}

    @classmethod
    def recognise(cls, target: Layout | None) -> float:
        """How sure this kind is, 0 to 1, that such a target (None: no target) is its own."""
        return 0.0

    def head(self, width: int, members: int, fields: Mapping[str, Field]) -> nn.Module:
        """features (B, [K,] width) → output."""
        raise NotImplementedError

    def inputs(self, fields: Mapping[str, F]) -> dict[str, F]:
        """What the model reads of some fields, or of anything that goes by their names."""
        return {
            name: found for name, found in fields.items() if (name == self.target) == self.self_supervised
        }

    def connect(self, model: nn.Module, head: nn.Module) -> None:
        """Let the head share what it needs of the model, such as the table of tokens."""

    @classmethod
    def architecture(cls) -> dict[str, Any]:
        """`model:` settings that suit this task, where the recipe does not say another kind."""
        return {}

    def regime(self, rows: int) -> dict[str, Any]:
        """`train:` settings that suit this task for so many training rows, over the model's own."""
        return {}

    def loss(self, output: Any, batch: Batch) -> tuple[Tensor, Tensor | int]:
        """(sum, count) of the loss. The loop divides by the global count, so that accumulation, packing and
        data parallelism give the same numbers."""
        raise NotImplementedError

    def players(self, network: nn.Module) -> tuple[Player, ...]:
        """One player that updates everything, unless the task says otherwise. `network(batch)` gives the output."""
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        return (Player("model", named, lambda batch: self.loss(self.forward(network, batch), batch)),)

    def forward(self, network: nn.Module, batch: Batch) -> Any:
        """What the network says of a batch, for `loss`, `measure` and `predict`: `network(batch)`, unless the task asks
        in another way (hides tokens, goes on with its own answer). `network.training` tells training."""
        return network(batch)

    def refer(self, output: Any, batch: Batch) -> Tensor:
        """What is remembered of each row as the network says it before training, (B, …): engine/train/reference.py."""
        raise NotImplementedError

    def lesson(self, output: Any, fields: Mapping[str, Field], ours: Mapping[str, Field]) -> Any:
        """What a student whose fields are `ours` is told of this output of a teacher: (B, …), or for tasks over windows
        of text whatever `imitate` wants (engine/train/teacher.py)."""
        raise NotImplementedError

    def imitate(self, output: Any, lesson: Any, batch: Batch, temperature: float) -> Tensor:
        """Sum, over what `loss` counts, of how far an output is from a teacher's lesson."""
        raise NotImplementedError

    def predict(self, output: Any) -> dict[str, Tensor]:
        """Output → what is predicted, in stored units: `prediction` (B, …), and `probability` (B, C) if there is."""
        raise NotImplementedError

    def exported(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """What an exported graph gives for a batch of `inputs` (engine/export): what is predicted; of tasks that write,
        or that learn hidden tokens, `logits` (B, T, V) of each step's token."""
        return self.predict(self.forward(network, batch))

    def measure(self, output: Any, batch: Batch) -> dict[str, Tensor]:
        """What the meter is given for a batch: what is predicted, unless the measure is another."""
        return self.predict(output)

    def trivial(
        self, baseline: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """What the meter is given for a batch that the trivial predictor answers."""
        import numpy as np

        return {name: np.repeat(value, len(batch["row"]), 0) for name, value in baseline.items()}

    def answer(
        self, predicted: Mapping[str, np.ndarray], fields: Mapping[str, Field]
    ) -> dict[str, list[Any]]:
        """Predicted arrays → columns for people: `prediction` decoded by the target's field, `probability_CLASS` …"""
        raise NotImplementedError

    def meter(self, fields: Mapping[str, Field], bootstrap: int = 200, seed: int = 0) -> Meter:
        """A fresh meter; `bootstrap` replicates give the intervals (0: none)."""
        raise NotImplementedError

    def baseline(self, fields: Mapping[str, Field], target: np.ndarray) -> dict[str, np.ndarray]:
        """The trivial predictor, learned from the training split's stored target (a sample of it when large):
        the arrays that `predict` would give for ONE row (leading axis 1); the evaluator repeats them."""
        raise NotImplementedError

    def samples(
        self, network: nn.Module, count: int, fields: Mapping[str, Field]
    ) -> dict[str, np.ndarray] | None:
        """Generative tasks: `count` generated values by field name, in stored units, for picture grids."""
        return None
