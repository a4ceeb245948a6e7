"""transformer against torch.nn.TransformerEncoder with the same weights, and its ways to know order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.models.transformer import Transformer

torch.set_num_threads(1)
TOKENS = {"x": Layout("tokens", (), size=50, length=16)}


def batch(lengths: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    length_B = torch.tensor(lengths)
    g = torch.Generator().manual_seed(seed)
    token_BT = torch.randint(1, 50, (len(lengths), max(lengths)), generator=g)
    return {"x": token_BT * (torch.arange(max(lengths)) < length_B[:, None]), "x.length": length_B}


@pytest.mark.parametrize("lengths", [[7, 7, 7], [7, 3, 1]])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("order", ["pre", "post"])
def test_equals_torch(
    order: str, activation: str, lengths: list[int], copy_block: Callable[..., None]
) -> None:
    torch.manual_seed(1)
    settings = Transformer(
        width=32, depth=3, heads=4, ratio=2, positions="none", order=order, activation=activation
    )
    network = settings.build(TOKENS, features="token").eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    layer = nn.TransformerEncoderLayer(
        32, 4, 64, activation=activation, batch_first=True, norm_first=order == "pre"
    )
    norm = nn.LayerNorm(32) if order == "pre" else None
    encoder = nn.TransformerEncoder(layer, 3, norm, enable_nested_tensor=False).eval()
    for block, theirs in zip(network.blocks, encoder.layers, strict=True):
        copy_block(block, theirs)
    if order == "pre":
        encoder.norm.load_state_dict(network.norm.state_dict())
    rows = batch(lengths)
    padding_BT = torch.arange(7) >= rows["x.length"][:, None]
    # under no_grad torch takes its "fast path", which fills padded steps in another way: keep gradients on
    wanted = encoder(network.embed(rows["x"]), src_key_padding_mask=padding_BT if padding_BT.any() else None)
    got = network(rows)
    torch.testing.assert_close(got[~padding_BT], wanted[~padding_BT], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rope", "alibi", "none"])
@pytest.mark.parametrize("pooling", ["mean", "max", "last", "cls", "attention"])
def test_padding_and_order(positions: str, pooling: str) -> None:
    torch.manual_seed(2)
    settings = Transformer(width=32, depth=2, heads=4, positions=positions, pooling=pooling, ratio=2)
    network = settings.build(TOKENS).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    rows = batch([9, 5, 2])
    together = network(rows)
    for index, length in enumerate([9, 5, 2]):
        alone = {"x": rows["x"][index : index + 1, :length], "x.length": torch.tensor([length])}
        torch.testing.assert_close(network(alone)[0], together[index], atol=1e-5, rtol=1e-4)
    if pooling != "last":  # swapped words give another row exactly when positions are known
        swapped = rows["x"][:1].clone()
        swapped[:, [2, 6]] = swapped[:, [6, 2]]
        same = torch.allclose(network({"x": swapped})[0], together[0], atol=1e-5)
        assert same == (positions == "none")


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("norm", ["layer", "rms", "none"])
def test_zero_residual_is_the_identity(norm: str, gated: bool) -> None:
    settings = Transformer(
        width=16, heads=2, normalisation=norm, gated=gated, zero_residual=True, dropout=0.0
    )
    network = settings.build(TOKENS)
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(network.blocks[0](x), x)


def test_the_fast_path_equals_the_masked_one() -> None:
    """A batch without padding is run without a mask; a longer row beside it must not change anything."""
    torch.manual_seed(0)
    network = Transformer(width=32, depth=1).build(TOKENS).eval()
    short, both = batch([4, 4]), batch([4, 4, 9])
    both["x"][:2, :4] = short["x"]
    torch.testing.assert_close(network(short), network(both)[:2], atol=1e-5, rtol=1e-4)


def test_captured_whole() -> None:
    """One graph, whatever the lengths: nothing in forward branches on values while a graph is captured."""
    torch.manual_seed(0)
    network = Transformer(width=16, depth=1, heads=2).build(TOKENS).eval()
    rows = batch([6, 6])
    program = torch.export.export(network, (rows,), strict=False).module()
    ragged = {"x": batch([6, 2])["x"], "x.length": torch.tensor([6, 2])}
    torch.testing.assert_close(program(ragged), network(ragged), atol=1e-5, rtol=1e-4)


def test_mistakes_are_explained() -> None:
    with pytest.raises(UserError, match="does not divide into 3 heads"):
        Transformer(width=32, heads=3).build(TOKENS)
    with pytest.raises(UserError, match="must be even"):
        Transformer(width=12, heads=4, positions="rope").build(TOKENS)
    with pytest.raises(UserError, match="more than the 16 learned positions"):
        Transformer(width=16, heads=2).build(TOKENS)(batch([17]))
