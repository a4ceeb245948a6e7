"""The tables, what is learned of each, and their folds as CSV files that every contender reads."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import _peers
import numpy as np


class Table(NamedTuple):
    """What is learned of a table."""

    target: str
    positive: str
    """Empty: a number is learned."""
    title: str


TABLES = {
    "titanic": Table("survived", "1", "Titanic, 1,313 × 4 (one of them the name): AUC of `survived`"),
    "lending_club": Table("Class", "bad", "lending_club, 9,857 × 22: AUC of `Class`"),
    "ames": Table("Sale_Price", "", "ames, 2,930 × 73: R² of `Sale_Price`"),
    "census": Table(
        "income", ">50K", "US census, 199,523 + 99,762 × 41: AUC of `income` on its own test set"
    ),
}


def write_folds(name: str, path: Path, quick: bool) -> list[Path]:
    """Folders with train.csv and test.csv for the peers and fold.csv, both with a column `split`, for us.

    Classes are spread evenly over folds. Cells are copied as they are."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    split = header.index("split") if "split" in header else None
    if split is not None:
        place = np.array([0 if row[split] == "test" else 1 for row in rows])
        count = 1
    else:
        target = header.index(TABLES[name].target)
        count = 5
        place = _spread([row[target] if TABLES[name].positive else "" for row in rows], count)
    keep = [index for index in range(len(header)) if index != split]
    step = max(1, len(rows) // 1200) if quick else 1
    folders = []
    for fold in range(min(count, 2) if quick else count):
        folder = _peers.CACHE / "work" / "tables" / f"{name}{'-quick' if quick else ''}-{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        parts = [
            ("train", np.flatnonzero(place != fold)[::step]),
            ("test", np.flatnonzero(place == fold)[::step]),
        ]
        with (folder / "fold.csv").open("w", encoding="utf-8", newline="") as both:
            ours = csv.writer(both)
            ours.writerow([*(header[index] for index in keep), "split"])
            for part, chosen in parts:
                with (folder / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
                    theirs = csv.writer(file)
                    theirs.writerow([header[index] for index in keep])
                    for row in chosen:
                        cells = [rows[row][index] for index in keep]
                        theirs.writerow(cells)
                        ours.writerow([*cells, part])
        folders.append(folder)
    return folders


def _spread(classes: list[str], folds: int) -> np.ndarray:
    """A fold for each row, drawn within each class."""
    random, place = np.random.default_rng(0), np.zeros(len(classes), int)
    labels = np.array(classes)
    for label in sorted(set(classes)):
        rows = random.permutation(np.flatnonzero(labels == label))
        place[rows] = np.arange(len(rows)) % folds
    return place


def truth(name: str, fold: Path) -> np.ndarray:
    cells = column(fold / "test.csv", TABLES[name].target)
    positive = TABLES[name].positive
    return np.array([cell == positive for cell in cells]) if positive else np.array(cells, float)


def column(path: Path, name: str) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def without(path: Path, out: Path, name: str) -> None:
    with (
        path.open(encoding="utf-8", newline="") as file,
        out.open("w", encoding="utf-8", newline="") as target,
    ):
        header, *rows = csv.reader(file)
        drop = header.index(name)
        csv.writer(target).writerows(row[:drop] + row[drop + 1 :] for row in [header, *rows])
