"""Hostile inputs through the real command line: a sample of benchmarks/hostile.py's, and that its judge can fail."""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
# What was once broken, each in its own way; the rest of the sample is drawn.
ALWAYS = {
    "column named slashes", "column named split", "column named row", "target named row", "target named escape",
    "bomb of zeros", "deep", "yaml: alias bomb", "yaml: alias to itself", "yaml: number as key", "yaml: python object",
    "setting train.device = tpu9", "flags --fields.answer=ignore", "flags --train.optimizer.lr=1e30", "name '../../x'",
    "path: endless device", "path: pipe", "png: 50,000 × 50,000", "train pipe.yaml", "train, 20,000 bytes left",
    "predict: fields' state gone (resealed)", "predict: weights header says 2⁶³ (resealed)", "predict: manifest deep",
    "standard input: nothing",
}  # fmt: skip
DRAWN = 16


@pytest.fixture(scope="module")
def hostile() -> ModuleType:
    """benchmarks/hostile.py."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("hostile")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.slow
def test_a_sample(hostile: ModuleType, tmp_path: Path) -> None:
    """Exit code 0 or 2, no traceback, one clear message, no lost row."""
    sys.path.insert(0, str(BENCHMARKS))  # the families are loaded by name
    try:
        cases = hostile.all_cases()
    finally:
        sys.path.remove(str(BENCHMARKS))
    assert len(cases) >= 300
    assert len({(case.family, case.name) for case in cases}) == len(cases)
    named = [case for case in cases if case.name in ALWAYS]
    assert {case.name for case in named} == ALWAYS
    quick = [
        case
        for case in cases
        if case.name not in ALWAYS and "5,000" not in case.name and "bomb" not in case.name
    ]
    said: list[str] = []
    failures = hostile.examine([*named, *random.Random(0).sample(quick, DRAWN)], tmp_path, said.append)
    assert not failures, "\n".join(failures)


def test_the_judge_can_fail(hostile: ModuleType, tmp_path: Path) -> None:
    """Each kind of fault is seen."""
    case = hostile.Case(
        "tables", "x", ["train", "t.csv"], expect=2, names=("t.csv",), forbidden={"owned": ""}
    )

    def faults(code: int, error: str, **more: object) -> str:
        return "; ".join(
            hostile.judge(case, hostile.Done(code, "", error, 1.0, more.pop("peak", 0), bool(more)), tmp_path)
        )

    assert faults(2, "modelworks: t.csv: no usable rows") == ""
    assert "exit code 1" in faults(1, "modelworks: t.csv")
    assert "exit code 0" in faults(0, "")
    assert "exit code -11" in faults(-11, "")
    assert "bug of ours" in faults(2, "Traceback (most recent call last):")
    assert "Python warning" in faults(2, "modelworks: t.csv\n/a/b.py:3: RuntimeWarning: divide")
    assert "escape sequence" in faults(2, "modelworks: t.csv \x1b[31m")
    assert "names none" in faults(2, "modelworks: something is wrong")
    assert "lines" in faults(2, "modelworks: t.csv\n" + "x\n" * 30)
    assert "memory" in faults(2, "modelworks: t.csv", peak=3 << 30)
    assert "hangs" in faults(-9, "", timed_out=True)
    (tmp_path / "owned").touch()
    assert "was written" in faults(2, "modelworks: t.csv")


def test_rows_are_counted(hostile: ModuleType, tmp_path: Path) -> None:
    """A lost row is seen, in data.json and in the answers."""
    import json

    case = hostile.Case("tables", "x", ["train", "t.csv"], rows=10)
    (tmp_path / "runs/out").mkdir(parents=True)
    cleaning = {
        "rows": {"train": 6, "valid": 1, "test": 1},
        "unreadable": {"count": 1},
        "quarantined": {"a": 1},
        "counts": {},
        "rows_in": 10,
    }
    (tmp_path / "runs/out/data.json").write_text(json.dumps({"cleaning": cleaning}))
    assert hostile.rows_of_training(case, tmp_path) == []
    (tmp_path / "runs/out/data.json").write_text(json.dumps({"cleaning": {**cleaning, "rows_in": 9}}))
    assert len(hostile.rows_of_training(case, tmp_path)) == 2
    (tmp_path / "out.csv").write_text("a,prediction\n1,x\n2,\n")
    assert len(hostile.rows_of_prediction(case, tmp_path)) == 2
    (tmp_path / "out.csv.errors.jsonl").write_text(
        '{"row": 1, "error": "broken"}\n' + '{"where": "t.csv", "reason": "?"}\n' * 8
    )
    assert hostile.rows_of_prediction(case, tmp_path) == []
