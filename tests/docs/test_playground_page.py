"""docs/playground.md: its commands work, and what they say is there is there."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import pytest
from pages import ROOT, execute


@pytest.mark.skipif(not util.find_spec("fastapi"), reason="the extra `serve` is not installed")
def test_a_run_is_tried_by_hand_and_on_many_rows(tmp_path: Path) -> None:
    assert execute(ROOT / "docs" / "playground.md", tmp_path) == 3
    assert len((tmp_path / "again.csv").read_text().splitlines()) == 20_001
    assert not list(tmp_path.glob("*.parts"))
