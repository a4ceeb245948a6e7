"""Few-shot: what SmolLM2-135M-Instruct answers by likelihood, without being taught, beside transformers.

    python benchmarks/few_shot.py --data DIR [--smollm FILE] [--quick] [--threads 1]

Two kinds of questions by `modelworks choose`: is a film review, of which it sees the last 60 words, good or bad (Pang &
Lee's, DIR/uci/review_polarity.tar.gz; 400 drawn, the examples from others), and which of four summaries is a
conversation's (DialogSum's test set, DIR/dialogsum/test.jsonl; 200). transformers is put the first 40 of each, with its
own tokenizer's run and one pair at a time: the largest difference of a log-likelihood, and how many answers are the same.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _data
import _peers
import _results
import parity
import summaries
import transfer

SEED = 0
PEER = 40
"""Questions that transformers is put too."""
Row = dict[str, Any]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a check that everything runs; the figures mean nothing"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of uci/ and dialogsum/")
    parser.add_argument("--smollm", type=Path, help="SmolLM2's GGUF file; left out: from PyPI")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    smollm = (args.smollm or _data.packaged(*_data.SMOLLM)).resolve()
    with tempfile.TemporaryDirectory(prefix="modelworks-few-shot-") as folder:
        work = Path(folder)
        parity.Ours(smollm).write(work / "hf")
        films, held = reviews(args.data / "uci" / "review_polarity.tar.gz", work)
        talks = conversations(args.data / "dialogsum" / "test.jsonl")
        asked = [
            ("film reviews, good or bad", films, held, (0, 1, 4)),
            ("which summary is a conversation's", talks, talks, (0,)),
        ]
        rows = [
            measured(title, questions[: 8 if args.quick else None], examples, shots, smollm, work, args)
            for title, questions, examples, counts in asked
            for shots in counts
        ]
    columns = ["", "questions", "shots", "by chance", "accuracy (95 %)", "seconds", "largest difference", "same answers"]  # fmt: skip
    _results.publish(
        "few-shot", "Few-shot: SmolLM2-135M-Instruct by likelihood", [_results.table(columns, rows)],
        notes=[
            f"{args.threads} thread(s), float32; seconds: of `modelworks choose`, its start and reading the file included.",
            f"Largest difference of a log-likelihood, in nats, and same answers: transformers with the same weights on the first {PEER} questions.",
        ],
        versions=_peers.versions(_peers.environment(), ["torch", "transformers"]), raw={"rows": rows}, quick=args.quick,
    )  # fmt: skip


def measured(
    title: str, asked: Sequence[Row], examples: Sequence[Row], shots: int, smollm: Path, work: Path, args: Any
) -> list[Any]:
    """One row: what `modelworks choose` finds, and transformers of the first of them."""
    from modelworks.engine.language.choices import questions, shown

    for name, rows in (("asked", asked), ("examples", examples)):
        (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    done = _peers.modelworks(
        "choose", smollm, "asked.jsonl", "--examples", "examples.jsonl", "--shots", shots, "--seed", SEED,
        "--template", "{prompt}", "--output", "answers.jsonl", "--json", cwd=work, threads=args.threads,
    )  # fmt: skip
    found = json.loads(done.out.splitlines()[-1])
    answers: list[Any] = summaries.read(work / "answers.jsonl")
    ours, pool = questions(asked, title, "{prompt}"), questions(examples, title, "{prompt}")
    first = range(min(PEER, len(ours)))
    pairs = [
        (shown(ours[row], pool, shots, (SEED, row)), choice) for row in first for choice in ours[row].choices
    ]
    (work / "pairs.json").write_text(json.dumps(pairs), "utf-8")
    theirs = iter(
        _peers.ask(
            _peers.environment(), "hf_choices.py", work / "hf", work / "pairs.json", args.threads, threads=args.threads
        )["log_likelihoods"]
    )  # fmt: skip
    apart, same = 0.0, 0
    for row in first:
        mine = answers[row]["log_likelihood"]
        other = [next(theirs) for _ in mine]
        apart = max(apart, *(abs(a - b) for a, b in zip(mine, other, strict=True)))
        same += answers[row]["accuracy"] == max(range(len(other)), key=other.__getitem__)
    accuracy = found["metrics"]["accuracy"]
    return [
        title, found["rows"], shots, f"{found['chance']:.2f}",
        f"{accuracy['value']:.3f} ({accuracy['low']:.3f}–{accuracy['high']:.3f})", f"{done.seconds:.0f}",
        f"{apart:.1e}", f"{same}/{len(first)}",
    ]  # fmt: skip


def reviews(archive: Path, work: Path) -> tuple[list[Row], list[Row]]:
    """(what is asked, what examples are drawn from): the ends of reviews, half of them good."""
    transfer.reviews(archive, work / "reviews.csv")
    with (work / "reviews.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            {
                "prompt": f"Review: … {' '.join(row['text'].split()[-60:])}\nSentiment:",
                "choices": ["negative", "positive"],
                "answer": int(row["label"] == "pos"),
            }
            for row in csv.DictReader(file)
        ]
    random.Random(SEED).shuffle(rows)
    return rows[:400], rows[400:]


def conversations(path: Path) -> list[Row]:
    """Conversations with their first summary among those of three others."""
    told = summaries.read(path)
    draw, rows = random.Random(SEED), []
    for at in draw.sample(range(len(told)), 200):
        others = draw.sample([one for one in range(len(told)) if one != at], 3)
        places = [at, *others]
        draw.shuffle(places)
        rows.append(
            {
                "prompt": f"{told[at]['dialogue']}\n\nSummary:",
                "choices": [told[place]["summary1"] for place in places],
                "answer": places.index(at),
            }
        )
    return rows


if __name__ == "__main__":
    main()
