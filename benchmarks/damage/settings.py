"""Recipes: YAML that is broken or hostile, and settings that are misspelt, of the wrong type, or do not fit."""

from __future__ import annotations

import random
from collections.abc import Iterator

from damage import DAMAGES, QUICK, Case, originals

GOOD = b"data: t.csv\ntarget: answer\ntrain: {steps: 2, batch_size: 16}\nevaluate: {bootstrap: 0}\n"
TABLE = {"t.csv": originals.csv()}


def cases(dice: random.Random) -> Iterator[Case]:
    """All recipes."""
    yield from _yaml(dice)
    yield from _typos()
    yield from _flags()
    yield from _combinations()


def recipe(name: str, content: bytes, **more: object) -> Case:
    """A recipe to train."""
    values = {"names": ("r.yaml",), **more}
    return Case(
        "settings", name, ["train", "r.yaml", "--name", "out"], {**TABLE, "r.yaml": content}, **values
    )  # type: ignore[arg-type]


def _yaml(dice: random.Random) -> Iterator[Case]:
    bombs = b"a0: &a0 [x, x]\n" + b"".join(
        b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 40)
    )
    hostile = {
        "python object": b"data: !!python/object/apply:os.system ['touch owned']\n", "python name": b"!!python/name:os.system\n",
        "python new": b"data: !!python/object/new:os.system [id]\n", "other tag": b"data: !thing t.csv\n", "binary": b"data: !!binary aGVsbG8=\n",
        "set": b"data: !!set {a, b}\n", "alias bomb": bombs, "alias to itself": b"data: &a [*a]\n", "unknown alias": b"data: *nobody\n",
        "merge keys": b"x: &x {steps: 2}\ntrain:\n  <<: *x\n" + GOOD, "key twice": GOOD + b"target: age\n", "tabs": b"data: t.csv\ntrain:\n\tsteps: 2\n",
        "deep lists": b"data: " + b"[" * 20_000, "deep maps": b"data: " + b"{a: " * 5_000, "deep blocks": b"".join(b" " * n + b"a:\n" for n in range(2000)),
        "10 MB scalar": b"data: " + b"x" * 10_000_000, "10 MB of keys": b"".join(b"k%d: 1\n" % n for n in range(200_000)), "latin-1": "data: é.csv\n".encode("latin-1"),
        "utf-16": GOOD.decode().encode("utf-16"), "nul": b"data: t\0.csv\n", "control": b"data: \x01\x02\n", "empty": b"", "comment": b"# nothing\n", "list": b"- a\n- b\n",
        "scalar": b"hello\n", "number": b"42\n", "two documents": GOOD + b"---\n" + GOOD, "open quote": b'data: "t.csv\n', "list as key": b"[a, b]: c\n",
        "map as key": b"{a: b}: c\n", "number as key": b"1: 2\n", "null as key": b"~: 2\n", "date": b"data: 2024-01-01\n", "bad date": b"data: 2024-99-99\n",
        "octal": b"seed: 0o777\n" + GOOD, "sexagesimal": b"seed: 1:30:00\n" + GOOD, "giant seed": b"seed: " + b"9" * 5000 + b"\n" + GOOD, "version": b"version: 99\n" + GOOD,
        "version text": b"version: x\n" + GOOD, "not yaml": originals.picture(0),
    }  # fmt: skip
    for name, content in hostile.items():
        yield recipe(
            f"yaml: {name}",
            content,
            forbidden={"owned": ""},
            expect=None
            if name in ("comment",)
            else 2
            if name not in ("merge keys", "octal", "sexagesimal", "version text")
            else None,
        )
    yield recipe("yaml: byte order mark", b"\xef\xbb\xbf" + GOOD, expect=0)
    for number in range(16):
        damage = DAMAGES[number % len(DAMAGES)]
        yield recipe(
            f"yaml: {damage.__name__} {number}",
            damage(GOOD, dice),
            names=("r.yaml", "t.csv", "data", "target", "column"),
        )


def _typos() -> Iterator[Case]:
    """One wrong setting each: what is said must name it."""
    wrong = {
        "daat": "t.csv", "data.sourc": "t.csv", "data.split.vaild": 0.1, "data.split.valid": 2, "data.split.by": "colour", "data.clean.duplicates": "maybe",
        "data.source.kind": "cvs", "fields.agee": {"kind": "number"}, "fields.age.kind": "nummber", "fields.age.scaling": "x", "fields.note.kind": 3, "fields": [1],
        "task": "classfy", "task.kind": "", "task.label_smoothing": 7, "task.target": "nobody", "model": "resnett", "model.kind": "mlpp", "model.depth": "deep",
        "model.dropout": 1.5, "train.epochs": -1, "train.steps": "ten", "train.batch_size": 0, "train.optimizer.kind": "adamm", "train.optimizer.lr": -1,
        "train.optimizer.lrr": 1, "train.schedule": "cosin", "train.schedule.kind": 7, "train.metric": "accuracyy", "train.guard.action": "panic", "train.ema": 1.5,
        "train.device": "tpu9", "train.threads": 0, "train.choose": "middle", "evaluate.bootstrap": -5, "evaluate.gallery": "many", "seed": -1, "seed.x": 1, "target": ["a", "b"],
        "train.clip": float("inf"), "train.l2": float("nan"), "train": None, "data": None, "evaluate": "x", "train.patience": 1.5, "train.micro_batch": 99999,
    }  # fmt: skip
    import yaml

    for path, value in wrong.items():
        tree: dict = {"data": {"source": {"kind": "csv", "path": "t.csv"}}, "target": "answer", "model": {"kind": "mlp"}, "task": {"kind": "classify"},
                      "train": {"steps": 2, "batch_size": 16}, "evaluate": {"bootstrap": 0}, "fields": {"note": "ignore"}}  # fmt: skip
        node, (*parents, last) = tree, path.split(".")
        for part in parents:
            if not isinstance(node.get(part), dict):
                node[part] = {}
            node = node[part]
        node[last] = value
        free = path in ("train", "fields.age.kind")
        yield recipe(
            f"setting {path} = {str(value)[:20]}",
            yaml.safe_dump(tree).encode(),
            names=(last, path),
            expect=None if free or path == "train.micro_batch" else 2,
        )


