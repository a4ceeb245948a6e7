"""Generation: the engine of language models: every request joins the batch that is being written (continuous.py).

    engine = open("runs/poems", Options("poems"))
    engine.submit(Frame("generate", 1, {"prompts": ["春"], "n": 1, "sampling": {"max_tokens": 20}, "top": None}))
    engine.step()        # [Frame("chunk", 1, {"index": 0, "text": "风", "reason": ""}), …, Frame("answer", 1, {…})]

`messages` in place of `prompts` is a conversation, told by the chat template of the model. Answer `index` is of prompt
index // n. A chunk has `logprobs` where `top` says how many of the likeliest tokens to tell: a list
[token, bytes, log-probability, [[token, bytes, log-probability] of the likeliest …]] for each of its tokens.
"""

from __future__ import annotations

import secrets
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from modelworks.core.errors import UserError
from modelworks.core.run import RunFolder
from modelworks.engine.language.constrain import token_bytes
from modelworks.engine.language.continuous import Batcher, Output, Request
from modelworks.engine.language.conversation import closing_tokens, plain_ids, speaker
from modelworks.engine.language.pack import pack
from modelworks.engine.language.ready import is_foreign, ready
from modelworks.engine.language.sampling import Sampling
from modelworks.serving.engine import Options
from modelworks.serving.wire import Frame

