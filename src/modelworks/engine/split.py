"""Split: which rows train, which choose (valid) and which judge (test) the model.

    dataset, notes = split(dataset, Split(by="stratified", test=0.2), target="stars", inputs=["text"], seed=0)

Rows are taken in the order of a hash of (seed, their inputs or their group), so rows with equal inputs, and
the rows of a group, always land together. Up to EXACT rows the shares are met exactly, as far as groups allow;
beyond that, or with `stable`, each hash is compared with a threshold, and adding rows never moves old ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from modelworks.core.errors import DataError, UserError
from modelworks.core.settings import Settings
from modelworks.engine.repeats import missing_cells, row_keys, runs

if TYPE_CHECKING:
    import numpy as np

    from modelworks.core.dataset import Dataset

EXACT = 500_000
"""Rows up to which shares are met exactly."""
NAMES = {
    "train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid",
    "dev": "valid", "test": "test", "testing": "test",
}  # fmt: skip
"""What a column of given splits may hold (any case)."""
_VALID, _TEST = 1, 2  # codes into core.dataset.SPLITS


class Split(Settings):
    """How rows are shared out."""

    by: Literal["auto", "random", "stratified", "time", "group", "given"] = "auto"
    """`stratified` gives each class (or range of a numeric target) its share of every split; `time` trains on
    the past and tests on the latest; `group` keeps rows with one value of `column` together; `given` follows
    `column`. `auto`: given where there is a column `split`, stratified for a class as target, else random."""
    valid: float = Setting(0.1, ge=0, lt=1)
    """Share of the rows that chooses the weights; 0: none. A given split without it cuts it from training."""
    test: float = Setting(0.1, ge=0, lt=1)
    """Share of the rows that judges the result; 0: none. A given split without test rows gets none."""
    column: str | None = None
    """For time, group and given (there `split` when not named)."""
    duplicates: Literal["together", "apart"] = "together"
    """`apart` ignores that rows have equal inputs: for tables of few distinct rows, where that is no leak."""
    bins: int = Setting(10, ge=2, le=1000)
    """stratified: ranges, by quantile, of a numeric target."""
    stable: bool = False
    """Never move a row when others are added; shares are then met on average only."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"by": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _sensible(self) -> Split:
        if self.valid + self.test >= 1:
            raise ValueError(f"valid {self.valid} and test {self.test} leave no rows to train on")
        if self.by in ("time", "group") and not self.column:
            raise ValueError(f"by: {self.by} wants a `column`")
        if self.by in ("random", "stratified", "auto") and self.column:
            raise ValueError(f"`column` is for by: time, group or given, not {self.by}")
        return self


def split(
    dataset: Dataset,
    settings: Split,
    target: str | None,
    inputs: Sequence[str],
    seed: int,
    categorical: bool | None = None,
) -> tuple[Dataset, dict[str, Any]]:
    """The dataset with every row in a split, and notes for the report. Rows dropped before stay dropped.

    `categorical`: whether the target is a class; None: as its profile looks."""  # fmt: skip
    import numpy as np

    from modelworks.core.dataset import SPLITS

    drop = SPLITS.index("drop")
    live = np.ones(dataset.rows, bool) if dataset.splits is None else dataset.splits != drop
    codes = np.where(live, 0, drop).astype(np.uint8)
    if target is not None and categorical is None:
        categorical = _looks_categorical(dataset, target)
    categorical = bool(categorical) and target is not None
    by = _chosen(dataset, settings, target, categorical)
    column = settings.column or ("split" if by == "given" else None)
    notes: dict[str, Any] = {"by": by, "column": column, "messages": []}
    # What a model cannot see must not tell rows apart, and with no inputs every row is its own.
    seen = [name for name in inputs if name != column or by in ("time", "group")]
    row_number = np.arange(dataset.rows, dtype=np.uint64)
    keys = row_keys(dataset, seen) if seen else row_number
    units = keys if settings.duplicates == "together" else row_number
    shares = (settings.valid, settings.test)
    if by == "time":
        assert column
        _by_time(dataset, column, live, codes, shares, notes)
    else:
        if by == "given":
            assert column
            _given(dataset, column, live, codes)
            if not np.any(codes[live] == 0):
                raise DataError(
                    f"{dataset.name}: no row has {column!r}: train",
                    f"{column!r} names the splits: train, valid, test",
                )
            shares = (0.0 if np.any(codes == _VALID) else settings.valid, 0.0)
        elif by == "group":
            assert column
            units = _groups(dataset, column, live, notes)
        if any(shares):
            _by_hash(
                dataset,
                settings,
                by,
                live & (codes == 0),
                codes,
                units,
                shares,
                target,
                categorical,
                seed,
                notes,
            )
    notes["rows"] = {name: int(np.count_nonzero(codes == code)) for code, name in enumerate(SPLITS)}
    notes |= _repeated(keys, codes, live) if seen else {"duplicate_rows": 0, "straddling": {}}
    _remark(notes, settings)
    return dataset.with_splits(codes), notes


