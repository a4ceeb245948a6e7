"""The mask task: what is hidden, how often, and that loss and metrics are what can be computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modelworks.core.errors import UserError
from modelworks.engine.network import Network, build
from modelworks.fields.corpus import Corpus
from modelworks.models.transformer import Transformer
from modelworks.tasks._hide import by_chance, by_number, hide, spans, words
from modelworks.tasks._words import Joins
from modelworks.tasks.mask import Mask

torch.set_num_threads(1)
TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps. "


@pytest.fixture(scope="module")
def fields():
    field = Corpus(tokens="char", specials=["[MASK]"], length=64)
    return {"text": field.fit([pa.array([TEXT * 20])])}


class Body(nn.Module):
    """Features that are the tokens' vectors."""

    width = 8

    def __init__(self, size: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(size, 8)

    def forward(self, batch):
        self.seen = batch
        return self.embedding(batch["text"])


def batch_of(field, rows: int = 64, steps: int = 64, pad: int = 0):
    ids = torch.tensor(field.ids(TEXT * 200))[: rows * steps].view(rows, steps).clone()
    ids[0, 3] = field.state["end"]
    follow = torch.roll(ids, -1, 1)
    if pad:
        ids[-1, -pad:], follow[-1, -pad - 1 :] = 0, -1
    return {"text": ids, "text.next": follow, "row": torch.arange(rows)}


def network_of(task, fields):
    body = Body(fields["text"].layout.size)
    head = task.head(8, 0, fields)
    task.connect(body, head)
    return Network(body, head)


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_fifteen_percent_of_which_80_10_10(fields, unit) -> None:
    task = Mask(target="text", unit=unit)
    task.head(8, 0, fields)
    torch.manual_seed(0)
    batch = batch_of(fields["text"], 200, 64)
    hidden = task.hide(batch, by_chance(batch["text"]))
    chosen = hidden.target_BK >= 0
    share = int(chosen.sum()) / batch["text"].numel()
    if unit == "word":  # words that do not fit are left out
        assert 0.11 < share <= 10 / 64
    else:
        assert share == pytest.approx(10 / 64, abs=0.001)
    shown, stood = hidden.tokens_BT.gather(1, hidden.at_BK)[chosen], hidden.target_BK[chosen]
    size = int(chosen.sum())
    tolerance = 4 * math.sqrt(0.2 * size * (4 if unit == "span" else 1)) / size  # four deviations
    masked = (shown == fields["text"].special_ids["[MASK]"]).float().mean()
    assert float(masked) == pytest.approx(0.8, abs=tolerance)
    # A random token may by chance be the one that stood there.
    assert float((shown == stood).float().mean()) == pytest.approx(0.1 + 0.1 / 30, abs=tolerance)


def test_only_what_is_hidden_changes_and_specials_never_are(fields) -> None:
    task = Mask(target="text", share=0.9)
    task.head(8, 0, fields)
    batch = batch_of(fields["text"], pad=40)
    for draw in (by_chance(batch["text"]), by_number(batch["row"], batch["text"])):
        hidden = task.hide(batch, draw)
        target = torch.full_like(batch["text"], -1).scatter(1, hidden.at_BK, hidden.target_BK)
        assert torch.equal(hidden.tokens_BT[target < 0], batch["text"][target < 0])
        assert torch.equal(target[target >= 0], batch["text"][target >= 0])
        assert target[0, 3] == -1  # the end of a document
        assert (target[-1, -40:] == -1).all()
        assert (target[-1, :-40] >= 0).sum() == round(0.9 * 24)  # 90 % of what is there, not of the padding


def test_words_are_hidden_whole(fields) -> None:
    task = Mask(target="text", unit="word", keep=0.0, random=0.0)
    task.head(8, 0, fields)
    batch = batch_of(fields["text"])
    hidden = task.hide(batch, by_chance(batch["text"]))
    chosen = torch.zeros_like(batch["text"], dtype=torch.bool).scatter(1, hidden.at_BK, hidden.target_BK >= 0)
    seen = 0
    for row, picked in zip(batch["text"].tolist(), chosen.tolist(), strict=True):
        text = [fields["text"].decode([[token]])[0] or "#" for token in row]
        for before, after, one, two in zip(text, text[1:], picked, picked[1:], strict=False):
            if before.isalpha() and after.isalpha():
                assert one == two
                seen += one
    assert seen > 50


def test_spans_are_geometric() -> None:
    torch.manual_seed(0)
    word_BT = torch.arange(500).expand(200, 500)
    span_BT = spans(word_BT, by_chance(word_BT), 0.2, 10)
    lengths = torch.cat([torch.bincount(row)[:-1] for row in span_BT]).float()
    assert lengths.min() == 1
    assert lengths.max() == 10
    assert float(lengths.mean()) == pytest.approx(
        (1 - 0.8**10) / 0.2, rel=0.02
    )  # 4.46; SpanBERT's 3.8 is less
    assert float((lengths == 1).float().mean()) == pytest.approx(0.2, abs=0.01)


def test_pieces_of_a_word_join() -> None:
    field = Corpus(tokens="wordpiece", vocabulary=60, specials=["[MASK]"]).fit([pa.array([TEXT * 9])])
    ids = torch.tensor([field.ids("jumps lazy, dog")])
    names = [field._subwords._plain.id_to_token(code) for code in ids[0].tolist()]
    assert any(name.startswith("##") for name in names)
    assert Joins.of(field)(ids)[0].tolist() == [name.startswith("##") for name in names]
    bytes_ = Corpus(tokens="bpe", vocabulary=300, specials=["[MASK]"]).fit([pa.array([TEXT * 9])])
    ids = torch.tensor([bytes_.ids("a fox, 狐狸")])
    found = words(Joins.of(bytes_)(ids))[0]
    groups = [bytes_.decode([ids[0][found == number]])[0] for number in range(int(found.max()) + 1)]
    assert "".join(groups) == "a fox, 狐狸" or "\ufffd" in "".join(groups)
    assert [group.strip() for group in groups if group.strip()][:3] == ["a", "fox", ","]


def test_loss_by_hand(fields) -> None:
    task = Mask(target="text", transform=False, bias=False)
    network = network_of(task, fields).train()
    batch = batch_of(fields["text"], 8)
    torch.manual_seed(5)
    total, count = task.players(network)[0].loss(batch)
    torch.manual_seed(5)
    hidden = task.hide(batch, by_chance(batch["text"]))
    logits = network.model.embedding(hidden.tokens_BT) @ network.model.embedding.weight.T
    target = torch.full_like(batch["text"], -1).scatter(1, hidden.at_BK, hidden.target_BK)
    wanted = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1, reduction="sum")
    assert count == 7 * 10 + round(0.15 * 63)  # the end of a document in row 0 is none to hide
    torch.testing.assert_close(total, wanted)


