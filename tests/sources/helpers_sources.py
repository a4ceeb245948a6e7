"""What the tests of sources share."""

from __future__ import annotations

from typing import Any

from modelworks.core.source import Quarantine, Source


def rows_of(source: Source) -> tuple[list[dict[str, Any]], Quarantine]:
    """Every row as a dict, and the quarantine; checks the contract on the way."""
    quarantine = Quarantine()
    rows: list[dict[str, Any]] = []
    schema = None
    for batch in source.read(quarantine):
        batch.validate(full=True)
        assert 0 < batch.num_rows <= 8192
        assert schema is None or batch.schema == schema
        schema = batch.schema
        rows += batch.to_pylist()
    return rows, quarantine
