"""Kinds are files: `models/vit.py` is what `kind: vit` means. Listing reads names and imports nothing.

A kind is found in our own folder, in the entry-point group `modelworks.FOLDER`, or at a path
(`kind: ./mine.py`). Within `with lightly():` only the settings class of a file is executed, so that a recipe is
checked in milliseconds without torch; such classes know their settings and cannot work. Elsewhere the file is
imported as usual.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from modelworks.core.errors import UserError, did_you_mean
from modelworks.core.names import PACKAGE, own
from modelworks.core.settings import Kinded

K = TypeVar("K", bound=Kinded)
# Roots a settings class may lean on: the standard library and what reading settings has loaded already.
_LIGHT = set(sys.stdlib_module_names) | {"pydantic", "yaml"}


@functools.cache
def names(folder: str) -> tuple[str, ...]:
    """The kinds of a folder, by file name, plugins included; imports nothing of them."""
    plugins = {point.name for point in metadata.entry_points(group=f"modelworks.{folder}")}
    return tuple(sorted({*own(folder), *plugins}))


def find(contract: type[K], name: str) -> type[K]:
    """The settings class of a kind. Raises UserError with "did you mean" when there is none."""
    if name.endswith(".py"):
        path = Path(name).expanduser().resolve()
        if not path.is_file():
            raise UserError(f"no file {name}")
        return _load(contract, name, f"modelworks_user.{contract.folder}.{path.stem}", path)
    path = PACKAGE / contract.folder / f"{name}.py"
    if name.isidentifier() and not name.startswith("_") and path.is_file():
        return _load(contract, name, f"modelworks.{contract.folder}.{name}", path)
    for point in metadata.entry_points(group=f"modelworks.{contract.folder}", name=name):
        found = point.load()
        found.__kind__ = name
        return found
    raise UserError(
        f"there is no kind {name!r} among {contract.folder}; {did_you_mean(name, names(contract.folder))}"
    )


def every(contract: type[K]) -> dict[str, type[K]]:
    """All kinds of a contract, by name."""
    return {name: find(contract, name) for name in names(contract.folder)}


@contextmanager
def lightly() -> Iterator[None]:
    """Within, kinds are read for their settings alone, unless torch is loaded already."""
    global _lightly
    before, _lightly = _lightly, True
    try:
        yield
    finally:
        _lightly = before


_lightly = False


def _load(contract: type[K], name: str, module_name: str, path: Path) -> type[K]:
    if _lightly and "torch" not in sys.modules:
        light = _light(contract, name, module_name, path, path.stat().st_mtime_ns)
        if light is not None:
            return light
    return _imported(contract, name, module_name, path, path.stat().st_mtime_ns)


@functools.cache
def _imported(contract: type[K], name: str, module_name: str, path: Path, stamp: int) -> type[K]:
    if module_name.startswith("modelworks."):
        module = importlib.import_module(module_name)
    else:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module  # pickling-free, but typing looks annotations up here
        try:
            spec.loader.exec_module(module)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{name}: {type(error).__name__}: {error}") from error
    return _only(contract, name, vars(module), module_name)


def _only(contract: type[K], name: str, scope: dict[str, object], module_name: str) -> type[K]:
    found = [
        value
        for key, value in scope.items()
        if isinstance(value, type)
        and issubclass(value, contract)
        and value is not contract
        and value.__module__ == module_name
        and not key.startswith("_")
    ]
    if len(found) != 1:
        raise UserError(f"{name}: wants one public {contract.__name__} class, has {len(found)}")
    found[0].__kind__ = name
    found[0].__file_of_kind__ = scope.get("__file__")
    return found[0]


@functools.cache
def _light(contract: type[K], name: str, module_name: str, path: Path, stamp: int) -> type[K] | None:
    """Run only what the settings class needs: light imports, constants, classes. None where that fails."""
    try:
        tree = ast.parse(path.read_text("utf-8"), str(path))
    except SyntaxError as error:
        raise UserError(f"{name}: line {error.lineno}: {error.msg}") from None
    # A throwaway module under the real name, so that annotations resolve while the class is built.
    module = types.ModuleType(module_name)
    module.__file__ = str(path)
    before = sys.modules.get(module_name)
    sys.modules[module_name] = module
    try:
        for node in tree.body:
            if _is_heavy(node):
                continue
            code = compile(ast.Module([node], []), str(path), "exec", dont_inherit=True, flags=_FUTURE)
            try:
                exec(code, vars(module))  # noqa: S102 - the same file that an import would run
            except (NameError, AttributeError):
                continue  # leans on something heavy; if it is the settings class, we import after all
        return _only(contract, name, vars(module), module_name)
    except UserError:
        return None
    finally:
        if before is None:
            del sys.modules[module_name]
        else:
            sys.modules[module_name] = before


_FUTURE = __import__("__future__").annotations.compiler_flag


def _is_heavy(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] not in _LIGHT for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        return not (module.split(".")[0] in _LIGHT or module.startswith("modelworks.core"))
    return False
