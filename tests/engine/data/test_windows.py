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
from modelworks.core.errors import DataError, UserError
from modelworks.engine.data.prepare import fit, prepare
from modelworks.engine.data.store import Store
from modelworks.engine.data.windows import Windows, rows_of
from modelworks.engine.network import build
from modelworks.fields.corpus import Corpus
from modelworks.models.rnn import Rnn
from modelworks.models.transformer import Transformer
from modelworks.tasks.language import Language


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
            Windows(store, "text", context, whole=True)
        return
    rows = Windows(store, "text", context, whole=True)
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
    rows = Windows(store, "text", 5, whole=False)
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
    batch = Windows(stored(tmp_path, ["abc"]), "text", 8, whole=False).gather(np.array([0]))
    assert (batch["text.next"] >= 0).sum() == 2


KINDS = {
    "learned": {"positions": "learned"},
    "sinusoidal": {"positions": "sinusoidal", "order": "post"},
    "rope": {"positions": "rope", "kv_heads": 1, "qk_norm": True, "value_residual": True},
    "alibi": {"positions": "alibi"},
    "window": {"positions": "rope", "window": 3},
    "window-alibi": {"positions": "alibi", "window": 2},
    "ngrams": {"positions": "rope", "ngrams": 3},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_gives_each_document_the_logits_it_has_alone(tmp_path: Path, kind: str) -> None:
    store = stored(tmp_path, ["abcab", "b", "ca", "abc", "cabbage", "aa", "a"], end=True)
    field = Corpus(tokens="byte", length=11).fit([pa.array(["abc"])])
    end = field.state["end"]
    task = Language(target="text", documents=True, start="normal")
    model = Transformer(width=16, depth=2, heads=2, dropout=0.0, **KINDS[kind])
    network = build(model, task, {"text": field}, seed=0).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    rows = Windows(store, "text", 11, whole=True, end=end)
    batch = rows.gather(np.arange(len(rows)))
    logits_BTV = network.head.logits(network.model(batch))
    seen, crossing = 0, 0
    for tokens_T, document_T, logits_TV in zip(
        batch["text"], batch["text.document"], logits_BTV, strict=True
    ):
        for number in document_T.unique():
            chosen_T = document_T == number
            document = tokens_T[chosen_T]
            assert number == 0 or document[0] == end
            assert (document[1:] != end).all()
            alone_TV = network.head.logits(network.model({"text": document[None]}))[0]
            torch.testing.assert_close(logits_TV[chosen_T], alone_TV, atol=1e-5, rtol=0)
            seen += 1
        crossing += int(document_T.max() > 0)
    assert seen > len(rows)
    del batch["text.document"]  # without them windows are read through
    assert (network.head.logits(network.model(batch)) - logits_BTV).abs().max() > 0.1
    assert crossing > 1


def test_documents_want_ends_and_a_model_that_knows_them(tmp_path: Path) -> None:
    field = Corpus(tokens="byte", length=4, end=False).fit([pa.array(["abc"])])
    dataset = Dataset.from_batches([pa.record_batch({"text": pa.array(["abc", "ab"])})])
    prepared = prepare(dataset, {"text": field}, tmp_path)
    task = Language(target="text", documents=True)
    with pytest.raises(UserError, match="have no ends"):
        rows_of(prepared, "train", task, {"text": field})
    ended = Corpus(tokens="byte", length=4).fit([pa.array(["abc"])])
    assert "text.document" in rows_of(prepared, "train", task, {"text": ended}).gather(np.array([0]))
    assert "text.document" not in rows_of(
        prepared, "train", task.but(documents=False), {"text": ended}
    ).gather(np.array([0]))
    with pytest.raises(UserError, match="cannot keep documents apart"):
        build(Rnn(width=8, bidirectional=False), task, {"text": ended}, seed=0)


def test_windows_know_the_rows_they_begin_in(tmp_path: Path) -> None:
    store = stored(tmp_path, ["abc", "defg", "hi"], end=True)  # 4 + 5 + 3 tokens
    rows = Windows(store, "text", 4, whole=True)
    assert rows.row_numbers(np.arange(len(rows))).tolist() == [0, 1, 1]
