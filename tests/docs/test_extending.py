"""The kinds that docs/extending.md adds work as shown: written from the page, trained, asked."""

from __future__ import annotations

import json
from pathlib import Path

from pages import ROOT, execute

PAGE = ROOT / "docs" / "extending.md"


def test_a_model_a_field_a_task_and_a_source_from_files_outside_the_package(tmp_path: Path) -> None:
    assert execute(PAGE, tmp_path) == 5
    found = {}
    for run, kind in (
        ("iris", "gated"),
        ("ordered", "ordinal"),
        ("flights", "poisson"),
        ("flowers", "sqlite"),
    ):
        folder = tmp_path / "runs" / run
        assert (folder / "manifest.json").is_file()
        assert f"{kind}.py" in (folder / "recipe.yaml").read_text()
        found[run] = json.loads((folder / "evaluation.json").read_text())
        assert found[run]["splits"]["test"]
    # Metrics of the counts are in passengers, not in what is stored: their mean is off by tens to hundreds.
    assert found["flights"]["primary"] == "mae"
    assert 50 < found["flights"]["baseline"]["test"]["mae"]["value"] < 200
