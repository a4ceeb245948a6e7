"""The sound inputs that the others are made from: tables, pictures, sounds; all tiny and always the same."""

from __future__ import annotations

import io
import json
import math
import random
import struct
import wave
import zipfile
import zlib

ROWS = 60
WORDS = ("good", "bad", "fine", "awful", "great", "poor", "nice", "ugly", "old", "new")


def records(rows: int = ROWS) -> list[dict[str, object]]:
    """Numbers, a category, a note, an answer of two classes, a price."""
    dice = random.Random(1)
    found: list[dict[str, object]] = []
    for _ in range(rows):
        age = round(dice.gauss(40, 12), 1)
        note = " ".join(dice.choices(WORDS, k=4))
        found.append(
            {
                "age": age, "size": dice.randrange(100), "colour": dice.choice(["red", "green", "blue"]), "note": note,
                "price": round(age * 3 + dice.random(), 2), "answer": "yes" if age > 40 or "good" in note else "no",
            }
        )  # fmt: skip
    return found


def csv(rows: int = ROWS) -> bytes:
    """The records as CSV."""
    found = records(rows)
    return "".join(
        ",".join(map(str, line)) + "\n" for line in [list(found[0]), *(row.values() for row in found)]
    ).encode()


def jsonl(rows: int = ROWS) -> bytes:
    """The records as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in records(rows)).encode()


def sentences(lines: int = 500) -> bytes:
    """Some 20 kB of plain text."""
    dice = random.Random(2)
    return "\n".join(" ".join(dice.choices(WORDS, k=7)) + "." for _ in range(lines)).encode()


def parquet(rows: int = ROWS) -> bytes:
    """The records as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records(rows)), out, row_group_size=20)
    return out.getvalue()


def xlsx(rows: int = 20) -> bytes:
    """The records as the smallest workbook that spreadsheet programs read."""
    found = records(rows)
    cells = [list(found[0]), *(list(row.values()) for row in found)]
    lines = "".join(
        "<row>" + "".join(f'<c t="inlineStr"><is><t>{value}</t></is></c>' for value in row) + "</row>"
        for row in cells
    )
    kinds = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    links = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    related = "http://schemas.openxmlformats.org/package/2006/relationships"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" '
        f'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType="{kinds}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kinds}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{related}"><Relationship Id="r1" Type="{links}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{space}" xmlns:r="{links}"><sheets><sheet name="s" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{related}"><Relationship Id="r1" Type="{links}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{space}"><sheetData>{lines}</sheetData></worksheet>',
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(zipfile.ZipInfo(name), '<?xml version="1.0" encoding="UTF-8"?>' + text)
    return out.getvalue()


def picture(label: int, number: int = 0, mode: str = "RGB", side: int = 12, form: str = "PNG") -> bytes:
    """A square of noise, bright or dark."""
    from PIL import Image

    dice = random.Random(1000 * label + number)
    out = io.BytesIO()
    pixels = bytes(min(255, dice.randrange(100) + 120 * label) for _ in range(side * side))
    Image.frombytes("L", (side, side), pixels).convert(mode).save(out, form)
    return out.getvalue()


def pictures(count: int = 8) -> dict[str, bytes]:
    """A folder a class: pics/dark, pics/light."""
    return {
        f"pics/{name}/{n}.png": picture(label, n)
        for label, name in enumerate(("dark", "light"))
        for n in range(count)
    }


def png(width: int, height: int, depth: int = 8, kind: int = 2, data: bytes = b"") -> bytes:
    """A PNG whose header says what it likes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def sound(
    label: int, number: int = 0, *, rate: int = 8000, seconds: float = 0.2, width: int = 2, channels: int = 1
) -> bytes:
    """A tone, low or high, as a wav."""
    out = io.BytesIO()
    top = 2 ** (8 * width - 1) - 1
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        frames = bytearray()
        for step in range(int(rate * seconds)):
            value = int(top * 0.5 * math.sin((300 + 900 * label + 10 * number) * 6.2832 * step / rate))
            one = value.to_bytes(width, "little", signed=True) if width > 1 else bytes([128 + value])
            frames += one * channels
        file.writeframes(bytes(frames))
    return out.getvalue()


def sounds(count: int = 8) -> dict[str, bytes]:
    """A folder a class: wavs/low, wavs/high."""
    return {
        f"wavs/{name}/{n}.wav": sound(label, n)
        for label, name in enumerate(("low", "high"))
        for n in range(count)
    }
