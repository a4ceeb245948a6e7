"""Hugging Face folders, both ways, against transformers itself with the same random weights (skipped without it)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.engine.compress.graph import groups
from modelworks.engine.compress.prune import narrow, shape
from modelworks.engine.exchange.foreign import Foreign, read, write
from modelworks.layers.head import Head
from modelworks.layers.token_head import TokenHead
from modelworks.models.transformer import Transformer
from modelworks.models.vit import Vit

os.environ["HF_HUB_OFFLINE"] = "1"
torch.set_num_threads(1)
SIZE, LENGTH = 61, 24
SMALL = {
    "vocab_size": SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": LENGTH,
    "pad_token_id": None,
}
GPT2 = {"vocab_size": SIZE, "n_positions": LENGTH, "n_embd": 32, "n_layer": 2, "n_head": 4}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", GPT2),
    "gpt2-untied": ("GPT2LMHeadModel", {**GPT2, "tie_word_embeddings": False, "n_inner": 40}),
    "llama": ("LlamaForCausalLM", SMALL),
    "smollm2": ("LlamaForCausalLM", {**SMALL, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "llama-biased": ("LlamaForCausalLM", {**SMALL, "attention_bias": True, "mlp_bias": True}),
    "llama3-rope": ("LlamaForCausalLM", {**SMALL, "head_dim": 12, "rope_parameters": LLAMA3}),
    "mistral-window": (
        "MistralForCausalLM",
        {**SMALL, "num_key_value_heads": 2, "sliding_window": 5},
    ),
    "qwen2": ("Qwen2ForCausalLM", {**SMALL, "num_key_value_heads": 2}),
    "qwen3": ("Qwen3ForCausalLM", {**SMALL, "num_key_value_heads": 1, "head_dim": 16}),
    "nanochat": ("NanoChatForCausalLM", {**SMALL, "num_key_value_heads": 2}),
    "nanochat-uncapped": (
        "NanoChatForCausalLM",
        {**SMALL, "final_logit_softcapping": None, "tie_word_embeddings": True},
    ),
}


def theirs(name: str, folder: Path) -> nn.Module:
    """A model of transformers with loud random weights, saved in a folder."""
    transformers = pytest.importorskip("transformers")
    kind, settings = CASES.get(name, ("BertForMaskedLM", {**SMALL, "type_vocab_size": 2}))
    torch.manual_seed(3)
    model = getattr(transformers, kind)
    model = model(model.config_class(**settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15 + (1 if parameter.ndim == 1 else 0))
    model.save_pretrained(folder)
    return model


class Ours(nn.Module):
    """Body and head, as a language task joins them."""

    def __init__(self, foreign: Foreign, features: str = "next") -> None:
        super().__init__()
        self.settings = Transformer(**foreign.model)
        inputs = {"x": Layout("tokens", size=foreign.size, length=foreign.length)}
        self.model: Any = self.settings.build(inputs, features).eval()
        self.task = foreign.task or {}
        self.head = nn.Module()
        if self.task and not self.task["tied"]:
            self.head.weight = nn.Parameter(torch.zeros(foreign.size, self.model.width))
        assert foreign.load(self) == []

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        weight = self.model.embedding.weight if self.task["tied"] else self.head.weight
        found, cap = F.linear(features, weight), self.task.get("softcap")
        return cap * torch.tanh(found / cap) if cap else found


def tokens(rows: int = 3, steps: int = 20) -> torch.Tensor:
    return torch.randint(0, SIZE, (rows, steps), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_same_logits_and_back(name: str, tmp_path: Path) -> None:
    model = theirs(name, tmp_path / "theirs")
    wanted = model(tokens()).logits
    assert wanted.std() > 0.1
    foreign = read(tmp_path / "theirs")
    network = Ours(foreign)
    torch.testing.assert_close(network.logits(network.model({"x": tokens()})), wanted, atol=1e-4, rtol=0)
    cache = network.model.new_cache(3, LENGTH)
    parts = [network.model({"x": part}, cache) for part in tokens().split((7, 1, 1, 11), 1)]
    torch.testing.assert_close(network.logits(torch.cat(parts, 1)), wanted, atol=1e-4, rtol=0)
    cached = model(tokens()[:, :7], use_cache=True)
    cached = model(tokens()[:, 7:8], past_key_values=cached.past_key_values).logits
    torch.testing.assert_close(network.logits(parts[1]), cached, atol=1e-4, rtol=0)
    write(tmp_path / "ours", network, network.settings, foreign.task or {}, size=SIZE, length=LENGTH)
    again, told = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    torch.testing.assert_close(again.eval()(tokens()).logits, wanted, atol=1e-4, rtol=0)


@torch.no_grad()
def test_bert_and_its_masked_head(tmp_path: Path) -> None:
    model = theirs("bert", tmp_path / "theirs")
    foreign = read(tmp_path / "theirs")
    assert foreign.task == {"kind": "mask", "tied": True}
    network = nn.Module()
    settings = Transformer(**foreign.model)
    network.model = settings.build({"x": Layout("tokens", size=SIZE, length=LENGTH)}, "token").eval()
    network.head = TokenHead(32, SIZE, tied=True, bias=True, transform=True).eval()
    network.head.tie(network.model)
    foreign.load(network)
    length_B = torch.tensor([20, 9, 1])
    real_BT = torch.arange(20) < length_B[:, None]
    kind_BT = (torch.arange(20) > 4).long().expand(3, -1)
    for kinds in (None, kind_BT):
        wanted = model(tokens(), attention_mask=real_BT.long(), token_type_ids=kinds).logits
        batch = {"x": tokens(), "x.length": length_B} | ({} if kinds is None else {"x.segment": kinds})
        found = network.head.logits(network.model(batch))
        torch.testing.assert_close(found[real_BT], wanted[real_BT], atol=1e-4, rtol=0)
    write(tmp_path / "ours", network, settings, foreign.task, size=SIZE, length=LENGTH)
    again, told = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    assert torch.allclose(again.eval()(tokens()).logits, model(tokens()).logits, atol=1e-4)
    import transformers

    body = transformers.BertModel.from_pretrained(tmp_path / "theirs").eval()
    body.save_pretrained(tmp_path / "body")  # without a head, with a pooler
    foreign = read(tmp_path / "body")
    assert foreign.task is None
    assert set(foreign.unused) == {"pooler.dense.weight", "pooler.dense.bias"}
    features = Ours(foreign, "token").model({"x": tokens()})
    torch.testing.assert_close(features, body(tokens()).last_hidden_state, atol=1e-4, rtol=0)


@torch.no_grad()
def test_vit_and_its_classes(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    settings = {**SMALL, "image_size": 28, "patch_size": 7, "num_channels": 2, "num_labels": 5}
    settings = {
        k: v
        for k, v in settings.items()
        if k not in ("vocab_size", "max_position_embeddings", "pad_token_id")
    }
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**settings)).eval()
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.15 + (1 if parameter.ndim == 1 else 0))
    model.save_pretrained(tmp_path / "theirs")
    foreign = read(tmp_path / "theirs")
    assert (foreign.body, foreign.size, foreign.length) == ("vit", 5, 28)
    network: Any = nn.Module()
    settings = Vit(**foreign.model)
    network.model, network.head = settings.build({"x": Layout("image", (2, 28, 28))}).eval(), Head(32, 5)
    assert foreign.load(network) == []
    image_BCHW = torch.randn(3, 2, 28, 28)
    wanted = model(image_BCHW).logits
    torch.testing.assert_close(network.head(network.model({"x": image_BCHW})), wanted, atol=1e-4, rtol=0)
    assert (
        write(tmp_path / "ours", network, settings, foreign.task, size=5, length=28) == type(model).__name__
    )
    again, told = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    torch.testing.assert_close(again.eval()(image_BCHW).logits, wanted, atol=1e-4, rtol=0)


def test_shards(tmp_path: Path) -> None:
    model = theirs("smollm2", tmp_path / "whole")
    model.save_pretrained(tmp_path / "parts", max_shard_size="10KB")
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    whole, parts = read(tmp_path / "whole"), read(tmp_path / "parts")
    assert whole.tensors.keys() == parts.tensors.keys()
    assert all(torch.equal(whole.tensors[name], parts.tensors[name]) for name in whole.tensors)


# ------------------------------------------------------------------------------------------- without transformers
MODEL = {"width": 32, "depth": 2, "heads": 4, "dropout": 0.0}
LANGUAGE = {"kind": "language", "tied": True, "softcap": None}
LLAMA = {
    **MODEL,
    "positions": "rope",
    "normalisation": "rms",
    "gated": True,
    "activation": "silu",
    "bias": False,
}


def saved(folder: Path, **settings: Any) -> tuple[nn.Module, Transformer]:
    torch.manual_seed(0)
    model = Transformer(**settings)
    network = nn.Module()
    network.model = model.build({"x": Layout("tokens", size=SIZE, length=LENGTH)}, "next").eval()
    network.head = nn.Module()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    write(folder, network, model, LANGUAGE, size=SIZE, length=LENGTH)
    return network, model


@pytest.mark.parametrize(
    "settings",
    [MODEL, {**MODEL, "bias": False}, LLAMA, {**LLAMA, "qk_norm": True, "kv_heads": 2}, {**LLAMA, "bias": "qkv"},
     {**LLAMA, "norm_weight": False}],
)  # fmt: skip
def test_there_and_back(settings: dict[str, Any], tmp_path: Path) -> None:
    network, _ = saved(tmp_path / "hf", **settings)
    foreign = read(tmp_path / "hf")
    assert foreign.task == {"kind": "language", "tied": True}
    back = Ours(foreign)
    x = {"x": tokens()}
    torch.testing.assert_close(back.model(x), network.model(x), atol=1e-5, rtol=1e-4)


def test_a_pruned_network_is_written_as_it_is_now(tmp_path: Path) -> None:
    network, model = saved(tmp_path / "whole", **{**LLAMA, "kv_heads": 2})
    shape(network, {"blocks": {"model.blocks": [1]}})
    found = groups(network)
    narrow(network, [(group, torch.arange(group.count // 2)) for group in found])
    write(tmp_path / "hf", network, model, LANGUAGE, size=SIZE, length=LENGTH)
    back = Ours(read(tmp_path / "hf"))
    assert len(back.model.blocks) == 1
    x = {"x": tokens()}
    torch.testing.assert_close(back.model(x), network.model(x), atol=1e-5, rtol=1e-4)
    uneven, _ = saved(tmp_path / "again", **{**LLAMA, "kv_heads": 2})
    narrow(uneven, [(group, torch.arange(group.count // 2)) for group in groups(uneven)[:1]])
    with pytest.raises(UserError, match="blocks of different sizes"):
        write(tmp_path / "no", uneven, model, LANGUAGE, size=SIZE, length=LENGTH)


def test_what_cannot_be_expressed_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="LlamaForCausalLM comes nearest, and cannot express value_residual: True"
    ):
        saved(tmp_path, **LLAMA, value_residual=True)


@pytest.mark.parametrize(
    "change, match",
    [
        ({"model_type": "gpt3"}, "model_type 'gpt3' is not known here .did you mean 'gpt2'"),
        ({"n_layers": 3}, "gpt2 has no 'n_layers' that is known here .did you mean 'n_layer'"),
        ({"n_head": "four"}, "'n_head' wants a positive whole number, got 'four'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx: True is not supported"),
        ({"activation_function": "gelu_neww"}, "did you mean 'gelu_new'"),
        ({"n_layer": 3}, "has no tensor 'h.2.ln_1.weight'"),
        ({"n_layer": 1}, "tensor 'h.1.[^']*' has no place in this architecture"),
    ],
)
def test_a_config_is_read_whole(change: dict[str, Any], match: str, tmp_path: Path) -> None:
    saved(tmp_path, **MODEL)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=match):
        read(tmp_path)


def test_damaged_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config.json: No such file"):
        read(tmp_path / "nothing")
    saved(tmp_path, **MODEL)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(UserError, match="is damaged"):
        read(tmp_path)
    weights.unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    with pytest.raises(UserError, match=r"pytorch_model.bin is a pickle, which is never opened here"):
        read(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="is no JSON"):
        read(tmp_path)


def test_a_shorter_context_takes_the_first_positions(tmp_path: Path) -> None:
    network, model = saved(tmp_path, **MODEL)
    short = nn.Module()
    short.model = model.build({"x": Layout("tokens", size=SIZE, length=10)}, "next").eval()
    assert read(tmp_path).load(short) == []
    x = {"x": tokens(steps=10)}
    torch.testing.assert_close(short.model(x), network.model(x))
    wrong = nn.Module()
    wrong.model = model.build({"x": Layout("tokens", size=SIZE + 1, length=10)}, "next")
    with pytest.raises(UserError, match=r"model.embed.weight is \(61, 32\), the model's is \(62, 32\)"):
        read(tmp_path).load(wrong)
