"""Bodies: what a user sends to /predict, as columns of values. Runs in the worker.

    asked = read(columns, "application/json", b'[{"age": 31}, {"age": 44}]', options)
    asked.columns["age"] == [31, 44]

JSON (a row, a list of rows, or the value of the only input), JSON lines, CSV, multipart with a part a column, or one
raw picture, sound or text. A string in a column of pictures or sounds is base64: never a path.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from modelworks.core.errors import UserError
from modelworks.core.profile import looks_like_audio, looks_like_image
from modelworks.serving.engine import Options
from modelworks.serving.limits import Refused, of_json

Form = Literal["text", "image", "audio", "value"]


@dataclass
class Asked:
    """The rows of one request."""

    columns: dict[str, list[Any]]
    rows: int
    single: bool = False
    """Whether one row was asked as one row: the answer is then no list."""
    echo: dict[str, Any] = field(default_factory=dict)
    """What the answer repeats or is shaped by (oip.py)."""


def read(forms: Mapping[str, Form], content_type: str, body: bytes, options: Options) -> Asked:
    """The rows of a body; raises Refused with the status to answer. `forms`: what each input column takes."""
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if not kind or kind in ("application/octet-stream", "application/x-www-form-urlencoded"):
        kind = _guess(body)
    if kind == "application/json":
        asked = of_values(forms, load(body, options))
    elif kind in ("application/x-ndjson", "application/jsonl", "application/x-jsonlines"):
        asked = of_values(forms, [load(line, options) for line in body.splitlines() if line.strip()])
    elif kind in ("text/csv", "text/tab-separated-values", "application/csv"):
        asked = _table(body, ".tsv" if "tab" in kind else ".csv", options)
    elif kind == "multipart/form-data":
        asked = _parts(forms, content_type, body, options)
    elif kind.startswith(("image/", "audio/", "text/")):
        form = "value" if kind.startswith("text/") else kind.partition("/")[0]
        asked = _raw(forms, "text" if form == "value" else form, body, parameters)  # type: ignore[arg-type]
    else:
        raise Refused(
            415, f"content type {kind[:80]!r} is not read; give JSON, CSV, multipart, text, an image or audio"
        )
    if asked.rows > options.rows:
        raise Refused(413, f"{asked.rows:,} rows; the most is {options.rows:,} a request")
    if not set(asked.columns) & set(forms):
        got = ", ".join(list(asked.columns)[:8]) or "nothing"
        raise Refused(422, f"none of the model's inputs is there: wants {', '.join(forms)}; got {got[:200]}")
    return asked


def load(body: bytes, options: Options) -> Any:
    """JSON, refused before it is unfolded where its objects would take too much memory."""
    of_json(body, options.decoded)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"not JSON: {error}"[:200]) from None


def of_values(forms: Mapping[str, Form], value: Any) -> Asked:
    """Rows of parsed JSON."""
    if isinstance(value, dict):
        return Asked({name: [cell] for name, cell in value.items()}, 1, single=True)
    only = next(iter(forms)) if len(forms) == 1 else None
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        columns = {
            name: [row.get(name) for row in value] for name in forms if any(name in row for row in value)
        }
        return Asked(columns or {name: [None] for name in value[0]}, len(value))
    if isinstance(value, str) and only:
        return Asked({only: [value]}, 1, single=True)
    if isinstance(value, list) and value and only and all(isinstance(row, str) for row in value):
        return Asked({only: value}, len(value))
    raise Refused(422, "wants a row as an object, or a list of rows that is not empty")


def cell(form: Form, value: Any) -> Any:
    """A value as its field can take it: bytes of a file, pixels, or what JSON said; raises ValueError."""
    if form in ("image", "audio"):
        if value is None or isinstance(value, (bytes, np.ndarray)):
            return value
        if isinstance(value, str):
            return file_of(value)
        if form == "image" and isinstance(value, list):
            return pixels_of(value)
        raise ValueError("wants base64 of a file" + (", or pixels" if form == "image" else ""))
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("bytes that are no UTF-8") from None
    return value


def file_of(text: str) -> bytes | None:
    """The bytes that base64 tells, with or without `data:…;base64,` before it; None for an empty text."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True) or None
    except (binascii.Error, ValueError):
        raise ValueError("a text that is no base64 of a file") from None


def pixels_of(value: list[Any]) -> np.ndarray:
    """Nested lists of whole numbers from 0 to 255 → uint8."""
    try:
        # By far the commonest, and bytes() reads and checks a row of pixels faster than numpy does.
        if all(type(row) is list for row in value) and len({len(row) for row in value}) == 1:
            return np.frombuffer(b"".join(map(bytes, value)), np.uint8).reshape(len(value), -1)
    except (TypeError, ValueError):
        pass
    try:
        pixels = np.array(value)
    except ValueError:
        raise ValueError("pixels want lists of one length") from None
    if pixels.dtype.kind not in "iuf" or not pixels.size:
        raise ValueError("pixels want whole numbers from 0 to 255")
    whole = pixels.clip(0, 255).astype(np.uint8)
    if not np.array_equal(whole, pixels):
        raise ValueError("pixels want whole numbers from 0 to 255")
    return whole


