"""Split: which rows train, which choose (valid) and which judge (test) the model.

    dataset, notes = split(dataset, Split(by="stratified", test=0.2), target="stars", inputs=["text"], seed=0)

Rows are taken in the order of a hash of (seed, their inputs or their group), so rows with equal inputs, and
the rows of a group, always land together. Up to EXACT rows the shares are met exactly, as far as groups
allow; beyond, or with `stable`, each hash is compared with a threshold: adding rows never moves old ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from modelworks.core.errors import DataError, UserError
from modelworks.core.settings import Settings
from modelworks.engine.data.given import count_named, given_codes
from modelworks.engine.data.repeats import missing_cells, row_keys, runs

if TYPE_CHECKING:
    import numpy as np

    from modelworks.core.dataset import Dataset

EXACT = 500_000
"""Rows up to which shares are met exactly."""
_VALID, _TEST = 1, 2  # codes into core.dataset.SPLITS


class Split(Settings):
    """How rows are shared out."""

    by: Literal["auto", "random", "stratified", "time", "group", "given", "order"] = "auto"
    """`stratified` gives each class (or range of a numeric target) its share of every split; `time` trains on
    the past and tests on the latest; `order` trains on the first rows and tests on the last; `group` keeps rows
    with one value of `column` together; `given` follows `column`. `auto`: given where there is a column `split`,
    order for the pieces of one text, stratified for a class as target, else random."""
    valid: float = Setting(default=0.1, ge=0, lt=1)
    """Share of the rows that chooses the weights; 0: none. A given split without it cuts it from training."""
    test: float = Setting(default=0.1, ge=0, lt=1)
    """Share of the rows that judges the result; 0: none. A given split without test rows gets none."""
    column: str | None = None
    """For time, group and given (there `split` when not named)."""
    most: int | None = Setting(default=None, ge=1)
    """Most training rows, drawn by the seed; the others are left out, and counted. For curves of learning, and to see
    what little data gives."""
    duplicates: Literal["together", "apart"] = "together"
    """`apart` ignores that rows have equal inputs: for tables of few distinct rows, where that is no leak."""
    bins: int = Setting(default=10, ge=2, le=1000)
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


@dataclass
class _Work:
    """One dataset being split."""

    dataset: Dataset
    settings: Split
    target: str | None
    categorical: bool
    seed: int
    live: np.ndarray
    """bool (rows,): not dropped before."""
    codes: np.ndarray
    """uint8 (rows,): the answer, an index into core.dataset.SPLITS."""
    messages: list[str] = field(default_factory=list)


def split(
    dataset: Dataset,
    settings: Split,
    target: str | None,
    inputs: Sequence[str],
    seed: int,
    categorical: bool | None = None,
) -> tuple[Dataset, dict[str, Any]]:
    """The dataset with every row in a split, and notes for the report. Rows dropped before stay dropped.

    `categorical`: whether the target is a class; None: as its profile looks."""
    import numpy as np

    from modelworks.core.dataset import SPLITS

    drop = SPLITS.index("drop")
    live = np.ones(dataset.rows, bool) if dataset.splits is None else dataset.splits != drop
    if target is not None and categorical is None:
        categorical = _looks_categorical(dataset, target)
    codes = np.where(live, 0, drop).astype(np.uint8)
    work = _Work(dataset, settings, target, bool(categorical and target), seed, live, codes)
    by = _chosen(work)
    column = settings.column or ("split" if by == "given" else None)
    # A column that names the splits says nothing about the case.
    seen = [name for name in inputs if name != column or by in ("time", "group")]
    keys = None
    if by == "time":
        _by_time(work, column or "")
    elif by == "order":
        _by_order(work)
    else:
        shares = _given(work, column or "") if by == "given" else (settings.valid, settings.test)
        if any(shares):
            if by == "group":
                units = _groups(work, column or "")
            elif seen and settings.duplicates == "together":
                units = keys = row_keys(dataset, seen)
            else:
                units = np.arange(dataset.rows, dtype=np.uint64)
            _shuffle(units, seed)  # equal keys stay equal
            _by_hash(work, by, units, *shares)
    if settings.most is not None:
        _thin(work, settings.most, drop)
    notes = {"by": by, "column": column, "messages": work.messages}
    notes["rows"] = {name: int(np.count_nonzero(codes == code)) for code, name in enumerate(SPLITS)}
    notes |= {"duplicate_rows": 0, "straddling": {}}
    if seen:
        notes |= _repeated(row_keys(dataset, seen) if keys is None else keys, codes, live)
    _remark(notes, settings)
    return dataset.with_splits(codes), notes


def _chosen(work: _Work) -> str:
    dataset, settings = work.dataset, work.settings
    if settings.column:
        dataset.need([settings.column])
    if settings.by == "stratified" and work.target is None:
        raise UserError("split by: stratified wants a target", "use by: random")
    if settings.by == "given":
        dataset.need([settings.column or "split"])
    if settings.by != "auto":
        return settings.by
    if "split" in dataset.columns and work.target != "split":
        good, named = count_named(dataset, "split", work.live)
        if good and 2 * good >= named:  # where half of the values name a split, all of them must
            return "given"
        share = f"{good:,} of {named:,}" if good else "none"
        work.messages.append(
            f"column 'split' is not followed: {share} of its values name train, valid or test"
        )
    if dataset.continuous:
        return "order"
    return "stratified" if work.categorical else "random"


def _looks_categorical(dataset: Dataset, target: str) -> bool:
    dataset.need([target])
    profile = dataset.profile()[target]
    nested = profile.type.startswith(("list", "large_list", "extension", "fixed_size_list", "struct"))
    if nested or profile.many:
        return False
    if profile.share(profile.numeric) > 0.95 and profile.type != "bool":
        return profile.integer == profile.numeric and profile.distinct <= min(
            20, max(2, profile.present // 5)
        )
    return profile.distinct <= max(2, profile.present // 2)


# ------------------------------------------------------------------------------------------- by hash
def _shuffle(units: np.ndarray, seed: int) -> None:
    """Each unit's place in this seed's random order, one to one; in place, in small pieces."""
    import numpy as np

    from modelworks.core.dataset import mix

    salt = mix(np.array([seed], np.uint64) + np.uint64(0x9E3779B97F4A7C15))[0]
    for start in range(0, len(units), 1 << 16):
        units[start : start + (1 << 16)] = mix(units[start : start + (1 << 16)] ^ salt)


def _by_hash(work: _Work, by: str, order: np.ndarray, valid: float, test: float) -> None:
    """Share out the rows that are not placed yet. Rows of equal `order` are one unit and stay together."""
    import numpy as np

    from modelworks.engine.data import strata

    dataset, codes = work.dataset, work.codes
    mask = work.live & (codes == 0)
    # A class must stay learnable unless groups forbid it.
    cover = work.target if work.categorical and by != "group" else None
    if work.settings.stable or np.count_nonzero(mask) > EXACT:
        cuts = [np.uint64(int(share * 2**64)) for share in (test, test + valid)]
        codes[mask & (order < cuts[1])] = _VALID
        codes[mask & (order < cuts[0])] = _TEST
        moved = strata.cover_streaming(dataset, cover, mask, codes, order) if cover else 0
        if moved:
            work.messages.append(
                f"{moved:,} rows of classes that chance kept out of training were moved there"
            )
    else:
        rows = np.flatnonzero(mask)
        classes = strata.classes(dataset, cover, rows) if cover else None
        stratum = classes if by != "random" else None
        if by == "stratified" and classes is None:
            stratum = strata.ranges(dataset, work.target or "", rows, work.settings.bins)
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


def _groups(work: _Work, column: str) -> np.ndarray:
    """A key for each row's group; a row without one is a group of its own."""
    import numpy as np

    from modelworks.core.dataset import hash_column, mix

    dataset, live = work.dataset, work.live
    keys = np.empty(dataset.rows, np.uint64)
    alone = 0
    for rows, batch in dataset.batches(columns=[column]):
        missing = missing_cells(batch.column(0))
        keys[rows] = np.where(missing, mix(~rows.astype(np.uint64)), hash_column(batch.column(0)))
        alone += int(np.count_nonzero(missing & live[rows]))
    if alone:
        work.messages.append(f"{alone:,} rows have no {column!r}: each counts as a group of its own")
    if sum(len(starts) for _, starts in runs(keys, live)) < 2:
        raise DataError(
            f"{dataset.name}: column {column!r} holds one group only",
            "split by another column, or by: random",
        )
    return keys


