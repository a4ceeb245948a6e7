"""transformers as a worker of decode.py: `python hf_decode.py FOLDER THREADS [GUESSES]`, float32, greedy, with its cache;
GUESSES: tokens of its prompt lookup."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import transformers
from _workers import serve


class Clock(transformers.StoppingCriteria):
    """Never stops; notes when each token was there."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self.times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool)


def main() -> None:
    """The worker."""
    folder, threads, *guesses = sys.argv[1:]
    lookup = {"prompt_lookup_num_tokens": int(guesses[0])} if guesses else {}
    torch.set_num_threads(int(threads))
    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None

    @torch.inference_mode()
    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        ids = torch.tensor(asked["prompts"])
        clock, began = Clock(), time.perf_counter()
        found = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=asked["new"], do_sample=False, pad_token_id=0,
            stopping_criteria=transformers.StoppingCriteriaList([clock]), **lookup,
        )  # fmt: skip
        written = found[:, ids.shape[1] :].tolist()
        return {
            "prefill": clock.times[0] - began,
            "decode": clock.times[-1] - clock.times[0],
            "tokens": written,
        }

    serve(answer, parameters=model.num_parameters())


if __name__ == "__main__":
    main()
