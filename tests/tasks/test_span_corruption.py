"""Span corruption: the paper's example and counts, the text is had again from what is read and written, and it learns."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import UserError
from modelworks.engine.network import build
from modelworks.fields.corpus import Corpus
from modelworks.models.seq2seq import Seq2seq
from modelworks.models.transformer import Transformer
from modelworks.tasks._spans import corrupt, counts
from modelworks.tasks.span_corruption import SpanCorruption

torch.set_num_threads(1)
TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps. "


def test_the_papers_figure() -> None:
    """Figure 2 of Raffel et al. 2020."""
    words = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]
    names = [*words, "<X>", "<Y>", "<Z>"]
    stay, go = torch.full((1, 11), 0.5), torch.full((1, 11), 0.5)
    stay[0, [2, 6]] = 0.1  # "Thank you", "me to your party", "week ." stay
    go[0, 1] = 0.1  # "for inviting" and "last" go
    read, written = corrupt(torch.arange(11)[None], torch.tensor([11, 12, 13]), stay, go, share=0.3, mean=1.5)
    assert " ".join(names[code] for code in read[0]) == "Thank you <X> me to your party <Y> week ."
    assert " ".join(names[code] for code in written[0]) == "<X> for inviting <Y> last <Z>"


def test_counts_are_those_of_t5() -> None:
    """The published code makes 512 tokens to read and 114 to write of 568, where ends of sequences are counted and
    there is no last sentinel."""
    hidden, spans = counts(568, 0.15, 3.0)
    assert (568 - hidden + spans + 1, hidden + spans + 1) == (512, 114)


def rebuilt(read: list[int], written: list[int], sentinels: list[int]) -> list[int]:
    """The text, by reading the paper's description backwards."""
    spans: dict[int, list[int]] = {}
    for token in written:
        if token in sentinels:
            spans[token] = last = []
        else:
            last.append(token)
    return [piece for token in read for piece in spans.get(token, [token])]


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 60), st.floats(0.05, 0.8), st.floats(1, 6), st.integers(0, 99))
def test_the_text_can_be_had_again(tokens: int, share: float, mean: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    text = torch.randint(100, 200, (4, tokens), generator=generator)
    sentinels = list(range(64))
    draws = [torch.rand(4, tokens, generator=generator) for _ in range(2)]
    hidden, spans = counts(tokens, share, mean)
    read, written = corrupt(text, torch.tensor(sentinels), *draws, share=share, mean=mean)
    assert (read.shape[1], written.shape[1]) == (tokens - hidden + spans, hidden + spans + 1)
    for row in range(4):
        got, said = read[row].tolist(), written[row].tolist()
        assert rebuilt(got, said, sentinels) == text[row].tolist()
        assert [token for token in got if token < 64] == sentinels[:spans]  # each one its own, in order
        assert [token for token in said if token < 64] == sentinels[: spans + 1]
        assert said[0] == 0
        assert said[-1] == spans  # a last one ends it
        assert all(a >= 64 or b >= 64 for a, b in zip(got, got[1:], strict=False))  # never side by side
        assert all(a >= 64 or b >= 64 for a, b in zip(said, said[1:], strict=False))  # none is empty


def test_every_place_goes_as_often_and_spans_are_as_long_as_asked() -> None:
    torch.manual_seed(0)
    rows, tokens = 4000, 40
    text = torch.arange(100, 100 + tokens).expand(rows, -1)
    read, written = corrupt(
        text, torch.arange(9), torch.rand(rows, tokens), torch.rand(rows, tokens), share=0.15, mean=3
    )
    gone_N = torch.bincount(written[written >= 100] - 100, minlength=tokens) / rows
    assert gone_N.mean() == pytest.approx(0.15)
    assert gone_N[2:-2].std() < 0.02
    assert gone_N[0] > 0.02  # the first and the last may go too
    assert gone_N[-1] > 0.02
    assert (read < 100).sum() == rows * 2  # 6 tokens in 2 spans of 3


@pytest.fixture(scope="module")
def fields():
    names = [f"<extra_id_{number}>" for number in range(8)]
    return {"text": Corpus(tokens="char", specials=names, length=32).fit([pa.array([TEXT * 20])])}


def batch_of(field, rows: int = 6, steps: int = 32, short: int = 0):
    ids = torch.tensor(field.ids(TEXT * 40))[: rows * steps].view(rows, steps).clone()
    follow = torch.roll(ids, -1, 1)
    if short:
        ids[-1, short:], follow[-1, short - 1 :] = 0, -1
    return {"text": ids, "text.next": follow, "row": torch.arange(rows)}


def made(fields, **changes):
    task = SpanCorruption(target="text", **changes)
    model = Seq2seq(width=32, depth=1, heads=2, dropout=0.0, shared=True)
    return task, build(model, task, fields, seed=0)


def test_evaluation_depends_on_the_window_alone(fields) -> None:
    task, network = made(fields)
    network.eval()
    batch = batch_of(fields["text"], short=9)
    with torch.no_grad():
        whole = task.measure(task.forward(network, batch), batch)
        for rows in ([1, 3], [5]):
            part = {name: value[rows] for name, value in batch.items()}
            alone = task.measure(task.forward(network, part), part)
            wide = alone["target"].shape[1]
            assert torch.equal(alone["target"], whole["target"][rows, :wide])
            torch.testing.assert_close(alone["nll"], whole["nll"][rows, :wide], atol=1e-5, rtol=1e-4)
            assert (whole["target"][rows, wide:] == -1).all()
    assert (whole["target"][-1] >= 0).sum() == 1 + 1 + 1  # of 9 tokens one goes
    assert (whole["target"][0] >= 0).sum() == 5 + 2 + 1


def test_it_learns_and_beats_the_trivial_answer(fields) -> None:
    task, network = made(fields)
    batch = batch_of(fields["text"], rows=16)
    arrays = {name: value.numpy() for name, value in batch.items()}
    trivial = task.meter(fields, bootstrap=0)
    trivial.update(task.trivial(task.baseline(fields, arrays["text"]), arrays), arrays)
    torch.manual_seed(0)
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    loss = task.players(network)[0].loss
    for _ in range(60):
        optimizer.zero_grad()
        total, count = loss(batch)
        (total / count).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        measured = task.measure(task.forward(network, batch), batch)
    meter = task.meter(fields, bootstrap=0)
    meter.update({name: value.numpy() for name, value in measured.items()}, arrays)
    ours, theirs = meter.result(), trivial.result()
    assert ours["perplexity"]["value"] < 0.7 * theirs["perplexity"]["value"]
    assert theirs["perplexity"]["value"] < fields["text"].layout.size
    assert math.isfinite(theirs["perplexity"]["value"])


def test_what_does_not_fit_is_refused(fields) -> None:
    plain = {"text": Corpus(tokens="char", length=32).fit([pa.array([TEXT])])}
    with pytest.raises(UserError, match="want 3 sentinels.*<extra_id_0>"):
        made(plain)
    with pytest.raises(UserError, match="takes one input|reads and writes"):
        build(Transformer(width=8, depth=1, heads=2), SpanCorruption(target="text"), fields, seed=0)
    assert SpanCorruption.propose(["text"])["fields"]["text"]["specials"][99] == "<extra_id_99>"
    one = {"text": torch.tensor([[5]]), "row": torch.tensor([0])}
    read, length, written = made(fields)[0].corrupted(one, lambda: torch.rand(1, 1))
    assert (read.tolist(), length.tolist(), written.shape) == ([[5]], [1], (1, 0))
    assert np.isfinite(float(made(fields)[0].share))