def _flags() -> Iterator[Case]:
    base = ["train", "t.csv", "--target=answer", *QUICK]
    for flags, word in {
        ("--model.depth=[",): "model.depth", ("--model.depth=!!python/object/apply:os.system [id]",): "model.depth", ("--=3",): "--=3", ("--a..b=3",): "a", ("--train..steps=3",): "train",
        ("--train=5",): "train", ("--train.steps=3", "--train.steps.x=3"): "train", ("--data.split.valid=-0.5",): "valid", ("--trian.steps=2",): "trian", ("--train.steps=",): "", ("--seed", "x"): "seed",
        ("--seed=-1",): "seed", (f"--seed={2**70}",): "seed", ("--task", "fly"): "fly", ("--model", "../../etc/passwd"): "passwd", ("--model", "./mine.py"): "mine.py", ("--model", "/etc/passwd.py"): "passwd",
        ("--model", "os"): "os", ("--model", "__init__"): "__init__", ("--fields.note.kind=./t.csv",): "t.csv", ("--resume", "--overwrite"): "",
        ("--fields.age.kind=text",): "", ("--fields.colour.kind=number",): "colour", ("--fields.note.kind=image",): "note", ("--fields.note.kind=audio",): "note", ("--fields.age.kind=date",): "age",
        ("--fields.answer.kind=number",): "answer", ("--fields.answer=ignore",): "answer", ("--fields.age=ignore", "--fields.size=ignore", "--fields.colour=ignore", "--fields.note=ignore", "--fields.price=ignore"): "",
        ("--train.batch_size=full",): "", ("--train.batch_size=1000000",): "", ("--train.optimizer.lr=1e30",): "", ("--train.steps=0",): "", ("--unknown",): "unknown", ("--train.log_every=0",): "log_every",
        ("--data.split.valid=0", "--data.split.test=0"): "", ("--data.split.valid=0.9", "--data.split.test=0.9"): "valid", ("--data.split.by=time", "--data.split.column=nobody"): "nobody", ("--data.split.by=group", "--data.split.column=colour"): "",
    }.items():  # fmt: skip
        yield Case(
            "settings",
            f"flags {' '.join(flags)[:50]}",
            [*base, *flags],
            TABLE,
            names=(word,) if word else ("modelworks",),
            forbidden={"owned": ""},
        )
    for name in (
        "../../x",
        "/tmp/x",
        "",
        ".",
        "..",
        "a/b",
        "a\nb",
        "x" * 300,
        "-x",
        "~",
        "con",
        "名字",
        ".hidden",
        "a b",
        "$(id)",
        "\x1b[31m",
    ):
        yield Case(
            "settings",
            f"name {name[:20]!r}",
            ["train", "t.csv", "--target=answer", *QUICK[:-2], f"--name={name}"],
            TABLE,
            names=("name", name or "name"),
            forbidden={"../x": "", "../../x": ""},
        )
    for verb in (
        "audit",
        "predict",
        "evaluate",
        "report",
        "runs",
        "list",
        "schema",
        "init",
        "completion",
        "nothing",
        "--nothing",
        "",
    ):
        yield Case(
            "settings",
            f"verb {verb!r} with nonsense",
            [verb, "nobody", "--nothing", "--a.b=1"],
            names=("nobody", "nothing", verb or "verb"),
        )


def _combinations() -> Iterator[Case]:
    """Every model and task on a table, where most do not fit."""
    from modelworks.core.kinds import names

    for model in names("models"):
        yield Case(
            "settings",
            f"model {model} on a table",
            ["train", "t.csv", "--target=answer", f"--model={model}", *QUICK],
            TABLE,
            rows=originals.ROWS,
            names=("model", model, "field"),
        )
    for task in names("tasks"):
        for target in ("answer", "price", "note"):
            yield Case(
                "settings",
                f"task {task} of {target}",
                ["train", "t.csv", f"--target={target}", f"--task={task}", *QUICK],
                TABLE,
                rows=originals.ROWS,
                names=("task", task, target, "distinct"),
            )
    for model in ("resnet", "vgg", "densenet", "vit", "gan", "bag", "rnn", "mlp", "transformer"):
        yield Case(
            "settings",
            f"model {model} on tiny pictures",
            ["train", "pics", f"--model={model}", *QUICK],
            originals.pictures(),
            rows=16,
            names=("model", model, "image"),
        )
        yield Case(
            "settings",
            f"model {model} on sounds",
            ["train", "wavs", f"--model={model}", *QUICK],
            originals.sounds(),
            rows=16,
            names=("model", model, "audio"),
        )
