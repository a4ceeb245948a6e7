"""transformers' side of few_shot.py: the log-likelihood of each answer after its prompt, one pair at a time, float32.

python hf_choices.py FOLDER PAIRS.json THREADS        PAIRS.json: [[prompt, answer], …]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers


@torch.inference_mode()
def main() -> None:
    """All pairs."""
    folder, pairs, threads = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text("utf-8")), sys.argv[3]
    torch.set_num_threads(int(threads))
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for prompt, answer in pairs:
        before = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        ids = torch.tensor([tokenizer(prompt + answer, add_special_tokens=False)["input_ids"]])
        logits = model(ids[:, :-1], logits_to_keep=ids.shape[1] - before).logits[0]
        found.append(float(logits.log_softmax(-1).gather(1, ids[0, before:, None]).sum()))
    print(json.dumps({"log_likelihoods": found}))


if __name__ == "__main__":
    main()
