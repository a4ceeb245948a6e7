"""Whole-number layers against torch.ao's fake quantisation and torch's own float layers."""

import copy
import warnings

import pytest
import torch
from torch import nn

from modelworks.layers import codes, integer
from modelworks.layers.integer import IntegerConv, IntegerLinear, quantisation

pytestmark = pytest.mark.skipif(not integer.available(), reason="no kernels for this processor")


@pytest.fixture(autouse=True)
def _without_gradients():
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def fake(x, low, high, bits):
    scale, zero = quantisation((low, high), bits)
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 2**bits - 1)


def weights(module):
    """As torch.ao rounds them: int8, one scale an output, symmetric."""
    flat = module.weight.flatten(1)
    scale = (flat.abs().amax(1) / 127).bfloat16().float()
    zero = torch.zeros(len(scale), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(module.weight, scale, zero, 0, -127, 127)


@pytest.mark.parametrize(("inputs", "outputs", "rows"), [(32, 16, 1), (100, 33, 7), (576, 64, 60)])
def test_a_static_linear_layer_is_torch_ao_s_fake_quantisation(inputs, outputs, rows):
    base, x = nn.Linear(inputs, outputs), torch.randn(rows, inputs)
    low, high = float(x.min()), float(x.max())
    bits = 8 if integer.vnni() else 7
    expected = nn.functional.linear(fake(x, low, high, bits), weights(base), base.bias)
    torch.testing.assert_close(IntegerLinear(base, (low, high))(x), expected, atol=2e-4, rtol=1e-4)


def test_a_dynamic_linear_layer_takes_the_range_of_each_call():
    base = nn.Linear(64, 32)
    layer, bits = IntegerLinear(base), 8 if integer.vnni() else 7
    for size in (0.1, 1, 100):
        x = torch.randn(20, 64) * size
        expected = nn.functional.linear(
            fake(x, float(x.min()), float(x.max()), bits), weights(base), base.bias
        )
        assert float((layer(x) - expected).abs().max() / expected.abs().max()) < 0.01
    assert layer(torch.zeros(0, 64)).shape == (0, 32)


@pytest.mark.parametrize(
    "settings", [{}, {"stride": 2, "padding": 1}, {"groups": 4, "bias": False}, {"dilation": 2}]
)
def test_a_convolution_is_torch_ao_s_fake_quantisation(settings):
    base, x = nn.Conv2d(8, 16, 3, **settings), torch.randn(5, 8, 14, 14)
    y = base(x)
    ranges = [(float(t.min()), float(t.max())) for t in (x, y)]
    bits = 8 if integer.vnni() else 7
    exact = copy.deepcopy(base)
    exact.weight.copy_(weights(base))
    expected = exact(fake(x, *ranges[0], bits))
    unit = (ranges[1][1] - ranges[1][0]) / 255
    assert float((IntegerConv(base, *ranges)(x) - expected).abs().max()) <= 1.01 * unit


def test_in_a_state_dict_it_is_a_plain_layer_and_reads_parts():
    base = nn.Linear(48, 32)
    layer, x = IntegerLinear(base, (-4.0, 4.0)), torch.randn(3, 48)
    state = layer.state_dict()
    plain = nn.Linear(48, 32)
    plain.load_state_dict(state)
    assert float((plain.weight - base.weight).abs().max()) <= float(base.weight.abs().max() / 127)
    other = IntegerLinear(nn.Linear(48, 32), (-4.0, 4.0))
    parts = codes.encode(base.weight, 8)
    other.load_state_dict({"bias": base.bias, **{"weight" + suffix: part for suffix, part in parts.items()}})
    assert torch.equal(other(x), layer(x))
    assert torch.equal(copy.deepcopy(other)(x), layer(x))
    with pytest.raises(RuntimeError, match="weight"):
        other.load_state_dict({"bias": base.bias, "weight": torch.randn(32, 47)})
    with pytest.raises(RuntimeError, match=r"[Mm]issing"):
        other.load_state_dict({"bias": base.bias})


def test_where_gradients_are_wanted_or_a_graph_is_exported_it_is_float32():
    layer = IntegerLinear(nn.Linear(48, 32))
    x = torch.randn(3, 48)
    with torch.enable_grad():
        x_grad = x.clone().requires_grad_()
        layer(x_grad).sum().backward()
        torch.testing.assert_close(x_grad.grad, layer.weight.sum(0).expand(3, 48))
    program = torch.export.export(layer, (x,), strict=False)
    torch.testing.assert_close(program.module()(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_without_vnni_inputs_have_seven_bits(monkeypatch):
    """Products of two 8-bit numbers are added in 16 bits there: all at their largest would overflow."""
    asked = []
    monkeypatch.setattr(integer, "vnni", lambda: False)
    monkeypatch.setattr(
        integer, "quantisation", lambda range_, bits: asked.append(bits) or quantisation(range_, bits)
    )
    base = nn.Linear(64, 32)
    base.weight.fill_(1.0)
    x = torch.full((2, 64), 3.0)
    torch.testing.assert_close(IntegerLinear(base, (0.0, 3.0))(x), base(x), atol=0.5, rtol=1e-2)
    assert asked == [7]
