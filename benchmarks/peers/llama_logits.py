"""llama.cpp's side of parity.py: tokens of texts, logits of prompts, what it writes greedily.

    python llama_logits.py MODEL.gguf ASK.json OUT.npz

ASK.json: {"texts": [text …], "prompts": [[id …] …], "new": 64}. OUT.npz: logits0, logits1 … of each prompt's tokens.
The line printed: {"tokens": [[id …] …], "written": [[id …] …]}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import llama_cpp
import numpy as np


def main() -> None:
    """One model."""
    model, ask, out = sys.argv[1:]
    asked = json.loads(Path(ask).read_text("utf-8"))
    room = max(map(len, asked["prompts"])) + asked["new"] + 1
    # Keys and values as float32: the default rounds them to float16.
    llm = llama_cpp.Llama(
        model, n_ctx=room, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False, use_mmap=True,
        type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32,
    )  # fmt: skip
    tokens = [llm.tokenize(text.encode(), add_bos=False, special=False) for text in asked["texts"]]
    written, logits = [], {}
    for at, prompt in enumerate(asked["prompts"]):
        llm.reset()
        llm.eval(prompt)
        logits[f"logits{at}"] = np.array(llm.scores[: len(prompt)], np.float32)
        row: list[int] = []
        for _ in range(asked["new"]):
            row.append(int(np.argmax(llm.scores[llm.n_tokens - 1])))
            llm.eval(row[-1:])
        written.append(row)
    np.savez(out, **logits)
    print(json.dumps({"tokens": tokens, "written": written}))


if __name__ == "__main__":
    main()
