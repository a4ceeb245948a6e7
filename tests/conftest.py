"""What every test shares: a folder of its own to work in, a cache of its own, one thread."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and prepared data of a test stay in its own folder; downloaded samples are shared."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELWORKS_STORE", str(tmp_path / "store"))
