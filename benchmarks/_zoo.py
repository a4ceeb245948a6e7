"""A tiny trained Run for each task and family of models, on rows that are made here: `make(folder, chosen)`.

What they have learned is not the point: every kind of field, model and task is there, with real rows and weights
that are not those they began with.
"""

from __future__ import annotations

import csv
import json
import math
import os
import random
import struct
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROWS = 260
_SUBJECTS = [
    "the film",
    "this phone",
    "our room",
    "the soup",
    "that book",
    "my coat",
    "the train",
    "their show",
]
_GOOD = ["was lovely", "is great, I'd buy it again", "made me happy", "works well"]
_BAD = ["was awful", "is broken & late", "made me sad", "costs too much: 50%"]
_CHINESE = ["这个电影很好看", "房间太小了", "味道不错", "质量很差,不推荐", "服务态度好", "物流太慢"]


@dataclass(frozen=True)
class Member:
    """One Run: what it is called, the file that it learns from, and the flags of its training."""

    name: str
    data: str
    flags: Sequence[str]
    task: str
    model: str


def _member(name: str, data: str, *flags: str) -> Member:
    told = dict(flag[2:].split("=", 1) for flag in flags)
    return Member(name, data, flags, told.get("task.kind", ""), told.get("model.kind", ""))


