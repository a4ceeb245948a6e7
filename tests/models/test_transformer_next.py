"""transformer built for "next": blind to the future, and the same with a cache as without."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.core.kinds import every
from modelworks.core.model import Model
from modelworks.engine.train.capture import Captured
from modelworks.models.rnn import Rnn
from modelworks.models.transformer import Transformer

torch.set_num_threads(1)
TOKENS = {"x": Layout("tokens", (), size=50, length=24)}
SETTINGS = {
    "learned": {"positions": "learned"},
    "sinusoidal": {"positions": "sinusoidal", "order": "post"},
    "rope": {"positions": "rope", "normalisation": "rms", "bias": False, "gated": True, "activation": "silu"},
    "alibi": {"positions": "alibi"},
    "none": {"positions": "none"},
    "gqa": {"positions": "rope", "kv_heads": 2, "head_width": 12},
    "mqa-alibi": {"positions": "alibi", "kv_heads": 1},
    "window": {"positions": "rope", "window": 5, "kv_heads": 2},
    "window-alibi": {"positions": "alibi", "window": 3},
    "qk-norm": {"positions": "rope", "kv_heads": 2, "qk_norm": True, "bias": "qkv"},
    "plain-norms": {"positions": "rope", "qk_norm": True, "norm_weight": False, "normalisation": "rms"},
    "values": {"positions": "rope", "value_residual": True, "kv_heads": 2, "depth": 3},
    "ngrams": {"positions": "rope", "ngrams": 3},
    "start": {"positions": "learned", "embedding_norm": True, "segments": 2},
    "experts": {"positions": "rope", "experts": 4, "active": 2, "gated": True},
    "llama3": {"positions": "rope", "rope_base": 500.0, "rope_scaling": {"factor": 4, "length": 16}},
}


def body(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    chosen = {"width": 32, "depth": 2, "heads": 4, "ratio": 2, **SETTINGS[name]}
    network = Transformer(**chosen).build(TOKENS, "next").eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    return network


def tokens(rows: int, steps: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 50, (rows, steps), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_knows_only_the_past(name: str) -> None:
    network, token_BT = body(name), tokens(2, 14)
    features_BTD = network({"x": token_BT})
    assert features_BTD.shape == (2, 14, 32)
    for t in (1, 6, 13):
        changed = token_BT.clone()
        changed[:, t:] = (changed[:, t:] + 7) % 50
        found = network({"x": changed})
        torch.testing.assert_close(found[:, :t], features_BTD[:, :t], atol=1e-6, rtol=1e-5)
        assert not torch.allclose(found[:, t], features_BTD[:, t], atol=1e-3)
    short = network({"x": token_BT[:, :5], "x.length": torch.tensor([5, 3])})
    torch.testing.assert_close(short[0], features_BTD[0, :5], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(short[1, :3], features_BTD[1, :3], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", SETTINGS)
def test_with_a_cache_as_without(name: str) -> None:
    """Even rows, a prompt first, then several steps at once, then one by one."""
    network, token_BT = body(name), tokens(3, 20)
    wanted = network({"x": token_BT})
    cache = network.new_cache(3, 20)
    start = 0
    for steps in (9, 4, 1, 1, 5):
        found = network({"x": token_BT[:, start : start + steps]}, cache)
        start += steps
        torch.testing.assert_close(found, wanted[:, start - steps : start], atol=1e-5, rtol=1e-4)
        assert cache.length_B.tolist() == [start] * 3
    assert not found.requires_grad


@pytest.mark.parametrize("name", SETTINGS)
def test_ragged_rows_with_a_cache(name: str) -> None:
    """Prompts of unequal length, padded on the right, then steps of unequal counts up to the last slot."""
    network, token_BT = body(name), tokens(4, 16)
    wanted = network({"x": token_BT})
    cache = network.new_cache(4, 16)
    at = [0, 0, 0, 0]
    for counts in ([9, 4, 1, 6], [1, 1, 1, 1], [2, 0, 5, 3], [1, 1, 1, 1], [3, 10, 2, 5]):
        given = torch.full((4, max(counts)), 49)
        for row, count in enumerate(counts):
            given[row, :count] = token_BT[row, at[row] : at[row] + count]
        found = network({"x": given, "x.length": torch.tensor(counts)}, cache)
        for row, count in enumerate(counts):
            torch.testing.assert_close(
                found[row, :count], wanted[row, at[row] : at[row] + count], atol=1e-5, rtol=1e-4
            )
            at[row] += count
        assert cache.length_B.tolist() == at
    assert max(at) == 16


@pytest.mark.parametrize("name", ["learned", "gqa", "window-alibi", "values", "ngrams"])
def test_cut_and_keep(name: str) -> None:
    network, token_BT = body(name), tokens(3, 16)
    cache = network.new_cache(3, 16)
    network({"x": token_BT[:, :10]}, cache)
    cache.cut(torch.tensor([10, 4, 7]))  # as if what followed had been rejected
    cache.keep([2, 2, 0, 1])
    assert cache.length_B.tolist() == [7, 7, 10, 4]
    rows = [
        torch.cat((token_BT[source, :kept], tokens(1, 3, seed=seed)[0]))
        for seed, (source, kept) in enumerate([(2, 7), (2, 7), (0, 10), (1, 4)])
    ]
    found = network({"x": torch.stack([row[-3:] for row in rows])}, cache)
    for index, row in enumerate(rows):
        torch.testing.assert_close(found[index], network({"x": row[None]})[0, -3:], atol=1e-5, rtol=1e-4)
    cache.keep([3])
    cache.cut(4)
    found = network({"x": token_BT[1:2, 4:6]}, cache)
    torch.testing.assert_close(found, network({"x": token_BT[1:2, :6]})[:, 4:], atol=1e-5, rtol=1e-4)


def test_rows_swapped_in_place() -> None:
    """As a beam search does: the same number of rows, some dropped and some doubled."""
    network, token_BT = body("gqa"), tokens(3, 8)
    cache = network.new_cache(3, 8)
    network({"x": token_BT[:, :6]}, cache)
    cache.keep(torch.tensor([1, 0, 1]))
    found = network({"x": token_BT[[1, 0, 1], 6:]}, cache)
    torch.testing.assert_close(found, network({"x": token_BT})[[1, 0, 1], 6:], atol=1e-5, rtol=1e-4)


def test_a_cache_s_limits_are_told() -> None:
    network = body("learned")
    cache = network.new_cache(2, 6)
    network({"x": tokens(2, 5)}, cache)
    with pytest.raises(UserError, match="7 steps are more than the cache's 6"):
        network({"x": tokens(2, 2)}, cache)
    assert cache.length_B.tolist() == [5, 5]  # and nothing was added
    with pytest.raises(ValueError, match="cannot be cut"):
        cache.cut([6, 1])
    with pytest.raises(UserError, match="more than the 24 learned positions"):
        network.new_cache(1, 25)
    with pytest.raises(UserError, match="sees the future"):
        Transformer(width=16).build(TOKENS, "token").new_cache(1, 4)


@pytest.mark.parametrize("name", ["plain-norms", "values", "ngrams", "window-alibi", "gqa"])
def test_a_training_pass_is_recorded_exactly(name: str) -> None:
    """engine/train/capture.py replays a pass as a flat graph, or gives None where it cannot."""
    torch.manual_seed(0)
    settings = Transformer(
        **{"width": 16, "depth": 2, "heads": 4, "dropout": 0.0, **SETTINGS[name], "head_width": 4}
    )
    network = settings.build(TOKENS, "next")
    batch = {"x": tokens(2, 9), "x.length": torch.tensor([9, 4])}
    recorded = Captured(
        network, list(network.parameters()), lambda rows: (network(rows).square().sum(), torch.tensor(18))
    )
    found = recorded(batch)
    assert found is not None
    grads = [parameter.grad.clone() for parameter in network.parameters()]
    wanted = network(batch).square().sum()
    assert torch.equal(found[0], wanted.detach())
    for parameter, grad in zip(
        network.parameters(), torch.autograd.grad(wanted / 18, network.parameters()), strict=True
    ):
        torch.testing.assert_close(grads.pop(0), grad)
        assert grad.abs().sum() > 0 and parameter.grad is not None


def test_embedding_is_the_table() -> None:
    network = body("learned")
    assert network.embedding.weight.shape == (50, 32)
    assert Rnn(bidirectional=False).build(TOKENS, "next").embedding.weight.shape[0] == 50


def test_rnn_reads_forward_only() -> None:
    torch.manual_seed(0)
    network = Rnn(width=8, bidirectional=False).build(TOKENS, "next").eval()
    token_BT = tokens(2, 9)
    torch.testing.assert_close(network({"x": token_BT[:, :4]}), network({"x": token_BT})[:, :4])
    with pytest.raises(UserError, match="bidirectional: false"):
        Rnn().build(TOKENS, "next")


@pytest.mark.parametrize("kind", sorted({"bag", "vit", "cnn", "mlp", "fusion"} & set(every(Model))))
def test_others_refuse(kind: str) -> None:
    settings = every(Model)[kind]
    form = settings.forms[0]
    layout = Layout(
        form, (1, 28, 28) if form == "image" else (3,) if form == "vector" else (), size=9, length=5
    )
    with pytest.raises(UserError, match=r"sees only the steps before it"):
        settings().build({"x": layout}, "next")