def _chosen(dataset: Dataset, settings: Split, target: str | None, categorical: bool) -> str:
    if settings.column:
        dataset.need([settings.column])
    if settings.by == "stratified" and target is None:
        raise UserError("split by: stratified wants a target", "use by: random")
    if settings.by != "auto":
        return settings.by
    if "split" in dataset.columns and target != "split" and not _odd_names(dataset, "split"):
        return "given"
    return "stratified" if categorical else "random"


def _looks_categorical(dataset: Dataset, target: str) -> bool:
    dataset.need([target])
    profile = dataset.profile()[target]
    if (
        profile.type.startswith(("list", "large_list", "extension", "fixed_size_list", "struct"))
        or profile.many
    ):
        return False
    if profile.share(profile.numeric) > 0.95 and profile.type != "bool":
        return profile.integer == profile.numeric and profile.distinct <= min(
            20, max(2, profile.present // 5)
        )
    return profile.distinct <= max(2, profile.present // 2)


# ------------------------------------------------------------------------------------------- by hash
def _by_hash(
    dataset: Dataset, settings: Split, by: str, mask: np.ndarray, codes: np.ndarray, units: np.ndarray,
    shares: tuple[float, float], target: str | None, categorical: bool, seed: int, notes: dict[str, Any],
) -> None:  # fmt: skip
    """Share the masked rows out in the order of salted hashes, units (rows of equal `units`) whole."""
    import numpy as np

    from modelworks.core.dataset import mix
    from modelworks.engine import strata

    salt = mix(np.array([seed], np.uint64) + np.uint64(0x9E3779B97F4A7C15))[0]
    order = mix(units ^ salt)
    valid, test = shares
    stratify = by == "stratified" or (by == "given" and categorical)
    # A class must stay learnable unless groups forbid it.
    cover = target if categorical and target is not None and by != "group" else None
    if settings.stable or np.count_nonzero(mask) > EXACT:
        cuts = [np.uint64(int(share * 2**64)) for share in (test, test + valid)]
        codes[mask & (order < cuts[1])] = _VALID
        codes[mask & (order < cuts[0])] = _TEST
        if cover:
            moved = strata.cover_streaming(dataset, cover, mask, codes, order)
            if moved:
                notes["messages"].append(
                    f"{moved:,} rows of classes that chance kept out of training were moved into it"
                )
    else:
        rows = np.flatnonzero(mask)
        classes = strata.classes(dataset, cover, rows) if cover else None
        stratum = None
        if stratify:
            assert target is not None
            stratum = strata.ranges(dataset, target, rows, settings.bins) if classes is None else classes
        codes[rows] = strata.assign(order[rows], stratum, classes, valid, test)
    for name, code, share in (("valid", _VALID, valid), ("test", _TEST, test)):
        if share and not np.any(codes[mask] == code):
            whole = f"; each class of {cover!r} keeps a training row" if cover else ""
            raise DataError(
                f"{dataset.name}: {np.count_nonzero(mask):,} rows have too few distinct ones to give {name} "
                f"its {share:.0%}{whole}",
                f"set split.{name}: 0, or duplicates: apart when rows with equal inputs are different cases",
            )
    if not np.any(codes[mask] == 0):
        raise DataError(
            f"{dataset.name}: no rows are left to train on", "ask for smaller valid and test shares"
        )


def _groups(dataset: Dataset, column: str, live: np.ndarray, notes: dict[str, Any]) -> np.ndarray:
    """A key for each row's group; a row without one is a group of its own."""
    import numpy as np

    from modelworks.core.dataset import hash_column, mix

    keys = np.empty(dataset.rows, np.uint64)
    alone = 0
    for rows, batch in dataset.batches(columns=[column]):
        missing = missing_cells(batch.column(0))
        keys[rows] = np.where(missing, mix(~rows.astype(np.uint64)), hash_column(batch.column(0)))
        alone += int(np.count_nonzero(missing & live[rows]))
    if alone:
        notes["messages"].append(f"{alone:,} rows have no {column!r}: each counts as a group of its own")
    if sum(len(starts) for _, starts in runs(keys, live)) < 2:
        raise DataError(
            f"{dataset.name}: column {column!r} holds one group only",
            "split by another column, or by: random",
        )
    return keys


# ------------------------------------------------------------------------------------------- given, by time
def _name_code(value: Any) -> int:
    name = NAMES.get(str(value).strip().lower())
    return -1 if name is None else ("train", "valid", "test").index(name)


def _coded(dataset: Dataset, column: str) -> Any:
    """(row numbers, split codes or −1) chunk by chunk."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    for rows, batch in dataset.batches(columns=[column]):
        cells = batch.column(0)
        cells = cells if pa.types.is_dictionary(cells.type) else cells.dictionary_encode()
        table = np.array([*map(_name_code, cells.dictionary.to_pylist()), -1], np.int64)
        yield rows, table[pc.fill_null(cells.indices, len(table) - 1).to_numpy(zero_copy_only=False)]


def _odd_names(dataset: Dataset, column: str) -> bool:
    return any((found < 0).any() for _, found in _coded(dataset, column))


def _given(dataset: Dataset, column: str, live: np.ndarray, codes: np.ndarray) -> None:
    for rows, found in _coded(dataset, column):
        odd = (found < 0) & live[rows]
        if odd.any():
            row = int(rows[odd][0])
            value = dataset.take([row], [column]).column(0)[0].as_py()
            raise DataError(
                f"{dataset.name} row {row}: {column!r} wants a split, got {value!r}",
                f"it may hold {', '.join(NAMES)}",
            )
        codes[rows[live[rows]]] = found[live[rows]]


def _by_time(
    dataset: Dataset,
    column: str,
    live: np.ndarray,
    codes: np.ndarray,
    shares: tuple[float, float],
    notes: dict[str, Any],
) -> None:
    """The latest rows test, those before them are valid; equal times stay together."""
    import numpy as np

    from modelworks.engine.moments import moments

    times = moments(dataset, column, notes["messages"])
    rows = np.flatnonzero(live & ~np.isnan(times))
    if len(rows) < np.count_nonzero(live):
        undated = int(np.count_nonzero(live)) - len(rows)
        notes["messages"].append(f"{undated:,} rows have no readable {column!r}: they train")
    rows = rows[np.argsort(times[rows], kind="stable")]
    ordered = times[rows]
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1  # where a cut keeps equal times together
    valid, test = shares
    asked = [(code, share) for code, share in ((_TEST, test), (_VALID, valid)) if share]
    if len(changes) < len(asked):
        distinct = len(changes) + bool(len(rows))
        raise DataError(f"{dataset.name}: {column!r} has {distinct} distinct times, too few to split by")
    end, total = len(rows), len(rows)
    for index, (code, share) in enumerate(asked):
        possible = changes[len(asked) - 1 - index :]  # leaves room for the splits before
        possible = possible[possible < end]
        want = end - max(round(share * total), 1)
        cut = int(possible[np.argmin(np.abs(possible - want))])
        codes[rows[cut:end]] = code
        end = cut


# ------------------------------------------------------------------------------------------- the account
def _repeated(keys: np.ndarray, codes: np.ndarray, live: np.ndarray) -> dict[str, Any]:
    """Rows that repeat earlier inputs, and held-out rows whose inputs are in another split too."""
    import numpy as np

    repeats = 0
    straddling = {"valid in train": 0, "test in train": 0, "test in valid": 0}
    for rows, starts in runs(keys, live):
        repeats += len(rows) - len(starts)
        places = np.bitwise_or.reduceat(np.uint8(1) << codes[rows], starts)
        mine, places = codes[rows], np.repeat(places, np.diff(np.append(starts, len(rows))))
        straddling["valid in train"] += int(np.count_nonzero((mine == _VALID) & (places & 1 > 0)))
        straddling["test in train"] += int(np.count_nonzero((mine == _TEST) & (places & 1 > 0)))
        straddling["test in valid"] += int(np.count_nonzero((mine == _TEST) & (places & 2 > 0)))
    return {
        "duplicate_rows": repeats,
        "straddling": {name: count for name, count in straddling.items() if count},
    }


def _remark(notes: dict[str, Any], settings: Split) -> None:
    """Say in words what a reader should know."""
    for where, count in notes["straddling"].items():
        notes["messages"].append(
            f"{count:,} rows of {where.replace(' in ', ' have inputs that are also in ')}"
        )
    rows = notes["rows"]
    total = rows["train"] + rows["valid"] + rows["test"]
    if notes["by"] != "given":
        for name in ("valid", "test"):
            asked, got = getattr(settings, name), rows[name] / total
            if asked and abs(got - asked) > max(0.2 * asked, 1.5 / total):
                notes["messages"].append(
                    f"{name} holds {got:.1%} of the rows, not {asked:.1%}: groups and equal rows stay whole"
                )