EDGES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds of the histograms."""
BATCHES = (1, 2, 4, 8, 16, 32, 64)


def open(path: str | Path, options: Options) -> Writer:
    """The engine of a Run, a Hugging Face folder or a GGUF file."""
    torch.set_num_threads(options.threads)
    network, field = ready(path)
    told: dict[str, Any] = {"task": "language"}
    if not is_foreign(path):
        run = RunFolder.find(path)
        primary = run.evaluation().get("primary", "")
        told = {"task": run.recipe_tree()["task"]["kind"], "metric": {"name": primary}}
    weights: Any = options.weights
    return Writer(pack(network, weights), field, options, told)


@dataclass
class _Asked:
    """A request that is being answered."""

    left: int
    """Answers that go on."""
    prompt_tokens: int
    since: float
    written: int = 0
    last: float = 0.0
    """When its last token came; 0: none has."""


class _Seconds:
    """A histogram as /metrics takes it."""

    def __init__(self, edges: tuple[float, ...]) -> None:
        self.edges, self.counts, self.sum = edges, [0] * (len(edges) + 1), 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.edges, value)] += 1
        self.sum += value

    def told(self) -> list[Any]:
        """[edges, counts, sum]."""
        return [list(self.edges), list(self.counts), self.sum]


class Writer:
    """Writes for all requests at once, a pass through the network a step."""

    def __init__(self, network: Any, field: Any, options: Options, told: dict[str, Any]) -> None:
        self.batcher = Batcher(
            network, field, slots=options.slots, context=options.context, prefixes=options.prefixes
        )
        self.field = field
        self._speaker = speaker(field)
        self._closing = () if self._speaker is None else closing_tokens(self._speaker)
        name = field.column or getattr(network.model, "name", "text")
        self.metadata: dict[str, Any] = {
            **told,
            "kind": "language",
            "inputs": [{"name": name, "kind": "text", "missing_allowed": False, "example": ""}],
            "outputs": [],
            "slots": options.slots,
            "context": self.batcher.context,
            "chat": self._speaker is not None,
            "memory": self._memory(options),
        }
        self._asked: dict[int, _Asked] = {}
        self._out: list[Frame] = []
        self._bytes: list[bytes] | None = None
        self._first, self._between, self._batch = _Seconds(EDGES), _Seconds(EDGES), _Seconds(BATCHES)
        self._warm()

    def _memory(self, options: Options) -> str:
        """The bound, in words."""
        most, context = self.batcher.slots.bytes >> 20, self.batcher.context
        kept = f"{options.prefixes >> 20:,} MiB of kept beginnings"
        return f"{options.slots} slots × {context:,} tokens: {most:,} MiB of keys and values at most, {kept}"

    def _warm(self) -> None:
        """The first pass allocates and plans; a request should not wait for it."""
        self.batcher.submit(Request(0, [self.field.layout.size - 1] * 3, Sampling(max_tokens=2)))
        while self.batcher.busy:
            self.batcher.step()
        self.batcher.counts = type(self.batcher.counts)()

    # ------------------------------------------------------------------ the worker's interface
    @property
    def busy(self) -> bool:
        return bool(self._out) or self.batcher.busy

    def submit(self, frame: Frame) -> None:
        if frame.kind != "generate":
            body = b'{"error": "this model writes text: ask /v1/completions or /v1/chat/completions"}'
            items = [[400, "application/json", len(body), {}] for _ in frame.meta.get("items", [])]
            self._out.append(Frame("answer", frame.id, {"items": items}, body * len(items)))
            return
        try:
            requests = self._requests(frame)
            self._asked[frame.id] = _Asked(
                len(requests), self._prompt_tokens(requests, frame.meta.get("n", 1)), time.monotonic()
            )
            for request in requests:
                self.batcher.submit(request)
        except (UserError, ValidationError) as error:
            self.cancel(frame.id)
            self._out.append(Frame("error", frame.id, {"status": 400, "message": _line(error)}))

    def cancel(self, number: int) -> None:
        asked = self._asked.pop(number, None)
        if asked is not None:
            self.batcher.cancel_all(lambda id: id[0] == number)

    def step(self) -> list[Frame]:
        frames, self._out = self._out, []
        if self.batcher.busy:
            outputs = self.batcher.step()
            if outputs:
                self._batch.add(len(outputs))
            for output in outputs:
                frames += self._told(output)
        return frames

    def stats(self) -> dict[str, Any]:
        counts, batcher = self.batcher.counts, self.batcher
        return {
            "counters": {
                "prompt_tokens_read": counts.read,
                "prompt_tokens_reused": counts.reused,
                "prefix_hits": counts.hits,
                "generations": counts.requests,
                "generations_cancelled": counts.cancelled,
                "tokens_written": counts.written,
                "passes": counts.passes,
            },
            "gauges": {
                "slots": batcher.size,
                "slots_busy": batcher.active,
                "generations_waiting": len(batcher.waiting),
                "prefix_bytes": batcher.prefixes.bytes,
            },
            "histograms": {
                "first_token_seconds": self._first.told(),
                "token_seconds": self._between.told(),
                "tokens_a_pass": self._batch.told(),
            },
        }

    # ------------------------------------------------------------------ requests
    def _requests(self, frame: Frame) -> list[Request]:
        meta = frame.meta
        given = dict(meta["sampling"])
        for name in ("stop", "stop_tokens"):
            given[name] = tuple(given.get(name, ()))
        given["logit_bias"] = {int(code): value for code, value in given.get("logit_bias", {}).items()}
        if given.get("seed") is None:
            given["seed"] = secrets.randbits(62)
        sampling = Sampling(**given, logprobs=meta.get("top") is not None)
        if "messages" in meta:
            prompts = [self._conversation(meta["messages"])]
            if self._speaker is None:
                sampling = sampling.but(stop=(*sampling.stop, "\nUser:", "\nSystem:"))
            else:
                sampling = sampling.but(stop_tokens=(*sampling.stop_tokens, *self._closing))
        else:
            prompts = [self.field.ids(one) if isinstance(one, str) else one for one in meta["prompts"]]
        n, top = meta.get("n", 1), meta.get("top") or 0
        return [
            Request((frame.id, at * n + number), prompt, sampling, number, top)
            for at, prompt in enumerate(prompts)
            for number in range(n)
        ]

    def _conversation(self, messages: Sequence[dict[str, str]]) -> list[int]:
        return plain_ids(self.field, messages) if self._speaker is None else self._speaker.prompt(messages)

    @staticmethod
    def _prompt_tokens(requests: Sequence[Request], n: int) -> int:
        return sum(len(request.prompt) for request in requests[::n])

    # ------------------------------------------------------------------ what is told
    def _told(self, output: Output) -> list[Frame]:
        number, index = output.id  # type: ignore[misc]
        asked = self._asked.get(number)
        if asked is None:
            return []
        now, chunk = time.monotonic(), output.chunk
        if asked.last:
            self._between.add(now - asked.last)
        else:
            self._first.add(now - asked.since)
        asked.last = now
        asked.written += len(chunk.ids)
        frames = []
        if chunk.text or chunk.reason or chunk.logprobs:
            meta: dict[str, Any] = {"index": index, "text": chunk.text, "reason": chunk.reason}
            if chunk.logprobs:
                meta["logprobs"] = self._logprobs(output)
            frames.append(Frame("chunk", number, meta))
        asked.left -= bool(chunk.reason)
        if not asked.left:
            del self._asked[number]
            usage = {"prompt_tokens": asked.prompt_tokens, "completion_tokens": asked.written}
            frames.append(Frame("answer", number, usage))
        return frames

    def _logprobs(self, output: Output) -> list[list[Any]]:
        found = []
        tops = output.top or ((),) * len(output.chunk.ids)
        for token, value, top in zip(output.chunk.ids, output.chunk.logprobs, tops, strict=True):
            likeliest = [[*self._named(code), logprob] for code, logprob in top]
            found.append([*self._named(token), value, likeliest])
        return found

    def _named(self, token: int) -> tuple[str, list[int]]:
        """A token as text, and its bytes."""
        if self._bytes is None:
            try:
                self._bytes = token_bytes(self.field)
            except UserError:  # word pieces are no bytes of the text
                pieces = self.field.decode([[code] for code in range(self.field.layout.size)])
                self._bytes = [piece.encode() for piece in pieces]
            for name, code in self.field.special_ids.items():
                if code < len(self._bytes):
                    self._bytes[code] = name.encode()
        written = self._bytes[token] if token < len(self._bytes) else b""
        return written.decode("utf-8", "replace"), list(written)


def _line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
    return str(error).removeprefix("prompt 0 ").strip()
