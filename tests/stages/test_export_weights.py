"""Exports to hf and gguf: transformers says what the Run says, its README is enough, and nothing is left behind."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modelworks.cli import main
from modelworks.core.run import RunFolder
from modelworks.stages.predict import predict

TEXT = "\n".join(f"Line {n}: the quick brown fox jumps over {n % 7} lazy dogs." for n in range(400))
SMALL = ["--train.steps=3", "--train.threads=1", "--quiet"]
TINY = ["--model.width=32", "--model.depth=2", "--model.heads=2"]
LLAMA = ["--model.preset=llama", "--model.kv_heads=1", "--model.hidden=64"]
BPE = ["--fields.text.tokens=bpe", "--fields.text.vocabulary=300", "--fields.text.length=32"]
BERT = ["--model.kind=transformer", "--model.preset=bert", "--fields.text.tokens=wordpiece"]
REVIEWS = [
    {"text": f"{subject} was {how}, number {n}", "label": "good" if n % 2 else "bad"}
    for n, (subject, how) in enumerate(
        (s, h)
        for s in ("the soup", "our room", "this film and its end")
        for h in "abcdefghijklmnopqrstuvwxyz"
    )
]
CHATS = [
    {
        "messages": [
            {"role": "user", "content": f"What is {n} and one?"},
            {"role": "assistant", "content": f"It is {n + 1}."},
        ]
    }
    for n in range(60)
]
ENTITIES = [
    {
        "tokens": ["Ada", "Lovelace", "saw", city, str(n), "."],
        "tags": ["B-PER", "I-PER", "O", "B-LOC", "O", "O"],
    }
    for n in range(30)
    for city in ("Oslo", "Turin")
]
ROWS = {"reviews": REVIEWS, "chats": CHATS, "entities": ENTITIES}
KINDS = {
    "language": ("Qwen3ForCausalLM", "t.txt", ["--task=language", *BPE]),
    "nanochat": (
        "NanoChatForCausalLM", "t.txt",
        ["--task=language", *BPE, "--model.norm_weight=false", "--model.embedding_norm=true", "--model.gated=false",
         "--model.activation=relu2", "--task.softcap=15"],
    ),
    "gpt2": ("GPT2LMHeadModel", "t.txt", ["--task=language", *BPE, "--model.preset=gpt2"]),
    "llama": ("LlamaForCausalLM", "t.txt", ["--task=language", *BPE, *LLAMA]),
    "documents": (
        "LlamaForCausalLM", "t.txt",
        ["--task=language", *BPE, *LLAMA, "--task.documents=true", "--fields.text.end=true"],
    ),
    "instruct": (
        "LlamaForCausalLM", "chats.jsonl",
        ["--task=instruct", "--target=messages", "--fields.messages.kind=chat", "--fields.messages.tokens=bpe",
         "--fields.messages.vocabulary=300", "--fields.messages.template=chatml", "--fields.messages.length=64",
         "--task.tied=false", *LLAMA],
    ),
    "mask": ("BertForMaskedLM", "t.txt", ["--task=mask", *BERT, "--fields.text.vocabulary=300", "--fields.text.length=32"]),
    "tag": (
        "BertForTokenClassification", "entities.jsonl",
        ["--task=tag", "--target=tags", "--model.kind=transformer", "--model.preset=bert",
         "--fields.tokens.tokens=wordpiece", "--fields.tokens.vocabulary=60"],
    ),
    "embed": (
        "BertModel", "reviews.jsonl",
        ["--task=embed", "--target=text", "--fields.label=ignore", "--fields.text.kind=text",
         "--model.kind=transformer", "--model.preset=bert", "--fields.text.tokens=bpe", "--fields.text.vocabulary=300"],
    ),
    "vit": ("ViTForImageClassification", "sample:digits", ["--task=classify", "--model.kind=vit"]),
}  # fmt: skip


def trained(folder: Path, kind: str) -> str:
    name, data, flags = KINDS[kind]
    if data.endswith(".jsonl"):
        lines = [json.dumps(row) for row in ROWS[data.removesuffix(".jsonl")]]
        (folder / data).write_text("\n".join(lines))
    (folder / "t.txt").write_text(TEXT)
    assert main(["train", data, "--name=r", *flags, *TINY, *SMALL]) == 0
    return name


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_says_what_the_run_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    capsys: pytest.CaptureFixture[str],
    outside: Callable[[Path, str], str],
    readme_code: Callable[[Path], str],
) -> None:
    transformers = pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    name = trained(tmp_path, kind)
    capsys.readouterr()
    assert main(["export", "r", "--format=hf", "--output=out"]) == 0
    assert f"for {name}: max difference" in capsys.readouterr().out
    about = json.loads(Path("out/verification.json").read_text())
    assert about["for"] == name
    assert about["versions"] == {"transformers": transformers.__version__}
    found = about["verification"]
    assert set(found["batches"]) == {"1", "7", "64"}
    assert found["max_difference"] <= 1e-4
    assert found["whole_numbers"]["different"] == 0
    if kind in ("instruct", "tag", "embed", "vit"):  # of the others rows are windows of a longer text
        assert found["encoded"]["equal"] == found["encoded"]["rows"] == found["rows"]
    # Every tensor that the class wants is there, and none that it does not know.
    loaded, told = getattr(transformers, name).from_pretrained("out", output_loading_info=True)
    missing = [key for key in told["missing_keys"] if not key.startswith("pooler.")]
    assert not missing
    assert not told["unexpected_keys"]
    assert (Path("out") / "card.md").exists()
    assert outside(tmp_path / "out", readme_code(tmp_path / "out"))
    labels = {"tag": ["O", "B-LOC"], "vit": ["0", "1"]}.get(kind)
    if labels:
        assert [loaded.config.id2label[code] for code in (0, 1)] == labels


@pytest.mark.parametrize("pooling", ["max", "last"])
def test_the_readme_pools_as_the_run_does(
    tmp_path: Path, pooling: str, outside: Callable[[Path, str], str], readme_code: Callable[[Path], str]
) -> None:
    pytest.importorskip("transformers")
    _, _, flags = KINDS["embed"]
    (tmp_path / "reviews.jsonl").write_text("\n".join(map(json.dumps, REVIEWS)))
    flags = [*flags, f"--model.pooling={pooling}", *TINY, *SMALL]
    assert main(["train", "reviews.jsonl", "--name=r", *flags]) == 0
    assert main(["export", "r", "--format=hf", "--output=out"]) == 0
    said = outside(tmp_path / "out", readme_code(tmp_path / "out") + "print(vectors.tolist())")
    theirs = json.loads(said.splitlines()[-1])
    ours = RunFolder.find("r")
    rows = predict(ours, {"text": ["one text", "another one"]}).to_pylist()
    for mine, other in zip(rows, theirs, strict=True):
        assert mine["prediction"] == pytest.approx(other, abs=1e-5)


WORDS = ["--task=tag", "--target=tags", "--model.kind=transformer", "--model.preset=bert"]


def test_words_of_byte_pairs_are_cut_as_in_training(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    rows = [{**row, "tokens": ["(U.S.A.)", *row["tokens"][1:]]} for row in ENTITIES]
    (tmp_path / "e.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pieces = ["--fields.tokens.tokens=bpe", "--fields.tokens.vocabulary=300"]
    assert main(["train", "e.jsonl", "--name=r", *WORDS, *pieces, *TINY, *SMALL]) == 0
    assert main(["export", "r", "--format=hf", "--output=out"]) == 0
    found = json.loads(Path("out/verification.json").read_text())["verification"]
    assert found["encoded"]["equal"] == found["rows"]
    assert found["batches"]["64"]["logits"] <= 1e-5


@pytest.mark.parametrize("wrap", ["true", "false"])
def test_a_tokenizer_from_elsewhere_adds_what_training_added(tmp_path: Path, wrap: str) -> None:
    pytest.importorskip("transformers")
    trained(tmp_path, "mask")
    assert main(["export", "r", "--format=hf", "--output=base"]) == 0
    file = tmp_path / "base" / "tokenizer.json"
    tree = json.loads(file.read_text())
    for name in ("[CLS]", "[SEP]"):  # in the places of tokens that no text needs
        old = next(token for token, code in tree["model"]["vocab"].items() if code == 290 + (name == "[SEP]"))
        code = tree["model"]["vocab"].pop(old)
        tree["model"]["vocab"][name] = code
        tree["added_tokens"].append(
            {"id": code, "content": name, "special": True, "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False}
        )  # fmt: skip
        tree["post_processor"] = None
    ids = {name: tree["model"]["vocab"][name] for name in ("[CLS]", "[SEP]")}
    tree["post_processor"] = {
        "type": "BertProcessing", "sep": ["[SEP]", ids["[SEP]"]], "cls": ["[CLS]", ids["[CLS]"]],
    }  # fmt: skip
    file.write_text(json.dumps(tree))
    (tmp_path / "e.jsonl").write_text("\n".join(map(json.dumps, ENTITIES)))
    flags = ["--init=base", f"--fields.tokens.wrap={wrap}", "--task=tag", "--target=tags"]
    assert main(["train", "e.jsonl", "--name=t", *flags, *SMALL]) == 0
    assert main(["export", "t", "--format=hf", "--output=out"]) == 0
    found = json.loads(Path("out/verification.json").read_text())["verification"]
    assert found["encoded"]["equal"] == found["rows"]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--fields.image.size=30", "--model.patch=4"], "no multiple of a patch"),
        (["--fields.image.resize=crop"], "resize: crop"),
        (["--model.pooling=mean"], "pooling: 'mean'"),
    ],
)
def test_what_transformers_would_read_otherwise_is_refused(
    tmp_path: Path, flags: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "sample:digits", "--name=v", *KINDS["vit"][2], *flags, *TINY, *SMALL]) == 0
    assert main(["export", "v", "--format=hf", "--output=out"]) == 2
    assert why in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_place_that_is_there_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path, "llama")
    (tmp_path / "volume").mkdir()
    (tmp_path / "link").symlink_to("volume")
    assert main(["export", "r", "--format=hf", "--output=link"]) == 0
    assert (tmp_path / "volume" / "config.json").exists()
    assert main(["export", "r", "--format=hf", "--output=link"]) == 2
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["export", "../runs/r", "--format=gguf", "--output=."]) == 0
    assert sorted(path.name for path in Path().iterdir()) == [
        "README.md",
        "card.md",
        "r.gguf",
        "verification.json",
    ]


def test_a_program_that_cannot_be_used_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    from modelworks.engine.export import hf

    def broken(*given: object) -> None:
        raise ImportError("no such file: libfoo")

    trained(tmp_path, "llama")
    monkeypatch.setattr(hf, "open_", broken)
    capsys.readouterr()
    assert main(["export", "r", "--format=hf", "--output=out"]) == 0
    assert "libfoo" in capsys.readouterr().out


def test_a_head_that_has_no_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers' classifiers of texts read another vector than ours: none is written without its head."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews.jsonl").write_text("\n".join(map(json.dumps, REVIEWS)))
    flags = [
        "--target=label",
        "--fields.text.kind=text",
        "--fields.text.tokens=bpe",
        "--model.kind=transformer",
    ]
    assert main(["train", "reviews.jsonl", "--name=r", *flags, "--model.preset=bert", *TINY, *SMALL]) == 0
    capsys.readouterr()
    assert main(["export", "r", "--format=hf", "--output=out"]) == 2
    assert "task: classify" in capsys.readouterr().err
    assert not Path("out").exists()


def test_what_was_not_compared_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    trained(tmp_path, "llama")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name in ("transformers", "llama_cpp") else found(name),
    )
    capsys.readouterr()
    for format in ("hf", "gguf"):
        assert main(["export", "r", f"--format={format}", f"--output={format}"]) == 0
        assert "not compared with the Run" in capsys.readouterr().out
        assert "Not compared" in (Path(format) / "README.md").read_text("utf-8")


def test_a_wrong_export_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    from modelworks.models import _foreign_llama

    monkeypatch.chdir(tmp_path)
    trained(tmp_path, "llama")
    rotated = _foreign_llama.rotated
    monkeypatch.setattr(_foreign_llama, "rotated", lambda *given: rotated(*given, flip=True))
    capsys.readouterr()
    assert main(["export", "r", "--format=hf", "--output=out"]) == 2
    assert "differs from the Run" in capsys.readouterr().err
    assert not Path("out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".export")]
