"""Shared layers against formulas, torch's own modules and loops."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from modelworks.core.choices import Activation
from modelworks.core.field import Layout
from modelworks.layers.activation import activation
from modelworks.layers.attention import Attention
from modelworks.layers.block import Feedforward
from modelworks.layers.head import Head
from modelworks.layers.initialise import initialise
from modelworks.layers.inputs import Inputs
from modelworks.layers.normalisation import normalisation
from modelworks.layers.padding import padding_mask
from modelworks.layers.pooling import Pooling
from modelworks.layers.position import alibi, rotary, rotate, rotate_, sinusoidal, slopes

torch.set_num_threads(1)
CPU = torch.device("cpu")


# ------------------------------------------------------------------------------------------- by name
FORMULAS = {
    "relu": lambda x: x.clamp(min=0),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "tanh": lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh()) / 2,
    "silu": lambda x: x / (1 + (-x).exp()),
    "elu": lambda x: torch.where(x > 0, x, x.exp() - 1),
    "softplus": lambda x: (1 + x.exp()).log(),
    "relu2": lambda x: x.clamp(min=0) ** 2,
    "identity": lambda x: x,
}


@pytest.mark.parametrize("name", get_args(Activation))
def test_activation_is_its_formula(name: str) -> None:
    x = torch.linspace(-4, 4, 101)
    torch.testing.assert_close(activation(name)(x), FORMULAS[name](x), atol=1e-6, rtol=1e-5)


def test_leaky_relu_takes_a_slope() -> None:
    assert activation("leaky_relu", slope=0.2)(torch.tensor(-1.0)) == pytest.approx(-0.2)


@pytest.mark.parametrize(
    "name, axes",
    [*itertools.product(["layer", "rms", "batch"], [0, 1, 2]), ("group", 1), ("group", 2)],
)
def test_normalisation_is_its_formula(name: str, axes: int) -> None:
    x = torch.randn(5, 8, *[3] * axes)
    over = {"layer": (1,), "rms": (1,), "group": tuple(range(2, x.ndim)), "batch": (0, *range(2, x.ndim))}[
        name
    ]
    if name == "rms":
        wanted = x / (x.square().mean(1, keepdim=True) + 1e-5).sqrt()
    else:  # 8 groups of one channel each
        variance = x.var(over, unbiased=False, keepdim=True)
        wanted = (x - x.mean(over, keepdim=True)) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(normalisation(name, 8, axes)(x), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("learned", [True, False])
def test_rms_norm_is_torch_s_in_both_directions(learned: bool) -> None:
    norm = normalisation("rms", 12, eps=1e-3, weight=learned)
    x = torch.randn(3, 5, 12)
    weight = nn.Parameter(torch.randn(12)) if learned else None
    if learned:
        norm.weight.data.copy_(weight.data)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (12,), weight, 1e-3))
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    pull = torch.randn(3, 5, 12)
    (norm(ours) * pull).sum().backward()
    (F.rms_norm(theirs, (12,), weight, 1e-3) * pull).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    if learned:
        torch.testing.assert_close(norm.weight.grad, weight.grad)


# ------------------------------------------------------------------------------------------- initialisation
@pytest.mark.parametrize(
    "scheme, variance",
    [("normal", 0.02**2), ("xavier", 2 / (400 + 600)), ("he", 2 / 400), ("default", 1 / (3 * 400))],
)
def test_variance_of_a_matrix(scheme: str, variance: float) -> None:
    torch.manual_seed(0)
    linear = initialise(nn.Linear(400, 600), scheme)
    assert linear.weight.var().item() == pytest.approx(variance, rel=0.02)
    assert (linear.bias == 0).all() == (scheme != "default")


def test_he_counts_a_convolution_s_inputs() -> None:
    torch.manual_seed(0)
    assert initialise(nn.Conv2d(64, 32, 3), "he").weight.var().item() == pytest.approx(2 / (64 * 9), rel=0.03)


def test_fused_matrices_are_apart() -> None:
    """q, k and v are three 32 × 32 matrices: each is orthogonal, and xavier sees 32 outputs, not 96."""
    torch.manual_seed(0)
    attention = initialise(Attention(32, 4), "orthogonal")
    for weight in attention.qkv.weight.chunk(3):
        torch.testing.assert_close(weight @ weight.T, torch.eye(32), atol=1e-5, rtol=0)
    wide = initialise(Attention(256, 4), "xavier").qkv.weight
    assert wide.var().item() == pytest.approx(2 / 512, rel=0.02)
    lstm = initialise(nn.LSTM(8, 8), "orthogonal")
    for weight in lstm.weight_hh_l0.chunk(4):
        torch.testing.assert_close(weight @ weight.T, torch.eye(8), atol=1e-5, rtol=0)


def test_padding_s_vector_stays_zero() -> None:
    table = initialise(nn.Embedding(9, 4, padding_idx=0), "normal").weight
    assert (table[0] == 0).all()
    assert 0.01 < table[1:].std() < 0.03


# ------------------------------------------------------------------------------------------- positions
def test_sinusoidal_is_the_paper_s() -> None:
    table_TD = sinusoidal(20, 6, CPU)
    for t in (0, 1, 19):
        for i in range(3):
            angle = t / 10_000 ** (2 * i / 6)
            assert table_TD[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert table_TD[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)
    assert sinusoidal(4, 7, CPU).shape == (4, 7)


def test_rope_turns_complex_numbers() -> None:
    x_BTHE = torch.randn(2, 11, 3, 8)
    wanted = torch.empty_like(x_BTHE)
    for t in range(11):
        for pair in range(4):
            angle = t * 10_000 ** (-pair / 4)
            a, b = x_BTHE[:, t, :, 2 * pair], x_BTHE[:, t, :, 2 * pair + 1]
            wanted[:, t, :, 2 * pair] = a * math.cos(angle) - b * math.sin(angle)
            wanted[:, t, :, 2 * pair + 1] = a * math.sin(angle) + b * math.cos(angle)
    turn = rotary(11, 8, CPU)
    torch.testing.assert_close(rotate(x_BTHE, turn), wanted)
    torch.testing.assert_close(
        rotate(x_BTHE.double(), turn).float(), wanted
    )  # the way without complex numbers
    rotate_(x_BTHE, turn)
    torch.testing.assert_close(x_BTHE, wanted)


def test_alibi_s_slopes_are_the_paper_s() -> None:
    assert slopes(8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    assert slopes(12)[8:] == pytest.approx(
        [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]
    )  # the authors' code, 12 heads
    bias_HTT = alibi(5, 8, CPU)
    assert bias_HTT[0, 4].tolist() == [-2.0, -1.5, -1.0, -0.5, 0.0]
    assert torch.equal(bias_HTT, bias_HTT.transpose(1, 2))


# ------------------------------------------------------------------------------------------- attention, block
def test_attention_equals_torch_s() -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(24, 3), nn.MultiheadAttention(24, 3, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x_BTD, mask_BT = torch.randn(2, 6, 24), torch.arange(6) < torch.tensor([6, 4])[:, None]
    wanted, _ = theirs(x_BTD, x_BTD, x_BTD, key_padding_mask=~mask_BT)
    torch.testing.assert_close(ours(x_BTD, mask_BT[:, None, None, :]), wanted)
    torch.testing.assert_close(ours(x_BTD), theirs(x_BTD, x_BTD, x_BTD)[0])


def test_gated_feedforward_is_swiglu() -> None:
    layer = Feedforward(4, 6, "silu", gated=True)
    x = torch.randn(3, 4)
    gate, up = (
        F.linear(x, w, b) for w, b in zip(layer.up.weight.chunk(2), layer.up.bias.chunk(2), strict=True)
    )
    torch.testing.assert_close(layer(x), layer.down(F.silu(gate) * up))


# ------------------------------------------------------------------------------------------- head, pooling, inputs
def test_a_head_of_members_is_separate_linears() -> None:
    torch.manual_seed(0)
    head, features_BKD = Head(5, 3, members=4), torch.randn(7, 4, 5)
    wanted = torch.stack([F.linear(features_BKD[:, k], head.weight[k], head.bias[k]) for k in range(4)], 1)
    torch.testing.assert_close(head(features_BKD), wanted)
    assert not torch.equal(head.weight[0], head.weight[1])
    assert head.weight.abs().max() <= 1 / math.sqrt(5)


def test_a_plain_head_is_a_linear_on_rows_and_steps() -> None:
    head, linear = Head(5, 3), nn.Linear(5, 3)
    linear.load_state_dict(head.state_dict())
    for shape in ((7, 5), (7, 2, 5)):
        x = torch.randn(shape)
        torch.testing.assert_close(head(x), linear(x))
    assert (Head(5, 3, init="zeros")(torch.randn(2, 5)) == 0).all()
    assert Head(5, 3, members=2, bias=False)(torch.randn(7, 2, 5)).shape == (7, 2, 3)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_pooling_reads_real_steps_only(lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    T = max(lengths)
    x_BTD, mask_BT = torch.randn(len(lengths), T, 3), padding_mask(torch.tensor(lengths), T)
    assert (mask_BT is None) == (min(lengths) == T)
    attention = Pooling("attention", 3)
    for index, length in enumerate(lengths):
        row_TD = x_BTD[index, :length]
        share_T = (row_TD @ attention.score.weight[0]).softmax(0)
        wanted = {
            "mean": row_TD.mean(0),
            "max": row_TD.max(0).values,
            "last": row_TD[-1],
            "cls": row_TD[0],
            "attention": share_T @ row_TD,
        }
        for name, value in wanted.items():
            pool = attention if name == "attention" else Pooling(name, 3)
            torch.testing.assert_close(pool(x_BTD, mask_BT)[index], value)


def test_inputs_side_by_side() -> None:
    inputs = Inputs(
        {
            "city": Layout("index", (), size=3),
            "age": Layout("vector", (2,)),
            "word": Layout("index", (), size=100),
            "rank": Layout("index", (), size=2),
            "tags": Layout("multihot", (), size=2),
            "wave": Layout("frames", (1,), length=4),
        }
    )
    batch = {
        "city": torch.tensor([2, 0]),
        "age": torch.tensor([[1.5, 2.5], [3.5, 4.5]]),
        "word": torch.tensor([7, 99]),
        "rank": torch.tensor([0, 1]),
        "tags": torch.tensor([[0.0, 1.0], [1.0, 1.0]]),
        "wave": torch.tensor([[[5.0], [6.0], [9.0]], [[7.0], [8.0], [4.0]]]),
        "wave.length": torch.tensor([2, 3]),
    }
    x_BD = inputs(batch)
    assert x_BD.shape == (2, inputs.width)
    assert x_BD[0, :8].tolist() == [1.5, 2.5, 0, 1, 5, 6, 0, 0]
    assert x_BD[1, :8].tolist() == [3.5, 4.5, 1, 1, 7, 8, 4, 0]
    assert x_BD[:, 8:13].tolist() == [[0, 0, 1, 1, 0], [1, 0, 0, 0, 1]]
    assert torch.equal(x_BD[:, 13:], inputs.embeddings[0].weight[[7, 99]])
