"""mixture: each row as often as its weight says, the same on every reading."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from modelworks.core.errors import DataError, RecipeError
from modelworks.core.settings import read, to_tree
from modelworks.sources.mixture import Mixture

from .helpers_sources import rows_of


@pytest.fixture
def parts(tmp_path: Path) -> list[dict]:
    (tmp_path / "a.txt").write_text("".join(f"a{at}\n" for at in range(3000)))
    lines = [json.dumps({"body": f"b{at}", "n": at}) for at in range(20_000)]
    (tmp_path / "b.jsonl").write_text("\n".join([*lines, "{broken"]))
    return [
        {"source": str(tmp_path / "a.txt"), "weight": 2.5},
        {"source": {"kind": "jsonl", "path": str(tmp_path / "b.jsonl")}, "weight": 0.3, "column": "body"},
    ]


def test_rows_come_as_often_as_their_weight_says(parts: list[dict]) -> None:
    rows, quarantine = rows_of(Mixture(parts=parts))
    counts = Counter(row["text"] for row in rows)
    first = [counts[f"a{at}"] for at in range(3000)]
    second = [counts[f"b{at}"] for at in range(20_000)]
    assert set(first) == {2, 3} and set(second) == {0, 1}
    assert abs(sum(first) / 3000 - 2.5) < 0.05
    assert abs(sum(second) / 20_000 - 0.3) < 0.02
    assert quarantine.count == 1  # however often a part is read
    assert {(row["part"], row["copy"]) for row in rows} == {
        ("a.txt", 0), ("a.txt", 1), ("a.txt", 2), ("b.jsonl", 0)
    }  # fmt: skip
    assert len({(row["text"], row["copy"]) for row in rows}) == len(rows)


def test_the_same_each_time_and_from_its_own_tree(parts: list[dict]) -> None:
    mixture = Mixture(parts=parts)
    again = read(Mixture, {key: value for key, value in to_tree(mixture).items() if key != "kind"})
    assert rows_of(mixture)[0] == rows_of(again)[0]
    before = mixture.fingerprint()
    assert before == again.fingerprint()
    heavier = Mixture(parts=[parts[0] | {"weight": 2}, parts[1]])
    assert heavier.fingerprint() != before
    Path(parts[0]["source"]).write_text("changed\n")
    assert Mixture(parts=parts).fingerprint() != before


def test_what_cannot_be_is_refused(parts: list[dict]) -> None:
    with pytest.raises(DataError, match=r"b.jsonl: no column 'text'"):
        rows_of(Mixture(parts=[parts[1] | {"column": "text"}]))
    for bad in ([], [{"source": "x.unheard"}], [parts[0] | {"weight": 0}]):
        with pytest.raises(RecipeError):
            Mixture(parts=bad)
