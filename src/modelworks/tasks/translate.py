"""translate: a text from a text: another language, a summary, a question's answer (Sutskever et al. 2014).

    task: {kind: translate, target: de}
    fields: {en: {kind: corpus, tokens: bpe}, de: {kind: corpus, tokens: bpe}}
    model: {kind: seq2seq}

Learned by teacher forcing with label smoothing; written by beam search, each answer up to its end token. With
`joint: [de]` and `joint: [en]` the fields have one vocabulary, and with `shared: true` the model one table of tokens
for what it reads, what it writes and the answer (Vaswani et al. 2017, section 3.4).
B rows, T tokens of the target, N of all rows, W of the longest answer, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field as Setting
from pydantic import PositiveInt, PrivateAttr
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.errors import UserError, need
from modelworks.core.field import Field
from modelworks.core.model import Features
from modelworks.core.task import Batch, Player, Task
from modelworks.layers.beam import beam_search
from modelworks.layers.linear_cross_entropy import linear_cross_entropy
from modelworks.layers.token_head import Scores, TokenHead
from modelworks.metrics.translation import TranslationMeter

T = TypeVar("T")
ROUND = 256
"""Tokens of a batch are filled up to a multiple of it."""


def _tokens(field: Field) -> Any:
    """What tells whether two fields have the same tokens."""
    return [field.state.get(name) for name in ("tokenizer", "vocabulary", "specials")]


class Translate(Task):
    """Sequence to sequence."""

    features: ClassVar[Features] = "next"
    target_kind: ClassVar[str] = "corpus"
    primary: ClassVar[str] = "perplexity"
    minimise: ClassVar[bool] = True

    tied: bool = True
    """Read tokens off with the table that they are embedded with (Press & Wolf 2017)."""
    label_smoothing: float = Setting(default=0.1, ge=0, lt=1)
    """Share of the target spread evenly over all tokens (Szegedy et al. 2016)."""
    beams: PositiveInt = 4
    """Hypotheses kept for each answer; 1: the likeliest token each time."""
    length_penalty: float = Setting(default=1.0, ge=0)
    """Answers are ranked by log-probability over length to this power; 0 likes short ones."""
    longest: PositiveInt | None = None
    """Most tokens of an answer; None: the `length` of the target's field."""
    bleu: bool = True
    """Write the answers in every evaluation and measure BLEU (extra `translate`)."""
    bleu_beams: PositiveInt = 1
    """Hypotheses for that; one is as quick as it can be."""
    words: Literal["13a", "zh", "ja-mecab", "ko-mecab", "intl", "char", "none"] = "13a"
    """How BLEU tells words, as sacrebleu names it; zh for Chinese."""

    _end: int = PrivateAttr(default=-1)
    _most: int = PrivateAttr(default=0)
    _same: bool = PrivateAttr(default=False)

    @classmethod
    def propose(cls, columns: Sequence[str]) -> dict[str, Any]:
        """Two columns: the second from the first."""
        named = [name for name in columns if name != "split"]
        if len(named) != 2:
            return {}
        return {"target": named[1], "fields": {name: {"kind": "corpus"} for name in named}}

    def inputs(self, fields: Mapping[str, T]) -> dict[str, T]:
        """What is read, then what is written."""
        read = {name: field for name, field in fields.items() if name != self.target}
        return read | {name: field for name, field in fields.items() if name == self.target}

    # ------------------------------------------------------------------ learning
    def head(self, width: int, members: int, fields: Mapping[str, Field]) -> nn.Module:
        field = fields[self.target]
        self._end, self._most = int(field.state.get("end", -1)), self.longest or field.layout.length
        if self._end < 0:
            raise UserError(
                f"task translate wants a target whose texts have an end, and {self.target!r} has none",
                f"fields.{self.target}: {{kind: corpus, end: true}}",
            )
        tokens = [_tokens(one) for one in fields.values()]
        self._same = all(one == tokens[0] for one in tokens)
        if self.bleu:
            need("sacrebleu", "translate", "BLEU (or task.bleu: false)")
        return TokenHead(width, field.layout.size, tied=self.tied)

    def connect(self, model: nn.Module, head: nn.Module) -> None:
        if not hasattr(model, "begin"):
            raise UserError("task translate wants a model that reads and writes", "model.kind: seq2seq")
        source = getattr(model, "source", None)
        if not self._same and source is not None and source is getattr(model, "target", None):
            raise UserError(
                "model.shared: the fields have different tokens",
                f"set them alike, each `joint` with the other's column, as in {{kind: corpus, joint: [{self.target}]}}",
            )
        if isinstance(head, TokenHead):
            head.tie(model)

    def forward(self, network: nn.Module, batch: Batch) -> Output:
        """Scores of the target's tokens where it is known; answers where it is not, and in evaluation for BLEU."""
        known = self.target in batch
        scores = network(batch) if known else None
        if network.training:
            return Output(scores, None)
        if not known:
            return Output(None, self.write(network, batch, self.beams))
        return Output(scores, self.write(network, batch, self.bleu_beams) if self.bleu else None)

    def players(self, network: nn.Module) -> tuple[Player, ...]:
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        return (Player("model", named, lambda batch: self.loss(Output(network(batch), None), batch)),)

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, Tensor]:
        assert output.scores is not None
        next_N = self._next(batch).flatten()
        # No logits for padding, but for a little: each new number of rows costs a matrix product its preparation.
        at_N = (next_N >= 0).nonzero()[:, 0]
        count = len(at_N)
        at_N = F.pad(at_N, (0, -count % ROUND))
        next_N, x_ND = next_N[at_N], output.scores.flat[at_N]
        next_N[count:] = -1
        total = linear_cross_entropy(x_ND, output.scores.weight_VD, next_N)
        if self.label_smoothing and torch.is_grad_enabled():
            # ε/V of −log p of every token and 1−ε of the target's: all share log Σ exp, so this is the target's
            # own −log p plus ε · (its logit − the mean logit), and no other logit is needed.
            weight_VD = output.scores.weight_VD.float()
            rows_ND = weight_VD[next_N[:count]] - weight_VD.mean(0)
            total = total + self.label_smoothing * (x_ND[:count].float() * rows_ND).sum()
        return total, torch.tensor(count)

    def _next(self, batch: Batch) -> Tensor:
        """The target's tokens, −1 for padding. int64 (B, T)."""
        tokens_BT = batch[self.target]
        steps_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        return tokens_BT.masked_fill(steps_T >= batch[f"{self.target}.length"][:, None], -1)

    # ------------------------------------------------------------------ writing
    def write(self, network: Any, batch: Batch, beams: int) -> Tensor:
        """The answers, without their ends: int64 (B, W), padded with 0."""
        state = network.model.begin(batch, self._most)
        device = next(network.parameters()).device

        def step(token_R: Tensor, from_R: list[int] | None) -> Tensor:
            with torch.no_grad():  # no decorator: settings are read without torch
                return network.head.logits(state.step(token_R.to(device), from_R))

        first_BV = step(torch.zeros(state.rows, dtype=torch.int64), None)
        if beams == 1:
            rows = self._greedy(first_BV, step)
        else:
            found = beam_search(
                first_BV,
                step,
                beams=beams,
                end=self._end,
                max_tokens=self._most,
                length_penalty=self.length_penalty,
            )
            rows = [[token for token in best[0].ids if token != self._end] for best in found]
        written_BW = torch.zeros(len(rows), max(map(len, rows), default=0) or 1, dtype=torch.int64)
        for row_W, ids in zip(written_BW, rows, strict=True):
            row_W[: len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return written_BW

    def _greedy(self, logits_RV: Tensor, step: Any) -> list[list[int]]:
        rows: list[list[int]] = [[] for _ in logits_RV]
        alive = list(range(len(rows)))
        for length in range(1, self._most + 1):
            token_R = logits_RV.argmax(-1)
            tokens = token_R.tolist()
            going = [place for place, token in enumerate(tokens) if token != self._end]
            alive = [alive[place] for place in going]
            for number, place in zip(alive, going, strict=True):
                rows[number].append(tokens[place])
            if not alive or length == self._most:
                break
            logits_RV = step(token_R[torch.tensor(going, device=token_R.device)], going)
        return rows

    # ------------------------------------------------------------------ answering
    def measure(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        assert output.scores is not None
        next_BT = self._next(batch)
        right_BT = (output.scores.best() == next_BT).float()
        found = {"nll": output.scores.nll(next_BT), "right": right_BT, "next": next_BT}
        return found if output.written_BW is None else found | {"written": output.written_BW}

    def exported(self, network: Any, batch: Batch) -> dict[str, Tensor]:
        return {"logits": network.head.logits(network.model(batch))}

    def predict(self, output: Output) -> dict[str, Tensor]:
        assert output.written_BW is not None
        return {"prediction": output.written_BW}

    def answer(
        self, predicted: Mapping[str, np.ndarray], fields: Mapping[str, Field]
    ) -> dict[str, list[Any]]:
        return {"prediction": fields[self.target].decode(predicted["prediction"])}

    def meter(self, fields: Mapping[str, Field], bootstrap: int = 200, seed: int = 0) -> TranslationMeter:
        return TranslationMeter(self.target, fields[self.target].decode, self.words, bootstrap, seed)  # type: ignore[arg-type]

    def baseline(self, fields: Mapping[str, Field], target: np.ndarray) -> dict[str, np.ndarray]:
        """How often each token comes in training; one not seen counts as seen half a time."""
        counts_V = np.bincount(np.asarray(target).reshape(-1), minlength=fields[self.target].layout.size)
        counts_V[0] = 0  # padding
        share_V = np.maximum(counts_V, 0.5)
        return {"nll": -np.log(share_V / share_V.sum()), "best": np.array([share_V.argmax()])}

    def trivial(
        self, baseline: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        length_B1 = np.asarray(batch[f"{self.target}.length"])[:, None]
        tokens_BT = np.asarray(batch[self.target], np.int64)
        next_BT = np.where(np.arange(tokens_BT.shape[1]) < length_B1, tokens_BT, -1)
        return {
            "nll": baseline["nll"][np.maximum(next_BT, 0)],
            "right": (next_BT == baseline["best"][0]).astype(np.float32),
            "next": next_BT,
        }


@dataclass(frozen=True)
class Output:
    """What the network says."""

    scores: Scores | None
    """Of the target's tokens, where it is known."""
    written_BW: Tensor | None
    """Answers."""
