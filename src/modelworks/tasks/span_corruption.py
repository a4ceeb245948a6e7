"""span_corruption: spans cut out of a text are written again (T5, Raffel et al. 2020, section 3.1.4, arXiv:1910.10683).

    modelworks train news.txt --task span_corruption

Of each window 15 % of the tokens go, in spans of 3 on average; each span leaves a sentinel of its own where it was
read, and is written after that sentinel. What goes is drawn anew in every step; in evaluation it is a function of the
window's number. The body, an encoder and a decoder, is what translation or summarisation begins from.
B rows, N tokens of a window, S read, T written, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from pydantic import Field as Setting
from pydantic import PrivateAttr
from torch import Tensor, nn

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.model import Features
from modelworks.core.task import Batch, Player, Task
from modelworks.layers.token_head import Scores, TokenHead
from modelworks.metrics.masked import MaskedMeter
from modelworks.tasks._hide import Draws, by_chance, by_number, guessed, said
from modelworks.tasks._spans import corrupt, counts

T = TypeVar("T")
WRITTEN = ".written"
"""What is written goes by the target's name and this."""
_SENTINELS = 100
"""As many as T5 has."""


class SpanCorruption(Task):
    """Sequence to sequence, from a text alone."""

    features: ClassVar[Features] = "next"
    target_kind: ClassVar[str] = "corpus"
    self_supervised: ClassVar[bool] = True
    packed: ClassVar[bool] = True
    primary: ClassVar[str] = "perplexity"
    minimise: ClassVar[bool] = True

    share: float = Setting(default=0.15, gt=0, lt=1)
    """Share of the tokens that go."""
    mean: float = Setting(default=3.0, ge=1)
    """Mean length of a span, in tokens."""
    sentinel: str = "<extra_id_{}>"
    """Names of the sentinels, numbered from 0, which are among the field's `specials`."""
    tied: bool = True
    """Read tokens off with the table that they are embedded with (Press & Wolf 2017)."""

    _sentinel_M: Tensor | None = PrivateAttr(default=None)

    @classmethod
    def propose(cls, columns: Sequence[str]) -> dict[str, Any]:
        """Plain text, with tokens for what goes."""
        if "text" not in columns:
            return {}
        specials = [f"<extra_id_{number}>" for number in range(_SENTINELS)]
        return {"target": "text", "fields": {"text": {"kind": cls.target_kind, "specials": specials}}}

    @classmethod
    def architecture(cls) -> dict[str, Any]:
        return {"kind": "seq2seq", "shared": True}

    def inputs(self, fields: Mapping[str, T]) -> dict[str, T]:
        """One column, twice: as it is read and as it is written."""
        found = {name: field for name, field in fields.items() if name == self.target}
        return found | {f"{name}{WRITTEN}": field for name, field in found.items()}

    # ------------------------------------------------------------------ learning
    def head(self, width: int, members: int, fields: Mapping[str, Field]) -> nn.Module:
        field = fields[self.target]
        specials: Mapping[str, int] = field.state.get("specials", {})
        wanted = counts(max(field.layout.length, 2), self.share, self.mean)[1] + 1
        names = [self.sentinel.replace("{}", str(number)) for number in range(wanted)]
        if missing := [name for name in names if name not in specials]:
            raise UserError(
                f"windows of {field.layout.length} tokens want {wanted} sentinels, and field {self.target!r} has no "
                f"special token {missing[0]!r}",
                f"fields.{self.target}.specials: [{names[0]}, …, {names[-1]}]",
            )
        self._sentinel_M = torch.tensor([specials[name] for name in names])
        return TokenHead(width, field.layout.size, tied=self.tied)

    def connect(self, model: nn.Module, head: nn.Module) -> None:
        if not hasattr(model, "begin"):
            raise UserError("task span_corruption wants a model that reads and writes", "model.kind: seq2seq")
        if isinstance(head, TokenHead):
            head.tie(model)

    def corrupted(self, batch: Batch, draw: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """What is read (B, S), its lengths (B,), and what is written (B, T), −1 beyond its end."""
        assert self._sentinel_M is not None, "head() learns the vocabulary"
        tokens_BN = batch[self.target]
        sentinel_M = self._sentinel_M.to(tokens_BN.device)
        next_BN = batch.get(f"{self.target}.next")
        whole_B = torch.full((len(tokens_BN),), tokens_BN.shape[1], device=tokens_BN.device)
        # Only the last window of an evaluation is shorter: its last token is none's next one.
        length_B = whole_B if next_BN is None else (1 + (next_BN[:, :-1] >= 0).sum(1))
        # Drawn once for all, so that a row's numbers do not depend on the others' lengths.
        stay_BN, go_BN = draw(), draw()
        groups = []
        for length in sorted(set(length_B.tolist())):
            at_G = (length_B == length).nonzero()[:, 0]
            row_GN = tokens_BN[at_G, :length]
            if length < 2:
                groups.append((at_G, row_GN, row_GN.new_empty(len(at_G), 0)))
                continue
            pair = corrupt(row_GN, sentinel_M, stay_BN[at_G], go_BN[at_G], share=self.share, mean=self.mean)
            groups.append((at_G, *pair))
        if len(groups) == 1:
            _, read_BS, written_BT = groups[0]
        else:
            longest = [max(group[part].shape[1] for group in groups) for part in (1, 2)]
            read_BS = tokens_BN.new_zeros(len(tokens_BN), longest[0])
            written_BT = tokens_BN.new_full((len(tokens_BN), longest[1]), -1)
            for at_G, read_GS, written_GT in groups:
                read_BS[at_G, : read_GS.shape[1]] = read_GS
                written_BT[at_G, : written_GT.shape[1]] = written_GT
        read_B = torch.zeros_like(length_B)
        for at_G, read_GS, _ in groups:
            read_B[at_G] = read_GS.shape[1]
        return read_BS, read_B, written_BT

    def forward(self, network: nn.Module, batch: Batch) -> Answers:
        """What the network says of the spans: in training drawn from torch's generator, else by row number."""
        tokens_BN = batch[self.target]
        draw = by_chance(tokens_BN) if network.training else by_number(batch["row"], tokens_BN)
        return self._ask(network, batch, draw)

    def _ask(self, network: Any, batch: Batch, draw: Draws) -> Answers:
        read_BS, read_B, written_BT = self.corrupted(batch, draw)
        written = f"{self.target}{WRITTEN}"
        seen = {self.target: read_BS, written: written_BT.clamp(min=0)}
        if int(read_B.min()) < read_BS.shape[1]:
            seen[f"{self.target}.length"] = read_B
        return Answers(network.head(network.model(seen)), written_BT)

    def players(self, network: nn.Module) -> tuple[Player, ...]:
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]

        def loss(batch: Batch) -> tuple[Tensor, Tensor]:
            return self.loss(self._ask(network, batch, by_chance(batch[self.target])), batch)

        return (Player("model", named, loss),)

    def loss(self, output: Answers, batch: Batch) -> tuple[Tensor, Tensor]:
        return output.scores.loss(output.written_BT), (output.written_BT >= 0).sum().clamp(min=1)

    # ------------------------------------------------------------------ measuring
    def measure(self, output: Answers, batch: Batch) -> dict[str, Tensor]:
        return said(output.scores, output.written_BT)

    def exported(self, network: Any, batch: Batch) -> dict[str, Tensor]:
        return {"logits": network.head.logits(network.model(batch))}

    def predict(self, output: Any) -> dict[str, Tensor]:
        raise UserError("a model of cut-out spans answers no rows", "fine-tune it: --task translate")

    def answer(
        self, predicted: Mapping[str, np.ndarray], fields: Mapping[str, Field]
    ) -> dict[str, list[Any]]:
        raise UserError("a model of cut-out spans answers no rows", "fine-tune it: --task translate")

    def meter(self, fields: Mapping[str, Field], bootstrap: int = 200, seed: int = 0) -> MaskedMeter:
        return MaskedMeter(bootstrap, seed)

    def baseline(self, fields: Mapping[str, Field], target: np.ndarray) -> dict[str, np.ndarray]:
        """How often each token comes in training, and each sentinel in what is written of a window; what was not seen
        counts as seen half a time."""
        assert self._sentinel_M is not None
        field = fields[self.target]
        counts_V = np.bincount(np.asarray(target).reshape(-1), minlength=field.layout.size).astype(np.float64)
        hidden, _ = counts(max(field.layout.length, 2), self.share, self.mean)
        counts_V[self._sentinel_M.numpy()] = counts_V.sum() / hidden
        share_V = np.maximum(counts_V, 0.5)
        return {"nll": -np.log(share_V / share_V.sum()), "prediction": np.array([share_V.argmax()])}

    def trivial(
        self, baseline: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        stored = {name: torch.from_numpy(np.asarray(value)) for name, value in batch.items()}
        _, _, written_BT = self.corrupted(stored, by_number(stored["row"], stored[self.target]))
        return guessed(baseline, written_BT.numpy())


@dataclass(frozen=True)
class Answers:
    """Scores of the tokens to write, and what they are (−1: none)."""

    scores: Scores
    """features (B, T, D)"""
    written_BT: Tensor
