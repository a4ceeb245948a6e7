"""Tables: damaged CSV, Parquet, JSONL and workbooks, strange values, names, shapes and targets."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Iterator

from damage import DAMAGES, QUICK, Case, originals

SCRIPT = "<script>alert(1)</script>"
# Values put into a number's, a category's and a text's column alike.
VALUES = {
    "infinite": ["inf", "-inf", "Infinity", "1e400", "-1e999"],
    "not a number": ["nan", "NaN", "NULL", "#N/A", "—"],
    "giant integers": ["9" * 400, "-" + "9" * 50, str(2**64), str(2**63 - 1)],
    "tiny": ["1e-400", "5e-324", "-0.0", "1e-310"],
    "formulas": ["=1+1", "=cmd|' /C calc'!A0", "+A1", "@SUM(A1)", "-2+3"],
    "other digits": ["１２３", "٣٤", "½", "Ⅷ", "1_000", "0x1F", "1,5", "1.234,5"],
    "control characters": ["a\x01b", "\x7f", "\x1b[31mred", "\x08\x08", "\u202eabc", "\u200b"],
    "dates": ["2024-13-45", "0000-00-00", "99999-01-01", "2024-02-30T25:61:61", "1/2/3"],
    "markup": [SCRIPT, "<img src=x onerror=alert(1)>", "</style><b>", "{{ 7 * 7 }}", "${7*7}"],
    "code": ["'; DROP TABLE rows; --", "__import__('os').system('id')", "../../etc/passwd", "%s%s%s%n"],
    "long": ["x" * 100_000, "词" * 50_000, "a" * 20_000],
    "mixed types": ["1", "true", "2024-01-01", "text", "[1, 2]", '{"a": 1}', "", " "],
    "emoji": ["🤖", "👩‍👩‍👧", "e\u0301\u0301\u0301\u0301", "Z̸̛͙a̵l"],
}
NAMES = {
    "newline": "age\nyears", "emoji": "🤖", "dots": "a.b.c", "slashes": "../a/b\\c", "equals": "a=b", "long": "n" * 5000,
    "class": "__class__", "sql": "x; DROP TABLE rows; --", "script": SCRIPT, "blank": " ", "quote": 'say "hi"',
    "prediction": "prediction", "split": "split", "row": "row", "error": "error", "length": "age.length", "model": "model",
    "percent": "%s %(x)s {0}", "escape": "\x1b[31mred", "nul": "a\0b", "tilde": "~root", "dash": "--help", "dot": "..",
    "kind": "kind", "target": "target", "state_dict": "weight", "surrogate": "a\udc80",
}  # fmt: skip


def cases(dice: random.Random) -> Iterator[Case]:
    """All tables."""
    yield from _damaged(dice)
    yield from _written_badly()
    yield from _values()
    yield from _column_names()
    yield from _shapes()
    yield from _targets()


def case(
    name: str, file: str, content: bytes, *, target: str = "answer", verb: str = "train", **more: object
) -> Case:
    """A table to train on, or to audit."""
    argv = (
        ["train", file, f"--target={target}", *QUICK]
        if verb == "train"
        else ["audit", file, f"--target={target}"]
    )
    return Case("tables", name, argv, {file: content}, **{"names": (file, target), **more})  # type: ignore[arg-type]


def _damaged(dice: random.Random) -> Iterator[Case]:
    forms = {
        "t.csv": originals.csv(), "t.jsonl": originals.jsonl(), "t.parquet": originals.parquet(), "t.xlsx": originals.xlsx(),
        "t.csv.gz": gzip.compress(originals.csv(), mtime=0), "t.json": json.dumps(originals.records()).encode(),
    }  # fmt: skip
    for file, content in forms.items():
        for number in range(12 if file in ("t.csv", "t.jsonl", "t.parquet") else 5):
            damage = DAMAGES[number % len(DAMAGES)]
            yield case(
                f"{damage.__name__} {file} {number}",
                file,
                damage(content, dice),
                verb="train" if number % 3 else "audit",
            )
    footer = originals.parquet()
    for number, ending in enumerate(
        [b"\xff\xff\xff\x7fPAR1", b"\0\0\0\0PAR1", b"PAR1PAR1", footer[-8:-4] + b"XXXX"]
    ):
        yield case(f"parquet footer {number}", "t.parquet", footer[:-8] + ending, expect=2)


def _written_badly() -> Iterator[Case]:
    good = originals.csv()
    head, _, body = good.partition(b"\n")
    lines = body.splitlines(keepends=True)
    text = good.decode()
    rows = originals.ROWS
    yield case("byte order mark", "t.csv", b"\xef\xbb\xbf" + good, rows=rows, expect=0)
    yield case("utf-16", "t.csv", text.encode("utf-16"), rows=rows, expect=0)
    yield case("utf-32", "t.csv", text.encode("utf-32"))
    yield case("latin-1", "t.csv", text.replace("good", "guät").encode("latin-1"), rows=rows)
    yield case("gb18030", "t.csv", text.replace("good", "很好的中文").encode("gb18030"), rows=rows)
    yield case(
        "two encodings",
        "t.csv",
        text.replace("bad", "中文").encode() + "1,1,r,é,1,no\n".encode("latin-1"),
        rows=rows + 1,
    )
    yield case("carriage returns alone", "t.csv", good.replace(b"\n", b"\r"), rows=rows)
    yield case("semicolons", "t.csv", good.replace(b",", b";"), rows=rows, expect=0)
    yield case(
        "mixed ends of lines",
        "t.csv",
        head + b"\r\n" + b"".join(lines[:30]) + b"".join(line[:-1] + b"\r\n" for line in lines[30:]),
        rows=rows,
        expect=0,
    )
    yield case("a header twice", "t.csv", head + b"\n" + good, rows=rows + 1)
    yield case("equal column names", "t.csv", b"age,age,age,age,age,answer\n" + body, rows=rows, expect=0)
    yield case("empty header", "t.csv", b",,,,,answer\n" + body, rows=rows, expect=0)
    yield case("no header", "t.csv", body, expect=2)
    yield case(
        "ragged rows",
        "t.csv",
        head
        + b"\n"
        + b"".join(line[: len(line) // 2] + b"\n" if n % 5 == 0 else line for n, line in enumerate(lines)),
        rows=rows,
    )
    yield case("one row more cells", "t.csv", good + b"1,2,3,4,5,yes,7,8,9\n", rows=rows + 1, expect=0)
    yield case("open quote at the end", "t.csv", good + b'"1,2,3,4,5,yes\n')
    yield case("open quote early", "t.csv", head + b'\n"' + body)
    yield case("quotes everywhere", "t.csv", good.replace(b",", b'","'))
    yield case("nul bytes", "t.csv", good.replace(b"red", b"r\0d"), rows=rows)
    yield case("only nul bytes", "t.csv", b"\0" * 10_000, expect=2)
    yield case("empty", "t.csv", b"", expect=2)
    yield case("blank lines", "t.csv", b"\n" * 1000, expect=2)
    yield case("header alone", "t.csv", head + b"\n", expect=2)
    yield case("noise", "t.csv", random.Random(0).randbytes(5000))
    yield case("a picture", "t.csv", originals.picture(0), expect=2)
    yield case("bomb of zeros", "t.csv.gz", gzip.compress(b"0" * (200 << 20), mtime=0), expect=2)
    yield case(
        "bomb of lines",
        "t.csv.gz",
        gzip.compress(b"a,answer\n" + b"0,0\n" * 5_000_000, mtime=0),
        verb="audit",
    )
    yield case("gzip in gzip", "t.csv.gz", gzip.compress(gzip.compress(good)), expect=2)
    yield case("deep", "t.jsonl", originals.jsonl() + b'{"a":' * 100_000 + b"\n", rows=rows + 1, expect=0)
    yield case("deep lists", "t.jsonl", originals.jsonl() + b"[" * 100_000 + b"\n", rows=rows + 1, expect=0)
    yield case("nested", "t.jsonl", b'{"a": {"b": [1, {"c": 2}]}, "answer": {"x": 1}}\n' * 20)
    yield case(
        "keys twice", "t.jsonl", b'{"a": 1, "a": 2, "answer": "x"}\n{"a": 3, "answer": "y"}\n' * 10, rows=20
    )
    yield case(
        "NaN and Infinity",
        "t.jsonl",
        b'{"age": NaN, "answer": "x"}\n{"age": -Infinity, "answer": "y"}\n{"age": 1, "answer": "y"}\n' * 8,
        rows=24,
    )
    yield case(
        "types change",
        "t.jsonl",
        b'{"age": 1, "answer": 1}\n{"age": "x", "answer": "y"}\n{"age": [1], "answer": null}\n{"age": {}, "answer": true}\n'
        * 8,
        rows=32,
    )
    yield case("not objects", "t.jsonl", b'1\n"x"\nnull\n[1]\n' * 5, expect=2)
    yield case(
        "lone surrogates",
        "t.jsonl",
        b'{"age": "\\ud800", "answer": "\\udfff"}\n{"age": "a", "answer": "b"}\n' * 8,
        rows=16,
    )
    yield case(
        "giant numbers",
        "t.jsonl",
        b'{"age": %s, "answer": "x"}\n{"age": 1e400, "answer": "y"}\n' % (b"9" * 5000) * 8,
        rows=16,
    )
    yield case(
        "many keys", "t.jsonl", b"".join(b'{"k%d": 1, "answer": 1}\n' % n for n in range(11_000)), expect=2
    )
    yield case("quarter of a workbook", "t.xlsx", originals.xlsx()[:400], expect=2)
    yield case("text as workbook", "t.xlsx", good, expect=2)
    yield case("workbook as csv", "t.csv", originals.xlsx(), expect=2)
    yield case("csv as parquet", "t.parquet", good, expect=2)
    yield case("unknown ending", "t.docx", good, expect=2)
    yield case("no ending", "table", good, expect=2)
    yield case("ending in capitals", "T.CSV", good, rows=rows, expect=0)


def _with(column: str, values: list[str]) -> bytes:
    rows = originals.records()
    for number, value in enumerate(values * 3):
        rows[(number * 7) % len(rows)][column] = value
    return _written(rows)


def _written(rows: list[dict[str, object]]) -> bytes:
    import csv

    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode("utf-8", "surrogatepass")


def _values() -> Iterator[Case]:
    rows, pages = originals.ROWS, {"runs/out/report.html": SCRIPT}
    for name, values in VALUES.items():
        for column in ("age", "colour", "note"):
            yield case(f"{name} in {column}", "t.csv", _with(column, values), rows=rows, forbidden=pages)
        yield case(f"{name} as target", "t.csv", _with("answer", values), rows=rows, forbidden=pages)
        yield case(
            f"{name} in a learned number",
            "t.csv",
            _with("price", values),
            target="price",
            rows=rows,
            forbidden=pages,
        )


def _column_names() -> Iterator[Case]:
    for name, column in NAMES.items():
        rows = [
            {column if key == "age" else key: value for key, value in row.items()}
            for row in originals.records()
        ]
        pages = {"runs/out/report.html": SCRIPT}
        yield case(
            f"column named {name}",
            "t.csv",
            _written(rows),
            rows=None if name in ("nul", "surrogate") else originals.ROWS,
            forbidden=pages,
            names=("t.csv", column[:20]),
        )
        if name not in ("nul", "surrogate"):
            rows = [
                {column if key == "answer" else key: value for key, value in row.items()}
                for row in originals.records()
            ]
            yield case(
                f"target named {name}",
                "t.csv",
                _written(rows),
                target=column,
                rows=originals.ROWS,
                forbidden=pages,
                names=("t.csv", column.strip()[:20] or "target"),
            )


def _shapes() -> Iterator[Case]:
    for count in (1, 2, 3, 5):
        yield case(f"{count} rows", "t.csv", originals.csv(count), rows=count)
    yield case("one column", "t.csv", b"answer\n" + b"yes\nno\n" * 20, expect=2)
    yield case(
        "one row many times", "t.csv", originals.csv(1) + originals.csv(1).split(b"\n", 1)[1] * 50, rows=51
    )
    wide = b",".join(b"c%d" % n for n in range(5000)) + b",answer\n"
    body = b"".join(
        b",".join(b"%d" % (n * row % 97) for n in range(5000)) + b",%d\n" % (row % 2) for row in range(1, 31)
    )
    yield case("5,000 columns", "t.csv", wide + body, rows=30)
    yield case("5,000 columns audited", "t.csv", wide + body, verb="audit")
    yield case("all cells empty", "t.csv", b"a,b,answer\n" + b",,\n" * 40, expect=2)
    yield case("all inputs empty", "t.csv", b"a,b,answer\n" + b",,x\n,,y\n" * 20)
    yield case("all inputs constant", "t.csv", b"a,b,answer\n" + b"1,k,x\n1,k,y\n" * 20)
    yield case("a split column of nonsense", "t.csv", b"a,split,answer\n" + b"1,left,x\n2,right,y\n" * 20)
    yield case("a split column, test alone", "t.csv", b"a,split,answer\n" + b"1,test,x\n2,test,y\n" * 20)
    yield case("a split column, no test", "t.csv", b"a,split,answer\n" + b"1,train,x\n2,train,y\n" * 20)


def _targets() -> Iterator[Case]:
    rows = originals.records()

    def named(name: str, values: list[object], **more: object) -> Case:
        table = [{**row, "answer": values[n % len(values)]} for n, row in enumerate(rows)]
        return case(f"target {name}", "t.csv", _written(table), **more)

    yield named("all missing", ["", "NA", "null"], expect=2)
    yield named("constant", ["yes"])
    yield named("a constant number", [3])
    yield named("all different texts", [f"id-{n}" for n in range(60)])
    yield named("all different numbers", [n * 1.5 for n in range(60)], rows=60)
    yield named(
        "mostly missing",
        ["", "", "", "", "", "", "", "", "", "", "", "", "", "", "yes", "", "", "", "", "no"],
    )
    yield named("one row of a class", ["yes"] * 59 + ["no"], rows=60)
    yield named("differing in spaces", ["yes", " yes", "yes ", "YES"], rows=60)
    yield named("numbers and texts", [1, 2, "x", 3.5], rows=60)
    yield named("far apart", [1e300, -1e300, 1e-300, 0], rows=60)
    yield named("infinite", ["inf", "-inf", 1, 2])
    yield named("long labels", ["l" * 3000, "m" * 3000], rows=60)
    yield named("lists", ["a|b", "b|c", "", "a"])
    yield case("target that is not there", "t.csv", originals.csv(), target="anwser", expect=2)
    yield case("empty target", "t.csv", originals.csv(), target="")
    yield case("target by number", "t.csv", originals.csv(), target="5", expect=2)
