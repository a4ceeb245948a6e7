"""seq2seq: one sequence is read and another is written (Vaswani et al. 2017): translation, summaries.

    model: {kind: seq2seq, width: 256, depth: 4, heads: 4}

The last input is what is written; given as it should be, it is fed back a step late (teacher forcing), so that the
features of a step know only what stands before it. `begin` starts a text that is not known yet:

    state = body.begin(batch, steps=80)
    features_RD = state.step(token_R, from_R)       # hypothesis from_R[r] goes on with token_R[r]

B rows, S steps read, T steps written, D width, R hypotheses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field as Setting
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from modelworks.core.choices import Activation, Initialisation, Order, Positions
from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.core.model import Features, Model
from modelworks.layers.block import Block
from modelworks.layers.cache import Cache
from modelworks.layers.cross_attention import DecoderBlock, Memory
from modelworks.layers.dropout import Dropout
from modelworks.layers.embedding import embed_steps
from modelworks.layers.initialise import initialise
from modelworks.layers.normalisation import normalisation
from modelworks.layers.padding import padding_mask
from modelworks.layers.position import Position

_READ = ("tokens", "frames")
START = 0
"""What stands before the first token written: the code of padding, as in T5 (Raffel et al. 2020)."""


class Seq2seq(Model):
    """Encoder and decoder of transformer blocks."""

    gives: ClassVar[tuple[Features, ...]] = ("next",)
    several: ClassVar[bool] = True
    # No `forms`: those say what a model can read alone, and this one wants two inputs.

    width: PositiveInt = 256
    """Width of a step's vector."""
    depth: PositiveInt = 4
    """Number of blocks that read."""
    decoder_depth: PositiveInt | None = None
    """Number of blocks that write; None: as many."""
    heads: PositiveInt = 4
    """Attention heads of a block; they share the width."""
    ratio: float = Setting(default=4.0, gt=0)
    """Width of the feed-forward layers, in widths."""
    activation: Activation = "relu"
    """Non-linearity of the feed-forward layers."""
    gated: bool = False
    """Gate the feed-forward layers (Shazeer 2020)."""
    positions: Positions = "sinusoidal"
    """How a step knows its place."""
    order: Order = "pre"
    """Norm before each part of a block and once at the end, or after each part as in 2017."""
    normalisation: Literal["layer", "rms"] = "layer"
    """The norm."""
    bias: bool = True
    """Biases in matrices and norms."""
    shared: bool = False
    """One table of tokens for what is read and written; both fields must then have the same tokens."""
    scaled: bool = True
    """Tokens' vectors times √width, as in 2017, so that positions do not outweigh them."""
    dropout: float = Setting(default=0.1, ge=0, lt=1)
    """Share dropped after the embedding and in each residual branch in training."""
    attention_dropout: float = Setting(default=0.0, ge=0, lt=1)
    """Share of attention weights dropped in training."""
    initialisation: Initialisation = "xavier"
    """How the matrices start."""

    @classmethod
    def recognise(cls, inputs: Mapping[str, str], rows: int) -> float:
        """Two sequences; a task that writes says which by putting it last."""
        forms = tuple(inputs.values())
        return 0.6 if len(forms) == 2 and forms[0] in _READ and forms[1] == "tokens" else 0.0

    def build(self, inputs: Mapping[str, Layout], features: Features = "next") -> nn.Module:
        forms = [layout.form for layout in inputs.values()]
        if len(forms) != 2 or forms[0] not in _READ or forms[1] != "tokens" or features != "next":
            listed = ", ".join(f"{name} ({layout.form})" for name, layout in inputs.items())
            raise UserError(
                f"model seq2seq reads one input and writes tokens, got: {listed}", "task: translate"
            )
        sizes = [layout.size for layout in inputs.values()]
        if self.shared and (forms[0] != "tokens" or sizes[0] != sizes[1]):
            raise UserError(
                f"model.shared wants the same tokens in both fields, which have {sizes[0]} and {sizes[1]}",
                "set them alike, each `joint` with the other's column, or model.shared: false",
            )
        network = initialise(Network(inputs, self), self.initialisation)
        for table in (network.source, network.target):
            if isinstance(table, nn.Embedding):  # with √width before it, of the size of positions
                nn.init.normal_(table.weight, std=self.width**-0.5 if self.scaled else 0.02)
        return network


