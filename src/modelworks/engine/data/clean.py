"""Clean: which rows are left out before anything else, and a full account of them.

    dataset, report = clean(dataset, Clean(duplicates="drop"), target="stars", inputs=["text"])
    report.counts, report.examples, report.codes     # a dropped row stays in the dataset, in the split "drop"

Missing and outlying input values are the fields' business; this is about whole rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator

from modelworks.core.errors import DataError, UserError
from modelworks.core.profile import MISSING
from modelworks.core.settings import Settings
from modelworks.engine.data import corpora
from modelworks.engine.data.repeats import missing_cells, row_keys, runs

if TYPE_CHECKING:
    import numpy as np

    from modelworks.core.dataset import Dataset

REASONS = ("", "missing target", "duplicate", "conflicting", *corpora.REASONS[1:])
"""Why a row was dropped, by code; 0 is a row that is kept."""
_EXAMPLES = 20


class Clean(Settings):
    """Which rows to leave out."""

    duplicates: Literal["keep", "drop", "drop_conflicting"] = "keep"
    """`drop`: of rows equal in inputs and target, the first stays. `drop_conflicting`: also every row whose
    inputs come with different targets. `keep`: in tables equal rows are often different cases, and the split
    keeps equal inputs together anyway; they are counted in the report."""
    missing_target: Literal["drop", "error"] = "drop"
    """What to do with rows that have no target."""
    documents: corpora.Corpora | None = None
    """For a corpus: which documents to leave out by rule, as copies or as near copies (engine/data/corpora.py)."""
    missing: list[str] | None = None
    """Words that mean "no value" in the target; None: the usual ones (empty, NA, null, ?, …)."""

    @field_validator("missing")
    @classmethod
    def _lowered(cls, words: list[str] | None) -> list[str] | None:
        return None if words is None else [word.strip().lower() for word in words]


@dataclass
class Report:
    """What cleaning saw and did."""

    rows_in: int
    rows_out: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """Reason → rows dropped."""
    found: dict[str, int] = field(default_factory=dict)
    """What was seen, dropped or not: rows that repeat an earlier one ("duplicate"), rows whose inputs come
    with different targets ("conflicting")."""
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """For each kind found, up to 20: {"row": 17, "same_inputs_as": 3, "values": {…}}."""
    codes: np.ndarray | None = None
    """uint8 (rows,), an index into REASONS."""

    def rows(self, reason: str) -> np.ndarray:
        """The row numbers dropped for a reason."""
        assert self.codes is not None
        return (self.codes == REASONS.index(reason)).nonzero()[0]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; the exact array `codes` is stored beside it."""
        return {name: getattr(self, name) for name in ("rows_in", "rows_out", "counts", "found", "examples")}


def clean(
    dataset: Dataset, settings: Clean, target: str | None, inputs: Sequence[str]
) -> tuple[Dataset, Report]:
    """The dataset with left-out rows in the split "drop", and the account. Raises DataError if none is left.

    Rows dropped before stay dropped. Where the data has a column `split`, rows are compared within each given
    split only, so that a given test set stays as it was given."""
    import numpy as np

    from modelworks.core.dataset import SPLITS

    drop = SPLITS.index("drop")
    codes = np.zeros(dataset.rows, np.uint8)
    report = Report(dataset.rows, codes=codes)
    live = np.ones(dataset.rows, bool) if dataset.splits is None else dataset.splits != drop
    if target is not None:
        codes[live & _missing_target(dataset, settings, target)] = 1
        if codes.any():
            _missing_found(dataset, settings, report, target, inputs)
    if settings.documents is not None:
        _screen(dataset, settings.documents, report, live & (codes == 0), inputs)
    if inputs:
        _repeats(dataset, settings, report, live & (codes == 0), target, inputs)
    report.counts = {
        reason: int(np.count_nonzero(codes == code))
        for code, reason in enumerate(REASONS)
        if code and (codes == code).any()
    }
    live &= codes == 0
    report.rows_out = int(np.count_nonzero(live))
    if not report.rows_out:
        raise DataError(
            f"{dataset.name}: cleaning leaves none of {dataset.rows:,} rows: {report.counts}",
            "loosen the settings under clean",
        )
    splits = np.zeros(dataset.rows, np.uint8) if dataset.splits is None else dataset.splits.copy()
    splits[~live] = drop
    return dataset.with_splits(splits), report


