"""Generate: a language model goes on with prompts, many rows at once.

    generator = Generator(network, field)
    for chunk in generator.stream([field.ids("To be")], Sampling(temperature=0)): print(chunk.text, end="")
    answers = generator.generate(prompts, Sampling(top_p=0.9, seed=1))

Every row keeps the keys and values of what it has read; rows that finish leave the batch; a call whose prompts
begin like the last call's rows does not read that beginning again. Sampling says how tokens are chosen. B rows
in the batch, W places of a row where a token is chosen in one pass (more than one where tokens were guessed),
R the rows that have the place, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from modelworks.core.errors import UserError
from modelworks.engine.language.constrain import Grammar, State, Vocabulary
from modelworks.engine.language.sampling import Sampler, Sampling, uniforms
from modelworks.engine.language.speculate import Draft, Lookup, read
from modelworks.engine.language.textstream import TextStream
from modelworks.layers.beam import Hypothesis, beam_search

PIECE = 8192
"""Tokens of all rows together that are read in one pass; longer prompts are read in pieces."""


@dataclass(frozen=True)
class Chunk:
    """What one row has got since its last chunk."""

    row: int
    """Which prompt."""
    text: str
    """Text that is certain; it may lag behind the tokens."""
    ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    reason: str = ""
    """Why the row ended: end (of the document), stop (string or token), length (max_tokens or the context),
    grammar (nothing can follow). Empty: it goes on."""


@dataclass(frozen=True)
class Completion:
    """A row's whole answer."""

    text: str
    ids: tuple[int, ...]
    reason: str
    logprobs: tuple[float, ...] = ()


@dataclass
class Counts:
    """What a generator has done since it was made."""

    read: int = 0
    """Prompt tokens that went through the network."""
    reused: int = 0
    """Prompt tokens that the last call had read."""
    written: int = 0
    passes: int = 0
    guessed: int = 0
    accepted: int = 0


@dataclass
class Row:
    """A text that is being written."""

    number: int
    ids: list[int]
    """Prompt and answer."""
    left: int
    """Tokens that may still come."""
    uniform: Tensor
    text: TextStream
    state: State | None
    lookup: Lookup | None
    used: int = 0
    """Random numbers used: tokens written."""
    fresh: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    out: str = ""
    reason: str = ""

    def take(self, token: int, ends: frozenset[int], end: int) -> bool:
        """One more token; whether the row goes on."""
        self.ids.append(token)
        self.fresh.append(token)
        self.used += 1
        self.left -= 1
        if token in ends:
            self.reason = "end" if token == end else "stop"
        else:
            self.out += self.text.push(token)
            if self.lookup is not None:
                self.lookup.add(token)
            if self.state is not None:
                self.state.took(token)
                if self.state.finished:
                    self.reason = "grammar"
            if self.text.stopped:
                self.reason = "stop"
            elif not self.reason and self.left == 0:
                self.reason = "length"
        if self.reason:
            self.out += self.text.flush()
        return not self.reason

    def chunk(self) -> Chunk:
        """What there is to tell, told once."""
        chunk = Chunk(self.number, self.out, tuple(self.fresh), tuple(self.logprobs), self.reason)
        self.out, self.fresh, self.logprobs = "", [], []
        return chunk


