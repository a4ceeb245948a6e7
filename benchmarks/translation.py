"""English to German on Multi30k: BLEU by sacrebleu, greedy and by beam search, and its curve over the minutes.

    python benchmarks/translation.py --data DIR [--quick] [--run RUN] [--threads 2] [--minutes M]

DIR holds Multi30k's task 1 as raw text, {train,val,test_2016_flickr,…}.{en,de}.gz. Trains recipes/language/multi30k.yaml,
or takes a Run of it. BLEU is of whole sentences as they stand, cased, with sacrebleu's own words (13a).
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from pathlib import Path
from typing import Any

import _peers
import _results
import numpy as np

sys.path.insert(0, str(_peers.REPOSITORY / "src"))  # this repository's, whether installed or not
RECIPE = _peers.REPOSITORY / "recipes" / "language" / "multi30k.yaml"
SPLITS = {"train": "train", "val": "valid", "test_2016_flickr": "test"}
TESTS = ("test_2016_flickr", "test_2017_flickr", "test_2017_mscoco")
WORK = _peers.CACHE / "work" / "translation"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a check that everything runs; the figures mean nothing"
    )
    parser.add_argument("--data", type=Path, required=True, help="Multi30k's raw text")
    parser.add_argument("--run", type=Path, help="a finished Run of the recipe; without it one is trained")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, help="train for so long instead of the recipe's epochs")
    parser.add_argument("--beams", type=int, default=5)
    args = parser.parse_args()
    done = None if args.run else trained(args)
    run = args.run.resolve() if args.run else WORK / "runs" / "multi30k"
    tests = TESTS[:1] if args.quick else TESTS
    found = {name: measure(run, *pairs(args.data, name), args) for name in tests}
    told = json.loads((run / "evaluation.json").read_text("utf-8"))["training"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    curve = [line for line in lines if line["split"] == "valid" and "bleu" in line["metrics"]]
    import sacrebleu

    _results.publish(
        "translation", "English to German, Multi30k",
        [_scores(found, args.beams), _curve(curve)],
        notes=[
            f"{told['parameters']:,} parameters; {told['seconds'] / 60:.1f} minutes of training with what validates it"
            + (f", {done.cpu_seconds / 60:.1f} processor minutes of the whole command" if done else "")
            + f"; {args.threads} threads.",
            "The curve: greedy BLEU and perplexity of the 1,014 validation pairs; the epoch of the best BLEU is kept.",
            f"Signature: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}",
        ],
        raw={"tests": found, "curve": curve}, quick=args.quick,
    )  # fmt: skip


def pairs(folder: Path, name: str) -> tuple[list[str], list[str]]:
    """(English, German) of one part."""
    whole = [gzip.decompress((folder / f"{name}.{tongue}.gz").read_bytes()) for tongue in ("en", "de")]
    english, german = ([line.strip() for line in part.decode().splitlines()] for part in whole)
    if len(english) != len(german):
        raise SystemExit(f"{name}: {len(english):,} English lines and {len(german):,} German ones")
    return english, german


def trained(args: argparse.Namespace) -> Any:
    """Train the recipe on the data; what it took."""
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "multi30k.jsonl").open("w", encoding="utf-8") as file:
        for name, split in SPLITS.items():
            rows = list(zip(*pairs(args.data, name), strict=True))
            for english, german in rows[:300] if args.quick else rows:
                row = {"en": english, "de": german, "split": split}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    limits = ["--train.steps=3"] if args.quick else []
    limits += [f"--train.minutes={args.minutes}", "--train.epochs=null"] if args.minutes else []
    return _peers.modelworks(
        "train", RECIPE, "--name", "multi30k", "--overwrite", f"--train.threads={args.threads}", *limits,
        cwd=WORK, threads=args.threads,
    )  # fmt: skip


def measure(run: Path, english: list[str], german: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """BLEU of one test, greedy and by beams, and how long the answers took."""
    import pyarrow as pa
    import sacrebleu
    import torch

    from modelworks.core.run import RunFolder
    from modelworks.engine.predictor import Predictor

    torch.set_num_threads(args.threads)
    if args.quick:
        english, german = english[:20], german[:20]
    predictor: Any = Predictor.load(RunFolder(run))
    found: dict[str, Any] = {}
    # Of like length together: less padding.
    order = np.argsort([len(text) for text in english], kind="stable")
    for name, beams in (("greedy", 1), ("beam", args.beams)):
        predictor.task = predictor.task.but(beams=beams)
        predictor.task.head(predictor.network.model.width, 0, predictor.fields)  # it looks the end token up
        begin, written = time.perf_counter(), [""] * len(english)
        for first in range(0, len(order), 125):
            part = order[first : first + 125]
            batch = pa.record_batch({"en": pa.array([english[row] for row in part])})
            for row, text in zip(part, predictor.predict(batch)["prediction"], strict=True):
                written[row] = text
        score = sacrebleu.corpus_bleu(written, [german])
        found[name] = score.score
        found[f"{name}_seconds"] = time.perf_counter() - begin
        found[f"{name}_ratio"] = score.sys_len / score.ref_len
    found["shown"] = [
        {"en": english[row], "wanted": german[row], "written": written[row]} for row in range(3)
    ]
    return found


def _scores(found: dict[str, Any], beams: int) -> str:
    rows = [
        [
            name, f"{one['greedy']:.2f}", f"{one['beam']:.2f}", f"{one['greedy_seconds']:.0f}",
            f"{one['beam_seconds']:.0f}", f"{one['beam_ratio']:.3f}",
        ]
        for name, one in found.items()
    ]  # fmt: skip
    return _results.table(
        ["", "greedy BLEU", f"beam {beams}", "greedy s", "beam s", "length, beam / wanted"], rows
    )


def _curve(curve: list[dict[str, Any]]) -> str:
    rows = [
        [
            f"{line['step']:,}",
            f"{line['seconds'] / 60:.1f}",
            f"{line['metrics']['perplexity']:.2f}",
            f"{line['metrics']['bleu']:.2f}",
        ]
        for line in curve
    ]
    return _results.table(["step", "minutes", "perplexity", "BLEU"], rows)


if __name__ == "__main__":
    main()
