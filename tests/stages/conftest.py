"""Shared by the tests of exports: what an exported folder's README says is run where there is no modelworks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def outside() -> Callable[[Path, str], str]:
    """Run code in a folder, in a Python that cannot import modelworks; what it prints."""

    def run(folder: Path, code: str) -> str:
        block = "import sys; sys.modules['modelworks'] = None\n"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [sys.executable, "-c", block + code],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def readme_code() -> Callable[[Path], str]:
    """The Python of a folder's README."""

    def read(folder: Path) -> str:
        (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.DOTALL)
        return code

    return read
