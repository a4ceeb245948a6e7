"""Tiny Runs of every task, trained in seconds on data made here: `make(folder, "colours")` → runs/colours."""

from __future__ import annotations

import json
import math
import random
import struct
import wave
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from modelworks.cli import main

STILL = ["--quiet", "--train.threads=1", "--evaluate.bootstrap=0", "--train.checkpoint_seconds=0"]
BODY = ["--model.width=32", "--model.depth=1", "--model.heads=2"]
GOOD = "lovely warm brilliant charming clever moving funny bright".split()  # noqa: SIM905
POOR = "dull slow empty clumsy boring grey tired noisy".split()  # noqa: SIM905
some = random.Random(7)


def make(folder: Path, *names: str) -> dict[str, Path]:
    """Name → Run, trained within `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MODELWORKS_STORE", str(folder / "store"))
        for name in names:
            if not Path("runs", name, "manifest.json").exists():
                command = [*MADE[name](), f"--name={name}", *STILL]
                assert main(["train", *command]) == 0, command
    return {name: folder / "runs" / name for name in names}


def _csv(path: str, header: str, rows: Iterable[Iterable[Any]]) -> str:
    Path(path).write_text(header + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows), "utf-8")
    return path


def picture(label: str, size: int = 16) -> Image.Image:
    """A light or a dark square."""
    base = 40 if label == "dark" else 200
    return Image.frombytes("L", (size, size), bytes(base + some.randrange(40) for _ in range(size * size)))


def sound(path: Path, label: str, rate: int = 8000) -> None:
    """A low or a high tone."""
    turn = 2 * math.pi * (200 if label == "low" else 1600) * some.uniform(0.9, 1.1) / rate
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(b"".join(struct.pack("<h", int(9000 * math.sin(n * turn))) for n in range(rate // 4)))


def _shades() -> list[str]:
    for label in ("dark", "light"):
        Path("shades", label).mkdir(parents=True)
        for n in range(30):
            picture(label).save(f"shades/{label}/{n}.png")
    return ["shades", "--model=cnn", "--train.steps=20", "--train.batch_size=16"]


def _tones() -> list[str]:
    for label in ("low", "high"):
        Path("tones", label).mkdir(parents=True)
        for n in range(20):
            sound(Path("tones", label, f"{n}.wav"), label)
    return ["tones", "--model=cnn", "--train.steps=10", "--train.batch_size=8"]


def _review() -> str:
    words = [some.choice(GOOD if good else POOR) for good in (some.random() < 0.5,) for _ in range(4)]
    return "A " + " and ".join(words[:2]) + " film with " + " ".join(words[2:]) + " scenes"


def _reviews() -> list[str]:
    texts = {_review() for _ in range(300)}
    rows = [(text, "good" if any(word in text for word in GOOD) else "poor") for text in sorted(texts)]
    return [
        _csv("reviews.csv", "review,verdict", rows),
        "--target=verdict",
        "--model=bag",
        "--train.steps=40",
    ]


def _loans() -> list[str]:
    rows = []
    for n in range(240):
        income, city = some.randrange(8, 90), some.choice(["Bergen", "Lagos", "Lima", "上海"])
        day = f"20{some.randrange(10, 24)}-{n % 12 + 1:02d}-{n % 28 + 1:02d}"
        rows.append(
            (
                income,
                city,
                day,
                "" if n % 9 == 0 else f"{some.random():.2f}",
                "repaid" if income > 40 else "late",
            )
        )
    return [
        _csv("loans.csv", "income,city,since,share,outcome", rows),
        "--target=outcome",
        "--model=mlp",
        "--train.steps=40",
    ]


def _rents() -> list[str]:
    rows = []
    for _ in range(240):
        rooms, area, balcony = some.randrange(1, 6), some.randrange(20, 140), some.choice(["yes", "no"])
        rows.append((rooms, area, balcony, 200 + 9 * area + 40 * (balcony == "yes") + some.randrange(60)))
    where = _csv("rents.csv", "rooms,area,balcony,rent", rows)
    return [
        where,
        "--target=rent",
        "--task=regress",
        "--task.objective=quantile",
        "--model=mlp",
        "--train.steps=60",
    ]


def _topics() -> list[str]:
    kinds = {"sport": "match goal team", "money": "bank price shares", "weather": "rain wind cloud"}
    rows = []
    for _ in range(200):
        chosen = some.sample(list(kinds), some.randrange(1, 3))
        words = [some.choice(kinds[kind].split()) for kind in chosen for _ in range(3)]
        rows.append((f"news of {' '.join(words)}", "|".join(sorted(chosen))))
    where = _csv("topics.csv", "text,topics", rows)
    fields = ["--fields.topics.kind=tags", "--fields.text.kind=text"]
    return [where, "--target=topics", "--task=multilabel", *fields, "--model=bag", "--train.steps=60"]


def _people() -> list[str]:
    names, places = ["Ada", "Grace", "Alan", "Emmy"], ["London", "Paris", "Bergen"]
    rows = []
    for _ in range(160):
        name, place, word = some.choice(names), some.choice(places), some.choice(["met", "saw", "left"])
        words = ["Then", name, word, "us", "in", place, "."]
        rows.append({"tokens": words, "tags": ["O", "B-PER", "O", "O", "O", "B-LOC", "O"]})
    Path("people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        "people.jsonl",
        "--target=tags",
        "--task=tag",
        "--model=transformer",
        *BODY,
        "--train.steps=40",
        "--train.batch_size=16",
    ]


def _likeness() -> list[str]:
    Path("likeness.jsonl").write_text("".join(json.dumps({"text": _review()}) + "\n" for _ in range(120)))
    return [
        "likeness.jsonl",
        "--task=embed",
        "--target=text",
        "--model=transformer",
        *BODY,
        "--train.steps=4",
        "--train.batch_size=16",
    ]


def _german() -> list[str]:
    words = {"red": "rot", "green": "grün", "house": "Haus", "tree": "Baum", "small": "klein", "old": "alt"}
    rows = []
    for _ in range(150):
        chosen = some.sample(list(words), 3)
        rows.append((" ".join(chosen), " ".join(words[one] for one in chosen)))
    where = _csv("german.csv", "en,de", rows)
    fields = ["--fields.en={kind: corpus, tokens: char}", "--fields.de={kind: corpus, tokens: char}"]
    return [where, "--target=de", "--task=translate", *fields, "--model=seq2seq", "--model.width=16", "--model.depth=1",
            "--model.heads=2", "--train.steps=2", "--train.batch_size=8"]  # fmt: skip


def _tales() -> list[str]:
    lines = (f"The {some.choice(GOOD)} fox and the {some.choice(POOR)} owl went home." for _ in range(300))
    Path("tales.txt").write_text("\n".join(lines))
    return ["tales.txt", "--task=language", "--fields.text.tokens=char", "--fields.text.length=256", "--model=transformer",
            *BODY, "--train.steps=20", "--train.batch_size=8"]  # fmt: skip


def _talk() -> list[str]:
    base = [*_tales(), "--name=talk-base", *STILL]
    assert main(["train", *base]) == 0
    rows = [{"instruction": f"Say {word}", "input": "", "output": f"The {word} fox."} for word in GOOD + POOR]
    Path("talk.json").write_text(json.dumps(rows * 4))
    return [
        "talk.json",
        "--task=instruct",
        "--init=runs/talk-base",
        "--train.steps=2",
        "--train.batch_size=8",
    ]


def _gaps() -> list[str]:
    _tales()
    return [
        "tales.txt",
        "--task=mask",
        "--fields.text.length=32",
        "--model=transformer",
        *BODY,
        "--train.steps=4",
        "--train.batch_size=8",
    ]


MADE: dict[str, Callable[[], list[str]]] = {
    "shades": _shades, "tones": _tones, "reviews": _reviews, "loans": _loans, "rents": _rents, "topics": _topics,
    "people": _people, "likeness": _likeness, "german": _german, "tales": _tales, "talk": _talk, "gaps": _gaps,
}  # fmt: skip
