"""Likelihood: how likely a language model finds a text after another, which is how it is asked without being taught.

    scorer = Likelihood(network, field)
    four, five = scorer.continuations([("2 + 2 =", " 4"), ("2 + 2 =", " 5")])     # four.total > five.total
    [whole] = scorer.texts(["To be, or not to be"])                               # however long, window by window

Several continuations of one context read it once. Texts are cut into tokens together with their context, a blank
between the two goes to the continuation (as lm-eval does), and what the context window cannot hold is cut from the
left. B contexts, R continuations, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modelworks.core.errors import UserError
from modelworks.engine.language.speculate import read

TOKENS = 4096
"""Of all rows together that are read in one pass."""
LOGITS = 1 << 24
"""Logits that are made at a time."""
Ids = tuple[int, ...]


@dataclass(frozen=True)
class Score:
    """The log-likelihood of one continuation, in nats."""

    total: float
    tokens: int
    size: int
    """UTF-8 bytes."""
    greedy: bool
    """Whether each of its tokens is the likeliest one."""
    cut: int = 0
    """Tokens of its context that found no room."""

    @property
    def per_byte(self) -> float:
        return self.total / max(self.size, 1)

    @property
    def per_token(self) -> float:
        return self.total / max(self.tokens, 1)


class Likelihood:
    """A language model and its field, ready to judge texts."""

    def __init__(self, network: Any, field: Any) -> None:
        if not hasattr(getattr(network, "head", None), "logits") or not hasattr(network.model, "new_cache"):
            raise UserError("this network gives no likelihood of texts: it is no language model")
        self.network, self.field = network.eval(), field
        self.context, self.end = field.layout.length, int(field.state["end"])

    # ------------------------------------------------------------------ interface
    def continuations(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        """A score for each (context, continuation), in their order."""
        split = [self.split(*pair) for pair in pairs]
        return self.score(split, [len(text.encode()) for _, text in pairs])

    def texts(self, texts: Sequence[str]) -> list[Score]:
        """A score for each whole text. Each of its tokens is judged once, after up to a context of those before it."""
        parts, owners = [], []
        for owner, text in enumerate(texts):
            for part in self.windows(self.field.ids(text)):
                parts.append(part)
                owners.append(owner)
        scores = self.score(parts, [0] * len(parts))
        found = []
        for owner, text in enumerate(texts):
            mine = [score for score, at in zip(scores, owners, strict=True) if at == owner]
            total, tokens = sum(one.total for one in mine), sum(one.tokens for one in mine)
            found.append(Score(total, tokens, len(text.encode()), all(one.greedy for one in mine)))
        return found

    # ------------------------------------------------------------------ tokens
    def split(self, context: str, continuation: str) -> tuple[Ids, Ids]:
        """The tokens of both; an empty context is the end of another document."""
        if not continuation:
            raise UserError("a continuation is empty: there is nothing to judge")
        blanks = len(context) - len(context.rstrip())
        if blanks:
            context, continuation = context[:-blanks], context[-blanks:] + continuation
        first = self.field.ids(context) if context else self._before()
        # Cut together, for a word may go over the seam.
        whole = self.field.ids(context + continuation) if context else [*first, *self.field.ids(continuation)]
        answer = tuple(whole[len(first) :])
        if not answer:
            # The seam fell within a token: the continuation by itself, then.
            answer = tuple(self.field.ids(continuation))
        return tuple(first), answer

    def windows(self, ids: Sequence[int]) -> Iterator[tuple[Ids, Ids]]:
        """(what is read first, what is judged) of a text, each token judged once."""
        whole = [*self._before(), *ids]
        for start in range(1, len(whole), self.context):
            stop = min(start + self.context, len(whole))
            yield tuple(whole[max(0, stop - self.context - 1) : start]), tuple(whole[start:stop])

    def _before(self) -> list[int]:
        """What stands before the first token of a document."""
        if self.end < 0:
            raise UserError(
                "this model has no token that begins a document, so the first token of a text has no likelihood",
                "give a context, or train with fields.NAME.end: true",
            )
        return [self.end]

    # ------------------------------------------------------------------ the network
    @torch.inference_mode()
    def score(self, split: Sequence[tuple[Ids, Ids]], sizes: Sequence[int]) -> list[Score]:
        """A score for each (context, continuation) as tokens."""
        found: list[Score | None] = [None] * len(split)
        groups: dict[Ids, list[int]] = {}
        kept: list[tuple[Ids, Ids, int]] = []
        for at, (context, answer) in enumerate(split):
            # The last token is judged, not read: one more than the window may take part.
            if len(answer) > self.context:
                raise UserError(
                    f"a continuation has {len(answer):,} tokens, and the model's context is {self.context:,}",
                    "shorten it",
                )
            over = max(0, len(context) + len(answer) - self.context - 1)
            kept.append((context[over:], answer, over))
            groups.setdefault(context[over:], []).append(at)
        for batch in self._batches(groups, kept):
            contexts = list(batch)
            rows = [at for context in contexts for at in batch[context]]
            values = self._judge(
                contexts, [len(batch[context]) for context in contexts], [kept[at][1] for at in rows]
            )
            for at, (total, greedy) in zip(rows, values, strict=True):
                found[at] = Score(total, len(kept[at][1]), sizes[at], greedy, kept[at][2])
        assert all(score is not None for score in found)
        return found  # type: ignore[return-value]

    def _batches(
        self, groups: dict[Ids, list[int]], kept: Sequence[tuple[Ids, Ids, int]]
    ) -> Iterator[dict[Ids, list[int]]]:
        """Contexts of like length together, so many that they and what follows them fill no more than TOKENS."""
        batch: dict[Ids, list[int]] = {}
        longest, rows = 0, 0
        for context in sorted(groups, key=len, reverse=True):
            length = len(context) + max(len(kept[at][1]) for at in groups[context])
            count = len(groups[context])
            if batch and max(longest, length) * (rows + count) > TOKENS:
                yield batch
                batch, longest, rows = {}, 0, 0
            batch[context] = groups[context]
            longest, rows = max(longest, length), rows + count
        if batch:
            yield batch

    def _judge(
        self, contexts: Sequence[Ids], counts: Sequence[int], answers: Sequence[Ids]
    ) -> list[tuple[float, bool]]:
        """(log-likelihood, greedy) of each answer; `counts` of them follow each context."""
        network, name = self.network, self.network.model.name
        slots = max(map(len, contexts)) + max(map(len, answers))
        cache = network.model.new_cache(len(contexts), slots)
        before = [list(context[:-1]) for context in contexts]
        if any(before):
            # A row with nothing to read reads a token that is forgotten again.
            read(network, name, cache, [ids or [0] for ids in before], [1] * len(before))
            cache.cut([len(ids) for ids in before])
        cache.keep([at for at, count in enumerate(counts) for _ in range(count)])
        last = [context[-1] for context, count in zip(contexts, counts, strict=True) for _ in range(count)]
        fresh = [[token, *answer[:-1]] for token, answer in zip(last, answers, strict=True)]
        features_RTD = read(network, name, cache, fresh, [len(answer) for answer in answers])
        return [self._values(features_RTD[row, : len(answer)], answer) for row, answer in enumerate(answers)]

    def _values(self, features_TD: Tensor, answer: Ids) -> tuple[float, bool]:
        target_T = torch.tensor(answer, device=features_TD.device)
        total, greedy = 0.0, True
        most = max(1, LOGITS // self.field.layout.size)
        for x_CD, target_C in zip(features_TD.split(most), target_T.split(most), strict=True):
            logits_CV = self.network.head.logits(x_CD[None])[0].float()
            chosen_C = logits_CV.gather(1, target_C[:, None])[:, 0] - logits_CV.logsumexp(1)
            total += float(chosen_C.double().sum())
            greedy = greedy and bool((logits_CV.argmax(1) == target_C).all())
        return total, greedy
