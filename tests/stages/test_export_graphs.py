"""Exports to ONNX, torch and ExecuTorch: the foreign runtime says what the Run says, and the folder is enough."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modelworks.cli import main
from modelworks.core.run import RunFolder

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

ROWS = [
    ["age,city,open,when,labels,said,kind"],
    [
        f"{'' if n % 7 == 0 else 20 + n % 30}.5,{['Oslo', 'Köln', '上海'][n % 3]},{n % 2 == 0},20{10 + n % 9}-0{1 + n % 9}-1{n % 9},"
        f"{'red|blue' if n % 3 else 'tall'},the {['soup', 'train', 'room'][n % 3]} was {['good', 'bad'][n % 2]} no {n % 5} {'很好' * (n % 4)},"
        f"{'a' if n % 2 else 'b'}"
        for n in range(110)
    ],
]
TABLE = "\n".join(
    line.replace(".5,", ",", 1) if line.startswith(".5") else line for part in ROWS for line in part
)
Outside = Callable[[Path, str], str]
ReadmeCode = Callable[[Path], str]
SMALL = ["--train.steps=3", "--train.threads=1", "--quiet"]


def table(folder: Path, *flags: str) -> RunFolder:
    (folder / "t.csv").write_text(TABLE, "utf-8")
    kinds = ["--fields.when.kind=date", "--fields.labels.kind=tags", "--fields.said.kind=text"]
    assert main(["train", "t.csv", "--target=kind", "--name=t", *kinds, *SMALL, *flags]) == 0
    return RunFolder.find("t")


def test_onnx_of_every_kind_of_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], outside: Outside, readme_code: ReadmeCode
) -> None:
    """Numbers, categories, truth values, dates, tags and text: encoded by contract.json alone, the exported graph
    answers as `predict` does."""
    run = table(tmp_path, "--model.kind=fusion")
    capsys.readouterr()
    assert main(["export", "t", "--format=onnx", "--output=out"]) == 0
    assert "max difference" in capsys.readouterr().out
    told = json.loads(Path("out/verification.json").read_text())
    found = told["verification"]
    assert set(found["batches"]) == {"1", "7", "64"}
    assert found["rows"] == 100
    assert found["max_difference"] <= 1e-4
    assert found["contract"] == {
        "rows": 100,
        "equal": 100,
        "refused": 0,
        "max_difference": found["contract"]["max_difference"],
    }
    assert told["opset"]["ai.onnx"] >= 18
    assert told["versions"]["onnxruntime"] == onnxruntime.__version__
    assert Path("out/card.md").read_text("utf-8") == (run.path / "card.md").read_text("utf-8")
    # Raw values through contract.json, encode.py and ONNX Runtime, without us, beside `modelworks predict`.
    rows = [
        {
            "age": None,
            "city": "Oslo",
            "open": "True",
            "when": "2012-02-29",
            "labels": "red",
            "said": "The SOUP, was\nｇood 很",
        },
        {"age": "1,031", "city": "never seen", "open": "False", "when": "", "labels": None, "said": ""},
        {
            "age": 33,
            "city": "上海",
            "open": "True",
            "when": "2019-12-31T23:10:00+02:00",
            "labels": '["blue", "x"]',
            "said": "x" * 3000,
        },
    ]
    Path("asked.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8"
    )
    code = readme_code(tmp_path / "out").split("rows = ")[0]
    code += (
        "import json, sys\nrows = [json.loads(line) for line in open('../asked.jsonl', encoding='utf-8')]\n"
    )
    said = json.loads(
        outside(tmp_path / "out", code + "print(json.dumps(contract.decode(run(contract.encode(rows)))))")
    )
    assert main(["predict", "t", "asked.jsonl", "--output=answers.jsonl"]) == 0
    ours = [json.loads(line) for line in Path("answers.jsonl").read_text("utf-8").splitlines()]
    assert said["prediction"] == [row["prediction"] for row in ours]
    theirs = [dict(zip(said["classes"], row, strict=True)) for row in said["probability"]]
    for mine, other in zip(ours, theirs, strict=True):
        for label in ("a", "b"):
            assert mine[f"probability_{label}"] == pytest.approx(other[label], abs=1e-5)


def test_the_readme_runs_where_there_is_no_modelworks(
    tmp_path: Path, outside: Outside, readme_code: ReadmeCode
) -> None:
    table(tmp_path, "--model.kind=mlp", "--fields.said=ignore")
    for format in ("onnx", "torch"):
        assert main(["export", "t", "--format", format, "--output", format]) == 0
        assert "'prediction': [" in outside(tmp_path / format, readme_code(tmp_path / format))


def test_the_sizes_of_a_language_model_are_free(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(
        "\n".join(f"Line {n}: the quick brown fox jumps over {n % 7} lazy dogs." for n in range(400))
    )
    small = ["--model.width=16", "--model.depth=1", "--model.heads=2", "--fields.text.length=24"]
    assert main(["train", "t.txt", "--task=language", "--name=t", *small, *SMALL]) == 0
    assert main(["export", "t", "--format=onnx", "--output=out"]) == 0
    session = onnxruntime.InferenceSession("out/model.onnx")
    (tokens,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (tokens.shape, logits.shape[:2]) == (["batch", "text.steps"], ["batch", "text.steps"])
    import torch

    from modelworks.engine.predictor import Predictor

    network = Predictor.load(RunFolder.find("t")).network
    for rows, steps in ((1, 1), (2, 24), (5, 13)):
        ids = np.random.default_rng(steps).integers(1, 20, (rows, steps))
        with torch.inference_mode():
            ours = network.head.logits(network.model({"text": torch.from_numpy(ids)})).numpy()
        np.testing.assert_allclose(session.run(None, {"text": ids})[0], ours, atol=1e-5)


def test_what_differs_is_not_given_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table(tmp_path, "--model.kind=mlp", "--fields.said=ignore")
    from modelworks.engine.export import torch as format

    class Wrong(format.Program):
        def predict(self, feeds):  # type: ignore[no-untyped-def]
            return {
                name: value + 1e-3 if value.dtype.kind == "f" else value
                for name, value in super().predict(feeds).items()
            }

    monkeypatch.setattr(format, "open_", lambda folder, outputs: Wrong(folder / format.FILE, outputs))
    assert main(["export", "t", "--format=torch", "--output=out"]) == 2
    assert "differs from the Run by 0.001" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_what_executorch_lacks_is_written_otherwise() -> None:
    import torch

    from modelworks.engine.export._plain import plain

    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, ...]:
            scaled = torch.add(torch.tensor(0.5), x, alpha=0.25) + x
            values = codes.sort(0, descending=True).values
            return (scaled, values, x.sort(1).values, codes.argsort(dim=1, stable=True), codes >> 2)

    x = torch.arange(12.0).view(3, 4).cos()
    codes = torch.tensor([[3, -7, 3, 12], [3, 0, -1, -1], [5, 5, 0, 1]])
    program = torch.export.export(Network(), (x, codes))
    written = plain(program)
    kernels = {str(node.target) for node in written.graph.nodes}
    assert not [name for name in kernels if "sort" in name or "shift" in name]
    assert {node.kwargs.get("alpha", 1) for node in written.graph.nodes} == {1}
    for found, wanted in zip(written.module()(x, codes), Network()(x, codes), strict=True):
        assert torch.equal(found, wanted)


def test_refusals_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path, "--model.kind=mlp", "--fields.said=ignore")
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "executorch", None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    for flags, said in (
        (["--format=gguf", "--output=a"], "gguf has no place for task classify"),
        (["--format=executorch", "--output=a"], "modelworks[executorch]"),
        (["--format=onnx", "--output=full"], "is not empty"),
        (["--format=onnx", "--output=a", "--half"], "--half is for hf and gguf"),
    ):
        assert main(["export", "t", *flags]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.strip().splitlines()) == 1
    (tmp_path / "t.csv").unlink()
    assert main(["export", "t", "--format=onnx", "--output=a"]) == 2
    assert "--data FILE" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_triton_and_kserve_know_the_model(tmp_path: Path) -> None:
    """Names, types and sizes of config.pbtxt are the ONNX model's; what serves it reads YAML and protobuf's text."""
    import onnx
    import yaml

    table(tmp_path, "--model.kind=fusion")
    assert main(["export", "t", "--format=onnx", "--output=out"]) == 0
    repository = tmp_path / "out" / "triton" / "t"
    model = onnx.load(repository / "1" / "model.onnx")
    config = (repository / "config.pbtxt").read_text("utf-8")
    types = {1: "FP32", 2: "UINT8", 5: "INT16", 7: "INT64"}
    told = re.findall(
        r'name: "([^"]+)"\n\s+data_type: TYPE_(\w+)\n\s+dims: \[ ([-\d, ]+) \](\n\s+reshape)?', config
    )
    assert len(told) == len(model.graph.input) + len(model.graph.output)
    for (name, kind, dims, drop), value in zip(told, [*model.graph.input, *model.graph.output], strict=True):
        tensor = value.type.tensor_type
        sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim][1:]
        assert (name, kind) == (value.name, types[tensor.elem_type])
        assert ([] if drop else [int(d) for d in dims.split(",")]) == sizes
    service = yaml.safe_load((tmp_path / "out" / "kserve.yaml").read_text())
    assert service["spec"]["predictor"]["model"]["protocolVersion"] == "v2"
    protobuf = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format

    parsed = text_format.Parse(config, protobuf.ModelConfig())
    assert [one.name for one in parsed.input] == [value.name for value in model.graph.input]
    assert parsed.max_batch_size == 64
