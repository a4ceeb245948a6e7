"""A Run written for other programs gives the same logits when it is read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from modelworks.cli import main
from modelworks.core.run import RunFolder
from modelworks.engine.exchange import foreign
from modelworks.engine.language.generate import Generator
from modelworks.engine.language.ready import ready
from modelworks.engine.language.sampling import Sampling
from modelworks.engine.predictor import Predictor

GREEDY = Sampling(temperature=0, max_tokens=6)
LLAMA = ["--model.preset=llama", "--model.kv_heads=1", "--model.hidden=64"]
TEXT = "\n".join(f"Line {n}: the quick brown fox jumps over {n % 7} lazy dogs." for n in range(400))
SMALL = [
    "--model.depth=2",
    "--model.width=32",
    "--model.heads=2",
    "--train.steps=3",
    "--train.threads=1",
    "--quiet",
]


def trained(folder: Path, *flags: str) -> Predictor:
    (folder / "t.txt").write_text(TEXT)
    corpus = ["--fields.text.tokens=bpe", "--fields.text.vocabulary=300", "--fields.text.length=16"]
    assert main(["train", "t.txt", "--task=language", "--name=t", *corpus, *SMALL, *flags]) == 0
    return Predictor.load(RunFolder.find("t"))


@pytest.mark.parametrize("format, flags", [("hf", []), ("hf", LLAMA), ("gguf", LLAMA)])
def test_what_is_read_back_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, flags: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    predictor = trained(tmp_path, *flags)
    assert main(["export", "t", "--format", format, "--output", "out"]) == 0
    found = foreign.read("out" if format == "hf" else "out/t.gguf")
    from modelworks.engine.network import build
    from modelworks.engine.recipe import of_run

    recipe = of_run(RunFolder.find("t").recipe_tree(), "recipe.yaml")
    again = build(recipe.model, recipe.task, predictor.fields, 1).eval()
    found.load(again)
    batch = {"text": torch.randint(0, 300, (2, 16))}
    with torch.inference_mode():
        ours, theirs = (n.head.logits(n.model(batch)) for n in (predictor.network, again))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("format", ["hf", "gguf"])
def test_texts_that_an_end_token_begins_begin_so_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    monkeypatch.chdir(tmp_path)
    end = (
        trained(tmp_path, "--task.documents=true", "--fields.text.end=true", *LLAMA)
        .fields["text"]
        .state["end"]
    )
    network, field = ready("t")
    asked, told = ([*start, *field.ids("Line")] for start in ([], [end]))
    wanted = Generator(network, field.with_state({**field.state, "begin": -1})).generate([told], GREEDY)
    assert Generator(network, field).generate([asked], GREEDY) == wanted
    assert main(["export", "t", "--format", format, "--output", "out"]) == 0
    if format == "hf":
        file = tokenizers.Tokenizer.from_file("out/tokenizer.json")
        assert file.encode("Line").ids == told
    network, field = ready("out" if format == "hf" else "out/t.gguf")
    assert field.state["begin"] == end
    assert Generator(network, field).generate([asked], GREEDY)[0].ids == wanted[0].ids


def test_a_chat_template_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        [{"role": "user", "content": f"Hello {n}?"}, {"role": "assistant", "content": f"Yes {n}."}]
        for n in range(60)
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    chat = [
        "--fields.messages.tokens=bpe",
        "--fields.messages.vocabulary=300",
        "--fields.messages.template=chatml",
    ]
    command = [
        "train",
        "chats.jsonl",
        "--task=instruct",
        "--target=messages",
        "--name=c",
        *chat,
        *SMALL,
        *LLAMA,
    ]
    assert main([*command, "--fields.messages.kind=chat", "--fields.messages.length=64"]) == 0
    for format, folder in (("hf", "out"), ("gguf", "out2")):
        assert main(["export", "c", "--format", format, "--output", folder]) == 0
    assert "<|im_start|>" in Path("out/chat_template.jinja").read_text("utf-8")
    assert ready("out")[1].state["template"] == ready("out2/c.gguf")[1].state["template"]


def test_characters_have_no_tokenizer_to_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text(TEXT)
    assert main(["train", "t.txt", "--task=language", "--name=t", *SMALL]) == 0
    assert main(["export", "t", "--format=hf", "--output=out"]) == 2
    assert "tokens: bpe" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