def _screen(
    dataset: Dataset, settings: corpora.Corpora, report: Report, mask: np.ndarray, inputs: Sequence[str]
) -> None:
    """Mark the documents that the rules leave out."""
    if len(inputs) != 1:
        raise UserError(
            f"clean.documents looks at one column of text, the inputs are: {', '.join(inputs)}",
            "leave it out, or ignore the other columns under fields:",
        )
    screened = corpora.screen(dataset, inputs[0], settings, mask)
    assert report.codes is not None
    found = screened.codes > 0
    report.codes[found] = screened.codes[found] + REASONS.index(corpora.REASONS[1]) - 1
    report.found |= screened.counts
    report.examples |= screened.examples


def _missing_target(dataset: Dataset, settings: Clean, target: str) -> np.ndarray:
    import numpy as np

    words = MISSING if settings.missing is None else frozenset(settings.missing)
    found = np.zeros(dataset.rows, bool)
    for rows, batch in dataset.batches(columns=[target]):
        found[rows] = missing_cells(batch.column(0), words)
    return found


def _missing_found(
    dataset: Dataset, settings: Clean, report: Report, target: str, inputs: Sequence[str]
) -> None:
    rows = report.rows("missing target")
    if settings.missing_target == "error":
        shown = ", ".join(map(str, rows[:10])) + (", …" if len(rows) > 10 else "")
        raise DataError(
            f"{dataset.name}: {len(rows):,} rows have no {target!r} (rows {shown})",
            "set clean.missing_target: drop",
        )
    report.found["missing target"] = len(rows)
    report.examples["missing target"] = _examples(
        dataset, [(int(row), None) for row in rows[:_EXAMPLES]], [target, *inputs]
    )


def _repeats(
    dataset: Dataset,
    settings: Clean,
    report: Report,
    mask: np.ndarray,
    target: str | None,
    inputs: Sequence[str],
) -> None:
    """Mark duplicates and conflicts among the masked rows. 64-bit hashes stand for rows: among 100 million
    different rows the chance that any two are taken for equal is about 1 in 4,000."""
    import numpy as np

    beside = [
        name for name in ("split",) if name in dataset.columns and name not in inputs and name != target
    ]
    codes = report.codes
    assert codes is not None
    keys = row_keys(dataset, [*inputs, *beside])
    targets = row_keys(dataset, [target]) if target is not None else np.zeros(dataset.rows, np.uint64)
    found = {"duplicate": 0, "conflicting": 0}
    examples: dict[str, list[tuple[int, int | None]]] = {"duplicate": [], "conflicting": []}
    for rows, starts in runs(keys, mask):
        run = np.zeros(len(rows), np.int64)
        run[starts[1:]] = 1
        run = np.cumsum(run)
        # Within a run of equal inputs, by target and then by row: equal neighbours are duplicates.
        order = np.lexsort((rows, targets[rows], run))
        again = np.zeros(len(rows), bool)
        again[1:] = (run[order][1:] == run[order][:-1]) & (
            targets[rows[order]][1:] == targets[rows[order]][:-1]
        )
        duplicate = np.empty(len(rows), bool)
        duplicate[order] = again
        kinds = np.add.reduceat(~duplicate, starts)  # different targets in each run
        conflicting = kinds[run] > 1
        for name, marked in (("duplicate", duplicate), ("conflicting", conflicting)):
            found[name] += int(np.count_nonzero(marked))
            for at in np.flatnonzero(marked)[: _EXAMPLES - len(examples[name])]:
                first = rows[starts[run[at]]]
                examples[name].append((int(rows[at]), None if first == rows[at] else int(first)))
        if settings.duplicates != "keep":
            codes[rows[duplicate]] = REASONS.index("duplicate")
        if settings.duplicates == "drop_conflicting":
            codes[rows[conflicting]] = REASONS.index("conflicting")
    shown = [*inputs, *([target] if target is not None else [])]
    for name, count in found.items():
        if count:
            report.found[name] = count
            report.examples[name] = _examples(dataset, examples[name], shown)


def _examples(
    dataset: Dataset, rows: Iterable[tuple[int, int | None]], columns: Sequence[str]
) -> list[dict[str, Any]]:
    rows = list(rows)
    values = dataset.take([row for row, _ in rows], columns[:8]).to_pylist()
    return [
        {
            "row": row,
            **({} if first is None else {"same_inputs_as": first}),
            "values": {k: _short(v) for k, v in value.items()},
        }
        for (row, first), value in zip(rows, values, strict=True)
    ]


def _short(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value if value is None or value == value else None
    text = f"{len(value):,} bytes" if isinstance(value, (bytes, bytearray)) else str(value)
    return text if len(text) <= 120 else text[:117] + "…"
