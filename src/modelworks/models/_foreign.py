"""Hugging Face folders, what the architectures share: a config that refuses what it does not know, and the names of
tensors in both tongues. One file an architecture beside this one; engine/exchange/foreign.py reads and writes folders.

H query heads, G key and value heads, E width of a head, F = E/2 pairs, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from modelworks.core.errors import UserError, did_you_mean

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "relu2": "relu2",
}
"""Their name → ours."""
THEIR_ACTIVATIONS = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}

_HARMLESS = """
    _name_or_path _attn_implementation architectures attention_dropout attention_probs_dropout_prob attn_pdrop
    auto_map bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward classifier_dropout
    decoder_start_token_id diversity_penalty do_sample dtype early_stopping embd_pdrop
    encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task
    forced_bos_token_id forced_eos_token_id gradient_checkpointing hidden_dropout_prob id2label
    initializer_range is_llama_config keys_to_ignore_at_inference label2id length_penalty
    max_length min_length model_type n_ctx no_repeat_ngram_size num_beam_groups num_beams num_labels
    num_return_sequences output_attentions output_hidden_states output_scores pad_token_id prefix pretraining_tp
    problem_type reorder_and_upcast_attn remove_invalid_values repetition_penalty resid_pdrop return_dict
    return_dict_in_generate sep_token_id summary_activation summary_first_dropout summary_proj_to_labels
    summary_type summary_use_proj suppress_tokens task_specific_params temperature tf_legacy_loss
    tokenizer_class top_k top_p torch_dtype torchscript transformers_version transformers.js_config typical_p
    unsloth_fixed use_bfloat16 use_cache xla_device _sliding_window_pattern
"""
HARMLESS = frozenset(_HARMLESS.split())
"""Keys of config.json that leave the numbers of a forward pass alone."""


LAYERS = 10_000
"""Most layers that a file may claim: lists of a billion of them would fill memory."""


class Config:
    """config.json, of which every key is asked for, harmless or refused."""

    def __init__(self, tree: Mapping[str, Any], where: str) -> None:
        self.tree, self.where = dict(tree), where
        self._asked: set[str] = set()

    @property
    def type(self) -> str:
        return str(self.tree.get("model_type", ""))

    def take(self, name: str, default: Any = None) -> Any:
        """The value, or the default where it is absent or null."""
        self._asked.add(name)
        value = self.tree.get(name)
        return default if value is None else value

    def count(self, name: str, default: int | None = None) -> int:
        """A positive whole number."""
        value = self.take(name, default)
        if value is None:
            raise UserError(f"{self.where}: has no {name!r}", did_you_mean(name, self.tree))
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{self.where}: {name!r} wants a positive whole number, got {value!r}")
        if name in ("num_hidden_layers", "n_layer") and value > LAYERS:
            raise UserError(f"{self.where}: {name!r} says {value:,}, more layers than any model has")
        return value

    def number(self, name: str, default: float) -> float:
        """A positive number."""
        value = self.take(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
            raise UserError(f"{self.where}: {name!r} wants a positive number, got {value!r}")
        return float(value)

    def only(self, name: str, *allowed: Any) -> Any:
        """A value that must be one of these; absent or null counts as the first."""
        value = self.take(name, allowed[0])
        if value not in allowed:
            wanted = " or ".join(repr(option) for option in allowed)
            raise UserError(f"{self.where}: {name}: {value!r} is not supported", f"what is: {wanted}")
        return value

    def activation(self, name: str, default: str) -> str:
        """Our name of an activation."""
        value = self.take(name, default)
        if value not in ACTIVATIONS:
            raise UserError(
                f"{self.where}: {name}: {value!r} is not supported", did_you_mean(str(value), ACTIVATIONS)
            )
        return ACTIVATIONS[value]

    def rope(self, context: int) -> dict[str, Any]:
        """rope_base and rope_scaling, from the old keys or the new."""
        new = dict(self.take("rope_parameters", {}))
        old = dict(self.take("rope_scaling", {}))
        tree = {**old, **new}
        base = tree.pop("rope_theta", None) or self.take("rope_theta", 10_000.0)
        kind = tree.pop("rope_type", None) or tree.pop("type", None) or "default"
        tree.pop("type", None)
        self.only("rope_interleaved", False)
        if tree.pop("partial_rotary_factor", 1.0) != 1.0 or self.only("partial_rotary_factor", 1.0) != 1.0:
            raise UserError(f"{self.where}: partial_rotary_factor is not supported", "what is: 1.0")
        if kind == "default":
            return {"rope_base": float(base)}
        if kind != "llama3":
            raise UserError(f"{self.where}: rope_type {kind!r} is not supported", "what is: default, llama3")
        names = {"factor": "factor", "low": "low_freq_factor", "high": "high_freq_factor"}
        scaling = {ours: float(tree[theirs]) for ours, theirs in names.items()}
        scaling["length"] = int(tree.get("original_max_position_embeddings", context))
        return {"rope_base": float(base), "rope_scaling": scaling}

    def finish(self) -> None:
        """Refuse every key that was not asked for."""
        odd = [key for key in self.tree if key not in self._asked and key not in HARMLESS]
        if odd:
            near = did_you_mean(odd[0], self._asked)
            raise UserError(
                f"{self.where}: {self.type} has no {', '.join(map(repr, odd))} that is known here",
                f"{near if near.startswith('did') else 'take it out if the numbers do not depend on it'}",
            )


def rope_tree(model: Any) -> dict[str, Any]:
    """rope's keys of a config, as read by old and new versions of transformers."""
    tree: dict[str, Any] = {"rope_theta": model.rope_base}
    if model.rope_scaling is not None:
        s = model.rope_scaling
        tree["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": s.factor,
            "low_freq_factor": s.low,
            "high_freq_factor": s.high,
            "original_max_position_embeddings": s.length,
        }
    return tree