def test_evaluation_is_a_function_of_the_window(fields) -> None:
    task = Mask(target="text")
    network = network_of(task, fields).eval()
    batch = batch_of(fields["text"], 12, pad=30)
    torch.manual_seed(1)
    whole = task.forward(network, batch)
    torch.manual_seed(2)
    some = torch.tensor([7, 11, 2])
    part = task.forward(network, {name: value[some] for name, value in batch.items()})
    assert torch.equal(whole.target_BK[some], part.target_BK)
    assert network.model.seen["text.length"].tolist() == [64, 34, 64]
    torch.testing.assert_close(whole.scores.features[some], part.scores.features)
    assert not torch.equal(whole.target_BK[0], whole.target_BK[1])


def test_training_draws_from_the_seeded_generator(fields) -> None:
    task = Mask(target="text", unit="span")
    network = network_of(task, fields).train()
    batch = batch_of(fields["text"], 8)
    loss = task.players(network)[0].loss
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(float(loss(batch)[0].detach()))
    assert found[0] == found[1] != found[2]


def test_metrics_and_baseline_by_hand(fields) -> None:
    task = Mask(target="text")
    network = network_of(task, fields).eval()
    batch = batch_of(fields["text"], 32)
    with torch.no_grad():
        output = task.forward(network, batch)
    measured = {name: value.numpy() for name, value in task.measure(output, batch).items()}
    truth = {name: value.numpy() for name, value in batch.items()}
    meter = task.meter(fields, bootstrap=8)
    meter.update(measured, truth)
    found = meter.result()
    total, count = task.loss(output, batch)
    assert found["perplexity"]["value"] == pytest.approx(math.exp(float(total) / int(count)), rel=1e-4)
    logits = network.head.logits(output.scores.features[..., :0].new_zeros(1, 8))
    assert logits.shape == (1, fields["text"].layout.size)
    right = (output.scores.features @ output.scores.weight_VD.T).argmax(-1) == output.target_BK
    assert found["accuracy"]["value"] == pytest.approx(int(right.sum()) / int(count))

    trivial = task.meter(fields, bootstrap=0)
    baseline = task.baseline(fields, batch["text"].numpy())
    trivial.update(task.trivial(baseline, truth), truth)
    shares = np.bincount([ord(c) for c in TEXT]) / len(TEXT)
    entropy = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
    assert math.log(trivial.result()["perplexity"]["value"]) == pytest.approx(entropy, rel=0.1)
    assert trivial.result()["accuracy"]["value"] == pytest.approx(shares.max(), abs=0.06)


def test_a_field_without_a_mask_token_is_refused() -> None:
    field = Corpus(tokens="char").fit([pa.array([TEXT])])
    with pytest.raises(UserError, match="no special token"):
        Mask(target="text").head(8, 0, {"text": field})


def test_a_window_of_specials_alone_hides_nothing(fields) -> None:
    tokens = torch.zeros(2, 8, dtype=torch.int64)
    none = torch.zeros(2, 8, dtype=torch.bool)
    group = torch.arange(8).expand(2, 8)
    for groups, whole in ((None, False), (group, True), (group, False)):
        hidden = hide(
            tokens,
            none,
            groups,
            by_chance(tokens),
            share=0.5,
            keep=0.0,
            random=0.0,
            whole=whole,
            mask=9,
            ordinary_V=torch.tensor([3]),
        )
        assert torch.equal(hidden.tokens_BT, tokens)
        assert (hidden.target_BK == -1).all()


def test_plain_text_needs_no_settings() -> None:
    proposed = Mask.propose(["text", "id"])
    field = Corpus(**{name: value for name, value in proposed["fields"]["text"].items() if name != "kind"})
    assert Mask(target=proposed["target"]).mask_token in field.specials
    assert Mask.propose(["body"]) == {}


def test_the_loss_is_had_before_training_begins(fields) -> None:
    """As engine/train/threads.py measures it: in evaluation mode, without row numbers."""
    task, network = Mask(target="text"), None
    network = network_of(task, fields)
    batch = batch_of(fields["text"], 8)
    del batch["row"]
    total, count = task.players(network.eval())[0].loss(batch)
    assert total.isfinite()
    assert int(count) > 0


def test_the_heads_norm_has_the_models_eps(fields) -> None:
    """BERT's 1e-12: with torch's 1e-5 logits of BERT base are 2e-4 off, for the norm's inputs are small."""
    for preset, eps in (("bert", 1e-12), (None, 1e-5)):
        model = Transformer(preset=preset, width=16, depth=1, heads=2)
        task = Mask(target="text")
        assert build(model, task, fields, 0).head.norm.eps == eps
