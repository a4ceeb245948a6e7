"""transformer: an encoder or decoder over tokens or frames (Vaswani et al. 2017).

    model: {kind: transformer, width: 128, depth: 4, heads: 4, positions: rope}

`features="token"` gives the vectors of all steps; "next" too, and each step sees only itself and the past;
otherwise they are pooled. Padding never changes a result, and batches without padding take the fastest attention
kernels. Where a batch has NAME.document, the steps of a document see no other's.
B rows, T steps, D width.

    cache = body.new_cache(rows=1, length=512)      # built with "next": new steps cost themselves alone
    features_BTD = body(batch, cache)               # see layers/cache.py
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field as Setting
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from modelworks.core.choices import Activation, Initialisation, Order, Pool, Positions, RopeScaling
from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.core.model import Features, Model
from modelworks.layers.block import Block
from modelworks.layers.cache import Cache
from modelworks.layers.dropout import Dropout
from modelworks.layers.embedding import embed_steps
from modelworks.layers.initialise import initialise
from modelworks.layers.moe import Experts
from modelworks.layers.ngrams import Ngrams
from modelworks.layers.normalisation import normalisation
from modelworks.layers.padding import padding_mask
from modelworks.layers.pooling import Pooling
from modelworks.layers.position import Position, places

_LLAMA: dict[str, Any] = {
    "positions": "rope", "normalisation": "rms", "gated": True, "activation": "silu", "bias": False, "dropout": 0.0,
}  # fmt: skip
_BERT: dict[str, Any] = {
    "positions": "learned", "order": "post", "embedding_norm": True, "segments": 2, "eps": 1e-12,
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "gpt2": {"width": 768, "depth": 12, "heads": 12, "activation": "gelu_tanh"},
    "llama": {
        **_LLAMA, "width": 576, "depth": 30, "heads": 9, "kv_heads": 3, "hidden": 1536, "rope_base": 100_000.0,
    },
    "qwen": {
        **_LLAMA, "width": 1024, "depth": 28, "heads": 16, "kv_heads": 8, "head_width": 128, "hidden": 3072,
        "qk_norm": True, "rope_base": 1_000_000.0, "eps": 1e-6,
    },
    "nanochat": {
        **_LLAMA, "width": 768, "depth": 12, "heads": 6, "gated": False, "activation": "relu2", "qk_norm": True,
        "norm_weight": False, "embedding_norm": True, "zero_residual": True, "eps": 1e-6,
    },
    "bert": {**_BERT, "width": 768, "depth": 12, "heads": 12},
    "minilm": {**_BERT, "width": 384, "depth": 6, "heads": 12},
}  # fmt: skip
"""GPT-2 small, SmolLM2-135M, Qwen3-0.6B, nanochat's d12, BERT base, MiniLM-L6."""