# ------------------------------------------------------------------------------------------- tensors
@dataclass(frozen=True)
class Part:
    """One tensor of ours, and those of theirs that hold the same."""

    ours: str
    """Name in our network; empty: theirs have it and ours do not, so it is written as `constant`."""
    theirs: tuple[str, ...]
    pack: Callable[[list[Tensor]], Tensor] = field(default=lambda theirs: theirs[0])
    unpack: Callable[[Tensor], list[Tensor]] = field(default=lambda ours: [ours])
    constant: tuple[float, tuple[int, ...]] = (0.0, ())
    """Value and shape."""


class Architecture(Protocol):
    """What each file of an architecture is."""

    TYPES: Mapping[str, str]
    """model_type → what the names of its classes in transformers begin with."""
    HEADS: Mapping[str, str]
    """Kind of task → what the name of the class with its head ends with."""
    CAUSAL: bool
    """Whether a step sees nothing of those behind it."""
    PREFIX: str
    """What the body's tensors begin with where a head is present."""

    def read(self, config: Config) -> tuple[dict[str, Any], dict[str, Any] | None, int, int]:
        """(model settings, task settings or None, vocabulary, context) of a config."""
        ...

    def refusals(self, model: Any, task: Mapping[str, Any]) -> list[str]:
        """Why this architecture cannot hold such a model; empty when it can."""
        ...

    def write(self, model: Any, task: Mapping[str, Any], size: int, length: int) -> dict[str, Any]:
        """config.json."""
        ...

    def parts(self, model: Any, tied: bool, kind: str) -> list[Part]:
        """Every tensor. `kind`: the task's, of `HEADS`; any other for the body alone."""
        ...


def tag_head(theirs: str) -> list[Part]:
    """The last layer of task tag."""
    return [Part(f"head.1.{leaf}", (f"{theirs}.{leaf}",)) for leaf in ("weight", "bias")]


def transposed(ours: str, theirs: str) -> Part:
    """GPT-2 keeps its matrices as (inputs, outputs)."""
    return Part(ours, (theirs,), lambda t: t[0].T.contiguous(), lambda t: [t.T.contiguous()])


def joined(ours: str, theirs: Sequence[str], rows: Sequence[int]) -> Part:
    """Our matrix is theirs, one above the other."""
    return Part(ours, tuple(theirs), torch.cat, lambda t: list(t.split(tuple(rows))))


def rotated(ours: str, theirs: Sequence[str], model: Any, flip: bool = False) -> Part:
    """Queries, keys and values. They pair channel f with f + F for RoPE, we 2f with 2f + 1. `flip`: they turn the
    other way round, which is the same with each pair swapped."""
    heads, kv_heads, width = shape(model)

    def pack(parts: list[Tensor]) -> Tensor:
        q, k, v = parts
        return torch.cat((pairs(q, heads, flip), pairs(k, kv_heads, flip), v))

    def unpack(qkv: Tensor) -> list[Tensor]:
        q, k, v = qkv.split((heads * width, kv_heads * width, kv_heads * width))
        return [halves(q, heads, flip), halves(k, kv_heads, flip), v]

    return Part(ours, tuple(theirs), pack, unpack)


def pairs(x: Tensor, heads: int, flip: bool = False) -> Tensor:
    """Channels (f, f + F) of each head → neighbours; over the first axis."""
    split = x.reshape(heads, 2, -1, *x.shape[1:])
    return (split.flip(1) if flip else split).transpose(1, 2).reshape(x.shape)


def halves(x: Tensor, heads: int, flip: bool = False) -> Tensor:
    """The inverse of `pairs`."""
    split = x.reshape(heads, -1, 2, *x.shape[1:]).transpose(1, 2)
    return (split.flip(1) if flip else split).reshape(x.shape).contiguous()


def shape(model: Any) -> tuple[int, int, int]:
    """H, G, E."""
    return (
        model.heads,
        model.kv_heads or model.heads,
        model.head_width or model.width // model.heads,
    )


def hidden(model: Any) -> int:
    """Width of the feed-forward layer."""
    return model.hidden or round(model.width * model.ratio)


def unlike(model: Any, wanted: Mapping[str, Iterable[Any]]) -> list[str]:
    """Settings that are none of what is wanted, in words."""
    return [
        f"{name}: {getattr(model, name)!r}"
        for name, allowed in wanted.items()
        if getattr(model, name) not in tuple(allowed)
    ]


def label_tree(labels: Sequence[str]) -> dict[str, Any]:
    """What config.json says of the names of classes."""
    return {
        "id2label": {str(code): label for code, label in enumerate(labels)},
        "label2id": {label: code for code, label in enumerate(labels)},
    }


def decoder_tree(model: Any, size: int, length: int) -> dict[str, Any]:
    """What config.json says of every decoder with rotary positions and norms by root mean square."""
    heads, kv_heads, width = shape(model)
    return {
        "vocab_size": size,
        "hidden_size": model.width,
        "intermediate_size": hidden(model),
        "num_hidden_layers": model.depth,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": width,
        "hidden_act": THEIR_ACTIVATIONS[model.activation],
        "max_position_embeddings": length,
        "rms_norm_eps": model.eps,
        **rope_tree(model),
    }