# ------------------------------------------------------------------------------------------- given, by time
def _given(work: _Work, column: str) -> tuple[float, float]:
    """Place the rows as given; the shares still to be cut from training."""
    live, codes = work.live, work.codes
    codes[live] = given_codes(work.dataset, column, live)[live]
    if not (codes == 0).any():
        raise DataError(
            f"{work.dataset.name}: no row has {column!r}: train",
            f"{column!r} names the splits: train, valid, test",
        )
    return (0.0 if (codes == _VALID).any() else work.settings.valid), 0.0


def _by_time(work: _Work, column: str) -> None:
    """The latest rows test, those before them are valid; equal times stay together."""
    import numpy as np

    from modelworks.engine.data.moments import moments

    dataset, codes = work.dataset, work.codes
    times = moments(dataset, column, work.messages)
    times[~work.live] = np.nan
    ordered = times[~np.isnan(times)]
    ordered.sort()
    total = len(ordered)
    undated = int(np.count_nonzero(work.live)) - total
    if undated:
        work.messages.append(f"{undated:,} rows have no readable {column!r}: they train")
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1  # where a cut keeps equal times together
    asked = [s for s in ((_TEST, work.settings.test), (_VALID, work.settings.valid)) if s[1]]
    if len(changes) < len(asked):
        distinct = len(changes) + bool(total)
        raise DataError(f"{dataset.name}: {column!r} has {distinct} distinct times, too few to split by")
    end, until = total, np.inf
    for index, (code, share) in enumerate(asked):
        possible = changes[len(asked) - 1 - index :]  # leaves room for the splits before
        possible = possible[possible < end]
        want = end - max(round(share * total), 1)
        end = int(possible[np.argmin(np.abs(possible - want))])
        codes[(times >= ordered[end]) & (times <= until)] = code
        until = np.nextafter(ordered[end], -np.inf)


