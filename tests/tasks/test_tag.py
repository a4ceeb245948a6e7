"""The tag task: words in pieces find their tags, the loss is what it says, and a model learns it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modelworks.core.errors import DataError, UserError
from modelworks.engine.network import Network
from modelworks.fields.spans import Spans
from modelworks.fields.words import Words
from modelworks.tasks.tag import Tag

torch.set_num_threads(1)
WORDS = [["anna", "sees", "bob", "smith"], ["bob"], ["sees", "annabob"]]
TAGS = [["B-P", "O", "B-P", "I-P"], ["B-P"], ["O", "B-Q"]]


class Body(nn.Module):
    """Features that are the token's id and its place."""

    width = 2

    def forward(self, batch):
        place = torch.arange(batch["words"].shape[1]).expand_as(batch["words"])
        return torch.stack([batch["words"].float(), place.float()], -1)


def batch_of(fields, words=WORDS, tags=TAGS):
    batch = {"row": torch.arange(10, 10 + len(words))}
    for name, values in (("words", words), ("tags", tags)):
        encoded = fields[name].encode(pa.array(values))
        rows = np.split(encoded.values.astype(np.int64), np.cumsum(encoded.lengths)[:-1])
        padded = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        for row, ids in zip(padded, rows, strict=True):
            row[: len(ids)] = torch.from_numpy(ids)
        batch |= {name: padded, f"{name}.length": torch.from_numpy(encoded.lengths)}
    return batch


@pytest.fixture(params=["word", "wordpiece"])
def fields(request):
    words = Words(tokens=request.param, vocabulary=26).fit([pa.array(WORDS)])
    return {"words": words, "tags": Spans().fit([pa.array(TAGS)])}


def made(fields, **settings):
    task = Tag(target="tags", dropout=0.0, **settings)
    torch.manual_seed(0)
    return task, Network(Body(), task.head(2, 0, fields)).eval()


def test_the_first_piece_stands_for_its_word(fields) -> None:
    task, network = made(fields)
    batch = batch_of(fields)
    output = task.forward(network, batch)
    assert output.count_B.tolist() == [4, 1, 2]
    pieces = fields["words"].state.get("joins")
    everything = network(batch)
    if pieces is None:
        assert torch.equal(output.logits_BWC, everything)
        return
    assert batch["words"].shape[1] > 4
    for row in range(3):
        length = int(batch["words.length"][row])
        first = [at for at in range(length) if not pieces[batch["words"][row, at]]]
        assert torch.equal(output.logits_BWC[row, : len(first)], everything[row, first])


def test_loss_by_hand(fields) -> None:
    task, network = made(fields, label_smoothing=0.1)
    batch = batch_of(fields)
    output = task.forward(network, batch)
    total, count = task.loss(output, batch)
    wanted = sum(
        F.cross_entropy(output.logits_BWC[row, word], batch["tags"][row, word] - 1, label_smoothing=0.1)
        for row in range(3)
        for word in range(len(TAGS[row]))
    )
    assert int(count) == 7
    torch.testing.assert_close(total, wanted)


def test_padding_changes_nothing(fields) -> None:
    task, network = made(fields)
    batch = batch_of(fields)
    alone = sum(
        float(task.loss(task.forward(network, one), one)[0].detach())
        for one in (batch_of(fields, WORDS[row : row + 1], TAGS[row : row + 1]) for row in range(3))
    )
    assert float(task.loss(task.forward(network, batch), batch)[0].detach()) == pytest.approx(alone, rel=1e-5)


def test_tags_that_are_too_few_are_refused(fields) -> None:
    task, network = made(fields)
    with pytest.raises(DataError, match="row 11: 1 words in 'words' and 2 tags"):
        task.forward(network, batch_of(fields, tags=[TAGS[0], ["O", "O"], TAGS[2]]))


def test_answers_are_entities_with_their_places(fields) -> None:
    task, network = made(fields)
    output = task.forward(network, batch_of(fields))
    perfect = F.one_hot((batch_of(fields)["tags"] - 1).clamp(min=0), 9).float()
    output = type(output)(perfect, output.count_B)
    predicted = {name: value.numpy() for name, value in task.predict(output).items()}
    assert predicted["prediction"].tolist()[1] == [2, 0, 0, 0]
    assert task.answer(predicted, fields)["prediction"] == [
        [{"start": 0, "end": 1, "type": "P"}, {"start": 2, "end": 4, "type": "P"}],
        [{"start": 0, "end": 1, "type": "P"}],
        [{"start": 1, "end": 2, "type": "Q"}],
    ]
    batch = {name: value.numpy() for name, value in batch_of(fields).items()}
    meter = task.meter(fields, bootstrap=4)
    meter.update({name: value.numpy() for name, value in task.measure(output, batch).items()}, batch)
    assert meter.result()["f1"]["value"] == 1
    trivial = task.meter(fields, bootstrap=0)
    trivial.update(task.trivial(task.baseline(fields, batch["tags"]), batch), batch)
    assert trivial.result()["f1"]["value"] == 0
    assert trivial.result()["token_accuracy"]["value"] == pytest.approx(2 / 7)


def test_spans_end_before_the_words_do() -> None:
    words = Words(cut="char").fit([pa.array(["ab", "abc"])])
    spans = Spans().fit([pa.array(['[[0, 1, "A"]]'])])
    fields = {"words": words, "tags": spans}
    task, network = made(fields)
    batch = batch_of(fields, ["abcab"[:3], "ab"], ['[[0, 1, "A"]]', "[]"])
    output = task.forward(network, batch)
    total, count = task.loss(output, batch)
    assert int(count) == 5  # the characters after the last span count, as O
    wanted = -output.logits_BWC.log_softmax(-1)
    by_hand = wanted[0, 0, 1] + wanted[0, 1, 0] + wanted[0, 2, 0] + wanted[1, 0, 0] + wanted[1, 1, 0]
    torch.testing.assert_close(total, by_hand)


def test_wrong_fields_are_refused(fields) -> None:
    with pytest.raises(UserError, match="kind spans"):
        Tag(target="words").head(2, 0, fields)
    with pytest.raises(UserError, match="one field of tokens"):
        Tag(target="tags").head(2, 0, fields | {"more": fields["words"]})


def test_usual_columns_need_no_settings() -> None:
    proposed = Tag.propose(["id", "tokens", "tags"])
    assert proposed == {"target": "tags", "fields": {"tokens": {"kind": "words"}, "tags": {"kind": "spans"}}}
    assert Tag.propose(["tokens", "x"]) == {}
