"""tag: entities in a text (names, places, organisations, parts of a résumé), as a tag for each word.

    modelworks train news.conll --task tag

The input is a field of tokens whose words are known (`kind: words`); of a word in pieces the first stands for it
(Devlin et al. 2019). Scores are entities', as seqeval and conlleval count them.
B rows, T tokens, W words of the longest row, C tags (codes from 1 on), D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field as Setting
from pydantic import PrivateAttr
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.errors import DataError, UserError
from modelworks.core.field import Field
from modelworks.core.model import Features
from modelworks.core.task import Batch, Player, Task
from modelworks.layers.head import Head
from modelworks.metrics.entities import OUTSIDE, EntityMeter


class Tag(Task):
    """Token classification for entities."""

    features: ClassVar[Features] = "token"
    target_kind: ClassVar[str] = "spans"
    primary: ClassVar[str] = "f1"

    dropout: float = Setting(default=0.1, ge=0, lt=1)
    """Share of the features dropped before the last layer in training."""
    label_smoothing: float = Setting(default=0.0, ge=0, lt=1)
    """Share of the target spread evenly over all tags (Szegedy et al. 2016)."""

    _input: str = PrivateAttr(default="")
    _longest: int = PrivateAttr(default=0)
    _joins_V: Tensor | None = PrivateAttr(default=None)
    _tagged: bool = PrivateAttr(default=False)

    @classmethod
    def propose(cls, columns: Sequence[str]) -> dict[str, Any]:
        """The usual names of words and of their tags."""
        words = next((name for name in ("tokens", "words", "text") if name in columns), "")
        tags = next(
            (name for name in ("tags", "ner_tags", "entities", "spans", "label") if name in columns), ""
        )
        if not words or not tags:
            return {}
        return {"target": tags, "fields": {words: {"kind": "words"}, tags: {"kind": "spans"}}}

    # ------------------------------------------------------------------ learning
    def head(self, width: int, members: int, fields: Mapping[str, Field]) -> nn.Module:
        if members > 1:
            raise UserError("task tag wants one network, not an ensemble", "choose `kind: transformer`")
        if self.target not in fields or "types" not in fields[self.target].state:
            raise UserError(
                f"task tag learns a field of kind spans, not {self.target!r}", "fields.NAME.kind: spans"
            )
        inputs = {name: field for name, field in self.inputs(fields).items() if field.layout.form == "tokens"}
        if len(inputs) != 1 or len(self.inputs(fields)) != 1:
            listed = ", ".join(self.inputs(fields)) or "none"
            raise UserError(
                f"task tag reads one field of tokens, the inputs are: {listed}", "fields.NAME: ignore"
            )
        ((self._input, field),) = inputs.items()
        self._longest = field.layout.length
        joins = field.state.get("joins")
        self._joins_V = None if joins is None else torch.from_numpy(np.asarray(joins) > 0)
        self._tagged = bool(fields[self.target].state["tagged"])
        return nn.Sequential(nn.Dropout(self.dropout), Head(width, fields[self.target].layout.size - 1))

    def forward(self, network: nn.Module, batch: Batch) -> Words:
        """Logits of the words: of those in pieces, the first piece's."""
        logits_BTC = network(batch)
        tokens_BT, length_B = batch[self._input], batch[f"{self._input}.length"]
        first_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device) < length_B[:, None]
        if self._joins_V is None:
            count_B = length_B
        else:
            first_BT = first_BT & ~self._joins_V.to(tokens_BT.device)[tokens_BT]
            count_B = first_BT.sum(1)
            # A recorded graph depends on no values: there a row has as many words as it has tokens.
            most = tokens_BT.shape[1] if torch.compiler.is_compiling() else int(count_B.max())
            step_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
            # First pieces before the others, each in their order: no two keys are the same.
            order_BW = torch.where(first_BT, step_T, step_T + tokens_BT.shape[1]).argsort(dim=1)[:, :most]
            logits_BTC = logits_BTC.gather(1, order_BW[..., None].expand(-1, -1, logits_BTC.shape[-1]))
        if self.target in batch and self._tagged:
            self._check(count_B, batch)
        return Words(logits_BTC, count_B)

    def _check(self, count_B: Tensor, batch: Batch) -> None:
        """Refuse rows whose tags are not one a word."""
        tags_B = batch[f"{self.target}.length"]
        whole_B = batch[f"{self._input}.length"] < self._longest  # others may have been cut
        wrong_B = torch.where(whole_B, count_B != tags_B, count_B > tags_B)
        if wrong_B.any():
            at = int(wrong_B.nonzero()[0, 0])
            where = f"row {int(batch['row'][at])}" if "row" in batch else f"row {at} of the batch"
            raise DataError(
                f"{where}: {int(count_B[at])} words in {self._input!r} and {int(tags_B[at])} tags in {self.target!r}",
                "give one tag a word, or spans that count the words",
            )

    def players(self, network: nn.Module) -> tuple[Player, ...]:
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        return (Player("model", named, lambda batch: self.loss(self.forward(network, batch), batch)),)

    def loss(self, output: Words, batch: Batch) -> tuple[Tensor, Tensor]:
        logits_BWC, target_BT = output.logits_BWC, batch[self.target]
        words = logits_BWC.shape[1]
        # Spans say nothing of the words after the last one: these are O, as padding becomes here.
        target_BW = F.pad(target_BT, (0, max(words - target_BT.shape[1], 0)))[:, :words]
        target_BW = (target_BW - OUTSIDE).clamp(min=0)
        target_BW = target_BW.masked_fill(~output.real_BW, -100)
        total = F.cross_entropy(
            logits_BWC.flatten(0, 1).float(),
            target_BW.flatten(),
            ignore_index=-100,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        return total, output.count_B.sum()

    # ------------------------------------------------------------------ answering
    def predict(self, output: Words) -> dict[str, Tensor]:
        return {"prediction": (output.logits_BWC.argmax(-1) + OUTSIDE) * output.real_BW}

    def exported(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The tags, and the logits that they are the largest of: 0 behind a row's last word."""
        output = self.forward(network, batch)
        return {**self.predict(output), "logits": output.logits_BWC * output.real_BW[..., None]}

    def measure(self, output: Words, batch: Batch) -> dict[str, Tensor]:
        return {**self.predict(output), "words": output.count_B}

    def answer(
        self, predicted: Mapping[str, np.ndarray], fields: Mapping[str, Field]
    ) -> dict[str, list[Any]]:
        """The entities of each row: type, and first and end word (characters, where the input is cut into them)."""
        return {"prediction": fields[self.target].decode(predicted["prediction"])}

    def meter(self, fields: Mapping[str, Field], bootstrap: int = 200, seed: int = 0) -> EntityMeter:
        return EntityMeter(self.target, fields[self.target].state["types"], bootstrap, seed)

    def baseline(self, fields: Mapping[str, Field], target: np.ndarray) -> dict[str, np.ndarray]:
        """The commonest tag of all, which is O."""
        return {"prediction": np.full((1, 1), OUTSIDE, np.int64)}

    def trivial(
        self, baseline: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        return {"prediction": np.zeros_like(batch[self.target], np.int64) + baseline["prediction"]}


@dataclass(frozen=True)
class Words:
    """Logits of words, and how many each row has."""

    logits_BWC: Tensor
    count_B: Tensor

    @property
    def real_BW(self) -> Tensor:
        words_W = torch.arange(self.logits_BWC.shape[1], device=self.count_B.device)
        return words_W < self.count_B[:, None]
