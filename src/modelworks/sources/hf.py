"""Data sets of the Hugging Face hub, streamed (extra `hub`): `data: hf:owner/name` or `hf:owner/name/config`.

The hub's splits train, validation and test become ours, class codes their names. Images and sounds stay
encoded, as on the hub. The network is used because the name asks for it; nothing is downloaded as a whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from modelworks.core.errors import DataError, need
from modelworks.core.source import Quarantine, Source

if TYPE_CHECKING:
    import pyarrow as pa


class Hf(Source):
    """A data set of the hub."""

    schemes: ClassVar[tuple[str, ...]] = ("hf:",)

    path: str
    """owner/name, or the name alone of an old data set."""
    config: str | None = None
    """Which of its configurations; the default one when not given."""
    revision: str | None = None
    """Branch, tag or commit; name a commit to read the same rows always."""
    splits: dict[str, str] = {
        "train": "train",
        "validation": "valid",
        "valid": "valid",
        "dev": "valid",
        "test": "test",
    }
    """The hub's splits → train, valid or test. Others are not read."""

    @classmethod
    def parse(cls, text: str) -> dict[str, str]:
        owner, _, rest = text[3:].partition("/")
        name, _, config = rest.partition("/")
        return {"path": f"{owner}/{name}" if name else owner, **({"config": config} if config else {})}

    @field_validator("path")
    @classmethod
    def _a_name(cls, value: str) -> str:
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", value):
            raise ValueError(f"{value!r} is no data set's name; wants owner/name")
        return value

    @field_validator("splits")
    @classmethod
    def _our_splits(cls, value: dict[str, str]) -> dict[str, str]:
        wrong = sorted(set(value.values()) - {"train", "valid", "test"})
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no split of ours; wants train, valid or test")
        return value

    def read(self, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        from modelworks.sources._files import slices
        from modelworks.sources._tables import plain, plain_schema, sound

        found = self._opened()
        for name in found:
            if name not in self.splits:
                quarantine.add(
                    f"hf:{self.path} split {name!r}",
                    "split is not read; name it in `splits`",
                    kind="split not read",
                )
        chosen = {name: rows for name, rows in found.items() if name in self.splits}
        if not chosen:
            raise DataError(f"hf:{self.path}: none of its splits ({', '.join(found)}) is named in `splits`")
        schema = pa.schema([])
        for name, rows in chosen.items():
            seen = 0
            for table in self._tables(rows):
                for batch in table.combine_chunks().to_batches():
                    good = sound(batch, f"hf:{self.path} {name}", seen, quarantine)
                    seen += batch.num_rows
                    if "split" in good.schema.names:
                        good = good.drop_columns(["split"])
                    good = _with_class_names(good, getattr(rows, "features", None) or {})
                    full = good.append_column(
                        "split", pa.array([self.splits[name]] * good.num_rows, pa.string())
                    )
                    schema = schema if schema.names else plain_schema(full.schema)
                    if full.schema.names != schema.names:
                        raise DataError(
                            f"hf:{self.path}: the split {name!r} has other columns than the one before"
                        )
                    yield from slices(plain(full, schema))

    def _opened(self) -> dict[str, Any]:
        hub = need("datasets", "hub", f"reading hf:{self.path}")
        try:
            return dict(hub.load_dataset(self.path, self.config, revision=self.revision, streaming=True))
        except Exception as error:  # the hub's client raises its own and its transport's errors alike
            reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
            raise DataError(f"hf:{self.path}: cannot be opened: {reason}") from None

    def _tables(self, rows: Any) -> Iterator[pa.Table]:
        stream = iter(rows.with_format("arrow").iter(batch_size=256))
        while True:
            try:
                yield next(stream)
            except StopIteration:
                return
            except Exception as error:  # as above
                reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
                raise DataError(f"hf:{self.path}: reading stopped: {reason}") from None

    def fingerprint(self) -> str:
        """Of the rows themselves when no commit is named, since the hub's content may change."""
        digest = hashlib.sha256(
            f"{self.path}\0{self.config}\0{self.revision}\0{sorted(self.splits.items())}".encode()
        )
        if not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            from modelworks.core.dataset import hash_rows

            for batch in self.read(Quarantine(keep=0)):
                digest.update(hash_rows(batch).tobytes())
        return digest.hexdigest()

    @property
    def notice(self) -> str:
        return f"hf:{self.path}: its licence is stated on its page of the hub"


def _with_class_names(batch: pa.RecordBatch, features: Mapping[str, Any]) -> pa.RecordBatch:
    """Columns of class codes as the names that the data set gives them; -1, which means none, as null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for place, (name, column) in enumerate(zip(batch.schema.names, batch.columns, strict=True)):
        names = getattr(features.get(name), "names", None)
        if names and pa.types.is_integer(column.type):
            known = pc.and_(pc.greater_equal(column, 0), pc.less(column, len(names)))
            codes = pc.if_else(known, column, pa.scalar(None, column.type))
            batch = batch.set_column(place, name, pa.array(names, pa.string()).take(codes))
    return batch
