"""Tables that are piped are whole; files go only into folders that are there, and that is said before the work."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.table import Table

from modelworks.cli import main
from modelworks.stages._screen import show


@pytest.mark.parametrize("length", [3, 60, 300, 2000])
def test_a_piped_table_is_as_wide_as_its_content(length: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row is one line with its values whole, and no line is padded."""
    table = Table(title="t", title_justify="left", box=None, pad_edge=False)
    for name in ("one", "two", "three"):
        table.add_column(name)
    rows = [["a" * length, "b b " * (length // 4) + "b", str(row)] for row in range(4)]
    for row in rows:
        table.add_row(*row)
    show(table)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(rows)
    for line, row in zip(lines[2:], rows, strict=True):
        assert line == f"{row[0]:<3}  {row[1]:<3}  {row[2]}"
    assert all(line == line.rstrip() for line in lines)


def test_long_names_of_runs_stay_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{'long-' * 45}{number}" for number in range(2)]
    for name in names:
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "recipe.yaml").write_text("name: x\n")
    assert main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == names
    assert all("unfinished" in line for line in lines[1:])


@pytest.mark.parametrize("verb", ["predict", "evaluate", "audit", "report", "init"])
def test_an_output_in_no_folder_is_refused_at_once(
    tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("a,y\n" + "".join(f"{n % 9},{'uv'[n % 2]}\n" for n in range(40)))
    (tmp_path / "runs/r").mkdir(parents=True)
    (tmp_path / "runs/r/recipe.yaml").write_text("name: r\n")
    words = {"predict": ["r", "rows.csv"], "evaluate": ["r", "rows.csv"], "report": ["r"]}
    command = [verb, *words.get(verb, ["rows.csv"]), "--output"]
    assert main([*command, "some/new/out.csv"]) == 2
    said = capsys.readouterr().err
    assert "some/new: there is no such folder" in said
    assert "mkdir -p some/new" in said
    assert not (tmp_path / "some").exists()
    assert main([*command, "rows.csv/out.csv"]) == 2
    assert "rows.csv: is not a folder" in capsys.readouterr().err
    assert main([*command, "runs"]) == 2
    assert "is a folder" in capsys.readouterr().err
