"""Engine: what answers inside a worker. The worker's loop (worker.py) knows nothing else of a model.

The loop hands over what comes, asks `step()` for as long as the engine is `busy`, sends what that returns, and looks
at the socket between two steps. An engine is made by `open(run, options)` of its module: rows.py answers rows in
batches, generation.py writes text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from modelworks.serving.wire import Frame


@dataclass(frozen=True)
class Options:
    """What the front tells its workers."""

    name: str
    """The name that the model is served under."""
    threads: int = 1
    """Torch's threads."""
    batch: int = 64
    """Most requests answered at once."""
    rows: int = 4096
    """Most rows of one request."""
    decoded: int = 256 << 20
    """Most bytes that a request may unfold to: a picture's pixels, a sound's samples, an unzipped body."""
    drift: bool = True
    """Whether statistics of what is asked are kept."""
    code: bool = False
    """Whether a Run may name Python files of the user's own."""
    slots: int = 16
    """Texts that a language model writes at once."""
    context: int = 2048
    """Most tokens of one of them, prompt and answer; a model's own context where that is shorter."""
    prefixes: int = 256 << 20
    """Bytes of keys and values that are kept of prompts, for others that begin like them."""
    weights: str = "float32"
    """How a language model's weights are held: float32, bfloat16 or int8."""


class Engine(Protocol):
    """What the loop needs of a model."""

    metadata: dict[str, Any]
    """Told to the front in `ready`: `kind` (rows or language), `task`, `inputs`, `outputs`, `slots` (how many requests
    it takes at once beyond which the front keeps them waiting; rows: frames) …"""

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        ...

    def submit(self, frame: Frame) -> None:
        """Take a request; what is wrong with it comes back as an `error` frame from `step`."""
        ...

    def cancel(self, number: int) -> None:
        """Nobody waits for this request any more."""
        ...

    def step(self) -> list[Frame]:
        """Do one piece of work: frames for the front."""
        ...

    def stats(self) -> dict[str, Any]:
        """Figures for /metrics so far, as `{"counters": {…}, "gauges": {…}, "histograms": {…}}`; see metrics.py."""
        ...
