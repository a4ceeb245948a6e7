"""Trained Runs that were damaged or forged, and strange questions put to sound ones."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from damage import DAMAGES, Case, originals

TABLE = {"t.csv": originals.csv()}
ROWS = originals.ROWS


def cases(dice: random.Random) -> Iterator[Case]:
    """All Runs."""
    yield from _weights(dice)
    yield from _files(dice)
    yield from _places()
    yield from _questions()


def case(
    name: str, damage: Callable[[Path], None], *, reseal: bool = False, verb: str = "predict", **more: object
) -> Case:
    """A command on a damaged Run of the table. `reseal`: with a manifest that vouches for the damage."""

    def prepare(folder: Path) -> None:
        damage(folder / "runs" / "rows")
        if reseal:
            from modelworks.core.sealed import seal

            seal(folder / "runs" / "rows", ("checkpoints",))

    argv = {
        "predict": ["predict", "rows", "t.csv", "--output", "out.csv"], "evaluate": ["evaluate", "rows", "t.csv", "--bootstrap=0"],
        "report": ["report", "rows"], "resume": ["train", "t.csv", "--target=answer", "--name", "rows", "--resume"], "runs": ["runs"], "compare": ["runs", "rows", "rows"],
    }[verb]  # fmt: skip
    return Case(
        "runs",
        f"{verb}: {name}{' (resealed)' if reseal else ''}",
        argv,
        TABLE,
        prepare,
        ("rows",),
        **{"names": ("rows", "task"), **more},
    )  # type: ignore[arg-type]


def _rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / name).write_bytes(change((run / name).read_bytes()))

    return damage


def _header(change: Callable[[dict], None]) -> Callable[[bytes], bytes]:
    """A safetensors file with its header changed."""

    def rewritten(data: bytes) -> bytes:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    return rewritten


def _first(header: dict) -> dict:
    return header[next(name for name in header if name != "__metadata__")]


def _weights(dice: random.Random) -> Iterator[Case]:
    def wrong(**changes: object) -> Callable[[bytes], bytes]:
        return _header(lambda header: _first(header).update(changes))

    def renamed(header: dict) -> None:
        header["other"] = header.pop(next(name for name in header if name != "__metadata__"))

    damages: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda data: b"", "header says 2⁶³": lambda data: struct.pack("<Q", 2**63) + data[8:], "header says 2⁶⁴ − 1": lambda data: b"\xff" * 8 + data[8:],
        "header says 0": lambda data: bytes(8) + data[8:], "no JSON": lambda data: data[:8] + b"x" * (len(data) - 8), "cut by one": lambda data: data[:-1],
        "longer by one": lambda data: data + b"\0", "wrong type": wrong(dtype="I8"), "unknown type": wrong(dtype="F7"), "wrong shape": wrong(shape=[1, 1]), "giant shape": wrong(shape=[2**40, 2**40]),
        "negative shape": wrong(shape=[-1]), "offsets crossed": wrong(data_offsets=[100, 0]), "offsets beyond": wrong(data_offsets=[0, 2**50]), "renamed": _header(renamed),
        "not a number": lambda data: data[: -len(data) // 2] + b"\xff" * (len(data) // 2), "a pickle": lambda data: b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.",
    }  # fmt: skip
    for name, change in damages.items():
        free = name == "not a number"
        yield case(
            f"weights {name}",
            _rewrite("model.safetensors", change),
            reseal=True,
            expect=None if free else 2,
            rows=ROWS,
            forbidden={"owned": ""},
        )
    for number in range(8):
        damage = DAMAGES[number % len(DAMAGES)]
        yield case(
            f"weights {damage.__name__} {number}",
            _rewrite("model.safetensors", lambda data, d=damage: d(data, dice)),
            reseal=number % 2 == 1,
            rows=ROWS,
            expect=None if number % 2 else 2,
        )
    yield case("fields' arrays empty", _rewrite("fields/arrays.safetensors", lambda data: b""), reseal=True)
    yield case(
        "fields' arrays cut", _rewrite("fields/arrays.safetensors", lambda data: data[:-3]), reseal=True
    )


def _tree(path: str, value: object) -> Callable[[bytes], bytes]:
    """JSON with one entry changed; the path's parts are parted by /."""

    def change(data: bytes) -> bytes:
        tree = node = json.loads(data)
        *parents, last = path.split("/")
        for part in parents:
            node = node[part]
        if value is None:
            node.pop(last)
        else:
            node[last] = value
        return json.dumps(tree).encode()

    return change


