"""What the user gave → a Source: a file, a folder, `sample:digits`, `hf:owner/name`, a table in memory.

source = source_for("reviews.csv")
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from modelworks.core.errors import UserError, did_you_mean
from modelworks.core.kinds import every, find, names
from modelworks.core.source import Source
from modelworks.sources._files import located, nearby


def source_for(given: Any) -> Source:
    """The source for a name or an object. Reads no data; raises UserError saying what would work."""
    if isinstance(given, Source):
        return given
    if isinstance(given, (str, os.PathLike)):
        return _named(os.fspath(given))
    kind: Any = find(Source, "dataframe")
    return kind(data=given)


def _named(given: str | bytes) -> Source:
    text = os.fsdecode(given).strip()
    if not text:
        raise UserError("no data was named", "a file, a folder, or sample:NAME")
    if text.lower().startswith(("http:", "https:")):
        raise UserError(f"{text}: addresses are not read", "download the file and give its path")
    # `sample:a.csv` is a sample: a prefix says more than an ending, and what is a folder is one by any name.
    # A prefix that is a kind's own name is taken at once, without reading the other kinds' files.
    prefix, colon, _ = text.lower().partition(":")
    own = [find(Source, prefix)] if colon and prefix in names(Source.folder) else []
    for kind in own or every(Source).values():
        if kind.schemes and text.lower().startswith(kind.schemes):
            return kind(**kind.parse(text))
    kinds = every(Source)
    is_folder = os.path.isdir(os.path.expanduser(text))
    for name, kind in kinds.items():
        if kind.matches(text) and (name == "folder" or not is_folder):
            source = kind(**kind.parse(text))
            if name != "folder":
                located(text)
            return source
    raise _unknown(text, kinds)


def _unknown(text: str, kinds: dict[str, type[Source]]) -> UserError:
    schemes = sorted(scheme for kind in kinds.values() for scheme in kind.schemes)
    endings = sorted({ending for kind in kinds.values() for ending in kind.suffixes})
    prefix = re.match(r"[A-Za-z_]{2,}:", text)
    if prefix:
        return UserError(
            f"{text}: no source begins with {prefix.group()!r}", did_you_mean(prefix.group(), schemes)
        )
    path = os.path.expanduser(text)
    if not os.path.exists(path):
        return UserError(f"{text}: no such file or folder", nearby(Path(path)))
    ending = os.path.splitext(text)[1]
    works = f"what works: {' '.join(endings)}, a folder, {', '.join(f'{s}NAME' for s in schemes)}"
    close = did_you_mean(ending, endings) if ending else ""
    return UserError(
        f"{text}: {f'no source reads {ending!r}' if ending else 'a file name without an ending'}",
        f"{close} {works}" if close.startswith("did") else works,
    )
