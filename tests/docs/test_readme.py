"""What the README shows works, in both languages, and the paths that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import ROOT, blocks, execute

PAGES = ("README.md", "README.zh-CN.md")


def test_every_runnable_block_runs(tmp_path: Path) -> None:
    assert execute(ROOT / "README.md", tmp_path) >= 5
    # What the text promises of a Run is in the folder.
    for name in ("recipe.yaml", "fields", "model.safetensors", "metrics.jsonl", "evaluation.json", "data.json",
                 "report.html", "card.md", "environment.json", "checkpoints", "manifest.json"):  # fmt: skip
        assert (tmp_path / "runs" / "titanic" / name).exists(), name


def test_both_languages_show_the_same_blocks() -> None:
    english, chinese = (
        [(b.language, b.run, b.text) for b in blocks(ROOT / page) if b.run or b.language != "bash"]
        for page in PAGES
    )
    assert english == chinese
    assert len(english) > 5


@pytest.mark.parametrize("page", PAGES)
def test_the_folder_tree_is_the_tree_there_is(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    tree = text[text.index("    src/modelworks/\n") :].split("\n\n")[0]
    package = tree.split("    recipes/")[0]
    for folder in re.findall(r"^ {6}(\w+)/", package, re.MULTILINE):
        assert (ROOT / "src" / "modelworks" / folder).is_dir(), folder
    for file in re.findall(r"\b\w+\.py\b", tree):
        assert list((ROOT / "src").rglob(file)), file
    for kinds in ("sources", "fields", "models", "tasks"):
        (line,) = re.findall(rf"^ {{6}}{kinds}/ +(.+)$", package, re.MULTILINE)
        there = {path.stem for path in (ROOT / "src" / "modelworks" / kinds).glob("[!_]*.py")}
        assert set(line.split()) == there
    packages = {path.parent.name for path in (ROOT / "src" / "modelworks").glob("*/__init__.py")}
    assert packages == set(re.findall(r"^ {6}(\w+)/", package, re.MULTILINE))


@pytest.mark.parametrize(
    "page", [*PAGES, *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]
)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text("utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (path.parent / target).exists(), f"{page}: {target}"
