"""Settings: one frozen typed tree = YAML = `--a.b.c=v` = Python.

    class Resnet(Model):
        depth: int = 18
        \"\"\"Number of weighted layers.\"\"\"

    settings = read(Recipe, {"model": {"kind": "resnet", "depth": 50}}, source="recipe.yaml")

`read` reports every problem at once, each with its path, the value received and what would work.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from modelworks.core.errors import Problem, RecipeError, UserError, did_you_mean

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every settings class: frozen, keyword-only, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise RecipeError(problems_of(error, type(self)), type(self).__name__) from None

    def but(self: S, **changes: Any) -> S:
        """A copy with these settings changed, checked like any other."""
        return type(self)(**{**{name: getattr(self, name) for name in type(self).model_fields}, **changes})


class Kinded(Settings):
    """A settings class that is chosen by name: `kind: resnet` is the file `models/resnet.py`."""

    folder: ClassVar[str] = ""
    """The folder whose files are the kinds."""

    @property
    def kind(self) -> str:
        """The name that the user types: the file's, or its path for a user's own file."""
        return getattr(type(self), "__kind__", None) or type(self).__module__.rsplit(".", 1)[-1]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        if cls.folder and "folder" in vars(cls):  # the contract itself, not one of its kinds
            return core_schema.no_info_plain_validator_function(
                lambda value: _choose(cls, value),
                serialization=core_schema.plain_serializer_function_ser_schema(to_tree),
            )
        return handler(source)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: core_schema.CoreSchema, handler: Any) -> dict[str, Any]:
        # The kinds themselves are listed once, by `modelworks schema`.
        return {"x-kinds": cls.folder} if cls.folder and "folder" in vars(cls) else handler(core)


def _choose(contract: type[Kinded], value: Any) -> Kinded:
    from modelworks.core.kinds import find

    if isinstance(value, contract):
        return value
    if isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, Mapping):
        raise PydanticCustomError("kind", "wants a kind by name or a mapping with `kind:`", {"nested": []})
    value = dict(value)
    name = value.pop("kind", None)
    if not isinstance(name, str):
        raise PydanticCustomError(
            "kind", "has no `kind:`", {"nested": [], "remedy": _kinds_remedy(contract, "")}
        )
    try:
        kind = find(contract, name)
    except UserError as error:
        raise PydanticCustomError("kind", "{why}", {"nested": [], "why": str(error)}) from None
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise PydanticCustomError("nested", "nested", {"nested": problems_of(error, kind)}) from None
    except RecipeError as error:  # a kind whose own __init__ ran
        raise PydanticCustomError("nested", "nested", {"nested": error.problems}) from None


def _kinds_remedy(contract: type[Kinded], word: str) -> str:
    from modelworks.core.kinds import names

    return did_you_mean(word, names(contract.folder))


def to_tree(value: Any) -> Any:
    """Settings as plain data, `kind` first; what YAML and JSON store."""
    if isinstance(value, Settings):
        tree: dict[str, Any] = {"kind": value.kind} if isinstance(value, Kinded) else {}
        return tree | {name: to_tree(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): to_tree(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_tree(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def read(kind: type[S], tree: Any, source: str = "") -> S:
    """A checked settings object from plain data; raises one RecipeError naming every problem."""
    if not isinstance(tree, Mapping):
        raise RecipeError([Problem("", f"wants a mapping of settings, got {_shown(tree)}")], source)
    try:
        return kind.model_validate(dict(tree))
    except ValidationError as error:
        raise RecipeError(problems_of(error, kind), source) from None


# ------------------------------------------------------------------------------------------- problems
def problems_of(error: ValidationError, kind: type[BaseModel]) -> list[Problem]:
    """pydantic's errors in our words, with the path as typed and a suggestion."""
    problems = []
    for fault in error.errors(include_url=False):
        where = ".".join(str(part) for part in fault["loc"] if not _is_union_tag(part))
        context = fault.get("ctx", {})
        # A nested settings class checks itself in its own __init__ and raises RecipeError with its own paths.
        nested = context.get("nested") or getattr(context.get("error"), "problems", None)
        if nested:
            for inner in nested:
                path = ".".join(part for part in (where, inner.where) if part)
                problems.append(Problem(path, inner.message, inner.remedy))
        elif fault["type"] == "extra_forbidden":
            owner = _settings_at(kind, fault["loc"][:-1])
            names = list(owner.model_fields) if owner else []
            what = _owner_name(owner)
            problems.append(
                Problem(
                    where,
                    f"{what} has no setting {fault['loc'][-1]!r}",
                    did_you_mean(str(fault["loc"][-1]), names),
                )
            )
        elif fault["type"] == "missing":
            problems.append(Problem(where, "is needed and was not given"))
        elif fault["type"] == "literal_error":
            options = re.findall(r"'([^']*)'", str(context.get("expected", "")))
            problems.append(
                Problem(where, f"got {_shown(fault['input'])}", did_you_mean(str(fault["input"]), options))
            )
        elif fault["type"] in ("kind", "value_error"):
            message = fault["msg"].removeprefix("Value error, ")
            problems.append(Problem(where, message, str(context.get("remedy", ""))))
        else:
            message = fault["msg"][0].lower() + fault["msg"][1:].removeprefix("nput should")
            problems.append(
                Problem(
                    where,
                    f"wants{_wish(fault['msg'])}, got {_shown(fault['input'])}"
                    if _wish(fault["msg"])
                    else message,
                )
            )
    return _merge_unions(problems)