class Network(nn.Module):
    """Both stacks, and what stands between them."""

    shortens: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    """Lists of blocks that do without any one of them, since each adds to what it is given."""

    def __init__(self, inputs: Mapping[str, Layout], settings: Seq2seq) -> None:
        super().__init__()
        (self.reads, source), (self.name, target) = inputs.items()
        self.width = width = settings.width
        self.scale = width**0.5 if settings.scaled else 1.0
        hidden = round(width * settings.ratio)
        # Padding is masked where it is read, and never seen where it is written: code 0 needs no zeros.
        self.target = embed_steps(target, width, padded=False)
        if settings.shared:
            self.__dict__["source"] = self.target  # no part of its own: weights are stored once
        else:
            self.source = embed_steps(source, width, padded=False)
        places = {
            "read": Position(settings.positions, width, settings.heads, source.length),
            "write": Position(settings.positions, width, settings.heads, target.length, causal=True),
        }
        self.positions: Any = nn.ModuleDict(places)
        common = {
            "act": settings.activation,
            "gated": settings.gated,
            "norm": settings.normalisation,
            "order": settings.order,
            "dropout": settings.dropout,
            "attention_dropout": settings.attention_dropout,
            "bias": settings.bias,
        }
        self.encoder: Any = nn.ModuleList(
            Block(width, settings.heads, hidden, **common) for _ in range(settings.depth)
        )
        self.decoder: Any = nn.ModuleList(
            DecoderBlock(width, settings.heads, hidden, width, **common)
            for _ in range(settings.decoder_depth or settings.depth)
        )
        last = settings.normalisation if settings.order == "pre" else "none"
        self.norm_read = normalisation(last, width, bias=settings.bias)
        self.norm = normalisation(last, width, bias=settings.bias)
        self.dropout = Dropout(settings.dropout)

    @property
    def embedding(self) -> nn.Module:
        """The table of the tokens written, for heads that share it."""
        return self.target

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """features_BTD: a vector for each token of what should be written, that knows those before it."""
        memory_BSD, mask_BS = self.read(batch)
        tokens_BT = F.pad(batch[self.name][:, :-1], (1, 0), value=START)
        position = self.positions["write"]
        x_BTD = self.dropout(position.add(self.target(tokens_BT) * self.scale))
        mask, rotary, causal = position.attend(x_BTD, None)
        for block in self.decoder:
            x_BTD = block(x_BTD, block.cross.read(memory_BSD), mask_BS, mask, rotary, causal)
        return self.norm(x_BTD)

    def read(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """(what was read, which of it is real)."""
        position = self.positions["read"]
        x_BSD = self.dropout(position.add(self.source(batch[self.reads]) * self.scale))
        mask_BS = padding_mask(batch.get(f"{self.reads}.length"), x_BSD.shape[1])
        mask, rotary, causal = position.attend(x_BSD, mask_BS)
        for block in self.encoder:
            x_BSD = block(x_BSD, mask, rotary, causal)
        return self.norm_read(x_BSD), mask_BS

    @torch.no_grad()
    def begin(self, batch: Mapping[str, Tensor], steps: int) -> Writing:
        """What is needed to write up to `steps` tokens for each row."""
        memory_BSD, mask_BS = self.read(batch)
        memories = [block.cross.read(memory_BSD) for block in self.decoder]
        attention = self.decoder[0].attention
        cache = Cache(
            len(self.decoder),
            len(memory_BSD),
            attention.kv_heads,
            steps,
            attention.head_width,
            memory_BSD.dtype,
            memory_BSD.device,
        )
        return Writing(self, memories, mask_BS, cache)


class Writing:
    """Hypotheses that are being written: keys and values of what was read and of what is written so far."""

    def __init__(
        self, network: Network, memories: list[Memory], mask_BS: Tensor | None, cache: Cache
    ) -> None:
        self.network, self.memories, self.mask_BS, self.cache = network, memories, mask_BS, cache
        self._prompt_R = list(range(cache.rows))
        """Which row was read for each hypothesis."""

    @property
    def rows(self) -> int:
        return self.cache.rows

    @torch.no_grad()
    def step(self, token_R: Tensor, from_R: Sequence[int] | None = None) -> Tensor:
        """Features (R, D) of the next token. `from`: which hypothesis of the last step each goes on from; None: all
        of them, in order. The first token is START."""
        if from_R is not None and list(from_R) != list(range(self.rows)):
            self.cache.keep(from_R)
            self._remember([self._prompt_R[place] for place in from_R], from_R)
        network, position = self.network, self.network.positions["write"]
        x_RTD = network.target(token_R[:, None]) * network.scale
        span = self.cache.span(1, None, position)
        if span.added is not None:
            x_RTD = x_RTD + span.added
        for layer, block in enumerate(network.decoder):
            x_RTD = block.cached(x_RTD, self.memories[layer], self.mask_BS, span, layer)
        return network.norm(x_RTD)[:, 0]

    def _remember(self, prompt_R: list[int], from_R: Sequence[int]) -> None:
        """What was read, for each hypothesis. Those of one text share it, so that it stays where it is while they only
        change places."""
        if prompt_R == self._prompt_R:
            return
        index_R = torch.tensor(list(from_R), dtype=torch.int64, device=self.memories[0][0].device)
        self.memories = [(k.index_select(0, index_R), v.index_select(0, index_R)) for k, v in self.memories]
        self.mask_BS = None if self.mask_BS is None else self.mask_BS.index_select(0, index_R)
        self._prompt_R = prompt_R
