"""An hf folder as transformers reads it, in the place of the Run's own network, tokenizer and pictures' preparation.

opened = Opened(folder, graph)
opened.predict(feeds); opened.encoded("a text", length=128)
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelworks.engine.export._graph import Graph
from modelworks.fields._messages import messages


class Opened:
    """transformers' network in the place of ours, behind the same fields and task."""

    training = False

    def __init__(self, folder: Path, graph: Graph) -> None:
        import transformers

        self.graph = graph
        name = json.loads((folder / "config.json").read_text("utf-8"))["architectures"][0]
        with _quiet(transformers):
            opened = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32)
            self.tokenizer, self.processor = None, None
            if (folder / "tokenizer.json").exists():
                self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            else:
                self.processor = transformers.AutoImageProcessor.from_pretrained(folder)
        self.inner = opened.eval()
        self.head = self

    def predict(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A batch of stored arrays → what the task says of them."""
        with torch.inference_mode():
            said = self.graph.task.exported(self, self.graph.prepared(feeds))
        return {name: value.numpy() for name, value in said.items()}

    def model(self, batch: Any) -> Any:
        """What the head reads: theirs reads the batch itself."""
        return batch

    def logits(self, batch: Mapping[str, Any]) -> Any:
        """The scores of their head, or the pooled features where there is none."""
        (name,) = self.graph.fields
        x, length_B = batch[name], batch.get(f"{name}.length")
        if self.graph.fields[name].layout.form == "image":
            return self.inner(pixel_values=x).logits
        mask_BT = None if length_B is None else torch.arange(x.shape[1]) < length_B[:, None]
        found = self.inner(input_ids=x, attention_mask=mask_BT)
        if hasattr(found, "logits"):
            return found.logits
        return self.graph.network.model.pool(found.last_hidden_state, mask_BT)

    __call__ = logits

    def encoded(self, raw: Any, length: int) -> np.ndarray:
        """A raw text, list of words, conversation or picture as the folder alone encodes it."""
        if self.processor is not None:
            picture = _picture(raw, self.inner.config.num_channels)
            return np.asarray(self.processor(picture, return_tensors="np")["pixel_values"])[0]
        assert self.tokenizer is not None
        if self.tokenizer.chat_template and next(iter(self.graph.fields.values())).kind == "chat":
            said = messages(raw)
            return np.asarray(
                self.tokenizer.apply_chat_template(
                    said, return_dict=False, truncation=True, max_length=length
                )
            )
        words = isinstance(raw, list)
        found = self.tokenizer(raw, is_split_into_words=words, truncation=True, max_length=length)
        return np.asarray(found["input_ids"])


@contextlib.contextmanager
def _quiet(transformers: Any) -> Any:
    """Without the bar of tensors read, and without a word on BERT's pooler, which nothing here reads."""
    logging = transformers.utils.logging
    bar, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _picture(raw: Any, channels: int) -> Any:
    """What a column holds of a picture, as the folder's README opens it."""
    from PIL import Image, ImageOps

    raw = raw.get("bytes") or raw.get("path") if isinstance(raw, dict) else raw
    if isinstance(raw, (list, np.ndarray)):
        picture = Image.fromarray(np.asarray(raw, np.uint8))
    else:
        picture = Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw)
    return ImageOps.exif_transpose(picture).convert("L" if channels == 1 else "RGB")