def _guess(body: bytes) -> str:
    """The type of a body that does not say."""
    if looks_like_image(body[:16]):
        return "image/any"
    if looks_like_audio(body[:16]):
        return "audio/any"
    return "application/json" if body.lstrip()[:1] in (b"{", b"[", b'"') else "text/plain"


def _raw(forms: Mapping[str, Form], form: Form, body: bytes, parameters: str) -> Asked:
    named = [name for name, found in forms.items() if found == form]
    if not named and form == "text" and len(forms) == 1:
        named = list(forms)
    if len(named) != 1:
        raise Refused(
            422 if named else 415,
            f"the model has {len(named)} inputs of {form}; its inputs: {', '.join(forms)}; name them in JSON",
        )
    if not body:
        raise Refused(422, "the body is empty")
    if form != "text":
        return Asked({named[0]: [body]}, 1, single=True)
    try:
        return Asked({named[0]: [body.decode(_charset(parameters))]}, 1, single=True)
    except (UnicodeDecodeError, LookupError):
        raise Refused(422, "the text is not in the encoding that it says; UTF-8 where it says none") from None


def _charset(parameters: str) -> str:
    message = Message()
    message["content-type"] = f"text/plain;{parameters}"
    charset = str(message.get_content_charset("utf-8")).lower()
    # Of Python's codecs only texts' own: others unzip.
    known = (
        "utf-8",
        "utf8",
        "us-ascii",
        "ascii",
        "utf-16",
        "iso-8859-1",
        "latin-1",
        "gb18030",
        "gbk",
        "gb2312",
        "big5",
    )
    return charset if charset in known else "no such encoding"


def _table(body: bytes, ending: str, options: Options) -> Asked:
    """A CSV, read as the one that a Run is trained on is read."""
    from modelworks.core.source import Quarantine
    from modelworks.engine.data.open import source_for

    columns: dict[str, list[Any]] = {}
    rows, quarantine = 0, Quarantine()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"request{ending}"
        path.write_bytes(body)
        try:
            for batch in source_for(str(path)).read(quarantine):
                rows += batch.num_rows
                if rows > options.rows:
                    raise Refused(
                        413, f"more than {options.rows:,} rows a request; `modelworks predict` takes files"
                    )
                for name, values in batch.to_pydict().items():
                    columns.setdefault(name, []).extend(values)
        except UserError as error:
            raise Refused(
                422, str(error).replace(str(path), "the table").replace(path.name, "the table")
            ) from None
    if quarantine.count:
        raise Refused(
            422, f"{quarantine.count} rows cannot be read: {', '.join(list(quarantine.reasons)[:3])}"
        )
    if not rows:
        raise Refused(422, "the table has no rows")
    return Asked(columns, rows)


def _parts(forms: Mapping[str, Form], content_type: str, body: bytes, options: Options) -> Asked:
    """multipart/form-data: a part a cell, named by its column; a single table as a file."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import parse_options_header

    _, given = parse_options_header(content_type)
    boundary = given.get(b"boundary")
    if not boundary:
        raise Refused(400, "multipart without a boundary")
    try:
        parts = _split(body, boundary)
    except (FormParserError, ValueError) as error:
        raise Refused(400, f"not multipart: {error}"[:200]) from None
    if len(parts) == 1 and parts[0][0] not in forms and parts[0][1].lower().endswith((".csv", ".tsv")):
        return _table(parts[0][2], parts[0][1].lower()[-4:], options)
    columns: dict[str, list[Any]] = {}
    for name, file, value in parts:
        if name in forms:
            columns.setdefault(name, []).append(value if file or value else None)
        else:
            columns.setdefault(name, [])
    counts = {len(values) for values in columns.values() if values}
    if len(counts) > 1:
        raise Refused(422, "the columns have different numbers of parts")
    rows = counts.pop() if counts else 0
    return Asked({name: values for name, values in columns.items() if values}, rows, single=rows == 1)


def _split(body: bytes, boundary: bytes) -> list[tuple[str, str, bytes]]:
    """(name, file name, content) of each part."""
    from python_multipart.multipart import MultipartParser, parse_options_header

    parts: list[tuple[str, str, bytes]] = []
    header: list[bytearray] = [bytearray(), bytearray()]
    headers: dict[bytes, bytes] = {}
    content = bytearray()

    def end_header() -> None:
        headers[bytes(header[0]).lower()] = bytes(header[1])
        header[0].clear()
        header[1].clear()

    def end_part() -> None:
        _, given = parse_options_header(headers.get(b"content-disposition", b""))
        name = given.get(b"name", b"").decode("utf-8", "replace")
        parts.append((name, given.get(b"filename", b"").decode("utf-8", "replace"), bytes(content)))
        headers.clear()
        content.clear()
        if len(parts) > 10_000:
            raise ValueError("too many parts")

    parser = MultipartParser(
        boundary,
        {
            "on_header_field": lambda data, start, end: header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: header[1].extend(data[start:end]),
            "on_header_end": end_header,
            "on_part_data": lambda data, start, end: content.extend(data[start:end]),
            "on_part_end": end_part,
        },
    )
    parser.write(body)
    parser.finalize()
    return parts
