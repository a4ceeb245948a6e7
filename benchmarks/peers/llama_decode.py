"""llama.cpp as a worker of decode.py: `python llama_decode.py MODEL.gguf THREADS [QUANTISED.gguf]`, greedy, one row.

With a third path the model is first written there as Q8_0.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import llama_cpp
from _workers import serve


def main() -> None:
    """The worker."""
    model, threads, *quantised = sys.argv[1:]
    if quantised:
        settings = llama_cpp.llama_model_quantize_default_params()
        settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
        settings.nthread = int(threads)
        if llama_cpp.llama_model_quantize(model.encode(), quantised[0].encode(), settings):
            raise SystemExit("llama_model_quantize failed")
        model = quantised[0]
    llm = llama_cpp.Llama(
        model, n_ctx=512, n_threads=int(threads), n_threads_batch=int(threads), verbose=False
    )

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        (prompt,) = asked["prompts"]
        llm.reset()
        began = time.perf_counter()
        stream = llm.generate(prompt, temp=0.0, repeat_penalty=1.0, reset=False)
        written = [next(stream)]
        first = time.perf_counter()
        written += itertools.islice(stream, asked["new"] - 1)
        return {"prefill": first - began, "decode": time.perf_counter() - first, "tokens": [written]}

    serve(answer)


if __name__ == "__main__":
    main()
