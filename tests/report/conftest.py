"""Run folders made once for all tests of reports."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.report import make_run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Runs digits, reviews, diabetes and gan."""
    folder = tmp_path_factory.mktemp("runs")
    for make in (make_run.digits, make_run.reviews, make_run.diabetes, make_run.gan):
        make(folder / make.__name__)
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"
