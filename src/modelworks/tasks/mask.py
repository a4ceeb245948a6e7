"""mask: hidden tokens of a text (BERT, Devlin et al. 2019, arXiv:1810.04805), learned from the text alone.

    modelworks train news.txt --task mask --task.unit=word

Of each window 15 % of the tokens are hidden: most behind the mask token, some behind any token, some not at all, so
that the model must know every token by its context. What is hidden is drawn anew in every step; in evaluation it is
a function of the window's number. The body is what fine-tuning begins from.
B rows, T tokens, K hidden ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field as Setting
from pydantic import PositiveInt, PrivateAttr, model_validator
from torch import Tensor, nn

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.model import Features
from modelworks.core.task import Batch, Player, Task
from modelworks.layers.token_head import Scores, TokenHead
from modelworks.metrics.masked import MaskedMeter
from modelworks.tasks._hide import Draws, Hidden, by_chance, by_number, guessed, hide, said, spans, words
from modelworks.tasks._words import Joins


class Mask(Task):
    """Masked language modelling."""

    features: ClassVar[Features] = "token"
    target_kind: ClassVar[str] = "corpus"
    self_supervised: ClassVar[bool] = True
    packed: ClassVar[bool] = True
    primary: ClassVar[str] = "perplexity"
    minimise: ClassVar[bool] = True

    share: float = Setting(default=0.15, gt=0, lt=1)
    """Share of the tokens that are hidden."""
    random: float = Setting(default=0.1, ge=0, le=1)
    """Share of the hidden tokens that any token stands for."""
    keep: float = Setting(default=0.1, ge=0, le=1)
    """Share of the hidden tokens that are left where they are."""
    unit: Literal["token", "word", "span"] = "token"
    """What is hidden together: a token; the tokens of a word; spans of words of random length (Joshi et al. 2020)."""
    stop: float = Setting(default=0.2, gt=0, lt=1)
    """unit: span: chance that a span ends after each of its words."""
    longest: PositiveInt = 10
    """unit: span: most words of a span."""
    mask_token: str = "[MASK]"  # noqa: S105 - the name of a special token
    """What hidden tokens become; one of the field's special tokens."""
    tied: bool = True
    """Read tokens off with the table that they are embedded with (Press & Wolf 2017)."""
    transform: bool = True
    """A dense layer, GELU and a norm before that, as in BERT."""
    bias: bool = True
    """A bias for each token, as in BERT."""

    _ordinary_V: Tensor | None = PrivateAttr(default=None)
    _mask: int = PrivateAttr(default=-1)
    _joins: Joins | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _shares(self) -> Mask:
        if self.random + self.keep > 1:
            raise ValueError(f"random {self.random} and keep {self.keep} are more than all")
        return self

    @classmethod
    def propose(cls, columns: Sequence[str]) -> dict[str, Any]:
        """Plain text, with a token for what is hidden."""
        if "text" not in columns:
            return {}
        return {"target": "text", "fields": {"text": {"kind": cls.target_kind, "specials": ["[MASK]"]}}}

    # ------------------------------------------------------------------ learning
    def head(self, width: int, members: int, fields: Mapping[str, Field]) -> nn.Module:
        field = fields[self.target]
        if members > 1:
            raise UserError("task mask wants one network, not an ensemble", "choose `kind: transformer`")
        specials: Mapping[str, int] = field.state.get("specials", {})
        if self.mask_token not in specials:
            raise UserError(
                f"field {self.target!r} has no special token {self.mask_token!r}, which stands for what is hidden",
                f"fields.{self.target}.specials: [{self.mask_token!r}], or task.mask_token: one of {list(specials)}",
            )
        self._mask = int(specials[self.mask_token])
        # Padding, ends of documents and what is unknown stand for no text: they are never hidden.
        self._ordinary_V = torch.from_numpy(np.flatnonzero(np.asarray(field.state["bytes"]) > 0))
        self._joins = Joins.of(field) if self.unit != "token" else None
        return TokenHead(width, field.layout.size, tied=self.tied, bias=self.bias, transform=self.transform)

    def connect(self, model: nn.Module, head: nn.Module) -> None:
        if isinstance(head, TokenHead):
            head.tie(model)

    def hide(self, batch: Batch, draw: Draws) -> Hidden:
        """The batch's tokens with some of them hidden."""
        assert self._ordinary_V is not None, "head() learns the vocabulary"
        tokens_BT = batch[self.target]
        ordinary_V = self._ordinary_V.to(tokens_BT.device)
        may_BT = torch.isin(tokens_BT, ordinary_V) & self._real(batch)
        group_BT = None
        if self._joins is not None:
            group_BT = words(self._joins(tokens_BT))
            if self.unit == "span":
                group_BT = spans(group_BT, draw, self.stop, self.longest)
        return hide(
            tokens_BT,
            may_BT,
            group_BT,
            draw,
            share=self.share,
            keep=self.keep,
            random=self.random,
            whole=self.unit == "word",
            mask=self._mask,
            ordinary_V=ordinary_V,
        )

    def _real(self, batch: Batch) -> Tensor:
        """Which tokens are no padding: the first, and those that follow one. bool (B, T)."""
        next_BT = batch.get(f"{self.target}.next")
        if next_BT is None:
            return torch.ones_like(batch[self.target], dtype=torch.bool)
        return nn.functional.pad(next_BT[:, :-1] >= 0, (1, 0), value=True)

    def forward(self, network: nn.Module, batch: Batch) -> Answers:
        """What the network says of hidden tokens: in training drawn from torch's generator, else by row number."""
        tokens_BT = batch[self.target]
        draw = by_chance(tokens_BT) if network.training else by_number(batch["row"], tokens_BT)
        return self._ask(network, batch, draw)

    def _ask(self, network: Any, batch: Batch, draw: Draws) -> Answers:
        hidden = self.hide(batch, draw)
        seen = {**batch, self.target: hidden.tokens_BT}
        if not network.training:  # windows are padded in evaluation alone
            seen[f"{self.target}.length"] = self._real(batch).sum(1)
        features_BTD = network.model(seen)
        at_BKD = hidden.at_BK[..., None].expand(-1, -1, features_BTD.shape[-1])
        return Answers(network.head(features_BTD.gather(1, at_BKD)), hidden.target_BK)

    def players(self, network: nn.Module) -> tuple[Player, ...]:
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        return (
            Player(
                "model",
                named,
                lambda batch: self.loss(self._ask(network, batch, by_chance(batch[self.target])), batch),
            ),
        )

    def loss(self, output: Answers, batch: Batch) -> tuple[Tensor, Tensor]:
        return output.scores.loss(output.target_BK), (output.target_BK >= 0).sum().clamp(min=1)

    # ------------------------------------------------------------------ measuring
    def measure(self, output: Answers, batch: Batch) -> dict[str, Tensor]:
        return said(output.scores, output.target_BK)

    def exported(self, network: Any, batch: Batch) -> dict[str, Tensor]:
        return {"logits": network.head.logits(network.model(batch))}

    def predict(self, output: Any) -> dict[str, Tensor]:
        raise UserError("a masked language model answers no rows", "fine-tune it for a task that does")

    def answer(
        self, predicted: Mapping[str, np.ndarray], fields: Mapping[str, Field]
    ) -> dict[str, list[Any]]:
        raise UserError("a masked language model answers no rows", "fine-tune it for a task that does")

    def meter(self, fields: Mapping[str, Field], bootstrap: int = 200, seed: int = 0) -> MaskedMeter:
        return MaskedMeter(bootstrap, seed)

    def baseline(self, fields: Mapping[str, Field], target: np.ndarray) -> dict[str, np.ndarray]:
        """How often each token comes in training; one not seen counts as seen half a time. Those that are never
        hidden have no share."""
        counts_V = np.bincount(np.asarray(target).reshape(-1), minlength=fields[self.target].layout.size)
        share_V = np.maximum(counts_V, 0.5) * (np.asarray(fields[self.target].state["bytes"]) > 0)
        with np.errstate(divide="ignore"):
            return {"nll": -np.log(share_V / share_V.sum()), "prediction": np.array([share_V.argmax()])}

    def trivial(
        self, baseline: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        stored = {name: torch.from_numpy(np.asarray(value)) for name, value in batch.items()}
        hidden = self.hide(stored, by_number(stored["row"], stored[self.target]))
        return guessed(baseline, hidden.target_BK.numpy())


@dataclass(frozen=True)
class Answers:
    """Scores of the hidden tokens, and what they were (−1: not hidden)."""

    scores: Scores
    """features (B, K, D)"""
    target_BK: Tensor
