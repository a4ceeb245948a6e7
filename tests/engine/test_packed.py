"""Windows over a token stream: nothing lost, nothing twice, the same stream whatever the documents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.dataset import Dataset
from modelworks.core.errors import DataError
from modelworks.engine.packed import Packed
from modelworks.engine.prepare import fit, prepare
from modelworks.engine.store import Store
from modelworks.fields.corpus import Corpus


def stored(folder: Path, texts: list[str], end: bool = False) -> Store:
    table = pa.record_batch({"text": pa.array(texts)})
    dataset = Dataset.from_batches([table])
    fields = fit({"text": Corpus(tokens="byte", length=4, end=end)}, dataset)
    return prepare(dataset, fields, folder).store("train")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=6), st.integers(1, 7))
def test_every_token_but_the_first_is_a_target_once(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], context: int
) -> None:
    store = stored(tmp_path_factory.mktemp("store"), texts)
    stream = store.flat("text").to(torch.int64)
    if len(stream) < 2:
        with pytest.raises(DataError, match="too little text"):
            Packed(store, "text", context, whole=True)
        return
    rows = Packed(store, "text", context, whole=True)
    batch = rows.gather(np.arange(len(rows)))
    alone = [rows.gather(np.array([position])) for position in range(len(rows))]
    for name in ("text", "text.next"):  # a window is the same in any batch
        assert torch.equal(torch.cat([one[name] for one in alone]), batch[name])
    assert (batch["text"] >= 0).all()
    targets = batch["text.next"].flatten()
    assert torch.equal(targets[targets >= 0], stream[1:])
    assert (targets < 0).sum() == targets.numel() - len(stream) + 1
    for tokens, following in zip(batch["text"], batch["text.next"], strict=True):
        inside = following[:-1] >= 0
        assert torch.equal(tokens[1:][inside], following[:-1][inside])  # what follows is the next input


def test_training_windows_are_full_and_move_each_epoch(tmp_path: Path) -> None:
    store = stored(tmp_path, ["abcdefghijklmnopqrstuvwxyz" * 3])
    rows = Packed(store, "text", 5, whole=False)
    seen = set()
    for epoch in range(6):
        batch = rows.at(epoch).gather(np.arange(len(rows)))
        assert (batch["text.next"] >= 0).all()
        assert torch.equal(batch["text"][:, 1:], batch["text.next"][:, :-1])
        seen.add(tuple(batch["text"][0].tolist()))
        again = rows.at(epoch).gather(np.arange(len(rows)))
        assert torch.equal(again["text"], batch["text"])  # a function of the epoch alone
    assert len(seen) >= 4


def test_a_text_shorter_than_a_window(tmp_path: Path) -> None:
    batch = Packed(stored(tmp_path, ["abc"]), "text", 8, whole=False).gather(np.array([0]))
    assert (batch["text.next"] >= 0).sum() == 2


def test_windows_know_the_rows_they_begin_in(tmp_path: Path) -> None:
    store = stored(tmp_path, ["abc", "defg", "hi"], end=True)  # 4 + 5 + 3 tokens
    rows = Packed(store, "text", 4, whole=True)
    assert rows.row_numbers(np.arange(len(rows))).tolist() == [0, 1, 1]
