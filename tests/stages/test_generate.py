"""generate and chat as a user types them, on a Run with random weights."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from modelworks.cli import main
from modelworks.core.run import RunFolder
from modelworks.core.settings import to_tree
from modelworks.engine.checkpoint import write_tensors
from modelworks.engine.language.generate import Generator
from modelworks.engine.language.sampling import Sampling
from modelworks.engine.network import build
from modelworks.fields.corpus import Corpus
from modelworks.models.transformer import Transformer
from modelworks.tasks.language import Language

TEXT = "User: to be, or not to be.\nAssistant: that is the question\n"
PROMPTS = ["to be", "not", "User: to"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Corpus]:
    """(the Run's folder, its network, its field)."""
    folder = tmp_path_factory.mktemp("runs") / "poet"
    folder.mkdir()
    field = Corpus(tokens="char", length=128).fit([pa.array([TEXT])])
    model, task = (
        Transformer(width=32, depth=2, heads=2, dropout=0.0),
        Language(target="text", start="normal"),
    )
    network = build(model, task, {"text": field}, 0).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.5, generator=torch.Generator().manual_seed(len(parameter)))
    run = RunFolder(folder)
    run.write_recipe({"version": 1, "name": "poet", "task": to_tree(task), "model": to_tree(model)})
    run.write_fields({"text": field})
    write_tensors(folder / "model.safetensors", network.state_dict())
    run.seal()
    return folder, network, field


def ours(made: tuple[Path, Any, Corpus], prompt: str, **changes: Any) -> str:
    _, network, field = made
    return Generator(network, field).generate([field.ids(prompt)], Sampling(**changes))[0].text


def test_it_prints_the_continuation_alone(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", str(made[0]), "--prompt", "to be", "--max-tokens", "20", "--temperature", "0"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert shown.out == ours(made, "to be", temperature=0, max_tokens=20) + "\n"
    assert shown.err == ""
    assert main([*words, "--lookup", "4", "--draft", str(made[0])]) == 0
    assert capsys.readouterr().out == shown.out


def test_prompts_come_from_files_and_standard_input(
    made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["--max-tokens=9", "--seed=3"]
    (tmp_path / "p.txt").write_text("\n".join(PROMPTS))
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in PROMPTS))
    assert main(["generate", str(made[0]), "--prompts", "p.txt", *more]) == 0
    plain = capsys.readouterr().out
    assert main(["generate", str(made[0]), "--prompts", "p.jsonl", "--json", *more]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["prompt"] for one in found] == PROMPTS
    assert "".join(one["text"] + "\n" for one in found) == plain
    assert found[0]["text"] == ours(made, PROMPTS[0], max_tokens=9, seed=3)
    for one in found:
        assert one["reason"] in ("end", "length")
        assert 1 <= one["tokens"] <= 9
        assert one["prompt_tokens"] == len(one["prompt"])
        assert one["tokens_per_second"] > 0
        assert one["logprob"] < 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("to be\n"))
    assert main(["generate", str(made[0]), *more]) == 0
    assert capsys.readouterr().out == found[0]["text"] + "\n"


def test_beams_weights_and_schemas_have_flags(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("llguidance")
    words = ["generate", str(made[0]), "--prompt", "to be", "--max-tokens", "12", "--json"]
    found = {}
    for name, flags in {
        "greedy": ["--temperature", "0"],
        "beams": ["--beams", "4", "--length-penalty", "0"],
        "int8": ["--temperature", "0", "--int8"],
        "bfloat16": ["--temperature", "0", "--weights", "bfloat16"],
        "regex": ["--regex", "(that|to be){1,2}"],
    }.items():
        assert main([*words, *flags]) == 0, name
        found[name] = json.loads(capsys.readouterr().out)
    assert found["beams"]["logprob"] >= found["greedy"]["logprob"] - 1e-4
    assert found["regex"]["text"] in ("that", "to be", "thatthat", "to beto be", "thatto be", "to bethat")
    assert abs(found["int8"]["logprob"] - found["greedy"]["logprob"]) < 3


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.strip().splitlines()) == 1
    return shown.err


def test_what_cannot_be_done_is_one_line(
    made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(made[0])
    classifier = tmp_path / "runs" / "iris"
    classifier.mkdir(parents=True)
    (classifier / "recipe.yaml").write_text("task: {kind: classify, target: species}\n")
    for verb in ("generate", "chat"):
        assert "does not generate text: its task is classify" in refused([verb, "iris"], capsys)
        assert "there is no Run 'nobody'" in refused([verb, "nobody"], capsys)
        assert "takes no settings" in refused([verb, run, "--model.depth=3"], capsys)
    assert "context is 128" in refused(["generate", run, "--prompt", "to be" * 40], capsys)
    assert "top_p" in refused(["generate", run, "--prompt", "a", "--top-p", "7"], capsys)
    assert "nothing.json" in refused(["generate", run, "--prompt", "a", "--schema", "nothing.json"], capsys)
    assert "--beams" in refused(["generate", run, "--prompt", "a", "--beams", "0"], capsys)
    assert "different things" in refused(
        ["generate", run, "--prompt", "a", "--int8", "--weights", "float32"], capsys
    )


def chat(
    made: Any, lines: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *flags: str
) -> tuple[list[str], str]:
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert main(["chat", str(made[0]), "--temperature=0", "--max-tokens=8", *flags]) == 0
    shown = capsys.readouterr()
    return shown.out.splitlines(), shown.err


def test_chat_reads_the_conversation_so_far(
    made: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options: Any = {"temperature": 0, "max_tokens": 8, "stop": ("\nUser:", "\nSystem:")}
    first = ours(made, "User: to be\nAssistant:", **options).lstrip()
    again = f"User: to be\nAssistant: {first.strip()}\nUser: not\nAssistant:"
    second = ours(made, again, **options).lstrip()
    alone = ours(made, "User: not\nAssistant:", **options).lstrip()
    system = ours(made, "System: that\nUser: not\nAssistant:", **options).lstrip()
    said = f"{first}\n{second}\n{alone}\n{system}\n".splitlines()
    lines = "to be\n\nnot\n/reset\nnot\n/reset\n/system that\nnot\n/quit\nnever read\n"
    shown, notes = chat(made, lines, monkeypatch, capsys)
    assert shown == said
    assert notes == ""


def test_chat_goes_on_when_the_context_is_full(
    made: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "\n".join(["to be or not to be"] * 6 + ["to be" * 40, "/nonsense", "/help"])
    _, notes = chat(made, lines, monkeypatch, capsys)
    assert "messages are forgotten" in notes
    assert "the model's context is 128" in notes
    assert "no command /nonsense" in notes
    assert "/reset" in notes


@pytest.mark.parametrize("verb", ["generate", "chat"])
def test_help_loads_no_torch(verb: str) -> None:
    import os
    import subprocess

    program = (
        "import sys\nfrom modelworks.cli import main\ntry: main([sys.argv[1], '--help'])\n"
        "except SystemExit: pass\nprint('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    source = str(Path(__file__).resolve().parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-c", program, verb],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": source},
    )  # fmt: skip
    assert "--max-tokens" in done.stdout
    assert done.stdout.splitlines()[-1] == "False False"