class Transformer(Model):
    """Transformer: an encoder, or a decoder where the task asks for what comes next."""

    forms: ClassVar[tuple[str, ...]] = ("tokens", "frames")
    presets: ClassVar[tuple[str, ...]] = ("preset", "dial")
    gives: ClassVar[tuple[Features, ...]] = ("row", "token", "next")

    preset: Literal["gpt2", "llama", "qwen", "nanochat", "bert", "minilm"] | None = None
    """Settings of a published model, for those not given: GPT-2 small, SmolLM2-135M, Qwen3-0.6B, nanochat's d12,
    BERT base, MiniLM-L6."""
    dial: PositiveInt | None = None
    """nanochat's dial: so many blocks, 64 times as wide, heads of 128; for those of these that are not given."""
    width: PositiveInt = 128
    """Width of a step's vector."""
    depth: PositiveInt = 4
    """Number of blocks."""
    heads: PositiveInt = 4
    """Attention heads of a block; they share the width."""
    kv_heads: PositiveInt | None = None
    """Heads of keys and values, each shared by as many query heads: grouped-query attention (Ainslie et al. 2023),
    multi-query with 1 (Shazeer 2019); None: as many as `heads`."""
    head_width: PositiveInt | None = None
    """Width of a head; None: width / heads."""
    qk_norm: bool = False
    """Norm each head's queries and keys by their root mean square (Henry et al. 2020)."""
    window: PositiveInt | None = None
    """A step looks at so many steps, its own among them, back (and, in an encoder, ahead); None: at all."""
    causal: bool = False
    """A step sees only itself and the past even where rows are pooled, as it does in training on what comes next."""
    value_residual: bool = False
    """Blend each layer's values with the first layer's by a learned share (Zhou et al. 2024)."""
    ngrams: PositiveInt = 1
    """Add to each token's vector those of the runs of 2 to so many tokens that it ends, hashed into one table."""
    ngram_rows: PositiveInt | None = None
    """Rows of that table; None: 64 for each token of the vocabulary, at most 262,144."""
    ratio: float = Setting(default=4.0, gt=0)
    """Width of the feed-forward layer, in widths."""
    hidden: PositiveInt | None = None
    """Width of the feed-forward layer; None: by `ratio`."""
    gated: bool = False
    """Gate the feed-forward layer (Shazeer 2020): SwiGLU with silu, GEGLU with gelu."""
    experts: PositiveInt = 1
    """Feed-forward networks of a block, of which each step takes `active`; above 1 a task has to balance them."""
    active: PositiveInt = 2
    """Experts that a step goes through, where there are several."""
    positions: Positions = "learned"
    """How a step knows its place."""
    rope_base: float = Setting(default=10_000.0, gt=1)
    """rope: the slowest pair turns once in about 2π times as many steps."""
    rope_scaling: RopeScaling | None = None
    """rope: slower turns for longer contexts."""
    order: Order = "pre"
    """Norm before each half of a block and once at the end, or after each half as in 2017."""
    pooling: Pool = "mean"
    """How the steps become one vector; cls is an extra learned step in front."""
    activation: Activation = "gelu"
    """Non-linearity of the feed-forward layers."""
    normalisation: Literal["layer", "rms", "none"] = "layer"
    """The norm."""
    eps: float = Setting(default=1e-5, gt=0)
    """Added to the variance by every norm."""
    norm_weight: bool = True
    """Norms learn a weight for each channel."""
    embedding_norm: bool = False
    """Norm the embedded steps too, before the first block."""
    bias: bool | Literal["qkv"] = True
    """Biases in matrices and norms; qkv: of queries, keys and values alone."""
    segments: int = Setting(default=0, ge=0)
    """Learned vectors for so many kinds of step, as BERT's for a first and second sentence; which kind a step is
    of is read from `NAME.segment`, and is 0 without that."""
    dropout: float = Setting(default=0.1, ge=0, lt=1)
    """Share dropped after the embedding and in each residual branch in training."""
    attention_dropout: float = Setting(default=0.0, ge=0, lt=1)
    """Share of attention weights dropped in training; above 0 the fused CPU kernel cannot be used."""
    initialisation: Initialisation = "normal"
    """How the matrices start."""
    zero_residual: bool = False
    """Start each block as the identity."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        values = dict(PRESETS.get(str(given.get("preset")), {}))
        if isinstance(dial := given.get("dial"), int) and dial > 0:
            values |= {"depth": dial, "width": 64 * dial, "heads": -(-dial // 2), "head_width": 128}
        return {**values, **given}

    @model_validator(mode="after")
    def _enough_experts(self) -> Transformer:
        if self.experts > 1 and self.active > self.experts:
            raise ValueError(f"active: {self.active} of {self.experts} experts cannot be")
        return self

    @classmethod
    def recognise(cls, inputs: Mapping[str, str], rows: int) -> float:
        # Few texts do not teach it word order: on 9,987 Chinese food reviews one pass of it took 164 s on a
        # CPU and gave .886 accuracy on 2,000 others, one pass of bag 5 s and .900.
        text = 0.7 if rows >= 30_000 else 0.5
        good: dict[tuple[str, ...], float] = {("tokens",): text, ("frames",): 0.3}
        return good.get(tuple(inputs.values()), 0.0)

    def build(self, inputs: Mapping[str, Layout], features: Features = "row") -> nn.Module:
        self.check(inputs)
        ((name, layout),) = inputs.items()
        return initialise(Network(name, layout, self, features), self.initialisation, self.zero_residual)


class Network(nn.Module):
    """Embedding, blocks, norm, pooling."""

    shortens: ClassVar[tuple[str, ...]] = ("blocks",)
    """Lists of blocks that do without any one of them, since each adds to what it is given."""

    documents = True
    """It keeps the documents of a row apart (NAME.document)."""

    def __init__(self, name: str, layout: Layout, settings: Transformer, features: Features) -> None:
        super().__init__()
        self.name, self.features, self.width, self.eps = name, features, settings.width, settings.eps
        width, self.causal = settings.width, settings.causal or features == "next"
        causal = self.causal
        first = settings.pooling == "cls" and features == "row"
        # Causal steps never see the padding behind them, so code 0 may be a token like any other.
        self.embed = embed_steps(layout, width, padded=not causal)
        self.ngrams = _ngrams(layout, settings)
        self.segment = nn.Embedding(settings.segments, width) if settings.segments else None
        if first and causal:
            raise UserError("a cls step in front sees nothing of a causal text", "pooling: mean or last")
        self.cls = nn.Parameter(torch.randn(1, 1, width) * 0.02) if first else None
        self.position = Position(
            settings.positions,
            width,
            settings.heads,
            layout.length + first,
            head_width=settings.head_width,
            base=settings.rope_base,
            scaling=settings.rope_scaling,
            causal=causal,
            window=settings.window,
        )
        self.norm0 = self._norm(settings, settings.embedding_norm)
        self.dropout = Dropout(settings.dropout)
        self.value_residual = settings.value_residual
        self.blocks: Any = nn.ModuleList(
            Block(
                width,
                settings.heads,
                settings.hidden or round(width * settings.ratio),
                act=settings.activation,
                gated=settings.gated,
                norm=settings.normalisation,
                order=settings.order,
                dropout=settings.dropout,
                attention_dropout=settings.attention_dropout,
                eps=settings.eps,
                bias=settings.bias,
                norm_weight=settings.norm_weight,
                kv_heads=settings.kv_heads,
                head_width=settings.head_width,
                qk_norm=settings.qk_norm,
                value_residual=settings.value_residual and index > 0,
                experts=settings.experts,
                active=settings.active,
            )
            for index in range(settings.depth)
        )
        self.norm = self._norm(settings, settings.order == "pre")
        self.pool = Pooling(settings.pooling, width) if features == "row" else None

    @staticmethod
    def _norm(settings: Transformer, wanted: bool) -> nn.Module:
        kind = settings.normalisation if wanted else "none"
        return normalisation(
            kind, settings.width, eps=settings.eps, weight=settings.norm_weight, bias=settings.bias is True
        )

    @property
    def embedding(self) -> nn.Module:
        """The table of tokens' vectors, for heads that share it."""
        return self.embed

    @property
    def balance(self) -> Tensor | None:
        """Mean load-balancing loss of the last pass's experts (see layers/moe.py); None where there are none."""
        layers = [b.feedforward for b in self.blocks if isinstance(b.feedforward, Experts)]
        found = [layer.balance for layer in layers if layer.balance is not None]
        return torch.stack(found).mean() if found else None

    def forward(self, batch: Mapping[str, Tensor], cache: Cache | None = None) -> Tensor:
        """`cache`: the batch's steps follow those that it holds, and only their features are given."""
        if cache is not None:
            return self._append(batch, cache)
        x_BTD = self._embedded(batch)
        length_B = batch.get(f"{self.name}.length")
        if self.cls is not None:
            x_BTD = torch.cat((self.cls.to(x_BTD.dtype).expand(x_BTD.shape[0], -1, -1), x_BTD), 1)
            length_B = None if length_B is None else length_B + 1
        mask_BT = None if self.features == "next" else padding_mask(length_B, x_BTD.shape[1])
        document_BT = batch.get(f"{self.name}.document")
        x_BTD = self.dropout(self.norm0(self.position.add(x_BTD, document_BT)))
        mask, rotary, causal = self.position.attend(x_BTD, mask_BT, document_BT)
        values: list[Tensor] | None = [] if self.value_residual else None
        for block in self.blocks:
            x_BTD = block(x_BTD, mask, rotary, causal, values)
        x_BTD = self.norm(x_BTD)
        return x_BTD if self.pool is None else self.pool(x_BTD, mask_BT)

    def new_cache(self, rows: int, length: int) -> Cache:
        """An empty cache for so many rows of up to `length` steps."""
        if self.features != "next":
            raise UserError(f"a transformer built for {self.features!r} sees the future, so it has no cache")
        attention = self.blocks[0].attention
        self.position.table(length, next(self.parameters()))  # refuses more than learned positions cover
        like = next(self.norm.parameters(), next(self.parameters()))
        cache = Cache(
            len(self.blocks), rows, attention.kv_heads, length, attention.head_width, like.dtype, like.device
        )
        if self.ngrams is not None:
            cache.remember_tokens(self.ngrams.vocabulary)
        return cache

    @torch.no_grad()
    def _append(self, batch: Mapping[str, Tensor], cache: Cache) -> Tensor:
        before_BP = None if self.ngrams is None else cache.follow(batch[self.name], self.ngrams.longest - 1)
        x_BTD = self._embedded(batch, before_BP)
        length_B = batch.get(f"{self.name}.length")
        span = cache.span(x_BTD.shape[1], length_B, self.position, self.value_residual)
        if span.added is not None:
            x_BTD = x_BTD + span.added
        x_BTD = self.norm0(x_BTD)
        for index, block in enumerate(self.blocks):
            x_BTD = block.cached(x_BTD, span, index)
        return self.norm(x_BTD)

    def _embedded(self, batch: Mapping[str, Tensor], before_BP: Tensor | None = None) -> Tensor:
        x_BTD = self.embed(batch[self.name])
        if self.ngrams is not None:
            document_BT = batch.get(f"{self.name}.document")
            place_BT = None if document_BT is None else places(document_BT)
            x_BTD = x_BTD + self.ngrams(batch[self.name], before_BP, place_BT)
        if self.segment is None:
            return x_BTD
        kinds_BT = batch.get(f"{self.name}.segment")
        return x_BTD + (self.segment.weight[0] if kinds_BT is None else self.segment(kinds_BT))


def _ngrams(layout: Layout, settings: Transformer) -> Ngrams | None:
    if settings.ngrams == 1:
        return None
    if layout.form != "tokens":
        raise UserError(
            f"ngrams: {settings.ngrams} wants tokens, and this input has {layout.form}", "ngrams: 1"
        )
    return Ngrams(layout.size, settings.width, settings.ngrams, settings.ngram_rows)
