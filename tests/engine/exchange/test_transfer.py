"""Training that starts from another Run: everything is copied or told, and a killed one goes on bit for bit."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from modelworks.cli import main
from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.core.run import RunFolder
from modelworks.core.settings import load_yaml
from modelworks.engine.exchange import origin, transfer
from modelworks.engine.exchange.foreign import write
from modelworks.engine.predictor import Predictor
from modelworks.engine.recipe import of_run
from modelworks.engine.train.begin import begin
from modelworks.engine.train.optim import Optimizer
from modelworks.models.transformer import Transformer

torch.set_num_threads(1)
WORDS = ["good", "bad", "film", "plot", "great", "awful", "fine", "the", "a", "one"]
FAST = ["--quiet", "--train.threads=1", "--evaluate.bootstrap=0", "--train.checkpoint_seconds=0"]
STILL = ["--train.steps=1", "--train.optimizer={kind: sgd, lr: 1.0e-30}"]
"""A step that moves nothing."""
SMALL = ["--model=transformer", "--model.width=16", "--model.depth=2", "--model.heads=2", "--model.positions=learned",
         "--fields.text.tokens=char", "--fields.text.length=24"]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a language model at runs/gpt and data to go on with."""
    folder = tmp_path_factory.mktemp("base")
    draw = random.Random(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MODELWORKS_STORE", str(folder / "store"))
        Path("t.txt").write_text("\n".join(" ".join(draw.choices(WORDS, k=12)) for _ in range(300)))
        lines = [draw.choices(WORDS, k=draw.randint(3, 9)) for _ in range(120)]
        stars = [
            "pos" if w.count("good") + w.count("great") > w.count("bad") + w.count("awful") else "neg"
            for w in lines
        ]
        Path("r.csv").write_text("when,text,stars\n" + "".join(
            f"2020-01-{n % 28 + 1:02d},{' '.join(w)},{s}\n" for n, (w, s) in enumerate(zip(lines, stars, strict=True))))  # fmt: skip
        rows = [{"instruction": f"say {x}", "input": y, "output": f"{x} {y}"} for x in WORDS for y in WORDS]
        Path("alpaca.json").write_text(json.dumps(rows))
        Path("pairs.json").write_text(json.dumps(
            [{"conversations": [{"from": "human", "value": f"say {x}"}], "chosen": {"from": "gpt", "value": f"{x} {y}"},
              "rejected": {"from": "gpt", "value": f"{y} bad"}} for x in WORDS for y in WORDS]))  # fmt: skip
        run = ["--task=language", "--name=gpt", *SMALL, "--train.steps=20", "--train.batch_size=8", *FAST]
        assert main(["train", "t.txt", *run]) == 0
    return folder


@pytest.fixture(autouse=True)
def _here(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def weights(name: str) -> dict[str, torch.Tensor]:
    return load_file(f"runs/{name}/model.safetensors")


def test_a_classifier_takes_body_and_tokenizer_of_a_language_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["train", "r.csv", "--target=stars", "--init=runs/gpt", "--name=c", *STILL, *FAST[1:]]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "new: head.weight, head.bias; left over there: head.weight" in said
    assert "column 'when' is left out" in said
    ours, theirs = weights("c"), weights("gpt")
    body = [name for name in theirs if name.startswith("model.")]
    assert body
    assert all(torch.equal(ours[name], theirs[name]) for name in body)
    fields = RunFolder("runs/c").fields()
    assert fields["text"].ids("good film") == RunFolder("runs/gpt").fields()["text"].ids("good film")
    recipe = load_yaml(Path("runs/c/recipe.yaml"))
    assert recipe["model"]["causal"]
    assert recipe["fields"]["text"]["cut"]
    # The body gives a text's steps the very features that it gave as a language model.
    language, classifier = (Predictor.load(RunFolder(f"runs/{name}")) for name in ("gpt", "c"))
    batch = {"text": torch.tensor([fields["text"].ids("good film")])}
    features_BTD = language.network.model(batch)
    assert torch.allclose(classifier.network.model(batch), features_BTD.mean(1), atol=1e-6)


def test_without_a_task_the_same_is_learned_on() -> None:
    assert main(["train", "t.txt", "--init=gpt", "--name=more", *STILL, *FAST]) == 0
    assert load_yaml(Path("runs/more/recipe.yaml"))["task"]["kind"] == "language"
    ours, theirs = weights("more"), weights("gpt")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_longer_positions_keep_the_learned_ones_and_are_told() -> None:
    assert (
        main(["train", "t.txt", "--init=gpt", "--name=long", "--fields.text.length=40", *STILL, *FAST]) == 0
    )
    table = weights("long")["model.position.table_TD"]
    assert table.shape == (40, 16)
    assert torch.equal(table[:24], weights("gpt")["model.position.table_TD"])
    assert RunFolder("runs/long").json("init.json")["resized"] == {"model.position.table_TD": [24, 40]}


@pytest.mark.parametrize(
    "change, said",
    [(["--init=nowhere"], "neither a Run nor a folder"), (["--init=gpt", "--model=bag"], "no weight"),
     (["--init=gpt", "--fields.text.tokens=byte"], "fields.text.tokens: is 'char' in runs/gpt"),
     (["--train.adapter=lora"], "there is nothing to adapt"),
     (["--init=gpt", "--train.freeze=[nothing*]"], "no parameter matches")],
)  # fmt: skip
def test_what_cannot_be_is_refused(change: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "r.csv", "--target=stars", "--name=x", "--fields.when=ignore", *change, *FAST]) == 2
    assert said in capsys.readouterr().err


def test_another_width_is_told_tensor_by_tensor() -> None:
    recipe = of_run(RunFolder("runs/gpt").recipe_tree(), "")
    recipe = recipe.but(model=recipe.model.but(hidden=48))
    start = origin.read("gpt")
    report = transfer.load(begin(recipe, start.fields).network, recipe.task, start.fields, start)
    assert report.unfit["model.blocks.0.feedforward.up.weight"] == [[80, 16], [96, 16]]
    assert report.copied + len(report.unfit) + len(report.new) == report.total
    assert "does not fit, so new: model.blocks.0.feedforward.up.weight (80×16 there, 96×16 here)" in str(
        report
    )


def killed(name: str, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a training and break it off after its third step."""
    from modelworks.engine.train import loop

    taken, count = loop.take_step, 0

    def dies(*arguments):
        nonlocal count
        count += 1
        if count > 3:
            raise KeyboardInterrupt
        return taken(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", dies)
        assert main([*command, f"--name={name}"]) != 0


@pytest.mark.parametrize(
    "command",
    [["train", "alpaca.json", "--task=instruct", "--fields.messages.length=60", "--train.adapter={kind: dora, rank: 2, dropout: 0.1}"],
     ["train", "r.csv", "--target=stars", "--train.adapter={rank: 2, base: int8}"],
     ["train", "pairs.json", "--task=prefer", "--fields.chosen.length=60", "--fields.rejected.length=60"]],
    ids=["sft-dora", "int8", "dpo"],
)  # fmt: skip
def test_a_killed_run_goes_on_bit_for_bit_without_its_source(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [
        *command,
        "--init=runs/gpt",
        "--train.steps=6",
        "--train.batch_size=8",
        "--train.checkpoint_steps=2",
        *FAST,
    ]
    assert main([*command, "--name=whole"]) == 0
    killed("broken", command, monkeypatch)
    assert not RunFolder("runs/broken").complete
    shutil.rmtree("runs/gpt")
    assert main([*command, "--name=broken", "--resume"]) == 0
    whole, broken = (Path(f"runs/{name}/model.safetensors").read_bytes() for name in ("whole", "broken"))
    assert whole == broken
    one, other = (RunFolder(f"runs/{name}").evaluation()["splits"] for name in ("whole", "broken"))
    assert one == other


def test_checkpoints_of_adapters_hold_adapters_and_the_run_is_a_plain_model() -> None:
    command = [
        "train",
        "alpaca.json",
        "--task=instruct",
        "--init=gpt",
        "--train.adapter.rank=2",
        "--name=lora",
        "--fields.messages.length=60",
    ]
    assert main([*command, "--train.steps=3", "--train.optimizer.lr=0.05", *FAST]) == 0
    held = load_file(next(Path("runs/lora/checkpoints").glob("step-*")) / "weights.safetensors")
    assert {name.rsplit(".", 1)[-1] for name in held} == {"down_PRI", "up_OR", "table_TD"}  # longer, so new
    ours, theirs = weights("lora"), weights("gpt")
    assert ours.keys() == theirs.keys()
    changed = {name for name in ours if not torch.equal(ours[name], theirs[name])}
    matrices = {
        name
        for name in ours
        if ("attention" in name or "feedforward" in name)
        and name.endswith(".weight")
        and ours[name].ndim == 2
    }
    assert changed == {*matrices, "model.position.table_TD"}
    assert RunFolder("runs/lora").evaluation()["training"]["parameters"] == sum(
        t.numel() for t in held.values()
    ) / (2 if any(name.startswith("best.") for name in held) else 1)


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    command = [
        "train",
        "r.csv",
        "--target=stars",
        "--init=gpt",
        "--name=f",
        "--train.freeze=[model.*]",
        "--train.steps=4",
    ]
    assert main([*command, *FAST]) == 0
    ours, theirs = weights("f"), weights("gpt")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs if name.startswith("model."))
    assert ours["head.weight"].abs().sum() > 0


def test_a_tagger_takes_body_and_characters_of_a_masked_model(capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(1)
    Path("n.jsonl").write_text("".join(json.dumps(
        {"text": " ".join(w), "entities": [{"start": 0, "end": len(w[0]), "label": "A"}]}) + "\n"
        for w in (draw.choices(WORDS, k=4) for _ in range(60))))  # fmt: skip
    pretrain = ["--task=mask", "--name=m", *SMALL, "--fields.text.specials=['[MASK]']", "--train.steps=2"]
    assert main(["train", "t.txt", *pretrain, *FAST]) == 0
    capsys.readouterr()
    assert main(["train", "n.jsonl", "--task=tag", "--init=m", "--name=n", *STILL, *FAST[1:]]) == 0
    assert "new: head.1.weight, head.1.bias" in capsys.readouterr().out
    ours, theirs = weights("n"), weights("m")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs if name.startswith("model."))
    recipe = load_yaml(Path("runs/n/recipe.yaml"))
    assert (recipe["fields"]["text"]["kind"], recipe["fields"]["text"]["tokens"]) == ("words", "word")
    masked, tagger = (Predictor.load(RunFolder(f"runs/{name}")) for name in ("m", "n"))
    ids = RunFolder("runs/m").fields()["text"].ids("good film")
    found = tagger.fields["text"].encode(pa.array([list("good film")])).values
    assert found.tolist() == ids
    batch = {"text": torch.tensor([ids])}
    assert torch.allclose(tagger.network.model(batch), masked.network.model(batch), atol=1e-6)


def test_deep_layers_learn_slower() -> None:
    """BEiT's count: head and last norm 1, the top block d, the embedding d^(blocks + 1)."""
    layout = Layout("tokens", size=9, length=5)
    network = nn.ModuleDict({"model": Transformer(width=8, depth=2, heads=2).build({"x": layout}, "row")})
    network["head"] = nn.Linear(8, 2)
    optimizer = Optimizer(lr=1.0, layer_decay=0.5).build(network.named_parameters())
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["param_names"]}
    assert rates["head.weight"] == rates["model.norm.weight"] == 1.0
    assert rates["model.blocks.1.attention.qkv.weight"] == 0.5
    assert rates["model.blocks.0.attention.qkv.weight"] == 0.25
    assert rates["model.embed.weight"] == rates["model.position.table_TD"] == 0.125


def test_a_hugging_face_folder_is_a_start() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    del tokenizers
    run = ["--task=language", "--name=b", "--model=transformer", "--model.width=16", "--model.depth=1", "--model.heads=2",
           "--fields.text.tokens=bpe", "--fields.text.vocabulary=300", "--fields.text.length=24", "--train.steps=2"]  # fmt: skip
    llama = ["--model.positions=rope", "--model.normalisation=rms", "--model.gated=true", "--model.activation=silu",
             "--model.bias=false", "--model.dropout=0", "--model.embedding_norm=false", "--model.norm_weight=true",
             "--model.qk_norm=false", "--model.value_residual=false"]  # fmt: skip
    assert main(["train", "t.txt", *run, *llama, *FAST]) == 0
    predictor = Predictor.load(RunFolder("runs/b"))
    recipe, field = of_run(RunFolder("runs/b").recipe_tree(), ""), predictor.fields["text"]
    write("hf", predictor.network, recipe.model, {"kind": "language", "tied": False}, size=field.layout.size,
          length=24, tokenizer=field.state["tokenizer"],
          tokens={"eos_token": "<|endoftext|>", "chat_template": "{% for m in messages %}[{{ m.content }}]{% endfor %}"})  # fmt: skip
    assert (
        main(["train", "r.csv", "--target=stars", "--init=hf", "--name=hfc", "--train.steps=1", *FAST]) == 0
    )
    start = origin.read("hf")
    assert all(torch.allclose(start.weights()[name], tensor) for name, tensor in weights("b").items())
    assert start.fields["text"].ids("good film") == field.ids("good film")
    assert start.fields["text"].state["template"].startswith("{% for m")
    assert start.fields["text"].state["end"] == field.state["end"]
    with pytest.raises(UserError, match=r"config\.json"):
        origin.read("runs")
