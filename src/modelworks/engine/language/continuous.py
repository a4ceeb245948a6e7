"""Continuous batching: texts begin, go on and end one by one, while all are written together.

    batcher = Batcher(network, field, slots=16, context=2048)
    batcher.submit(Request(1, field.ids("To be"), Sampling(temperature=0)))
    while batcher.busy:
        for output in batcher.step(): print(output.id, output.chunk.text)

Each step reads the newest token of every text that is being written, and some of the prompts that came in since: a
long prompt is read in pieces between which the others go on. Nothing is padded, and on a CPU with packed weights
(float32, bfloat16) a text's tokens are to the bit those that Generator writes alone (docs/experiments.md): they
depend neither on the company nor on what the prefixes hold. Memory is taken once: slots × context keys and values,
and the prefixes' bound. R rows that choose a token, N steps of a pass, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from modelworks.core.errors import UserError
from modelworks.engine.language.generate import Chunk, Generator, Row
from modelworks.engine.language.prefixes import Key, Prefixes
from modelworks.engine.language.sampling import Sampler, Sampling, uniforms
from modelworks.engine.language.textstream import TextStream
from modelworks.layers.look import BLOCK
from modelworks.layers.slots import Slots

ALONE = 8 * BLOCK
"""Prompt tokens of a step while nothing is being written; BLOCK while something is."""


@dataclass(frozen=True)
class Request:
    """A text to go on with."""

    id: Hashable
    prompt: Sequence[int]
    sampling: Sampling
    number: int = 0
    """Which of several answers to one prompt: with the seed it makes the draws."""
    top: int = 0
    """Tell so many of the likeliest tokens at each place, where the sampling tells log-probabilities."""


@dataclass(frozen=True)
class Output:
    """What a request has got in a step."""

    id: Hashable
    chunk: Chunk
    top: tuple[tuple[tuple[int, float], ...], ...] = ()
    """At each of the chunk's tokens, the likeliest ones with their log-probabilities."""


@dataclass
class Counts:
    """What a batcher has done since it was made."""

    read: int = 0
    """Prompt tokens that went through the network."""
    reused: int = 0
    """Prompt tokens whose keys and values were copied."""
    hits: int = 0
    """Requests that reused some."""
    requests: int = 0
    written: int = 0
    passes: int = 0
    cancelled: int = 0


@dataclass
class _Active:
    """A request on its way."""

    request: Request
    row: Row
    ends: frozenset[int]
    prompt: int
    """Tokens of the prompt."""
    slot: int = -1
    sampler: Sampler | None = None
    """Where earlier tokens count: its own."""
    group: Hashable = None
    """Requests that choose in the same way; None: by itself."""
    allowed: Tensor | None = None
    """What a grammar leaves for the next token, bool (V,)."""
    chain: list[Key] = field(default_factory=list)
    """The blocks of its prompt that are kept."""
    parent: int = 0
    """The number of the last of them; −1: the rest of the prompt is not kept."""
    reused: int = 0
    top: list[tuple[tuple[int, float], ...]] = field(default_factory=list)