def _files(dice: random.Random) -> Iterator[Case]:
    fields = "fields/fields.json"
    forged = {
        "other path": _tree("files", {"../../../etc/passwd": {"sha256": "0" * 64, "bytes": 1}}), "absolute": _tree("files", {"/etc/passwd": {"sha256": "0" * 64, "bytes": 1}}),
        "list": lambda data: b"[]", "empty": lambda data: b"", "deep": lambda data: b"[" * 100_000, "no hashes": _tree("files", {"recipe.yaml": {}}), "numbers": _tree("files", {"recipe.yaml": 3}),
        "not UTF-8": lambda data: b"\xff\xfe" + data,
    }  # fmt: skip
    for name, change in forged.items():
        yield case(f"manifest {name}", _rewrite("manifest.json", change), expect=2)
    changes: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
        "fields empty": (fields, lambda data: b"{}"), "fields a list": (fields, lambda data: b"[]"), "fields' settings gone": (fields, _tree("age/settings", None)),
        "fields' state gone": (fields, _tree("age/state", None)), "fields' state empty": (fields, _tree("age/state", {})), "fields' state a text": (fields, _tree("age/state", "x")),
        "unknown kind": (fields, _tree("age/settings/kind", "thing")), "kind is a path": (fields, _tree("age/settings/kind", "/tmp/rob.py")), "kind is a number": (fields, _tree("age/settings/kind", 3)),
        "a field less": (fields, _tree("age", None)), "categories gone": (fields, _tree("colour/state", {})), "target's state empty": (fields, _tree("answer/state", {})), "fields not JSON": (fields, lambda data: data[:-20]),
        "fields deep": (fields, lambda data: b'{"a":' * 50_000), "recipe gone wrong": ("recipe.yaml", lambda data: data.replace(b"kind: ", b"kind: no")), "recipe of another model": ("recipe.yaml", lambda data: data.replace(b"target: answer", b"target: age")),
        "recipe empty": ("recipe.yaml", lambda data: b""), "recipe of tags": ("recipe.yaml", lambda data: b"!!python/object/apply:os.system ['touch owned']"), "recipe from the future": ("recipe.yaml", lambda data: data.replace(b"version: 1", b"version: 9")),
        "evaluation not JSON": ("evaluation.json", lambda data: b"{"), "evaluation a list": ("evaluation.json", lambda data: b"[1]"), "evaluation empty": ("evaluation.json", lambda data: b"{}"),
        "data not JSON": ("data.json", lambda data: b"\xff"), "environment a list": ("environment.json", lambda data: b"[]"), "metrics noise": ("metrics.jsonl", lambda data: dice.randbytes(500)), "metrics of numbers": ("metrics.jsonl", lambda data: b"1\n[]\nnull\n{}\n"),
    }  # fmt: skip
    for number, (name, (file, change)) in enumerate(changes.items()):
        verbs = (
            ("report", "runs", "compare")
            if file in ("evaluation.json", "data.json", "environment.json", "metrics.jsonl")
            else ("predict",)
        )
        for verb in verbs:
            yield case(
                name,
                _rewrite(file, change),
                reseal=True,
                verb=verb,
                forbidden={"owned": ""},
                rows=ROWS if verb == "predict" else None,
            )
        if verbs == ("predict",):
            yield case(name, _rewrite(file, change), verb="evaluate" if number % 2 else "predict", expect=2)

    def unsealed(run: Path) -> None:
        (run / "manifest.json").unlink()

    yield case("no manifest", unsealed, expect=2)
    for name in ("recipe.yaml", "model.safetensors", fields, "evaluation.json"):
        yield case(f"{name} gone", lambda run, n=name: (run / n).unlink(), expect=2)
    yield case(
        "weights are a link",
        lambda run: (
            (run / "model.safetensors").rename(run / "w"),
            (run / "model.safetensors").symlink_to("w"),
        ),
        expect=2,
    )  # type: ignore[func-returns-value,arg-type]
    for name, change in {
        "weights cut": lambda data: data[:100],
        "state list": lambda data: b"[]",
        "state deep": lambda data: b"[" * 100_000,
        "gone": None,
    }.items():

        def damage(run: Path, name: str = name, change: Callable[[bytes], bytes] | None = change) -> None:
            unsealed(run)
            checkpoint = next((run / "checkpoints").glob("step-*"))
            if change is None:
                (checkpoint / "manifest.json").unlink()
                return
            file = checkpoint / ("weights.safetensors" if "weights" in name else "state.json")
            file.write_bytes(change(file.read_bytes()))
            from modelworks.core.sealed import seal

            seal(checkpoint)

        yield case(f"checkpoint {name}", damage, verb="resume")