class Generator:
    """A language model and its corpus field, ready to write."""

    def __init__(self, network: Any, field: Any, draft: Any = None) -> None:
        """`draft`: a smaller network over the same tokens, whose guesses are checked."""
        if not hasattr(getattr(network, "head", None), "logits") or not hasattr(network.model, "new_cache"):
            raise UserError("this network does not write text: it is no language model")
        self.network, self.field = network.eval(), field
        self.context, self.size, self.end = field.layout.length, field.layout.size, int(field.state["end"])
        self.begin = int(field.state.get("begin", -1))
        """The token that stands before every text; −1: none."""
        self.draft = None if draft is None else Draft(draft, self.context)
        self.counts = Counts()
        self._vocabulary: Vocabulary | None = None
        self._cache: Any = None
        self._held: list[list[int]] = []
        """The tokens in each row of the cache."""

    # ------------------------------------------------------------------ interface
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | None = None,
        numbers: Sequence[int] | None = None,
    ) -> list[Completion]:
        """The answers, in the prompts' order."""
        gathered: list[list[Chunk]] = [[] for _ in prompts]
        for chunk in self.stream(prompts, sampling, numbers):
            gathered[chunk.row].append(chunk)
        return [
            Completion(
                "".join(chunk.text for chunk in chunks),
                tuple(token for chunk in chunks for token in chunk.ids),
                chunks[-1].reason,
                tuple(value for chunk in chunks for value in chunk.logprobs),
            )
            for chunks in gathered
        ]

    def stream(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | None = None,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[Chunk]:
        """Chunks as they come. `numbers`: each row's own, which with the seed makes its draws; else 0, 1, 2 …"""
        sampling = sampling or Sampling()
        checked = [self.checked(row, prompt) for row, prompt in enumerate(prompts)]
        self.biased(sampling)
        grammar = self.grammar(sampling)
        rows = []
        for number, ids in enumerate(checked):
            left = min(sampling.max_tokens, self.context - len(ids))
            own = number if numbers is None else numbers[number]
            uniform = uniforms(sampling.seed, own, left) if sampling.temperature else torch.zeros(0)
            text = TextStream(self.field.decode, ids, sampling.stop)
            state = grammar.start() if grammar else None
            lookup = Lookup(ids) if sampling.guesses(len(checked)) and self.draft is None else None
            rows.append(Row(number, ids, left, uniform, text, state, lookup))
        return self._stream(rows, sampling) if rows else iter(())

    @torch.inference_mode()
    def beam(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        beams: int = 4,
        max_tokens: int = 256,
        length_penalty: float = 1.0,
        best: int = 1,
        stop_tokens: Sequence[int] = (),
    ) -> list[list[Hypothesis]]:
        """For each prompt its `best` continuations by beam search, best first (see beam.py)."""
        if not 1 <= best <= beams:
            raise UserError(f"the best {best} of {beams} beams", "1 ≤ best ≤ beams")
        rows = [self.checked(row, prompt) for row, prompt in enumerate(prompts)]
        if not rows:
            return []
        longest = max(map(len, rows))
        most = min(max_tokens, self.context - longest)
        cache = self._cache_for(rows, longest + most)
        model, logits = self.network.model, self.network.head.logits
        fresh = [ids[n:] for ids, n in zip(rows, cache.lengths, strict=True)]
        first_BV = logits(read(self.network, model.name, cache, fresh, [1] * len(rows)))[:, 0]

        def step(token_R: Tensor, from_R: list[int]) -> Tensor:
            cache.keep(from_R)
            new = [[token] for token in token_R.tolist()]
            return logits(read(self.network, model.name, cache, new, [1] * len(new)))[:, 0]

        ends = [*stop_tokens, *([self.end] if self.end >= 0 else [])]
        return beam_search(
            first_BV, step, beams=beams, end=ends, max_tokens=most, length_penalty=length_penalty, best=best
        )

    def checked(self, row: int, prompt: Sequence[int]) -> list[int]:
        """A prompt's tokens, with what begins a text; raises UserError where they cannot be continued."""
        ids = [int(token) for token in prompt]
        if self.begin >= 0 and ids[:1] != [self.begin]:
            ids.insert(0, self.begin)
        ids = ids or ([self.end] if self.end >= 0 else [])
        if not ids:
            raise UserError(f"prompt {row} is empty, and this model has no token that begins a document")
        if min(ids) < 0 or max(ids) >= self.size:
            raise UserError(f"prompt {row} has tokens outside of 0 to {self.size - 1}")
        if len(ids) >= self.context:
            raise UserError(
                f"prompt {row} has {len(ids):,} tokens, and the model's context is {self.context:,}",
                "shorten it, so that there is room for an answer",
            )
        return ids

    def biased(self, sampling: Sampling) -> None:
        """Raises UserError where logit_bias names a token that there is not."""
        unknown = [code for code in sampling.logit_bias if not 0 <= code < self.size]
        if unknown:
            raise UserError(
                f"logit_bias: there is no token {unknown[0]}", f"ids go from 0 to {self.size - 1}"
            )

    def grammar(self, sampling: Sampling) -> Grammar | None:
        """What answers are bound by, if they are."""
        if sampling.json_schema is None and sampling.regex is None:
            return None
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(self.field)
        return Grammar(self._vocabulary, sampling.json_schema, sampling.regex)

    # ------------------------------------------------------------------ the loop
    @torch.inference_mode()
    def _stream(self, rows: list[Row], sampling: Sampling) -> Iterator[Chunk]:
        cache = self._cache_for([row.ids for row in rows], max(len(row.ids) + row.left for row in rows))
        ends = frozenset(sampling.stop_tokens) | (
            frozenset() if sampling.ignore_end or self.end < 0 else frozenset([self.end])
        )
        sampler = Sampler(sampling, len(rows), self.size, cache.length_B.device)
        for at, row in enumerate(rows):
            sampler.prompt(at, row.ids)
        if self.draft is not None:
            longest = max(len(row.ids) + row.left for row in rows)
            self.draft.start(len(rows), longest, sampling, self.size)
        guesses: list[list[int]] = [[] for _ in rows]
        try:
            while True:
                features_BWD = self._read(cache, rows, guesses)
                self._choose(self.network.head.logits(features_BWD), rows, guesses, sampler, ends)
                # The last token of a row is not read yet; what was guessed wrongly is forgotten.
                if any(guesses):
                    cache.cut([len(row.ids) - 1 for row in rows])
                for row in rows:
                    if row.fresh:
                        yield row.chunk()
                alive = [at for at, row in enumerate(rows) if not row.reason]
                if not alive:
                    return
                if len(alive) < len(rows):
                    rows = [rows[at] for at in alive]
                    cache.keep(alive)
                    sampler.keep(torch.tensor(alive))
                    if self.draft is not None:
                        self.draft.keep(alive)
                guesses = self._guess(rows, sampling)
        finally:
            self._cache = cache
            self._held = [row.ids[:length] for row, length in zip(rows, cache.lengths, strict=True)]

    def _choose(
        self,
        logits_BWV: Tensor,
        rows: list[Row],
        guesses: list[list[int]],
        sampler: Sampler,
        ends: frozenset[int],
    ) -> None:
        """Place by place, the next token of every row, as long as it is the one that was guessed."""
        going = list(range(len(rows)))
        sampling = sampler.sampling
        for place in range(logits_BWV.shape[1]):
            logits_RV = logits_BWV[:, place] if len(going) == len(rows) else logits_BWV[going, place]
            allowed_RV = None
            states = [state for at in going if (state := rows[at].state) is not None]
            if states:
                allowed_RV = torch.stack([state.allowed() for state in states]).to(logits_RV.device)
            uniform_R = torch.zeros(0)
            if sampling.temperature:
                uniform_R = torch.stack([rows[at].uniform[rows[at].used] for at in going])
            token_R = sampler.choose(logits_RV, uniform_R, allowed_RV, going)
            if sampling.logprobs:
                chosen_R = logits_RV.log_softmax(-1).gather(1, token_R[:, None])[:, 0]
                for at, value in zip(going, chosen_R.tolist(), strict=True):
                    rows[at].logprobs.append(value)
            next_going = []
            for at, token in zip(going, token_R.tolist(), strict=True):
                sampler.wrote(at, token)
                goes_on = rows[at].take(token, ends, self.end)
                self.counts.written += 1
                if place < len(guesses[at]) and guesses[at][place] == token:
                    self.counts.accepted += 1
                    if goes_on:
                        next_going.append(at)
            going = next_going
            if not going:
                return

    def _read(self, cache: Any, rows: list[Row], guesses: list[list[int]]) -> Tensor:
        """Read what each row has not read yet, and its guesses; features where tokens are chosen."""
        fresh = [row.ids[n:] for row, n in zip(rows, cache.lengths, strict=True)]
        self.counts.passes += 1
        self.counts.guessed += sum(map(len, guesses))
        self.counts.read += sum(len(new) for new, row in zip(fresh, rows, strict=True) if not row.used)
        name, most = self.network.model.name, max(1, PIECE // len(rows))
        while max(map(len, fresh)) > most:
            # Every row keeps a token for the last piece, whose features are wanted.
            first = [new[: min(most, len(new) - 1)] for new in fresh]
            fresh = [new[len(part) :] for new, part in zip(fresh, first, strict=True)]
            read(self.network, name, cache, first, [1] * len(rows))
        wanted = [1 + len(guess) for guess in guesses]
        both = [new + guess for new, guess in zip(fresh, guesses, strict=True)]
        return read(self.network, name, cache, both, wanted)

    def _guess(self, rows: list[Row], sampling: Sampling) -> list[list[int]]:
        """For each row, tokens that may come next; never so many that the last pass would write too many."""
        if self.draft is not None:
            most = [min(sampling.draft, row.left - 1) for row in rows]
            if max(most) > 0:
                steps = max(most)
                uniforms_RW = torch.zeros(len(rows), steps)
                if sampling.temperature:
                    ahead = [row.uniform[row.used : row.used + steps] for row in rows]
                    uniforms_RW = torch.nn.utils.rnn.pad_sequence(ahead, batch_first=True)
                return self.draft.guess([row.ids for row in rows], most, uniforms_RW)
        elif most := sampling.guesses(len(rows)):
            return [row.lookup.guess(min(most, row.left - 1)) if row.lookup else [] for row in rows]
        return [[] for _ in rows]

    # ------------------------------------------------------------------ reuse of what was read
    def _cache_for(self, prompts: list[list[int]], length: int) -> Any:
        """A cache with a row for each prompt, holding as much of its beginning as the last call had read."""
        cache, held = self._cache, self._held
        self._cache, self._held = None, []  # a second stream begun before this one ends gets its own
        if cache is not None and cache.slots >= length:
            from_row, shared = [], []
            for ids in prompts:
                # The last token is always read: its features choose the next.
                common = [_common(row, ids[:-1]) for row in held]
                from_row.append(max(range(len(held)), key=common.__getitem__))
                shared.append(max(common))
            if any(shared):
                needed = [0] * len(held)
                for row, count in zip(from_row, shared, strict=True):
                    needed[row] = max(needed[row], count)
                cache.cut(needed)
                cache.keep(from_row)
                cache.cut(shared)
                self.counts.reused += sum(shared)
                return cache
        # Room to go on in the next call, as a conversation does, where it is cheap.
        slots = min(self.context, length + max(256, length)) if len(prompts) == 1 else length
        return self.network.model.new_cache(len(prompts), slots)


def _common(one: Sequence[int], two: Sequence[int]) -> int:
    """How many first tokens are the same."""
    for at, (a, b) in enumerate(zip(one, two, strict=False)):
        if a != b:
            return at
    return min(len(one), len(two))
