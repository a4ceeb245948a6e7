"""Fill: the engine of masked language models. A text with [MASK] in it comes back whole, with the likeliest tokens of
each gap.

    {"text": "the capital of [MASK] is Paris"}
    {"prediction": "the capital of France is Paris", "gaps": [{"France": 0.92, "Gaul": 0.03, …}]}

T tokens of a text, G gaps in it, V tokens of the vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from modelworks.core.field import Encoded
from modelworks.core.run import RunFolder
from modelworks.engine.network import prepare_batch
from modelworks.engine.predictor import Predictor
from modelworks.serving.engine import Options
from modelworks.serving.rows import Answers, Rows

BEST = 8
"""Tokens that are told for a gap."""


def open(run: RunFolder, options: Options) -> Fill:
    """The engine of a Run."""
    torch.set_num_threads(options.threads)
    return Fill(Predictor.load(run), run, options)


class Fill(Rows):
    """Answers frames of requests, one frame a step."""

    def __init__(self, predictor: Predictor, run: RunFolder, options: Options) -> None:
        super().__init__(predictor, run, options)
        told, mask = self.metadata["inputs"][0], predictor.task.mask_token
        words = str(told["example"])[:300].split(" ")
        words[min(1, len(words) - 1)] = mask
        told |= {"example": " ".join(words), "mask": mask}

    @torch.inference_mode()
    def _infer(self, encoded: dict[str, Encoded], good: np.ndarray) -> Answers:
        ((name, found),) = encoded.items()
        assert found.lengths is not None
        starts = np.concatenate([[0], np.cumsum(found.lengths)])
        return [self._fill(name, found.values[starts[row] : starts[row + 1]]) for row in good.tolist()]

    def _fill(self, name: str, tokens_T: np.ndarray) -> dict[str, Any]:
        field, network, task = self.predictor.inputs[name], self.predictor.network, self.predictor.task
        tokens_T = tokens_T.astype(np.int64)
        seen_T = tokens_T[: field.layout.length]  # what the model cannot see stays as it is
        at_G = np.flatnonzero(seen_T == field.state["specials"][task.mask_token])
        gaps = []
        if len(at_G):
            stored = {name: torch.from_numpy(seen_T[None]), f"{name}.length": torch.tensor([len(seen_T)])}
            device = next(network.parameters()).device
            features_1TD = network.model(prepare_batch(stored, self.predictor.inputs, device))
            logits_GV = network.head.logits(features_1TD[:, at_G])[0].float().cpu()
            # Padding and other tokens that stand for no text fill no gap.
            logits_GV[:, torch.from_numpy(np.asarray(field.state["bytes"]) == 0)] = -torch.inf
            found = logits_GV.softmax(-1).topk(min(BEST, logits_GV.shape[1]))
            tokens_T[at_G] = found.indices[:, 0].numpy()
            for shares, codes in zip(found.values.tolist(), found.indices.tolist(), strict=True):
                gap: dict[str, float] = {}
                for share, code in zip(shares, codes, strict=True):
                    text = field.decode([[code]])[0]  # type: ignore[arg-type]
                    gap[text] = gap.get(text, 0.0) + share
                gaps.append(gap)
        text_T = tokens_T[tokens_T != field.state["end"]]
        return {"prediction": field.decode([text_T.tolist()], special=True)[0], "gaps": gaps}  # type: ignore