def _by_order(work: _Work) -> None:
    """The last rows test, those before them are valid."""
    import numpy as np

    rows = np.flatnonzero(work.live)
    end = len(rows)
    for code, share in ((_TEST, work.settings.test), (_VALID, work.settings.valid)):
        start = end - max(round(share * len(rows)), 1) if share else end
        work.codes[rows[max(start, 0) : end]] = code
        end = start
    if end < 1:
        raise DataError(
            f"{work.dataset.name}: {len(rows):,} rows are too few to split", "set split.valid and test: 0"
        )


def _thin(work: _Work, most: int, drop: int) -> None:
    """Leave out all training rows but `most`, taken in a random order of this seed."""
    import numpy as np

    rows = np.flatnonzero(work.live & (work.codes == 0))
    if len(rows) <= most:
        return
    order = rows.astype(np.uint64)
    _shuffle(order, work.seed)
    work.codes[rows[np.argsort(order, kind="stable")[most:]]] = drop
    work.messages.append(f"{most:,} of {len(rows):,} training rows are used (split.most)")


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
    if notes["by"] != "given" and settings.most is None:
        for name in ("valid", "test"):
            asked, got = getattr(settings, name), rows[name] / total
            if asked and abs(got - asked) > max(0.2 * asked, 1.5 / total):
                notes["messages"].append(
                    f"{name} holds {got:.1%} of the rows, not {asked:.1%}: groups and equal rows stay whole"
                )