_TABLE = ("--fields.when.kind=date", "--fields.name=ignore")
_SMALL = ("--model.width=32", "--model.depth=2", "--model.heads=2")
_LLAMA = ("--model.preset=llama", "--model.kv_heads=1", "--model.hidden=64")
_NEXT = ("--task.kind=language", "--fields.text.length=32", "--train.batch_size=8")
ZOO: tuple[Member, ...] = (
    _member("tabular", "table.csv", "--target=kind", "--task.kind=classify", "--model.kind=tabular", "--model.members=4", *_TABLE),
    _member("mlp", "table.csv", "--target=kind", "--task.kind=classify", "--model.kind=mlp", "--task.class_weights=balanced", *_TABLE),
    _member("regress-mlp", "table.csv", "--target=price", "--task.kind=regress", "--model.kind=mlp", *_TABLE),
    _member("regress-ft", "table.csv", "--target=price", "--task.kind=regress", "--model.kind=ft_transformer", *_SMALL, "--task.objective=quantile", *_TABLE),
    _member("multilabel", "table.csv", "--target=labels", "--task.kind=multilabel", "--model.kind=tabular", "--fields.labels.kind=tags", *_TABLE),
    _member("fusion", "table.csv", "--target=kind", "--task.kind=classify", "--model.kind=fusion", "--fields.name.kind=text", "--fields.when.kind=date"),
    _member("fusion-attention", "table.csv", "--target=price", "--task.kind=regress", "--model.kind=fusion", "--model.combine=attention", "--fields.name.kind=text", "--fields.when.kind=date"),
    _member("cnn", "sample:digits", "--task.kind=classify", "--model.kind=cnn"),
    _member("resnet", "sample:digits", "--task.kind=classify", "--model.kind=resnet"),
    _member("vgg", "sample:digits", "--task.kind=classify", "--model.kind=vgg", "--fields.image.size=32"),
    _member("densenet", "sample:digits", "--task.kind=classify", "--model.kind=densenet"),
    _member("vit", "sample:digits", "--task.kind=classify", "--model.kind=vit"),
    _member("gan", "sample:digits", "--task.kind=adversarial", "--model.kind=gan", "--fields.label=ignore"),
    _member("logmel-cnn", "sounds.jsonl", "--target=label", "--task.kind=classify", "--model.kind=cnn", "--fields.clip.kind=audio"),
    _member("wave-cnn", "sounds.jsonl", "--target=label", "--task.kind=classify", "--model.kind=cnn", "--fields.clip.kind=audio", "--fields.clip.features=waveform"),
    _member("wave-rnn", "sounds.jsonl", "--target=label", "--task.kind=classify", "--model.kind=rnn", "--fields.clip.kind=audio", "--fields.clip.features=waveform", "--fields.clip.seconds=0.02"),
    _member("bag", "reviews.jsonl", "--target=label", "--task.kind=classify", "--model.kind=bag"),
    _member("text-transformer", "reviews.jsonl", "--target=label", "--task.kind=classify", "--model.kind=transformer", *_SMALL, "--fields.text.kind=text", "--fields.text.tokens=bpe", "--fields.text.vocabulary=400"),
    _member("text-cls", "reviews.jsonl", "--target=label", "--task.kind=classify", "--model.kind=transformer", *_SMALL, "--model.pooling=cls", "--model.positions=alibi", "--fields.text.kind=text", "--fields.text.tokens=char"),
    _member("text-rnn", "reviews.jsonl", "--target=label", "--task.kind=classify", "--model.kind=rnn", "--fields.text.kind=text", "--fields.text.tokens=byte"),
    _member("text-gru", "reviews.jsonl", "--target=label", "--task.kind=classify", "--model.kind=rnn", "--model.cell=gru", "--model.pooling=last"),
    _member("embed", "reviews.jsonl", "--target=text", "--task.kind=embed", "--model.kind=transformer", *_SMALL, "--fields.label=ignore"),
    _member("tag", "entities.jsonl", "--target=tags", "--task.kind=tag", "--model.kind=transformer", *_SMALL, "--fields.tokens.tokens=wordpiece", "--fields.tokens.vocabulary=200"),
    _member("tag-rnn", "entities.jsonl", "--target=tags", "--task.kind=tag", "--model.kind=rnn"),
    _member("language", "text.txt", *_NEXT, *_SMALL),
    _member("language-gpt2", "text.txt", *_NEXT, *_SMALL, "--model.positions=learned", "--model.normalisation=layer", "--model.bias=true", "--model.gated=false", "--task.tied=true", "--fields.text.tokens=bpe", "--fields.text.vocabulary=300"),
    _member("language-window", "text.txt", *_NEXT, *_SMALL, "--model.positions=alibi", "--model.window=8", "--model.ngrams=2", "--model.ngram_rows=512", "--model.kv_heads=1", "--model.value_residual=true", "--task.softcap=15"),
    _member("language-experts", "text.txt", *_NEXT, *_SMALL, "--model.experts=3"),
    _member("language-rnn", "text.txt", *_NEXT, "--model.kind=rnn", "--model.bidirectional=false", "--model.cell=gru"),
    _member("language-llama", "text.txt", *_NEXT, *_SMALL, *_LLAMA, "--fields.text.tokens=bpe", "--fields.text.vocabulary=300"),
    _member("language-qwen", "text.txt", *_NEXT, *_SMALL, "--model.preset=qwen", "--model.kv_heads=1", "--model.hidden=64", "--fields.text.tokens=bpe", "--fields.text.vocabulary=300"),
    _member("language-documents", "text.txt", *_NEXT, *_SMALL, *_LLAMA, "--task.documents=true", "--fields.text.end=true", "--fields.text.tokens=bpe", "--fields.text.vocabulary=300"),
    _member("mask-bert", "text.txt", "--task.kind=mask", "--model.preset=bert", *_SMALL, "--fields.text.length=32", "--train.batch_size=8", "--fields.text.tokens=wordpiece", "--fields.text.vocabulary=300"),
    _member("tag-bert", "entities.jsonl", "--target=tags", "--task.kind=tag", "--model.kind=transformer", "--model.preset=bert", *_SMALL, "--fields.tokens.tokens=wordpiece", "--fields.tokens.vocabulary=200"),
    _member("embed-bert", "reviews.jsonl", "--target=text", "--task.kind=embed", "--model.kind=transformer", "--model.preset=bert", *_SMALL, "--fields.label=ignore", "--fields.text.kind=text", "--fields.text.tokens=bpe", "--fields.text.vocabulary=400"),
    _member("instruct-llama", "chats.jsonl", "--task.kind=instruct", "--target=messages", "--model.kind=transformer", *_SMALL, *_LLAMA, "--fields.messages.kind=chat", "--fields.messages.tokens=bpe", "--fields.messages.vocabulary=300", "--fields.messages.template=chatml", "--fields.messages.length=96"),
    _member("mask", "text.txt", "--task.kind=mask", *_SMALL, "--fields.text.length=32", "--train.batch_size=8", "--model.kind=transformer"),
    _member("span_corruption", "text.txt", "--task.kind=span_corruption", *_SMALL, "--fields.text.length=32", "--train.batch_size=8", "--model.kind=seq2seq"),
    _member("translate", "pairs.csv", "--task.kind=translate", "--target=de", "--model.kind=seq2seq", *_SMALL, "--task.bleu=false", "--fields.en.tokens=char", "--fields.de.tokens=char", "--fields.en.length=64", "--fields.de.length=64"),
    _member("instruct", "chats.jsonl", "--task.kind=instruct", "--target=messages", "--model.kind=transformer", *_SMALL, "--model.positions=rope", "--fields.messages.kind=chat", "--fields.messages.tokens=bpe", "--fields.messages.vocabulary=300", "--fields.messages.template=chatml", "--fields.messages.length=96", "--train.optimizer.lr=0.01"),
    _member("prefer", "pairs.jsonl", "--task.kind=prefer", "--init=instruct"),
)  # fmt: skip


def make(folder: Path, chosen: Sequence[str] | None = None, steps: int = 6) -> list[tuple[Member, Path]]:
    """Train them in `folder`; (member, Run) of each. A Run that is there already is kept."""
    from modelworks.cli import main

    folder.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name, maker in MAKERS.items():
            if not Path(name).exists():
                maker(Path(name))
        made = []
        for member in ZOO:
            if chosen is not None and member.name not in chosen:
                continue
            run = Path("runs") / member.name
            if not (run / "manifest.json").exists():
                if member.name == "prefer":
                    make_prefer_base(folder)
                flags = [
                    *member.flags,
                    f"--train.steps={steps}",
                    "--train.threads=1",
                    f"--name={member.name}",
                ]
                if main(["train", member.data, "--quiet", *flags]) != 0:
                    raise RuntimeError(f"{member.name}: training failed")
            made.append((member, folder / run))
        return made
    finally:
        os.chdir(before)


