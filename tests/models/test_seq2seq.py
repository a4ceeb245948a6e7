"""seq2seq: nothing from the future, padding is not read, and writing step by step gives the same features."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import nn

from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.layers.cross_attention import CrossAttention
from modelworks.models.seq2seq import START, Seq2seq

torch.set_num_threads(1)
INPUTS = {"en": Layout("tokens", size=11, length=9), "de": Layout("tokens", size=7, length=9)}


def build(**settings):
    torch.manual_seed(0)
    kind = Seq2seq(width=16, depth=2, heads=2, **settings)
    return kind.build(INPUTS).eval()


def batch_of():
    torch.manual_seed(1)
    return {
        "en": torch.randint(1, 11, (3, 6)),
        "en.length": torch.tensor([6, 3, 1]),
        "de": torch.randint(1, 7, (3, 5)),
        "de.length": torch.tensor([5, 5, 2]),
    }


CASES = [
    {"positions": positions, "order": order, "gated": gated}
    for positions, order, gated in (
        ("sinusoidal", "pre", False),
        ("sinusoidal", "post", False),
        ("rope", "pre", True),
        ("alibi", "pre", False),
        ("learned", "post", True),
    )
]


@pytest.mark.parametrize("settings", CASES)
def test_writing_gives_the_features_of_teacher_forcing(settings) -> None:
    network, batch = build(**settings), batch_of()
    features, state = network(batch), network.begin(batch, 5)
    token = torch.full((3,), START)
    for at in range(5):
        torch.testing.assert_close(state.step(token), features[:, at], atol=1e-5, rtol=1e-4)
        token = batch["de"][:, at]


def test_hypotheses_are_reordered_dropped_and_doubled() -> None:
    network, batch = build(), batch_of()
    state = network.begin(batch, 5)
    state.step(torch.full((3,), START))
    found = state.step(torch.tensor([4, 5, 2]), [2, 0, 0])
    rows = torch.tensor([2, 0, 0])
    wanted = {name: value[rows] for name, value in batch.items()}
    wanted["de"] = torch.tensor([[4, 1], [5, 1], [2, 1]])
    torch.testing.assert_close(found, network(wanted)[:, 1], atol=1e-5, rtol=1e-4)


def test_hypotheses_of_one_text_change_places() -> None:
    network, batch = build(), batch_of()
    state = network.begin(batch, 6)
    state.step(torch.full((3,), START))
    state.step(torch.tensor([4, 5, 2, 3]), [0, 0, 1, 1])
    kept = state.memories[0][0]
    found = state.step(torch.tensor([1, 6, 2, 2]), [1, 0, 3, 3])
    assert state.memories[0][0] is kept
    rows = torch.tensor([0, 0, 1, 1])
    wanted = {name: value[rows] for name, value in batch.items()}
    wanted["de"] = torch.tensor([[5, 1, 1], [4, 6, 1], [3, 2, 1], [3, 2, 1]])
    torch.testing.assert_close(found, network(wanted)[:, 2], atol=1e-5, rtol=1e-4)


def test_a_step_knows_only_what_stands_before_it() -> None:
    network, batch = build(), batch_of()
    features = network(batch)
    changed = dict(batch, de=batch["de"].clone())
    changed["de"][:, 2] = 1 + changed["de"][:, 2] % 6
    other = network(changed)
    torch.testing.assert_close(other[:, :3], features[:, :3])
    assert not torch.allclose(other[:, 3], features[:, 3])
    assert not torch.allclose(network(dict(batch, en=batch["en"].flip(1)))[0], features[0])


def test_padding_is_not_read() -> None:
    network, batch = build(), batch_of()
    junk = dict(batch, en=batch["en"].clone())
    junk["en"][1, 3:], junk["en"][2, 1:] = 7, 9
    torch.testing.assert_close(network(junk), network(batch))
    alone = {name: value[1:2] for name, value in batch.items()} | {"en": batch["en"][1:2, :3]}
    torch.testing.assert_close(network(alone)[0], network(batch)[1], atol=1e-5, rtol=1e-4)


def test_cross_attention_is_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = CrossAttention(8, 2, 8), nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat((ours.query.weight, ours.kv.weight)))
        theirs.in_proj_bias.copy_(torch.cat((ours.query.bias, ours.kv.bias)))
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    x, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask = torch.arange(5) < torch.tensor([[5], [2]])
    wanted, _ = theirs(x, memory, memory, key_padding_mask=~mask)
    torch.testing.assert_close(ours(x, ours.read(memory), mask), wanted)


def test_parameters_are_those_of_torchs_transformer() -> None:
    theirs = nn.Transformer(16, 2, 2, 2, 64, batch_first=True)
    tables = (11 + 7) * 16
    assert sum(p.numel() for p in build(order="pre").parameters()) == tables + sum(
        p.numel() for p in theirs.parameters()
    )


def test_a_shared_table_is_one() -> None:
    with pytest.raises(UserError, match="same tokens"):
        build(shared=True)
    same = {"a": INPUTS["de"], "b": INPUTS["de"]}
    network = Seq2seq(width=16, depth=1, heads=2, shared=True).build(same)
    assert network.source is network.target is network.embedding
    assert "source.weight" not in network.state_dict()
    safetensors.torch.save(network.state_dict())  # refuses tensors that share memory
    ids = torch.tensor([[1, 2]])
    before = network.eval().read({"a": ids})[0]
    with torch.no_grad():
        network.target.weight[2] += 1
    assert not torch.equal(network.read({"a": ids})[0][:, 1], before[:, 1])
    with pytest.raises(UserError, match="reads one input"):
        Seq2seq().build({"a": INPUTS["de"]})
