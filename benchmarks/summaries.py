"""Summaries of conversations (DialogSum): ROUGE-L beside what copying gives.

    python benchmarks/summaries.py --data DIR [--quick] [--run RUN] [--threads 1]

DIR holds DialogSum's dev.jsonl and test.jsonl; its 12,460 training conversations are not wanted: of the 500 in dev 450
train and 50 validate, so that the figure is far below what the whole set gives. ROUGE-L (Lin 2004): F1 of the longest
common subsequence of words, lower case, letters and digits only, without stemming; of a test conversation's three
summaries the first counts, as in the set's paper, and the best of three beside it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import _peers
import _results

sys.path.insert(0, str(_peers.REPOSITORY / "src"))  # this repository's, whether installed or not
RECIPE = _peers.REPOSITORY / "recipes" / "language" / "dialogsum.yaml"
WORK = _peers.CACHE / "work" / "summaries"


def rouge_l(written: str, wanted: str) -> float:
    """F1 of the longest common subsequence of words."""
    a, b = (re.findall(r"[a-z0-9]+", text.lower()) for text in (written, wanted))
    lengths = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for place, other in enumerate(b, 1):
            before, lengths[place] = (
                lengths[place],
                before + 1 if word == other else max(lengths[place], lengths[place - 1]),
            )
    common = lengths[-1]
    return 2 * common / (len(a) + len(b)) if common else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a check that everything runs; the figures mean nothing"
    )
    parser.add_argument("--data", type=Path, required=True, help="DialogSum's files")
    parser.add_argument("--run", type=Path, help="a finished Run of the recipe; without it one is trained")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    run = (args.run or trained(args)).resolve()
    tests = read(args.data / "test.jsonl")[: 10 if args.quick else None]
    wanted = [[row[f"summary{number}"] for number in (1, 2, 3)] for row in tests]
    written = answers(run, [row["dialogue"] for row in tests], args.threads)
    evaluation = json.loads((run / "evaluation.json").read_text("utf-8"))
    first = [re.sub(r"#\w+#: ", "", row["dialogue"].split("\n")[0]) for row in tests]
    frequent = read(args.data / "dev.jsonl")[0]["summary"]
    scored = {
        "modelworks": written,
        "the first thing said": first,
        "one summary of the training set for all": [frequent] * len(tests),
    }
    rows = [
        [
            name,
            f"{mean(texts, wanted, lambda found: found[0]):.3f}",
            f"{mean(texts, wanted, max):.3f}",
        ]
        for name, texts in scored.items()
    ]
    shown = "\n".join(
        f"- written: {text} · wanted: {best[0]}" for text, best in zip(written[:3], wanted, strict=False)
    )
    _results.publish(
        "summaries", "Summaries of conversations",
        [_results.table(["", "ROUGE-L, first summary", "best of three"], rows), shown],
        notes=[
            f"{len(tests)} test conversations; {evaluation['training']['parameters']:,} parameters, {evaluation['training']['seconds']:.0f} s of training on 450 conversations."
        ],
        raw={"written": written}, quick=args.quick,
    )  # fmt: skip


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def mean(texts: Sequence[str], wanted: Sequence[list[str]], choose: Callable[[list[float]], float]) -> float:
    """Mean ROUGE-L, of the scores against each summary the one that is chosen."""
    scores = [
        choose([rouge_l(text, one) for one in all_three])
        for text, all_three in zip(texts, wanted, strict=True)
    ]
    return sum(scores) / len(scores)


def trained(args: argparse.Namespace) -> Path:
    """A Run of the recipe."""
    WORK.mkdir(parents=True, exist_ok=True)
    rows = read(args.data / "dev.jsonl")
    tests = read(args.data / "test.jsonl")
    with (WORK / "dialogsum.jsonl").open("w", encoding="utf-8") as file:
        for number, row in enumerate([*rows, *tests]):
            split = "test" if number >= len(rows) else "train" if number < 450 else "valid"
            summary = row.get("summary") or row["summary1"]
            line = {"dialogue": row["dialogue"], "summary": summary, "split": split}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    _peers.modelworks(
        "train", RECIPE, "--name", "dialogsum", "--overwrite", f"--train.threads={args.threads}",
        *(["--train.steps=3"] if args.quick else []), cwd=WORK, threads=args.threads,
    )  # fmt: skip
    return WORK / "runs" / "dialogsum"


def answers(run: Path, dialogues: list[str], threads: int) -> list[str]:
    """The summaries, in batches of conversations of like length."""
    import pyarrow as pa
    import torch

    from modelworks.core.run import RunFolder
    from modelworks.engine.predictor import Predictor

    torch.set_num_threads(threads)
    predictor: Any = Predictor.load(RunFolder(run))
    order = sorted(range(len(dialogues)), key=lambda row: len(dialogues[row]))
    written = [""] * len(dialogues)
    for first in range(0, len(order), 50):
        part = order[first : first + 50]
        batch = pa.record_batch({"dialogue": pa.array([dialogues[row] for row in part])})
        for row, text in zip(part, predictor.predict(batch)["prediction"], strict=True):
            written[row] = text
    return written


if __name__ == "__main__":
    main()
