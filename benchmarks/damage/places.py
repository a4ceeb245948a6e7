"""Files that are none, files that may not be read, places that may not be written, a disk that is full."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

from damage import QUICK, Case, originals

TABLE = {"t.csv": originals.csv()}
NOBODY = 65534


def cases(dice: random.Random) -> Iterator[Case]:
    """All places."""
    yield from _inputs()
    yield from _outputs()
    yield from _full()


def _pipe(name: str):
    return lambda folder: os.mkfifo(folder / name)


def _inputs() -> Iterator[Case]:
    sources = {
        "nowhere.csv": "nowhere.csv", "nowhere/t.csv": "nowhere", "t.cvs": "t.cvs", ".": "", "/": "", "..": "", "/dev/null": "/dev/null", "/dev/zero": "/dev/zero", "/dev/stdin": "", "/proc/self/mem": "mem",
        "-": "", "": "", "~": "", "~nobody/x.csv": "", "x" * 300 + ".csv": "", "/".join(["d"] * 2000) + "/t.csv": "", "sample:": "sample", "sample:nobody": "nobody", "sample:../../x": "sample",
        "hf:": "data set", "http://example.org/t.csv": "http", "file:///etc/passwd": "file", "s3://b/k.csv": "s3", "*.csv": "csv", "t.csv t.csv": "t.csv", "$HOME/t.csv": "", "--": "", "\x1b[31m.csv": "",
    }  # fmt: skip
    for verb in ("audit", "train"):
        for source, word in sources.items():
            argv = [verb, source, "--target=answer", *(QUICK if verb == "train" else ())]
            yield Case(
                "places",
                f"{verb} {source[:24]!r}",
                argv,
                TABLE,
                expect=None if source in (".", "/", "..", "~", "--") else 2,
                names=(word,) if word else ("modelworks",),
            )
    for name in ("pipe.csv", "pipe.parquet", "pipe.jsonl", "pipe.yaml", "pipe.xlsx"):
        yield Case(
            "places",
            f"train {name}",
            ["train", name, "--target=answer", *QUICK],
            {},
            _pipe(name),
            expect=2,
            names=(name,),
        )
    yield Case(
        "places",
        "folder named like a table",
        ["train", "d.csv", "--target=answer", *QUICK],
        {"d.csv/t.csv": originals.csv()},
        expect=2,
        names=("d.csv",),
    )
    yield Case(
        "places",
        "folder named like a recipe",
        ["train", "d.yaml", *QUICK],
        {"d.yaml/t.csv": originals.csv()},
        expect=2,
        names=("d.yaml",),
    )
    yield Case(
        "places",
        "link to itself",
        ["train", "l.csv", "--target=answer", *QUICK],
        {},
        lambda folder: (folder / "l.csv").symlink_to("l.csv"),
        expect=2,
        names=("l.csv",),
    )
    yield Case(
        "places",
        "link to a device",
        ["train", "l.csv", "--target=answer", *QUICK],
        {},
        lambda folder: (folder / "l.csv").symlink_to("/dev/zero"),
        expect=2,
        names=("l.csv",),
    )
    yield Case(
        "places",
        "link to a table",
        ["train", "l.csv", "--target=answer", *QUICK],
        TABLE,
        lambda folder: (folder / "l.csv").symlink_to("t.csv"),
        expect=0,
        rows=originals.ROWS,
    )
    yield Case(
        "places",
        "recipe of endless zeros",
        ["train", "l.yaml", *QUICK],
        {},
        lambda folder: (folder / "l.yaml").symlink_to("/dev/zero"),
        expect=2,
        names=("l.yaml",),
    )
    yield Case(
        "places",
        "recipe names a pipe",
        ["train", "r.yaml", *QUICK],
        {"r.yaml": b"data: pipe.csv\ntarget: answer\n"},
        _pipe("pipe.csv"),
        expect=2,
        names=("pipe.csv",),
    )
    yield Case(
        "places",
        "question is a pipe",
        ["predict", "rows", "pipe.csv"],
        {},
        _pipe("pipe.csv"),
        ("rows",),
        expect=2,
        names=("pipe.csv",),
    )
    yield Case(
        "places",
        "question is endless",
        ["predict", "rows", "/dev/zero"],
        {},
        None,
        ("rows",),
        expect=2,
        names=("/dev/zero",),
    )

    def unreadable(folder: Path) -> None:
        for path in folder.rglob("*"):
            path.chmod(0)

    yield Case(
        "places",
        "table that may not be read",
        ["audit", "t.csv"],
        TABLE,
        unreadable,
        expect=2,
        user=NOBODY,
        names=("t.csv",),
    )
    yield Case(
        "places",
        "recipe that may not be read",
        ["train", "r.yaml", *QUICK],
        {"r.yaml": b"data: t.csv\n"},
        unreadable,
        expect=2,
        user=NOBODY,
        names=("r.yaml",),
    )
    yield Case(
        "places",
        "folder that may not be read",
        ["audit", "pics"],
        originals.pictures(),
        unreadable,
        expect=2,
        user=NOBODY,
        names=("pics",),
    )


def _outputs() -> Iterator[Case]:
    train = ["train", "t.csv", "--target=answer", *QUICK]
    ask = ["predict", "rows", "t.csv", "--output"]

    def closed(folder: Path) -> None:
        folder.chmod(0o555)

    yield Case(
        "places",
        "train where nothing may be written",
        train,
        TABLE,
        closed,
        expect=2,
        user=NOBODY,
        names=("Permission", "runs", "store"),
    )
    yield Case("places", "runs is a file", train, {**TABLE, "runs": b""}, expect=2, names=("runs",))
    yield Case("places", "the Run's folder is a file", train, {**TABLE, "runs/out": b""}, names=("out",))
    yield Case(
        "places",
        "the Run's folder holds other files",
        train,
        {**TABLE, "runs/out/thesis.txt": b"mine"},
        names=("out",),
    )
    yield Case("places", "store is a file", train, {**TABLE, "store": b""}, expect=2, names=("store",))
    for output, word in {
        "runs": "runs",
        "/dev/full": "",
        "out": "out",
        "out.docx": "docx",
        "": "",
        "t.csv": "",
        "x" * 300 + ".csv": "",
        "t.csv/a.csv": "t.csv",
        "/proc/a.csv": "proc",
        "/etc": "etc",
    }.items():
        yield Case(
            "places",
            f"answers to {output[:20]!r}",
            [*ask, output],
            TABLE,
            None,
            ("rows",),
            names=(word,) if word else ("modelworks",),
        )
    for verb in (
        ["report", "rows", "--output"],
        ["evaluate", "rows", "--output"],
        ["audit", "t.csv", "--output"],
    ):
        for output in ("/proc/a.html", "runs", "", "x" * 300, "nowhere/a.html", "/dev/full"):
            yield Case(
                "places",
                f"{verb[0]} to {output[:20]!r}",
                [*verb, output],
                TABLE,
                None,
                ("rows",),
                names=("modelworks",),
            )
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        yield Case(
            "places",
            f"answers over a folder {name}",
            [*ask, name],
            {**TABLE, f"{name}/x": b""},
            None,
            ("rows",),
            expect=2,
            names=(name,),
        )


def _full() -> Iterator[Case]:
    """No file may grow beyond so many bytes, as where the disk is full."""
    for size in (100, 1000, 4000, 20_000, 60_000):
        yield Case(
            "places",
            f"train, {size:,} bytes left",
            ["train", "t.csv", "--target=answer", *QUICK],
            TABLE,
            largest_file=size,
            names=("large", "space"),
            expect=None,
        )
        yield Case(
            "places",
            f"train pictures, {size:,} bytes left",
            ["train", "pics", *QUICK],
            originals.pictures(),
            largest_file=size,
            names=("large", "space"),
        )
        yield Case(
            "places",
            f"predict, {size:,} bytes left",
            ["predict", "rows", "t.csv", "--output", "out.csv"],
            TABLE,
            None,
            ("rows",),
            largest_file=size,
            names=("large", "space"),
            forbidden={} if size >= 4000 else {"out.csv": ""},
        )
