"""Ready: a model of others that lacks what it would write with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from modelworks.cli import main
from modelworks.core.errors import UserError
from modelworks.engine.language.ready import ready


def test_a_body_without_its_head_does_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.txt").write_text("the quick brown fox jumps over the lazy dog, 123 times\n" * 200)
    flags = [
        "--fields.text.tokens=bpe", "--fields.text.vocabulary=300", "--fields.text.length=16", "--model.preset=llama",
        "--model.width=16", "--model.depth=1", "--model.heads=2", "--model.kv_heads=1", "--model.hidden=32",
        "--train.steps=2", "--train.threads=1", "--quiet", "--evaluate.bootstrap=0",
    ]  # fmt: skip
    assert main(["train", "t.txt", "--task=language", "--name=t", *flags]) == 0
    assert main(["export", "t", "--format=hf", "--output=hf"]) == 0
    network, _ = ready("hf")
    assert network.head.weight.abs().sum() > 0
    tensors = load_file("hf/model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, "hf/model.safetensors")
    assert not json.loads(Path("hf/config.json").read_text())["tie_word_embeddings"]
    with pytest.raises(UserError, match=r"hf: has no tensor for 'head\.weight'"):
        ready("hf")
