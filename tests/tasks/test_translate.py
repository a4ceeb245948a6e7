"""The translate task: its loss is torch's with label smoothing, its answers are the likeliest ones, and it learns."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

from modelworks.core.dataset import Dataset
from modelworks.core.errors import UserError
from modelworks.engine.data.open import source_for
from modelworks.engine.data.prepare import fit
from modelworks.engine.network import build, prepare_batch
from modelworks.fields.corpus import Corpus
from modelworks.models.seq2seq import Seq2seq
from modelworks.models.transformer import Transformer
from modelworks.tasks.translate import Translate

torch.set_num_threads(1)
EN = ["ab", "ba", "abba", "b"]
DE = ["xy", "yx", "xyyx", "y"]


@pytest.fixture(scope="module")
def fields():
    return {
        "de": Corpus(tokens="char", length=12).fit([pa.array(DE)]),
        "en": Corpus(tokens="char", length=12).fit([pa.array(EN)]),
    }


def made(fields, **settings):
    task = Translate(target="de", **{"bleu": False, **settings})
    model = Seq2seq(width=16, depth=1, heads=2, dropout=0.0)
    return task, build(model, task, fields, seed=0)


def batch_of(fields, **columns):
    stored = {"row": torch.arange(len(next(iter(columns.values()))))}
    for name, values in columns.items():
        encoded = fields[name].encode(pa.array(values))
        rows = np.split(encoded.values.astype(np.int64), np.cumsum(encoded.lengths)[:-1])
        padded = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        for row, ids in zip(padded, rows, strict=True):
            row[: len(ids)] = torch.from_numpy(ids)
        stored |= {name: padded, f"{name}.length": torch.from_numpy(encoded.lengths)}
    return prepare_batch(stored, fields, torch.device("cpu"))


@pytest.mark.parametrize("tied", [True, False])
def test_loss_is_torchs_with_label_smoothing(fields, tied) -> None:
    task, network = made(fields, label_smoothing=0.2, tied=tied)
    batch = batch_of(fields, en=EN, de=DE)
    total, count = task.players(network.train())[0].loss(batch)
    logits = network.head.logits(network.model(batch))
    target = batch["de"].clone()
    for row, length in enumerate(batch["de.length"].tolist()):
        target[row, length:] = -1
    wanted = F.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=-1, label_smoothing=0.2, reduction="sum"
    )
    assert int(count) == sum(len(text) + 1 for text in DE)
    torch.testing.assert_close(total, wanted)
    ours = torch.autograd.grad(total, network.model.target.weight, retain_graph=True)[0]
    torch.testing.assert_close(ours, torch.autograd.grad(wanted, network.model.target.weight)[0])


def test_perplexity_is_not_smoothed(fields) -> None:
    task, network = made(fields, label_smoothing=0.2)
    batch = batch_of(fields, en=EN, de=DE)
    with torch.no_grad():
        output = task.forward(network.eval(), batch)
        total, count = task.loss(output, batch)
    meter = task.meter(fields, bootstrap=4)
    arrays = {name: value.numpy() for name, value in task.measure(output, batch).items()}
    meter.update(arrays, {name: value.numpy() for name, value in batch.items()})
    assert meter.result()["perplexity"]["value"] == pytest.approx(
        math.exp(float(total) / int(count)), rel=1e-5
    )


def score(network, batch, ids) -> float:
    """log p of an answer, by teacher forcing."""
    row = torch.tensor([ids])
    one = {"en": batch["en"][:1], "en.length": batch["en.length"][:1], "de": row}
    log = network.head.logits(network.model(one)).log_softmax(-1)
    return float(log[0, torch.arange(len(ids)), row[0]].sum())


def test_beam_finds_the_likeliest_answer(fields) -> None:
    task, network = made(fields, longest=3, length_penalty=0.0)
    network.eval()
    batch = batch_of(fields, en=["abba"])
    end, size = fields["de"].state["end"], fields["de"].layout.size
    with torch.no_grad():
        every = [
            (*ids, end) if len(ids) < 3 else ids
            for length in range(4)
            for ids in itertools.product([code for code in range(size) if code != end], repeat=length)
        ]
        best = max(every, key=lambda ids: score(network, batch, ids))
        written = task.write(network, batch, beams=size**3)[0].tolist()
        greedy = task.write(network, batch, beams=1)[0].tolist()
        assert [token for token in best if token != end] == written[: len(best)][: len(written)]
        ids: list[int] = []
        while len(ids) < 3:
            one = {"en": batch["en"], "en.length": batch["en.length"], "de": torch.tensor([[*ids, 0]])}
            token = int(network.head.logits(network.model(one))[0, -1].argmax())
            if token == end:
                break
            ids.append(token)
        assert [token for token in greedy if token][: len(ids)] == [token for token in ids if token]


def test_it_learns_and_answers_without_the_target(fields) -> None:
    pytest.importorskip("sacrebleu")
    task, network = made(fields, bleu=True, words="char", label_smoothing=0.05)
    torch.manual_seed(0)
    english = ["".join(letters) for n in (1, 2, 3, 4) for letters in itertools.product("ab", repeat=n)]
    german = [text.replace("a", "x").replace("b", "y")[::-1] for text in english]
    batch = batch_of(fields, en=english, de=german)
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    loss = task.players(network)[0].loss
    for _ in range(200):
        optimizer.zero_grad()
        total, count = loss(batch)
        (total / count).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        known = task.forward(network, batch)
        asked = {name: value for name, value in batch.items() if not name.startswith("de")}
        for beams in (1, 3):
            output = task.but(beams=beams)
            output._end, output._most = task._end, task._most
            answers = output.answer(
                {k: v.numpy() for k, v in output.predict(output.forward(network, asked)).items()}, fields
            )
            assert answers["prediction"] == german
    meter = task.meter(fields, bootstrap=4)
    meter.update(
        {name: value.numpy() for name, value in task.measure(known, batch).items()},
        {name: value.numpy() for name, value in batch.items()},
    )
    found = meter.result()
    assert found["token_accuracy"]["value"] == 1
    assert found["bleu"]["value"] == pytest.approx(100)


def test_the_baseline_is_the_entropy_of_the_tokens(fields) -> None:
    task, _ = made(fields)
    truth = {name: value.numpy() for name, value in batch_of(fields, en=EN, de=DE).items()}
    meter = task.meter(fields, bootstrap=0)
    meter.update(task.trivial(task.baseline(fields, truth["de"]), truth), truth)
    shares = np.array([4, 5, 4, 0.5, 0.5])  # x, y, the end; padding and unknown count half
    shares = shares / shares.sum()
    wanted = -(np.array([4, 5, 4]) * np.log(shares[:3])).sum() / 13
    assert math.log(meter.result()["perplexity"]["value"]) == pytest.approx(wanted)


def test_what_does_not_fit_is_refused(fields) -> None:
    endless = {"de": Corpus(tokens="char", end=False).fit([pa.array(DE)])}
    with pytest.raises(UserError, match="have an end"):
        Translate(target="de", bleu=False).head(4, 0, endless)
    with pytest.raises(UserError, match="takes one input|reads and writes"):
        build(Transformer(width=8, depth=1, heads=2), Translate(target="de", bleu=False), fields, seed=0)
    assert Translate.propose(["en", "de", "split"])["target"] == "de"
    assert Translate.propose(["a", "b", "c"]) == {}


def test_one_vocabulary_and_one_table_for_both(tmp_path) -> None:
    """Joint fields learn from both columns; the table of what is read, written and answered is one (Vaswani et al.
    2017, section 3.4), so that gradients of all three meet in it."""
    path = tmp_path / "pairs.csv"
    path.write_text("en,de\n" + "".join(f"{en},{de}\n" for en, de in zip(EN, DE, strict=True)))
    dataset = Dataset.ingest(source_for(str(path)))
    dataset = dataset.with_splits(np.zeros(dataset.rows, np.uint8))
    alike = {"en": Corpus(tokens="char", joint=["de"]), "de": Corpus(tokens="char", joint=["en"])}
    fields = fit(alike, dataset)
    assert fields["en"].state["vocabulary"] == fields["de"].state["vocabulary"]
    assert set(fields["en"].state["vocabulary"][3:]) == set("abxy")
    task = Translate(target="de", bleu=False)
    model = Seq2seq(width=16, depth=1, heads=2, shared=True)
    network = build(model, task, fields, seed=0)
    tables = [name for name, p in network.named_parameters() if p.shape == (7, 16)]
    assert len(tables) == 1
    swapped = Corpus(tokens="char").fit([pa.array(["yxba"])])
    assert swapped.layout.size == fields["de"].layout.size
    with pytest.raises(UserError, match="different tokens"):
        build(model, task, {"en": swapped, "de": fields["de"]}, seed=0)


def test_the_loss_is_had_before_training_begins(fields) -> None:
    """As engine/train/threads.py measures it: in evaluation mode, without row numbers."""
    task, network = made(fields)
    batch = batch_of(fields, en=EN, de=DE)
    del batch["row"]
    total, count = task.players(network.eval())[0].loss(batch)
    assert total.isfinite()
    assert int(count) > 0