def make_prefer_base(folder: Path) -> None:
    """Preferences are learned by a model that answers already."""
    make(folder, ["instruct"])


# ------------------------------------------------------------------------------------------- rows
def table(path: Path) -> None:
    random.seed(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "rooms", "city", "open", "when", "labels", "name", "price", "kind"])
        for row in range(ROWS):
            age = "" if row % 9 == 4 else f"{random.gauss(40, 12):.1f}"
            rooms = random.choice([1, 2, 2, 3, 4])
            city = random.choice(["Köln", "Paris", "上海", "Oslo", "NA"])
            labels = "|".join(random.sample(["red", "blue", "tall"], random.randint(0, 2)))
            when = f"20{random.randint(10, 24)}-{random.randint(1, 12):02}-{random.randint(1, 28):02}"
            price = rooms * 1000 * math.exp(random.gauss(0, 0.4))
            name = f"{random.choice(_SUBJECTS)} {random.choice(_GOOD + _BAD)} {row}"
            kind = "large" if rooms > 2 else ("far" if city in ("Oslo", "上海") else "near")
            writer.writerow([age, rooms, city, row % 2 == 0, when, labels, name, f"{price:.2f}", kind])


def reviews(path: Path) -> None:
    random.seed(1)
    with path.open("w", encoding="utf-8") as file:
        for row in range(ROWS):
            good = random.random() < 0.5
            count = random.choice([1, 1, 2, 3, 6])
            said = [
                f"{random.choice(_SUBJECTS)} {random.choice(_GOOD if good else _BAD)}" for _ in range(count)
            ]
            text = f"{'. '.join(said)} {random.choice(_CHINESE)} no. {row}."
            file.write(
                json.dumps({"text": text, "label": "good" if good else "bad"}, ensure_ascii=False) + "\n"
            )


def sounds(path: Path) -> None:
    random.seed(2)
    lines = []
    for row in range(ROWS):
        high, seconds = row % 2, random.uniform(0.05, 0.12)
        pitch, rate = (1200 if high else 300) * random.uniform(0.9, 1.1), 4000
        steps = range(int(seconds * rate))
        samples = [0.5 * math.sin(2 * math.pi * pitch * t / rate) + random.gauss(0, 0.02) for t in steps]
        file = Path("wav") / f"{row}.wav"
        file.parent.mkdir(exist_ok=True)
        with wave.open(str(file), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(rate)
            out.writeframes(b"".join(struct.pack("<h", int(32767 * max(-1, min(1, s)))) for s in samples))
        lines.append(json.dumps({"clip": str(file), "label": "high" if high else "low"}))
    path.write_text("\n".join(lines) + "\n", "utf-8")


def entities(path: Path) -> None:
    random.seed(3)
    people, places = ["Ada Lovelace", "Kurt Gödel", "Li Bai"], ["Oslo", "New York", "Chang an"]
    with path.open("w", encoding="utf-8") as file:
        for row in range(ROWS):
            tokens: list[str] = []
            tags: list[str] = []
            for _ in range(random.choice([1, 1, 2, 3])):
                kind = random.choice(["PER", "LOC"])
                name = random.choice(people if kind == "PER" else places).split()
                tokens += [*name, "was", "in", str(row), "."]
                tags += [f"B-{kind}", *[f"I-{kind}"] * (len(name) - 1), "O", "O", "O", "O"]
            file.write(json.dumps({"tokens": tokens, "tags": tags}, ensure_ascii=False) + "\n")


def text(path: Path) -> None:
    random.seed(4)
    lines = [
        f"Line {row}: {random.choice(_SUBJECTS)} {random.choice(_GOOD + _BAD)}; {random.choice(_CHINESE)}."
        for row in range(3 * ROWS)
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def pairs(path: Path) -> None:
    random.seed(5)
    words = {"one": "eins", "two": "zwei", "three": "drei", "red": "rot", "blue": "blau", "house": "Haus"}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["en", "de"])
        for _ in range(ROWS):
            said = random.choices(list(words), k=random.randint(1, 6))
            writer.writerow([" ".join(said), " ".join(words[word] for word in said)])


def chats(path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in range(ROWS):
            said = [
                {"role": "user", "content": f"Is {row} even?"},
                {"role": "assistant", "content": "Yes, it is." if row % 2 == 0 else "No, it is odd."},
            ]
            file.write(json.dumps({"messages": said}) + "\n")


def preferences(path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in range(ROWS):
            answers = ("Yes, it is.", "No, it is odd.")
            right = row % 2
            file.write(
                json.dumps(
                    {"prompt": f"Is {row} even?", "chosen": answers[right], "rejected": answers[1 - right]}
                )
                + "\n"
            )


MAKERS: dict[str, Callable[[Path], None]] = {
    "table.csv": table,
    "reviews.jsonl": reviews,
    "sounds.jsonl": sounds,
    "entities.jsonl": entities,
    "text.txt": text,
    "pairs.csv": pairs,
    "chats.jsonl": chats,
    "pairs.jsonl": preferences,
}
