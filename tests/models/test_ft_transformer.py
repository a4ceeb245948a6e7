"""ft_transformer: parameter counts and outputs are those of the authors' package rtdl_revisiting_models 0.0.2."""

from __future__ import annotations

import torch

from modelworks.core.field import Layout
from modelworks.engine.train.regime import resolve
from modelworks.layers.head import Head
from modelworks.models.ft_transformer import FtTransformer

torch.set_num_threads(1)


def table(numbers: int, *sizes: int) -> dict[str, Layout]:
    inputs = {f"n{i}": Layout("vector", (1,), bins=[[-1.0, 0.0, 1.0]]) for i in range(numbers)}
    return inputs | {f"c{i}": Layout("index", size=size) for i, size in enumerate(sizes)}


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_published_parameter_counts() -> None:
    for inputs, outputs, wanted in ((table(8), 1, 894_913), (table(3, 4, 7), 2, 895_682)):
        network = FtTransformer().build(inputs)
        assert count(network) + count(Head(network.width, outputs)) == wanted


def test_parameter_formula() -> None:
    d, depth, hidden, N, sizes = 24, 4, 40, 5, (3, 6)
    network = FtTransformer(width=d, depth=depth, heads=4, ratio=hidden / d, gated=False).build(
        table(N, *sizes)
    )
    attention = 4 * (d * d + d)
    feedforward = 2 * d * hidden + hidden + d
    norms = 2 * 2 * d * depth - 2 * d + 2 * d  # none at the start, one at the end
    tokens = d + 2 * N * d + (sum(sizes) + len(sizes)) * d
    assert count(network) == tokens + depth * (attention + feedforward) + norms


def test_outputs_are_those_of_the_published_implementation() -> None:
    network = FtTransformer(width=16, depth=2, heads=2).build(table(2, 3)).eval()
    with torch.no_grad():
        for i, (_, p) in enumerate(sorted(network.named_parameters())):
            p.copy_(torch.cos(torch.arange(p.numel()) * (i + 1.0)).view_as(p) / 2)
    n_BN = torch.tensor([[0.5, -1.0], [2.0, 0.25], [-0.75, 0.0]])
    batch = {"n0": n_BN[:, :1], "n1": n_BN[:, 1:], "c0": torch.tensor([0, 2, 1])}
    # The authors' FTTransformerBackbone with the same weights, its output layer the identity.
    wanted = torch.tensor(PUBLISHED)
    torch.testing.assert_close(network(batch), wanted, atol=2e-5, rtol=1e-4)


PUBLISHED = [
    [
        1.65228,
        0,
        0.11297,
        0.678568,
        0,
        0.32476,
        0.268814,
        0,
        0.101911,
        0.438791,
        0,
        0,
        0.471626,
        0,
        0,
        0.695262,
    ],
    [
        1.66653,
        0,
        0.060663,
        0.611525,
        0,
        0.226447,
        0.0947329,
        0,
        0.240768,
        0.486745,
        0,
        0,
        0.574362,
        0,
        0,
        0.723359,
    ],
    [
        1.67354,
        0,
        0.115295,
        0.674649,
        0,
        0.348992,
        0.301502,
        0,
        0.104427,
        0.474639,
        0,
        0,
        0.449823,
        0,
        0,
        0.675039,
    ],
]


def test_every_column_counts_in_any_place() -> None:
    torch.manual_seed(0)
    inputs = {**table(2, 3), "tags": Layout("multihot", (4,), size=4), "age": Layout("vector", (2,))}
    network = FtTransformer(width=16, depth=2, heads=2).build(inputs).eval()
    g = torch.Generator().manual_seed(1)
    batch = {name: torch.randn(5, 1, generator=g) for name in ("n0", "n1")}
    batch |= {
        "c0": torch.tensor([0, 1, 2, 1, 0]),
        "tags": torch.eye(5)[:, :4],
        "age": torch.randn(5, 2, generator=g),
    }
    assert network.tokens(batch).shape == (5, 1 + 2 + 2 + 1 + 1, 16)
    for name in inputs:
        changed = batch | {name: batch[name].roll(1, 0)}
        assert not torch.allclose(network(changed), network(batch), atol=1e-4), name


def test_dropout_of_the_feedforward_layers() -> None:
    torch.manual_seed(0)
    network = FtTransformer(width=16, depth=1, heads=2, dropout=0.5, attention_dropout=0.0).build(table(3))
    batch = {f"n{i}": torch.randn(6, 1) for i in range(3)}
    seen = []
    network.blocks[0].feedforward.down.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    network.train()(batch)
    network.eval()(batch)
    dropped, kept = (seen[0] == 0) & (seen[1] != 0), (seen[0] != 0)
    assert 0.4 < float(dropped.sum() / (seen[1] != 0).sum()) < 0.6
    torch.testing.assert_close(seen[0][kept], 2 * seen[1][kept])


def test_piecewise_tokens_start_as_linear_ones() -> None:
    torch.manual_seed(0)
    network = FtTransformer(width=16, depth=1, heads=2, embedding="piecewise").build(table(2))
    numbers = network.tokens.numbers
    assert numbers.weight_NME.shape == (2, 1 + 2, 16)
    x_BN = torch.randn(4, 2)
    torch.testing.assert_close(numbers(x_BN), x_BN[..., None] * numbers.weight_NME[:, 0] + numbers.bias_NE)


def test_its_regime_leaves_the_tokenizer_undecayed() -> None:
    network = FtTransformer(width=16, depth=1, heads=2).build(
        {**table(1, 3), "tags": Layout("multihot", (4,), size=4)}
    )
    train = resolve({}, FtTransformer().regime(10_000), 10_000)
    groups = train.optimizer.build(network.named_parameters()).param_groups
    decayed = {name for group in groups if group["weight_decay"] for name in group["param_names"]}
    block = "blocks.0."
    assert decayed == {
        block + part + ".weight"
        for part in ("attention.qkv", "attention.out", "feedforward.up", "feedforward.down")
    }
    assert train.batch_size == 256