def _wish(message: str) -> str:
    """`Input should be a valid integer, unable to …` → ` a valid integer`."""
    found = re.match(r"Input should (?:be|have)( .*?)(?:,.*)?$", message)
    return found.group(1) if found else ""


def _merge_unions(problems: list[Problem]) -> list[Problem]:
    """One line for a value that fitted none of a union's types."""
    merged: dict[str, Problem] = {}
    for problem in problems:
        before = merged.get(problem.where)
        wish, _, got = problem.message.partition(", got ")
        if before and before.message.startswith("wants") and wish.startswith("wants"):
            old = before.message.partition(", got ")[0]
            if wish.removeprefix("wants") not in old:
                merged[problem.where] = Problem(
                    problem.where, f"{old} or{wish.removeprefix('wants')}, got {got}"
                )
        elif before and before.message != problem.message:
            remedy = before.remedy or problem.remedy
            merged[problem.where] = Problem(problem.where, f"{before.message} or {problem.message}", remedy)
        else:
            merged[problem.where] = problem
    return list(merged.values())


def _is_union_tag(part: Any) -> bool:
    return isinstance(part, str) and bool(
        re.match(
            r"^(int|float|str|bool|none|list\[|dict\[|tuple\[|literal\[|constrained-|function-|[A-Z])", part
        )
    )


def _settings_at(kind: type[BaseModel] | None, path: Sequence[Any]) -> type[BaseModel] | None:
    for part in path:
        if kind is None or not isinstance(part, str) or part not in kind.model_fields:
            continue
        kind = _settings_in(kind.model_fields[part].annotation)
    return kind


def _settings_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, dict, list, tuple, typing.Annotated):
        for inner in typing.get_args(annotation):
            found = _settings_in(inner)
            if found:
                return found
    return None


def _owner_name(owner: type[BaseModel] | None) -> str:
    if owner is None:
        return "this"
    if issubclass(owner, Kinded):
        return getattr(owner, "__kind__", None) or owner.__module__.rsplit(".", 1)[-1]
    return owner.__name__.lower()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


# ------------------------------------------------------------------------------------------- YAML, flags
_MOST_VALUES = 100_000
_LARGEST = 16 << 20


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """SafeLoader that refuses a key given twice and alias bombs."""


def _mapping(loader: Any, node: Any) -> dict[Any, Any]:
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        # A name is text however it looks: columns may be called 2020, no or ~.
        plain = isinstance(key_node, yaml.ScalarNode)
        key = key_node.value if plain else loader.construct_object(key_node, deep=True)
        try:
            if key in seen:
                raise UserError(f"line {key_node.start_mark.line + 1}: {key!r} is given twice")
        except TypeError:
            raise UserError(f"line {key_node.start_mark.line + 1}: a key must be a plain name") from None
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


def _bounded(node: Any) -> None:
    """Refuse what aliases would blow up to more than a recipe can sensibly hold, or to no end."""
    sizes: dict[int, int] = {}

    def size(node: Any) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = _MOST_VALUES + 1  # until it is known: a node inside itself is endless
            parts = node.value if isinstance(node.value, list) else []
            inner = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
            sizes[id(node)] = 1 + sum(size(part) for part in inner)
        return sizes[id(node)]

    if size(node) > _MOST_VALUES:
        raise UserError(f"more than {_MOST_VALUES:,} values once its aliases are written out: refused")


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
# YAML 1.1 reads 1e-3 as text; every user means a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)([eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str, source: str = "") -> Any:
    """Plain data from YAML. Never builds objects; refuses tags, double keys and alias bombs."""
    try:
        loader = _Loader(text)  # derived from SafeLoader
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _bounded(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{source or 'YAML'}{place}: {reason}") from None
    except (UserError, RecursionError, ValueError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{source or 'YAML'}: {reason}") from None


def load_yaml(path: Path) -> Any:
    """Plain data from a YAML file."""
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder, and a recipe is wanted")
        if path.exists() and not path.is_file():  # reading a pipe or a device may never end
            raise UserError(f"{path}: is not a plain file")
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{path}: more than {_LARGEST >> 20} MB, which no recipe needs")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})", "save the recipe as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    return parse_yaml(text, str(path))


def dump_yaml(tree: Any) -> str:
    """Plain data as YAML, in the order given."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(to_tree(tree), Dumper=dumper, sort_keys=False, allow_unicode=True, width=100)


def overrides(flags: Sequence[str]) -> dict[str, Any]:
    """`["--model.depth=24", "--train.lr=1e-3"]` → `{"model": {"depth": 24}, …}`."""
    tree: dict[str, Any] = {}
    problems = []
    for flag in flags:
        found = re.fullmatch(r"--([A-Za-z_][^=\s]*)=(.*)", flag, re.DOTALL)
        if not found:
            problems.append(Problem(flag, "is not a setting", "settings are given as --a.b.c=VALUE"))
            continue
        *path, last = found.group(1).split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                problems.append(Problem(flag, f"{part!r} was given a plain value before"))
                break
        else:
            node[last] = parse_yaml(found.group(2), flag)
    if problems:
        raise RecipeError(problems)
    return tree


def merge(base: Any, change: Any) -> Any:
    """`change` laid over `base`. A new `kind` starts that node afresh: the old kind's settings do not apply."""
    if not isinstance(change, Mapping):
        return (
            {"kind": change}
            if isinstance(base, Mapping) and "kind" in base and isinstance(change, str)
            else change
        )
    if isinstance(base, str):
        base = {"kind": base} if base else {}
    if not isinstance(base, Mapping) or ("kind" in change and change["kind"] != base.get("kind")):
        base = {}
    return {**base, **{key: merge(base.get(key), item) for key, item in change.items()}}
