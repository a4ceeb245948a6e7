"""Layers that multiply whole numbers: linear layers and 2-D convolutions with int8 weights and 8-bit inputs.

    IntegerLinear(linear)                       dynamic: the inputs' range is measured in every call
    IntegerLinear(linear, inputs=(-3.1, 4.0))   static: the range is known from calibration
    IntegerConv(conv, inputs=(0, 6), outputs=(-9, 12))

Weights have a scale for each output, inputs one for all, and a zero point. Sums are int32. On processors without
VNNI the products of two 8-bit numbers are added in 16 bits, which overflows in silence: there inputs have 7 bits.
A dynamic layer's answer for a row depends a little on the rows beside it, for they share the range; a static one's
does not. In a state dict these layers are plain float32 ones. I inputs, O outputs, N rows.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.layers.codes import Parts, decode, taken

Range = tuple[float, float]
_ENGINES = ("x86", "fbgemm", "onednn")


@functools.cache
def available() -> bool:
    """Whether this torch has the kernels for this processor."""
    return any(engine in torch.backends.quantized.supported_engines for engine in _ENGINES)


@functools.cache
def vnni() -> bool:
    """Whether the processor adds products of 8-bit numbers in 32 bits at once."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def quantisation(range_: Range, bits: int) -> tuple[float, int]:
    """(scale, zero point) of a range, widened to hold 0, in unsigned numbers of so many bits."""
    low, high = min(range_[0], 0.0), max(range_[1], 0.0)
    top = 2**bits - 1
    scale = max((high - low) / top, 1e-12)
    return scale, max(0, min(top, round(-low / scale)))


class _Integer(nn.Module):
    """Weights as whole numbers, packed for the kernel at the first call."""

    def __init__(self, base: nn.Linear | nn.Conv2d, inputs: Range | None, outputs: Range | None) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self._shape = base.weight.shape
        self.bias = base.bias
        scale_O = base.weight.new_zeros(len(base.weight))
        # A parameter, so that the network has one to tell its device; not named `weight`, which is computed.
        self._scale_O = nn.Parameter(scale_O, requires_grad=False)
        self._whole: Tensor
        self.register_buffer("_whole", torch.zeros(self._shape, dtype=torch.int8), persistent=False)
        self._packed: Any = None
        self._take(base.weight.detach())

    @property
    def weight(self) -> Tensor:
        """What the layer stands for, float32."""
        return self._whole.float() * self._scale_O.view(-1, *[1] * (len(self._shape) - 1))

    def _take(self, weight: Tensor) -> None:
        rows = weight.reshape(len(weight), -1)
        scale_O = (rows.float().abs().amax(1) / 127).clamp(min=1e-30).bfloat16().float()
        self._scale_O.data.copy_(scale_O)
        self._whole.copy_((rows.float() / scale_O[:, None]).round().clamp(-127, 127).view(self._shape))
        self._packed = None

    def _quantised(self) -> Tensor:
        """The weights as torch's quantised tensor."""
        scale_O = self._scale_O.detach().double()
        zero_O = torch.zeros(len(scale_O), dtype=torch.long)
        with warnings.catch_warnings():
            # torch means to replace its quantised tensors one day, and says so once, at the first one that is made.
            warnings.simplefilter("ignore")
            return torch._make_per_channel_quantized_tensor(self._whole.contiguous(), scale_O, zero_O, 0)

    def _plain(self, x: Tensor) -> bool:
        """Whether this call is computed in float32 all the same."""
        exact = x.dtype != torch.float32 or x.device.type != "cpu" or torch.is_grad_enabled()
        return exact or not x.numel() or not available() or torch.compiler.is_exporting()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.weight
        if self.bias is not None:
            destination[prefix + "bias"] = self.bias if keep_vars else self.bias.detach()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        name = prefix + "weight"
        parts: Parts | None = taken(state_dict, name)
        errors: list[str] = rest[-1]
        plain = state_dict.pop(name, None)
        if plain is None:
            rest[2].append(name)  # the missing ones
        else:
            try:
                self._take(decode(parts or {"": plain}, self._shape))
            except (ValueError, RuntimeError) as error:
                errors.append(f"{name}: {error}")
        if self.bias is not None:
            bias = state_dict.get(prefix + "bias")
            if bias is None:
                rest[2].append(prefix + "bias")
            elif bias.shape != self.bias.shape:
                errors.append(f"{prefix}bias: {tuple(bias.shape)} in the place of {tuple(self.bias.shape)}")
            else:
                self.bias.data.copy_(bias)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Integer:
        packed, self._packed = self._packed, None  # a handle that cannot be copied, and is made again
        try:
            twin = self.__class__.__new__(self.__class__)
            memo[id(self)] = twin
            twin.__dict__.update({key: copy.deepcopy(value, memo) for key, value in self.__dict__.items()})
            return twin
        finally:
            self._packed = packed


class IntegerLinear(_Integer):
    """A linear layer that multiplies whole numbers."""

    def __init__(self, base: nn.Linear, inputs: Range | None = None) -> None:
        super().__init__(base, inputs, None)
        self.out_features, self.in_features = base.weight.shape

    def forward(self, x: Tensor) -> Tensor:
        if self._plain(x):
            return F.linear(x, self.weight.to(x.dtype), self.bias)
        ops, short = torch.ops.quantized, not vnni()
        if self._packed is None:
            bias = None if self.bias is None else self.bias.detach()
            self._packed = ops.linear_prepack(self._quantised(), bias)
        if self.inputs is None:
            return ops.linear_dynamic(x, self._packed, short)
        scale, zero = quantisation(self.inputs, 7 if short else 8)
        return ops.linear_with_input_q_dq_qweight_dq_output_fp32(x, scale, zero, self._packed)


class IntegerConv(_Integer):
    """A 2-D convolution that multiplies whole numbers; its outputs are rounded to 8 bits as well."""

    def __init__(self, base: nn.Conv2d, inputs: Range, outputs: Range) -> None:
        super().__init__(base, inputs, outputs)
        assert not isinstance(base.padding, str)
        assert base.padding_mode == "zeros"
        self.stride, self.padding, self.dilation = base.stride, base.padding, base.dilation
        self.groups, self.in_channels, self.out_channels = base.groups, base.in_channels, base.out_channels
        self.kernel_size = base.kernel_size

    def forward(self, x: Tensor) -> Tensor:
        if self._plain(x):
            return F.conv2d(
                x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups  # type: ignore[arg-type]
            )  # fmt: skip
        assert self.inputs is not None
        assert self.outputs is not None
        if self._packed is None:
            bias = None if self.bias is None else self.bias.detach()
            shape: Sequence[Any] = (self.stride, self.padding, self.dilation)
            self._packed = torch.ops.quantized.conv2d_prepack(self._quantised(), bias, *shape, self.groups)
        scale, zero = quantisation(self.inputs, 8 if vnni() else 7)
        x_NIHW = torch.quantize_per_tensor(x, scale, zero, torch.quint8)
        y_NOHW = torch.ops.quantized.conv2d(x_NIHW, self._packed, *quantisation(self.outputs, 8))
        return y_NOHW.dequantize()


def suits(module: nn.Module) -> bool:
    """Whether there is an integer layer for this one, and it would not be a loss."""
    if isinstance(module, nn.Linear):
        return module.in_features >= 16
    return (
        isinstance(module, nn.Conv2d)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )
