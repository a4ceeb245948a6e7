"""rnn against torch's own LSTM, GRU and RNN with the same weights, on packed sequences."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from modelworks.core.field import Layout
from modelworks.models.rnn import Rnn

torch.set_num_threads(1)
FRAMES = {"x": Layout("frames", (3,), length=9)}
TORCH = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def torch_twin(network: nn.Module, cell: str, depth: int, bidirectional: bool) -> nn.RNNBase:
    """One torch module of all layers and directions with our weights."""
    twin = TORCH[cell](3, 6, num_layers=depth, bidirectional=bidirectional, batch_first=True)
    state = {}
    for suffix, cells in (("", network.onward), ("_reverse", network.backward_)):
        for layer, ours in enumerate(cells):
            state |= {
                name.replace("_l0", f"_l{layer}{suffix}"): value for name, value in ours.state_dict().items()
            }
    twin.load_state_dict(state)  # strict: all weights, each of its shape
    return twin


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_equals_torch_on_packed_sequences(cell: str, depth: int, bidirectional: bool) -> None:
    torch.manual_seed(0)
    settings = Rnn(cell=cell, width=6, depth=depth, bidirectional=bidirectional, pooling="last")
    length_B = torch.tensor([9, 4, 1, 9])
    x_BTD = torch.randn(4, 9, 3)
    rows = {"x": x_BTD, "x.length": length_B}
    network = settings.build(FRAMES).eval()
    packed = pack_padded_sequence(x_BTD, length_B, batch_first=True, enforce_sorted=False)
    output, hidden = torch_twin(network, cell, depth, bidirectional)(packed)
    hidden = hidden[0] if cell == "lstm" else hidden
    directions = 2 if bidirectional else 1
    final_BD = torch.cat([hidden[-directions + d] for d in range(directions)], 1)
    torch.testing.assert_close(network(rows), final_BD)

    steps = settings.build(FRAMES, features="token").eval()
    steps.load_state_dict(network.state_dict())
    wanted_BTD, _ = pad_packed_sequence(output, batch_first=True)
    real_BT = torch.arange(9) < length_B[:, None]
    torch.testing.assert_close(steps(rows)[real_BT], wanted_BTD[real_BT])


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
def test_padding_is_not_read(pooling: str) -> None:
    network = Rnn(width=6, depth=2, pooling=pooling).build(FRAMES).eval()
    x_BTD, length_B = torch.randn(3, 9, 3), torch.tensor([9, 4, 1])
    together = network({"x": x_BTD, "x.length": length_B})
    for index, length in enumerate(length_B.tolist()):
        torch.testing.assert_close(network({"x": x_BTD[index : index + 1, :length]})[0], together[index])
