"""README.md of an export: how to use it where there is no modelworks; its Python is run in a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LOAD = {
    "onnx": ("pip install onnxruntime numpy", "import onnxruntime\n", """\
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])


def run(feeds):
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds)))
"""),
    "torch": ("pip install torch numpy", "import torch\n", """\
model = torch.export.load("model.pt2").module()


def run(feeds):
    names = [output["name"] for output in contract.tree["outputs"]]
    with torch.inference_mode():
        found = model(*(torch.from_numpy(feeds[name]) for name in contract.inputs))
    return {name: value.numpy() for name, value in zip(names, found)}
"""),
    "executorch": ("pip install executorch numpy", "import torch\nfrom executorch.runtime import Runtime\n", """\
method = Runtime.get().load_program("model.pte").load_method("forward")


def run(feeds):
    names = [output["name"] for output in contract.tree["outputs"]]
    rows = []
    for row in range(len(next(iter(feeds.values())))):  # one row a call
        alone = [torch.from_numpy(np.ascontiguousarray(feeds[name][row : row + 1])) for name in contract.inputs]
        rows.append([value.numpy().copy() for value in method.execute(alone)])
    return {name: np.concatenate(values) for name, values in zip(names, zip(*rows))}
"""),
}  # fmt: skip


def readme(
    format: str, tree: Mapping[str, Any], about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> str:
    """`rows`: raw rows to show, as plain values."""
    install, imports, load = _LOAD[format]
    found = about["verification"]
    table = "\n".join(
        f"| {where} | `{port['name']}` | {port['dtype']} | {' × '.join(map(str, port['shape']))} |"
        for where, ports in (("in", tree["inputs"]), ("out", tree["outputs"]))
        for port in ports
    )
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    opset = f", opset {about['opset']['ai.onnx']}" if "opset" in about else ""
    return f"""\
# {tree["name"]}: {tree["task"]}, as {format}

Made with {versions}{opset}. No modelworks is needed: `{install}`.

```python
{imports}{"" if imports.startswith("import") else chr(10)}import numpy as np
from encode import Contract

contract = Contract("contract.json")
{load}

{_use(tree, rows)}```

| | name | type | shape |
|---|---|---|---|
{table}

Sizes in words may differ from call to call; texts and sounds are padded with 0 on the right.
{_notes(tree)}
`contract.json` says how raw values become these arrays; `encode.py` (numpy alone; subword tokens want the package
`tokenizers`, picture files Pillow) does what it says, and is yours to copy. Normalisation is part of the model.

## Compared with the Run

{found["rows"]} real rows ({found["data"]}), batch {", ".join(found["batches"])}: max difference
{found["max_difference"]:.3g}; {_whole(found["whole_numbers"])} whole numbers differ.{_encoded(found)}
`verification.json` has the table, `card.md` what the model is for and how good it is.
"""


def _use(tree: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    if not any("field" in port for port in tree["inputs"]):
        port = tree["inputs"][0]
        return (
            f"noise = np.random.default_rng(0).standard_normal((2, {port['shape'][1]})).astype(np.float32)\n"
            f"feeds = {{{port['name']!r}: noise}}\n"
            "outputs = run(feeds)\nprint({name: value.shape for name, value in outputs.items()})\n"
        )
    if rows:
        return (
            f"rows = {list(rows)!r}\noutputs = run(contract.encode(rows))\nprint(contract.decode(outputs))\n"
        )
    shapes = ", ".join(
        f"{port['name']!r}: np.{'ones' if port['name'].endswith('.length') else 'zeros'}"
        f"({tuple(2 if size == 'batch' else 1 if isinstance(size, str) else size for size in port['shape'])}, "
        f"np.{port['dtype']})"
        for port in tree["inputs"]
    )
    return f"outputs = run({{{shapes}}})\nprint({{name: value.shape for name, value in outputs.items()}})\n"


def _notes(tree: Mapping[str, Any]) -> str:
    task = tree["task"]
    last = tree["inputs"][-1]["name"]
    if task in ("language", "instruct", "prefer"):
        following = "the next one is `logits[:, -1].argmax(-1)`"
        return f"`logits[:, t]` are of the token that follows `{last}[:, t]`: {following}.\n"
    if task in ("translate", "span_corruption"):
        return (
            f"`logits[:, t]` are of `{last}[:, t]`, given what stands before it: to write, begin with one 0, put "
            "`logits[:, -1].argmax(-1)` in the place of the last 0, add another 0, and go on until the end token.\n"
        )
    return "`logits` are of each token, the hidden ones among them.\n" if task == "mask" else ""


def _encoded(found: Mapping[str, Any]) -> str:
    told = found.get("contract")
    if not told:
        return ""
    share = f"{told['equal']} of {told['rows']}"
    return f"\nBy the contract alone, `encode.py` encodes {share} of these rows as training did."


def _whole(told: Mapping[str, int]) -> str:
    return f"{told['different']} of {told['compared']}"
