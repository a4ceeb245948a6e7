"""Run: a folder that holds all that a trained model is.

    run = RunFolder.find("titanic")        # runs/titanic
    run.verify(); run.evaluation()["primary"]

Layout: recipe.yaml, fields/, model.safetensors, reference.safetensors (what an evaluation compares with: the trivial
answer, hashes of the rows trained on), metrics.jsonl, evaluation.json, data.json, report.html, card.md,
environment.json, manifest.json (SHA-256 of every file), checkpoints/. A folder without a manifest is a run that
has not finished: `train --resume` goes on with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelworks.core.errors import UserError, did_you_mean
from modelworks.core.field import Field
from modelworks.core.kinds import find
from modelworks.core.sealed import seal, verify, write_bytes
from modelworks.core.settings import dump_yaml, load_yaml, read, to_tree

RUNS = Path("runs")
LEFT_OUT = ("checkpoints",)
"""Not in the manifest: checkpoints carry their own."""


class RunFolder:
    """A Run on disk."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @classmethod
    def find(cls, text: str | Path) -> RunFolder:
        """A Run by its name under runs/ or by its path. Raises UserError with close names."""
        for path in (Path(text), RUNS / str(text)):
            if (path / "recipe.yaml").is_file():
                return cls(path)
        names = [run.name for run in cls.every()]
        raise UserError(
            f"there is no Run {str(text)!r}",
            did_you_mean(Path(text).name, names) if names else "train one first",
        )

    @classmethod
    def every(cls, folder: Path = RUNS) -> list[RunFolder]:
        """The Runs of a folder, oldest first."""
        found = [path.parent for path in folder.glob("*/recipe.yaml")]
        return [cls(path) for path in sorted(found, key=lambda path: (path / "recipe.yaml").stat().st_mtime)]

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def complete(self) -> bool:
        """Whether training, evaluation and report are all written and sealed."""
        return (self.path / "manifest.json").is_file()

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}{'' if self.complete else ', unfinished'})"

    # ------------------------------------------------------------------ reading
    def recipe_tree(self) -> dict[str, Any]:
        """The resolved recipe as plain data."""
        tree = load_yaml(self.path / "recipe.yaml")
        if not isinstance(tree, dict):
            raise UserError(f"{self.path}/recipe.yaml: a recipe is a mapping of settings")
        return tree

    def json(self, name: str) -> dict[str, Any]:
        """One of the Run's JSON files; empty when it is not there."""
        path = self.path / name
        if not path.exists():
            return {}
        try:
            found = json.loads(path.read_text("utf-8"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not readable as JSON ({error})") from None
        if not isinstance(found, dict):
            raise UserError(f"{path}: not what was written there: wants a mapping")
        return found

    def evaluation(self) -> dict[str, Any]:
        """evaluation.json."""
        return self.json("evaluation.json")

    def metrics(self) -> list[dict[str, Any]]:
        """metrics.jsonl, line by line; a line torn by a crash is left out."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
        found = []
        for line in lines:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict):
                found.append(entry)
        return found

    def fields(self) -> dict[str, Field]:
        """The fitted fields, in the recipe's order."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        listed = self.json("fields/fields.json")
        if not listed:
            raise UserError(
                f"{self.path}: has no fitted fields", "the Run has not got so far: train --resume"
            )
        arrays_path = self.path / "fields" / "arrays.safetensors"
        try:
            arrays = load_file(arrays_path) if arrays_path.exists() else {}
        except (SafetensorError, OSError) as error:
            raise UserError(f"{arrays_path}: {error}") from None
        fitted = {}
        for name, entry in listed.items():
            try:
                settings = dict(entry["settings"])
                kind = find(Field, settings.pop("kind"))
                # A field's name may hold a slash, what it has learned goes by names that do not.
                own = {k.rpartition("/")[2]: v for k, v in arrays.items() if k.rpartition("/")[0] == name}
                fitted[name] = read(kind, settings, f"field {name}").with_state({**entry["state"], **own})
                assert fitted[name].layout
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                raise UserError(f"{self.path}/fields: {name!r} is damaged: {reason}") from None
        return fitted

    # ------------------------------------------------------------------ writing
    def write_fields(self, fields: Mapping[str, Field]) -> None:
        """fields/: settings and state as JSON, arrays as safetensors."""
        import numpy as np
        from safetensors.numpy import save

        (self.path / "fields").mkdir(parents=True, exist_ok=True)
        listed, arrays = {}, {}
        for name, field in fields.items():
            plain = {key: value for key, value in field.state.items() if not isinstance(value, np.ndarray)}
            arrays |= {
                f"{name}/{key}": np.ascontiguousarray(v)
                for key, v in field.state.items()
                if isinstance(v, np.ndarray)
            }
            listed[name] = {"settings": to_tree(field), "state": plain}
        self.write_json("fields/fields.json", listed)
        self.write_bytes("fields/arrays.safetensors", save(arrays))

    def write_recipe(self, tree: Mapping[str, Any]) -> None:
        """recipe.yaml."""
        self.write_bytes("recipe.yaml", dump_yaml(tree).encode())

    def write_json(self, name: str, value: Any) -> None:
        """A JSON file, whole or not at all."""
        self.write_bytes(name, (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode())

    def write_bytes(self, name: str, data: bytes) -> None:
        """A file, whole or not at all."""
        partial = self.path / f"{name}.partial"
        write_bytes(partial, data)
        partial.replace(self.path / name)

    def seal(self) -> None:
        """The manifest: from now on the Run is complete and any change is noticed."""
        seal(self.path, LEFT_OUT)

    def unseal(self) -> None:
        """Open the Run for writing again."""
        (self.path / "manifest.json").unlink(missing_ok=True)

    def verify(self) -> None:
        """Compare every file with the manifest; raises UserError naming the first that differs."""
        verify(self.path)
