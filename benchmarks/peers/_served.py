"""The model of a Run as a user of torch alone would serve it: the network, its preprocessing, its classes."""

from __future__ import annotations

import torch

from modelworks.core.run import RunFolder
from modelworks.engine.predictor import Predictor


class Served:
    """`answers(rows)` of JSON rows, and `one(row)`."""

    def __init__(self, run: str, threads: int) -> None:
        torch.set_num_threads(threads)
        predictor = Predictor.load(RunFolder.find(run))
        self.network = predictor.network.eval()
        self.classes = [
            str(label) for label in predictor.fields[predictor.task.target].decode(range_of(predictor))
        ]
        ((self.name, self.field),) = predictor.inputs.items()
        if self.field.kind == "image":
            self.mean, self.std = self.field.state["mean"][0], self.field.state["std"][0]
        self.answers([EXAMPLES[self.field.kind]])

    @torch.inference_mode()
    def answers(self, rows: list) -> list[dict]:
        """What modelworks answers: the class, and each one's probability."""
        batch = getattr(self, f"_{self.field.kind}")(rows)
        shares = self.network(batch).float().softmax(-1).reshape(len(rows), -1, len(self.classes)).mean(1)
        found = shares.argmax(-1).tolist()
        return [
            {"prediction": self.classes[best], "probabilities": dict(zip(self.classes, row, strict=True))}
            for best, row in zip(found, shares.tolist(), strict=True)
        ]

    def one(self, row) -> dict:
        """One row."""
        return self.answers([row])[0]

    def _image(self, rows: list) -> dict:
        pixels = torch.tensor(rows, dtype=torch.float32)[:, None]
        return {self.name: (pixels - self.mean) / self.std}

    def _text(self, rows: list) -> dict:
        import pyarrow as pa

        encoded = self.field.encode(pa.array(rows, pa.string()))
        lengths = torch.from_numpy(encoded.lengths)
        parts = torch.from_numpy(encoded.values.astype("int64")).split(encoded.lengths.tolist())
        return {
            self.name: torch.nn.utils.rnn.pad_sequence(parts, batch_first=True),
            f"{self.name}.length": lengths,
        }


EXAMPLES = {"image": [[0] * 28] * 28, "text": "好"}


def range_of(predictor):
    """The codes of the classes."""
    import numpy as np

    return np.arange(predictor.fields[predictor.task.target].layout.size)
