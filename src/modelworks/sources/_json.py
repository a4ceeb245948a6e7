"""JSON objects one by one from a file, and Arrow columns for them.

columns = Columns("chats.jsonl")
for row in objects(path, quarantine): columns.see(row)
for batch in columns.batches(objects(path, quarantine)): ...
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from modelworks.core.errors import DataError
from modelworks.core.source import Quarantine
from modelworks.sources._files import LONGEST, ROWS, CutShort, chunks, head, lines, unique_names
from modelworks.sources._text import BAD, detect, utf8

MOST_KEYS = 10_000
"""Most columns; rows whose every key is new are no table."""
_SPACE = " \t\r\n"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_DEPTH = 4  # lists within lists; what is deeper becomes text

Kind = str | tuple[str, Any] | None
"""null, "bool", "int", "float", "text" or ("list", Kind)."""


def objects(path: Path, quarantine: Quarantine) -> Iterator[dict[str, Any]]:
    """Every object of the file; what is none is quarantined."""
    encoding = detect(path)
    # The form is told by how the file begins: a list, an object that a line holds, or one that spans lines.
    start = b"".join(utf8([head(path)], encoding)).lstrip()
    first = start.split(b"\n", 1)[0]
    spans = first.strip() == b"{" or (path.name.lower().endswith((".json", ".json.gz")) and not _whole(first))
    blocks = utf8(chunks(path), encoding)
    yield from (_values if first.startswith(b"[") or spans else _by_line)(path.name, blocks, quarantine)


def _whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _by_line(name: str, blocks: Iterable[bytes], quarantine: Quarantine) -> Iterator[dict[str, Any]]:
    number = good = 0
    try:
        for number, line in lines(blocks):
            where = f"{name} line {number}"
            if line is None:
                quarantine.add(where, f"longer than {LONGEST >> 20} MB", at=good)
                continue
            if not line.strip():
                continue
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError:
                quarantine.add(where, "bytes that are no text", repr(line[:200]), at=good)
                continue
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                quarantine.add(where, f"not JSON: {_why(error)}", text[:500], "not JSON", at=good)
                continue
            for row in _checked(value, text, where, quarantine, good):
                good += 1
                yield row
    except CutShort as error:
        where = f"{name} line {number + 1}"
        quarantine.add(where, f"{error}: this line and all after it are lost", kind="file cut short")


def _values(name: str, blocks: Iterable[bytes], quarantine: Quarantine) -> Iterator[dict[str, Any]]:
    """Objects of one list, or one after another across lines; only as much text as one needs is held."""
    decode = json.JSONDecoder().raw_decode
    incremental = codecs.getincrementaldecoder("utf-8")("modelworks.mark")
    source = iter(blocks)
    text, at, count, good, ended, listed, closed = "", 0, 0, 0, False, False, False
    want = 1
    while True:
        while not ended and len(text) - at < want:
            try:
                text, at = text[at:] + incremental.decode(next(source)), 0
            except StopIteration:
                ended = True
            except CutShort as error:
                ended = True
                quarantine.add(
                    f"{name} element {count + 1}", f"{error}: all after it is lost", kind="file cut short"
                )
        while at < len(text) and text[at] in _SPACE + ",":
            at += 1
        if at == len(text):
            if ended:
                if listed and not closed:
                    quarantine.add(
                        f"{name} element {count + 1}", "the list is never closed", kind="file cut short"
                    )
                return
            want = 1
            continue
        if closed:
            quarantine.add(name, "something follows the list", text[at : at + 100])
            return
        if not count and not listed and text[at] == "[":
            listed, at = True, at + 1
            continue
        if listed and text[at] == "]":
            closed, at = True, at + 1
            continue
        where = f"{name} element {count + 1}"
        try:
            value, end = decode(text, at)
            if end == len(text) and not ended:  # a number may go on in the next block
                raise ValueError("unfinished")
        except (ValueError, RecursionError) as error:
            if not ended and len(text) - at < LONGEST and not isinstance(error, RecursionError):
                want = 2 * (len(text) - at) + 1
                continue
            reason = f"not JSON: {_why(error)}: this and all after it is lost"
            quarantine.add(where, reason, text[at : at + 500], "not JSON", at=good)
            return
        count, want = count + 1, 1
        for row in _checked(value, text[at:end], where, quarantine, good):
            good += 1
            yield row
        at = end


def _checked(
    value: Any, text: str, where: str, quarantine: Quarantine, good: int
) -> Iterator[dict[str, Any]]:
    if BAD in text:
        quarantine.add(where, "bytes that are no text", text[:500].replace(BAD, "?"), at=good)
    elif not isinstance(value, dict):
        quarantine.add(where, f"is no object but {type(value).__name__}", text[:500], "not an object", good)
    elif not value:
        quarantine.add(where, "is an empty object", at=good)
    elif _SURROGATE.search(text) and not _encodable(value):
        quarantine.add(where, "holds half of a character (a lone surrogate)", text[:500], at=good)
    else:
        yield value


def _encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _why(error: BaseException) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0][:200]


# ------------------------------------------------------------------------------------------- columns
class Columns:
    """The union of keys and types of all rows seen."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.types: dict[str, Kind] = {}

    def see(self, row: dict[str, Any]) -> None:
        """Learn from one row."""
        for key, value in row.items():
            known = self.types.get(key)
            if known != "text":
                self.types[key] = join(known, kind_of(value))
        if len(self.types) > MOST_KEYS:
            raise DataError(f"{self.where}: more than {MOST_KEYS:,} different keys: no rows of one table")

    def batches(self, rows: Iterable[dict[str, Any]]) -> Iterator[pa.RecordBatch]:
        """The rows as batches, all with one schema."""
        names = dict(zip(self.types, unique_names(self.types), strict=True))
        schema = pa.schema([(names[key], arrow_type(kind)) for key, kind in self.types.items()])
        # Few rows at a time where there are many columns.
        most = max(1, min(ROWS, (1 << 20) // len(schema)))
        held: list[dict[str, Any]] = []
        size = 0
        for row in rows:
            held.append(row)
            size += sum(len(value) if isinstance(value, (str, list)) else 8 for value in row.values())
            if len(held) >= most or size > (4 << 20):
                yield self._batch(held, schema)
                held, size = [], 0
        if held:
            yield self._batch(held, schema)

    def _batch(self, rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
        arrays = []
        for (key, kind), field in zip(self.types.items(), schema, strict=True):
            arrays.append(pa.array([convert(row.get(key), kind) for row in rows], field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def kind_of(value: Any, depth: int = 0) -> Kind:
    """The kind of one value."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "text"
    if isinstance(value, float):
        return "float"
    if isinstance(value, list) and depth < _DEPTH:
        inner: Kind = None
        for item in value:
            inner = join(inner, kind_of(item, depth + 1))
        return ("list", inner)
    return "text"


def join(one: Kind, other: Kind) -> Kind:
    """The kind that holds both."""
    if one is None or one == other:
        return other
    if other is None:
        return one
    if {one, other} == {"int", "float"}:
        return "float"
    if isinstance(one, tuple) and isinstance(other, tuple):
        return ("list", join(one[1], other[1]))
    return "text"


def arrow_type(kind: Kind) -> pa.DataType:
    """The Arrow type of a kind; a column of nulls is text."""
    if isinstance(kind, tuple):
        return pa.list_(arrow_type(kind[1]))
    return {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}.get(kind or "", pa.string())


def convert(value: Any, kind: Kind) -> Any:
    """A value as its column's kind wants it."""
    if value is None:
        return None
    if kind == "text" or kind is None:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(kind, tuple):
        return [convert(item, kind[1]) for item in value]
    return float(value) if kind == "float" else value