def _places() -> Iterator[Case]:
    for name in ("../runs/rows", "runs/../runs/rows", "./runs/rows/", "runs/link"):
        yield Case(
            "runs",
            f"path {name}",
            ["predict", name, "t.csv", "--output", "out.csv"],
            TABLE,
            lambda folder: (folder / "runs/link").symlink_to("rows"),
            ("rows",),
            names=("rows", "link"),
            rows=ROWS,
        )
    for name in (
        "../../..",
        "",
        ".",
        "/",
        "/etc",
        "x" * 5000,
        "nobody",
        "runs",
        "\x1b[31m",
        "--",
        "*",
        "~",
    ):
        for verb in ("predict", "report", "evaluate"):
            yield Case(
                "runs",
                f"{verb} Run {name[:10]!r}",
                [verb, name, *(["t.csv"] if verb != "report" else [])],
                TABLE,
                None,
                ("rows",),
                expect=2,
                names=(name[:20] or "Run", "Run", "\\x"),
            )


def _questions() -> Iterator[Case]:
    rows = originals.csv()
    head, _, body = rows.partition(b"\n")
    strange = {
        "nothing": b"", "header alone": head + b"\n", "other columns": b"x,y\n1,2\n", "fewer columns": b"age,note\n1,good\n2,bad\n", "more columns": b"x,age,size,colour,note,price,zz\n1,2,3,red,good,5,6\n",
        "columns in another order": b"price,note,colour,size,age\n5,good,red,3,2\n", "unknown category": head + b"\n1,2,purple,good,3,yes\n", "texts for numbers": head + b"\nx,y,red,good,z,yes\n", "infinite": head + b"\ninf,-inf,red,good,1e999,no\n",
        "empty cells": head + b"\n,,,,,\n", "long text": head + b"\n1,2,red," + b"good " * 100_000 + b",3,yes\n", "noise": random.Random(3).randbytes(4000), "a column named prediction": b"prediction,age,size,colour,note,price\n1,2,3,red,good,5\n",
        "ragged": head + b"\n1,2,red,good,3,yes\n1,2\n1,2,red,good,3,yes,9,9\n", "no header": body, "a picture": originals.picture(0), "one line without an end": head + b"\n1,2,red,good,3,yes",
    }  # fmt: skip
    for name, content in strange.items():
        yield Case(
            "runs",
            f"question: {name}",
            ["predict", "rows", "q.csv", "--output", "out.csv"],
            {"q.csv": content},
            None,
            ("rows",),
            names=("q.csv", "column"),
        )
        yield Case(
            "runs",
            f"standard input: {name}",
            ["predict", "rows", "-"],
            {"q.csv": content},
            None,
            ("rows",),
            stdin="q.csv",
            names=("stdin", "column"),
        )
        yield Case(
            "runs",
            f"evaluate: {name}",
            ["evaluate", "rows", "q.csv", "--bootstrap=5"],
            {"q.csv": content},
            None,
            ("rows",),
            names=("q.csv", "column"),
        )
    for form in ("jsonl", "parquet"):
        yield Case(
            "runs",
            f"standard input as {form}",
            ["predict", "rows", "-", "--format", form, "--output", "out.csv"],
            {"q.csv": rows},
            None,
            ("rows",),
            stdin="q.csv",
            names=("stdin", form),
        )
    yield Case(
        "runs",
        "words: long question",
        ["predict", "words", "q.csv", "--output", "out.csv"],
        {"q.csv": b"note\n" + b"good " * 500_000 + b"\n"},
        None,
        ("words",),
        names=("q.csv",),
    )
    yield Case(
        "runs",
        "words: empty question",
        ["predict", "words", "q.csv", "--output", "out.csv"],
        {"q.csv": b"note\n\n \n" + b"\xe2\x80\x8b\n"},
        None,
        ("words",),
        names=("q.csv",),
    )
    yield Case(
        "runs",
        "pictures: a table",
        ["predict", "pictures", "t.csv", "--output", "out.csv"],
        TABLE,
        None,
        ("pictures",),
        expect=2,
        names=("t.csv", "column"),
    )
    yield Case(
        "runs",
        "two different Runs compared",
        ["report", "rows", "pictures", "--output", "c.html"],
        {},
        None,
        ("rows", "pictures"),
        expect=0,
    )
    yield Case(
        "runs",
        "a Run compared with nothing",
        ["report", "rows", "nobody"],
        {},
        None,
        ("rows",),
        expect=2,
        names=("nobody",),
    )
