"""Questions: what a Run may be asked about → a Source. Besides tables and folders: one picture, sound or text by its
file, a list of such files, and pictures as an array. Each is one row; the other inputs count as missing.

source = source_of("cat.png", predictor.fields, ["photo"])
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelworks.core.errors import UserError
from modelworks.core.field import Field
from modelworks.core.source import Source
from modelworks.engine.data.open import source_for
from modelworks.sources._files import head, located
from modelworks.sources._text import as_text
from modelworks.sources.folder import ENDINGS

_TEXT = 16 << 20  # most bytes of one text


def source_of(given: Any, inputs: Mapping[str, Field], lines: bool = False) -> Source:
    """`lines`: the Run was trained on the lines of text files, so a text file is a table of lines here too."""
    if isinstance(given, (str, os.PathLike)):
        modality = _modality(given)
        if modality and not (modality == "text" and lines):
            return _files([given], modality, inputs)
    elif _array(given):
        import numpy as np

        picture = np.asarray(given)
        column = _column("image", inputs, "an array")
        return source_for({column: picture if picture.ndim == 4 else np.stack([picture])})
    elif (
        isinstance(given, Sequence) and given and all(isinstance(each, (str, os.PathLike)) for each in given)
    ):
        modality = _modality(given[0])
        if not modality or any(_modality(each) != modality for each in given):
            raise UserError(
                "a list of names wants pictures, sounds or .txt files, all of one kind",
                'texts are given as {"COLUMN": [...]}',
            )
        return _files(given, modality, inputs)
    return source_for(given)


def _modality(given: str | os.PathLike[Any]) -> str:
    """image, audio or text by the ending of a file's name; empty for what a source reads."""
    text = os.fsdecode(os.fspath(given)).lower()
    if os.path.isdir(os.path.expanduser(text)) or ":" in text.split("/")[0]:
        return ""
    return next((name for name, endings in ENDINGS.items() if text.endswith(endings)), "")


def _array(given: Any) -> bool:
    """Whether this is one picture or several: an array of numbers, or a PIL image."""
    if type(given).__module__.startswith("PIL."):
        return True
    return type(given).__module__ == "numpy" and getattr(given, "ndim", 0) in (2, 3, 4)


def _files(given: Sequence[Any], modality: str, inputs: Mapping[str, Field]) -> Source:
    column = _column(modality, inputs, os.fspath(given[0]))
    paths = [located(Path(os.fsdecode(os.fspath(each)))) for each in given]
    if modality != "text":
        return source_for({column: [str(path) for path in paths]})
    texts = []
    for path in paths:
        text = as_text(head(path, _TEXT + 1)) if path.stat().st_size <= _TEXT else None
        if text is None:
            raise UserError(f"{path}: is no text of at most {_TEXT >> 20} MB")
        texts.append(text)
    return source_for({column: texts})


def _column(modality: str, inputs: Mapping[str, Field], shown: str) -> str:
    """The one column that takes this; UserError where there is none, or more than one."""
    found = [field.column or name for name, field in inputs.items() if _reads(field) == modality]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{name} ({field.kind})" for name, field in list(inputs.items())[:8])
    many = f"has {len(found)} inputs of {modality}" if found else f"reads no {modality}"
    raise UserError(f"{shown}: the Run {many}; its inputs: {listed}", "give a table with these columns")


def _reads(field: Field) -> str:
    if field.kind == "audio":
        return "audio"
    return {"image": "image", "tokens": "text"}.get(field.layout.form, "text" if field.kind == "text" else "")