class Batcher:
    """A language model that writes many texts at once."""

    def __init__(
        self, network: Any, field: Any, *, slots: int = 16, context: int = 2048, prefixes: int = 256 << 20
    ) -> None:
        """`slots`: texts written at once. `context`: most tokens of one, prompt and answer. `prefixes`: bytes of
        keys and values kept of prompts."""
        self.generator = Generator(network, field)
        self.context = min(context, self.generator.context)
        self.network, self.field = self.generator.network, field
        self.device = next(network.parameters()).device
        with torch.inference_mode():
            self.slots = Slots(self.network.model.new_cache(slots, self.context))
        self.size = slots
        self.prefixes = Prefixes(prefixes)
        self.counts = Counts()
        self.waiting: deque[_Active] = deque()
        self._free = list(range(slots))[::-1]
        self._reading: deque[_Active] = deque()
        self._writing: list[_Active] = []

    # ------------------------------------------------------------------ interface
    @property
    def bytes(self) -> int:
        """Most memory that keys and values take."""
        return self.slots.bytes + self.prefixes.most

    @property
    def busy(self) -> bool:
        """Whether there is something to do."""
        return bool(self.waiting or self._reading or self._writing)

    @property
    def active(self) -> int:
        """Requests in slots."""
        return len(self._reading) + len(self._writing)

    def submit(self, request: Request) -> None:
        """Take a request, which begins as soon as a slot is free; raises UserError where it cannot be answered."""
        self.waiting.append(self._prepared(request))

    def cancel(self, id: Hashable) -> bool:
        """Forget a request, wherever it is; its slot is free at once. Whether there was one."""
        return bool(self.cancel_all(lambda one: one == id))

    def cancel_all(self, which: Callable[[Any], bool]) -> int:
        """Forget the requests whose id is such a one; how many they were."""
        gone = [active for active in [*self._reading, *self._writing] if which(active.request.id)]
        for active in gone:
            self._release(active)
        before = len(self.waiting)
        self.waiting = deque(one for one in self.waiting if not which(one.request.id))
        found = len(gone) + before - len(self.waiting)
        self.counts.cancelled += found
        return found

    @torch.inference_mode()
    def step(self) -> list[Output]:
        """One pass through the network; what it brought."""
        while self.waiting and self._free:
            self._begin(self.waiting.popleft())
        pieces = [(active, active.row.ids[-1:]) for active in self._writing]
        pieces += self._prompts(BLOCK if self._writing else ALONE)
        if not pieces:
            return []
        features_ND = self._pass(pieces)
        chosen, at, last_R = [], 0, []
        for active, tokens in pieces:
            at += len(tokens)
            if self.slots.lengths[active.slot] == len(active.row.ids):
                chosen.append(active)
                last_R.append(at - 1)
            if not active.row.used:
                self._keep(active)
        if not chosen:
            return []
        return self._choose(chosen, self.network.head.logits(features_ND[last_R][:, None])[:, 0])

    # ------------------------------------------------------------------ a request's way
    def _prepared(self, request: Request) -> _Active:
        sampling = request.sampling
        ids = self.generator.checked(0, request.prompt)
        if len(ids) >= self.context:
            raise UserError(
                f"the prompt has {len(ids):,} tokens, and there is room for {self.context:,}",
                "shorten it, so that there is room for an answer",
            )
        self.generator.biased(sampling)
        grammar = self.generator.grammar(sampling)
        left = min(sampling.max_tokens, self.context - len(ids))
        uniform = uniforms(sampling.seed, request.number, left) if sampling.temperature else torch.zeros(0)
        state = grammar.start() if grammar else None
        text = TextStream(self.field.decode, ids, sampling.stop)
        end = self.generator.end
        ends = {*sampling.stop_tokens, *([] if sampling.ignore_end or end < 0 else [end])}
        row = Row(0, ids, left, uniform, text, state, None)
        return _Active(request, row, frozenset(ends), len(ids))

    def _begin(self, active: _Active) -> None:
        """A slot is free for it."""
        active.slot = self._free.pop()
        sampling = active.request.sampling
        if sampling.penalised:
            active.sampler = Sampler(sampling, 1, self.generator.size, self.device)
            active.sampler.prompt(0, active.row.ids)
        else:
            biases = tuple(sorted(sampling.logit_bias.items()))
            active.group = (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p, biases)
        self._reading.append(active)
        self.counts.requests += 1

    def _release(self, active: _Active) -> None:
        self.slots.cut(active.slot, 0)
        self._free.append(active.slot)
        if active in self._writing:
            self._writing.remove(active)
        else:
            self._reading.remove(active)

    def _prompts(self, room: int) -> list[tuple[_Active, list[int]]]:
        """Pieces of prompts, a block of each in turn, together about `room` tokens."""
        pieces: dict[int, tuple[_Active, list[int]]] = {}
        turn = deque(self._reading)
        coming: set[Key] = set()
        while turn and room > 0:
            active = turn.popleft()
            begun = pieces.get(active.slot, (active, []))[1]
            if not begun:
                self._copy(active)
                at = self.slots.lengths[active.slot]
                key = (active.parent, tuple(active.row.ids[at : at + BLOCK]))
                if key in coming:  # another one is about to read it: to be copied in the next step
                    continue
                if active.parent >= 0 and at + BLOCK < active.prompt:
                    coming.add(key)
            start = self.slots.lengths[active.slot] + len(begun)
            stop = min((start // BLOCK + 1) * BLOCK, active.prompt)
            piece = active.row.ids[start:stop]
            pieces[active.slot] = (active, begun + piece)
            room -= len(piece)
            self._reading.remove(active)
            self._reading.append(active)
            if stop < active.prompt:
                turn.append(active)
        return list(pieces.values())

    def _copy(self, active: _Active) -> None:
        """Blocks of the prompt that another one has read. The last token is always read: its features choose."""
        first = active.reused
        while active.parent >= 0:
            start = self.slots.lengths[active.slot]
            if start + BLOCK >= active.prompt:
                break
            tokens = active.row.ids[start : start + BLOCK]
            found = self.prefixes.find(active.parent, tokens)
            if found is None:
                break
            self.slots.give(active.slot, found[1], tokens)
            active.chain.append((active.parent, tuple(tokens)))
            active.parent = found[0]
            active.reused += BLOCK
        if active.reused > first:
            self.prefixes.use(active.chain)
            self.counts.hits += not first
            self.counts.reused += active.reused - first

    def _keep(self, active: _Active) -> None:
        """The blocks that a pass has completed."""
        done = min(self.slots.lengths[active.slot], active.prompt)
        while active.parent >= 0 and (start := len(active.chain) * BLOCK) + BLOCK <= done:
            tokens = active.row.ids[start : start + BLOCK]
            key = (active.parent, tuple(tokens))
            found = self.prefixes.find(*key)
            number = (
                found[0]
                if found
                else self.prefixes.keep(*key, self.slots.taken(active.slot, start, start + BLOCK))
            )
            active.parent = number or -1
            if number:
                active.chain.append(key)
                self.prefixes.use(active.chain)

    # ------------------------------------------------------------------ a pass
    def _pass(self, pieces: Sequence[tuple[_Active, list[int]]]) -> Tensor:
        """The features of all steps. (N, D)"""
        self.slots.begin([(active.slot, len(tokens)) for active, tokens in pieces])
        tokens = [[token] for _, some in pieces for token in some]
        self.counts.passes += 1
        self.counts.read += sum(len(some) for active, some in pieces if not active.row.used)
        body = self.network.model
        return body({body.name: torch.tensor(tokens, device=self.device)}, self.slots)[:, 0]

    def _choose(self, chosen: list[_Active], logits_RV: Tensor) -> list[Output]:
        outputs = self._bind(chosen)
        if outputs:
            left = [at for at, active in enumerate(chosen) if not active.row.reason]
            chosen, logits_RV = [chosen[at] for at in left], logits_RV[left]
        token_R = [0] * len(chosen)
        groups: dict[Hashable, list[int]] = {}
        for at, active in enumerate(chosen):
            groups.setdefault(id(active) if active.group is None else active.group, []).append(at)
        for rows in groups.values():
            some = [chosen[at] for at in rows]
            sampling = some[0].request.sampling
            sampler = some[0].sampler or Sampler(sampling, 0, self.generator.size, logits_RV.device)
            few_RV = logits_RV if len(rows) == len(chosen) else logits_RV[rows]
            uniform_R = torch.zeros(0)
            if sampling.temperature:
                uniform_R = torch.stack([one.row.uniform[one.row.used] for one in some])
            found_R = sampler.choose(few_RV, uniform_R, _allowed(some, few_RV))
            for at, token in zip(rows, found_R.tolist(), strict=True):
                token_R[at] = token
        for at, (active, token) in enumerate(zip(chosen, token_R, strict=True)):
            if active.request.sampling.logprobs:
                self._tell(active, logits_RV[at], token)
            outputs.append(self._take(active, token))
        self.counts.written += len(chosen)
        return outputs

    def _bind(self, chosen: Sequence[_Active]) -> list[Output]:
        """Ask the grammars; the last words of those that leave nothing the vocabulary could write."""
        ended = []
        for active in chosen:
            if active.row.state is not None:
                try:
                    active.allowed = active.row.state.allowed()
                except UserError:
                    active.row.reason, active.row.out = "grammar", active.row.text.flush()
                    ended.append(Output(active.request.id, active.row.chunk()))
                    self._release(active)
        return ended

    def _tell(self, active: _Active, logits_V: Tensor, token: int) -> None:
        logprob_V = logits_V.log_softmax(-1)
        active.row.logprobs.append(float(logprob_V[token]))
        if active.request.top > 0:
            best = logprob_V.topk(active.request.top)
            active.top.append(tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)))

    def _take(self, active: _Active, token: int) -> Output:
        row = active.row
        first = not row.used
        goes_on = row.take(token, active.ends, self.generator.end)
        if active.sampler is not None:
            active.sampler.wrote(0, token)
        output = Output(active.request.id, row.chunk(), tuple(active.top))
        active.top = []
        if first:
            self._reading.remove(active)
            self._writing.append(active)
        if not goes_on:
            self._release(active)
        return output


def _allowed(some: Sequence[_Active], like_RV: Tensor) -> Tensor | None:
    """What grammars leave to each row; None: all of them are free."""
    if all(one.allowed is None for one in some):
        return None
    free_V = torch.ones(like_RV.shape[1], dtype=torch.bool)
    return torch.stack([free_V if one.allowed is None else one.allowed for one in some]).to(like_RV.device)
