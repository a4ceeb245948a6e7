"""What a column's profile says about it, for `recognise`. Standard library only: no torch, numpy or arrow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelworks.core.profile import ColumnProfile

HOPELESS = 0.05
"""What every kind says at most of a column that teaches nothing: constants and ids."""
_CODE = re.compile(r"[\w.:/#@-]*\d[\w.:/#@-]*")
_TENSOR = re.compile(r"fixed_shape_tensor\[value_type=(\w+), shape=\[([\d,]*)\]")


def hopeless(profile: ColumnProfile) -> bool:
    """Whether a column can teach nothing: empty, constant, or an id."""
    if not profile.present:
        return True
    if is_opaque(profile):
        return False
    return (profile.distinct <= 1 and not profile.many) or is_id(profile)


def is_opaque(profile: ColumnProfile) -> bool:
    """Whether the values are tensors or bytes, whose distinct values are not counted."""
    return (
        tensor_shape(profile) is not None
        or profile.type.startswith("fixed_size_list")
        or (profile.image_bytes + profile.audio_bytes > 0)
    )


def is_id(profile: ColumnProfile) -> bool:
    """Whether every row has a value of its own that means nothing: 1, 2, 3 … or `U-00017`."""
    unique = profile.many or profile.distinct == profile.present
    if not unique or profile.present < 3:
        return False
    if profile.integer == profile.present:
        return profile.increasing
    if profile.share(profile.numeric) > 0.5 or profile.share(profile.dates) > 0.5 or profile.cjk > 0.1:
        return False
    if profile.image_paths or profile.audio_paths or profile.mean_words > 1.2 or profile.mean_length > 64:
        return False
    return bool(profile.examples) and all(_CODE.fullmatch(text) for text in profile.examples)


def distinct_share(profile: ColumnProfile) -> float:
    """Distinct values as a share of those present; 1 when there are too many to count."""
    return 1.0 if profile.many else profile.share(profile.distinct)


def few_integers(profile: ColumnProfile) -> bool:
    """Whether all values are integers and few: ≤ 20 distinct and ≤ 5 % of the rows (two are always few)."""
    few = not profile.many and profile.distinct <= 20 and profile.distinct <= max(2.0, 0.05 * profile.present)
    return few and profile.integer == profile.present


def tensor_shape(profile: ColumnProfile) -> tuple[str, tuple[int, ...]] | None:
    """(value type, shape) of a column of Arrow tensors, else None."""
    found = _TENSOR.search(profile.type)
    return (found[1], tuple(int(n) for n in found[2].split(",") if n)) if found else None
