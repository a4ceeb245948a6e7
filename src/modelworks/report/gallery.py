"""Gallery: rows shown with their pictures, sounds and texts, inlined so that the report stays one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelworks.report.folder import Files, figure, items, step_of, table
from modelworks.report.words import value as amount

FILE_LIMIT = 3 << 20
"""Bytes of one picture or sound that is inlined."""
TOTAL_LIMIT = 24 << 20
"""Bytes of all of them."""
_IMAGES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
_SOUNDS = {
    b"fLaC": "audio/flac",
    b"OggS": "audio/ogg",
    b"ID3": "audio/mpeg",
    b"\xff\xfb": "audio/mpeg",
    b"\xff\xf3": "audio/mpeg",
}
_SHOWN_SIDE = 128
_GRIDS = 12


class Inliner:
    """Turns files of a Run into data URIs, within the limits and never from outside the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.used = 0

    def __call__(self, name: Any, kind: str) -> dict[str, Any]:
        """{"uri", "width", "pixel"} or {"why"}."""
        path = (self.folder / str(name)).resolve() if "\0" not in str(name) else self.folder
        if not path.is_relative_to(self.folder) or not path.is_file():
            return {"why": f"{name} is not in the Run"}
        size = path.stat().st_size
        if size > FILE_LIMIT or self.used + size > TOTAL_LIMIT:
            return {"why": f"{path.name} is too large to show here"}
        data = path.read_bytes()
        mime = media_type(data, kind)
        if mime is None:
            return {"why": f"{path.name} is no {kind} that a browser can show"}
        self.used += size
        shown = {"uri": f"data:{mime};base64,{base64.b64encode(data).decode()}"}
        return shown | (_size(data) if kind == "image" else {})


def media_type(data: bytes, kind: str) -> str | None:
    """The media type by the file's first bytes; None for anything that is not a plain picture or sound."""
    if kind == "image" and data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if kind == "audio" and data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "audio/wav"
    known = _IMAGES if kind == "image" else _SOUNDS
    return next((mime for magic, mime in known.items() if data.startswith(magic)), None)


def _size(data: bytes) -> dict[str, Any]:
    """Small pictures are enlarged by a whole factor and kept sharp."""
    from PIL import Image

    try:
        width, height = Image.open(io.BytesIO(data)).size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return {"width": _SHOWN_SIDE, "pixel": False}
    factor = max(1, _SHOWN_SIDE // max(width, height, 1))
    return {"width": width * factor, "pixel": max(width, height) <= _SHOWN_SIDE}


def pieces(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """A text with weights as [{"text", "weight" 0 to 1, "against"}]; without weights, one piece.

    `weights` is [[piece, weight], …], or a list beside `tokens`; above 0 speaks for the prediction."""
    weights, tokens = items(entry.get("weights")), items(entry.get("tokens"))
    pairs = (
        list(zip(tokens, weights, strict=False))
        if tokens
        else [tuple(w) for w in weights if len(items(w)) == 2]
    )
    pairs = [(str(text), figure(weight) or 0.0) for text, weight in pairs]
    most = max((abs(weight) for _, weight in pairs), default=0.0)
    if not most:
        return [{"text": str(entry.get("value", ""))[:4000], "weight": 0.0, "against": False}]
    return [
        {"text": text, "weight": round(abs(weight) / most, 3), "against": weight < 0}
        for text, weight in pairs[:2000]
    ]


def cards(files: Files, most: int = 200) -> list[dict[str, Any]]:
    """The gallery's rows, ready for the template."""
    inline = Inliner(files.path)
    shown = []
    for row in files.gallery[:most]:
        parts: list[dict[str, Any]] = []
        for name, entry in table(row.get("inputs")).items():
            entry = table(entry) if isinstance(entry, dict) else {"type": "value", "value": entry}
            kind = str(entry.get("type", "value"))
            if kind in ("image", "audio") and entry.get("file"):
                parts.append(
                    {
                        "name": name,
                        "kind": kind,
                        "uri": "",
                        "why": "",
                        "width": 0,
                        "pixel": False,
                        **inline(entry["file"], kind),
                    }
                )
            elif kind == "text":
                parts.append({"name": name, "kind": "text", "pieces": pieces(entry)})
            else:
                parts.append({"name": name, "kind": "value", "value": _value(entry.get("value"))})
        shown.append(
            {
                "row": row.get("row"),
                "truth": _value(row.get("truth")),
                "prediction": _value(row.get("prediction")),
                "confidence": figure(row.get("confidence")),
                "split": str(row.get("split") or ""),
                "parts": parts,
            }
        )
    return shown


def _value(value: Any) -> str:
    if isinstance(value, float):
        return amount(value) if figure(value) is not None else str(value)
    if value is None or isinstance(value, (int, bool)):
        return "–" if value is None else str(value)
    return str(value)[:400]


def grids(files: Files, most: int = _GRIDS) -> list[dict[str, Any]]:
    """Picture grids of a generative run, evenly chosen over the steps, the last among them."""
    paths = files.samples
    inline = Inliner(files.path)
    shown = []
    for path in _even(paths, most):
        picture = inline(path.relative_to(files.path), "image")
        shown.append({"step": step_of(path), "uri": picture.get("uri", ""), "why": picture.get("why", "")})
    return shown


def _even(paths: Sequence[Path], most: int) -> list[Path]:
    if len(paths) <= most:
        return list(paths)
    return [paths[round(i * (len(paths) - 1) / (most - 1))] for i in range(most)]
