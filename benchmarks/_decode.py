"""modelworks as a worker of decode.py: `python _decode.py MODEL.gguf THREADS WEIGHTS [GUESSES]`, greedy; perplexity too."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from _workers import serve


def main() -> None:
    """The worker."""
    import torch

    from modelworks.engine.language.generate import Generator
    from modelworks.engine.language.likelihood import Likelihood
    from modelworks.engine.language.pack import pack
    from modelworks.engine.language.ready import ready
    from modelworks.engine.language.sampling import Sampling

    model, threads, weights, *guesses = sys.argv[1:]
    lookup = int(guesses[0]) if guesses else None
    torch.set_num_threads(int(threads))
    network, field = ready(model)
    if weights != "plain":
        network = pack(network, weights)  # type: ignore[arg-type]

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        if "text" in asked:
            score = Likelihood(network, field).texts([asked["text"]])[0]
            return {"perplexity": math.exp(-score.per_token), "tokens": score.tokens}
        sampling = Sampling(temperature=0, max_tokens=asked["new"], ignore_end=True, lookup=lookup)
        began = time.perf_counter()
        first = 0.0
        written: list[list[int]] = [[] for _ in asked["prompts"]]
        for chunk in Generator(network, field).stream(asked["prompts"], sampling):
            first = first or time.perf_counter()
            written[chunk.row] += chunk.ids
        return {"prefill": first - began, "decode": time.perf_counter() - first, "tokens": written}

    serve(answer)


if __name__ == "__main__":
    main()
