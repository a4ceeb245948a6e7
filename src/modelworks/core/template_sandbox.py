"""Programs of strangers: Jinja templates in a sandbox with bounded time, output and memory.

    template = compiled(source)
    with budget():
        text = "".join(template.generate(messages=messages))

Every loop, call, operation and output draws on a budget of time and characters, and what could make much out of
little (`*`, `~`, filters, formatting) is checked before it is done. Beyond Jinja's immutable sandbox there is
neither a loader nor `str.format`, and reaching for what is hidden is an error at once, seen or not.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS = 2.0
"""Most time of one rendering."""
CHARACTERS = 4_000_000
"""Most characters of the text and of any value within; more than any context holds."""
_DRAWN = 8 * CHARACTERS  # of all values that one rendering makes, kept or not: bounds its memory
_ITEM = 16  # what an item of a list counts for, in characters
_NESTED = 500_000  # values within a value, counted as often as they come
_BITS = 4096  # of a whole number
_FILTERS = (  # noqa: SIM905 - one name a line would be a page
    "abs capitalize count d default dictsort e escape first float int items last length list lower map "
    "reject rejectattr reverse round safe select selectattr sort string title trim unique upper"
).split()
_METHODS = (  # noqa: SIM905 - of texts; what is not here could pad or format without bounds
    "capitalize count endswith find index isalnum isalpha isdecimal isdigit islower isnumeric isspace isupper "
    "lower lstrip partition removeprefix removesuffix replace rfind rpartition rsplit rstrip split splitlines "
    "startswith strip swapcase title upper"
).split()


class Refused(Exception):
    """The template asks for more than it may have, or for something that it may not do."""


class _Budget:
    """What is left of one rendering's time and characters."""

    def __init__(self) -> None:
        self.until = time.monotonic() + SECONDS
        self.characters = _DRAWN

    def tick(self) -> None:
        if time.monotonic() > self.until:
            raise Refused(f"runs longer than {SECONDS:g} seconds")

    def write(self, size: int) -> None:
        self.tick()
        self.characters -= size
        if self.characters < 0:
            raise Refused(f"makes more than {_DRAWN:,} characters")


_budget: ContextVar[_Budget] = ContextVar("budget")


def _tick() -> str:
    _budget.get().tick()
    return ""


def _fits(size: int) -> None:
    """Draw for a value of so many characters before it is made."""
    if size > CHARACTERS:
        raise Refused(f"makes a value of more than {CHARACTERS:,} characters")
    _budget.get().write(size)


def _size(value: Any) -> int:
    if isinstance(value, (list, tuple, dict)):
        return _ITEM * len(value)
    return len(value) if isinstance(value, (str, bytes)) else 1


def _drawn(value: Any) -> Any:
    """A value that was just made, paid for."""
    if isinstance(value, (str, bytes, list, tuple, dict)):
        _budget.get().write(_size(value))
    return value


def _held(value: Any) -> Any:
    """A list or the like, refused where lists of lists have doubled and doubled: comparing it had no end."""
    left, waiting = _NESTED, [value]
    while waiting:
        one = waiting.pop()
        left -= 1
        if left < 0:
            raise Refused(f"nests more than {_NESTED:,} values")
        if isinstance(one, (list, tuple)):
            waiting.extend(one)
        elif isinstance(one, dict):
            waiting.extend(one.values())
    return _drawn(value)


def _out(value: Any) -> str:
    """A value as it is written into the text."""
    return _drawn(value if isinstance(value, str) else str(_held(value)))


def _join(*values: Any) -> str:
    """`a ~ b`."""
    parts = [value if isinstance(value, str) else _out(value) for value in values]
    _fits(sum(map(len, parts)))
    return "".join(parts)


def _cut(value: Any, start: Any, stop: Any, step: Any) -> Any:
    """`a[1:]`."""
    _budget.get().write(_size(value))
    return value[start:stop:step]


def _filter_join(values: Iterable[Any], between: str = "", attribute: str | None = None) -> str:
    held = [_out(value[attribute] if attribute is not None else value) for value in values]
    _fits(len(between) * len(held))
    return _out(str(between).join(held))


def _filter_replace(text: Any, old: str, new: str, count: int = -1) -> str:
    text = str(text)
    _fits(len(text) + (text.count(old) if old else len(text) + 1) * len(new))
    return _out(text.replace(old, new, count))


def _filter_indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    space = width if isinstance(width, str) else " " * min(int(width), 64)
    lines = str(text).split("\n")
    _fits(len(space) * len(lines) + len(str(text)))
    inner = [space + line if (line or blank) and (at or first) else line for at, line in enumerate(lines)]
    return _out("\n".join(inner))


def _filter_sum(values: Iterable[Any], attribute: str | None = None, start: float = 0) -> float:
    numbers = [value[attribute] if attribute is not None else value for value in values]
    if any(not isinstance(number, (int, float)) for number in [*numbers, start]):
        raise Refused("sums what are no numbers")
    return sum(numbers, start)


def _filter_tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Sequence[str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers': plain JSON, nothing escaped for HTML."""
    if isinstance(indent, str) or (indent or 0) > 16 or any(len(one) > 16 for one in separators or ()):
        raise Refused("indents JSON beyond all measure")
    given: Any = separators
    _held(value)
    return _out(
        json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=given, sort_keys=sort_keys)
    )


def _raise(message: Any = "") -> None:
    raise jinja2.TemplateError(str(message))


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the model says; the text is the same without it."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _paid(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)  # keeps Jinja's marks on it
    def paid(*values: Any, **named: Any) -> Any:
        return _drawn(function(*values, **named))

    return paid


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%", "/", "//", "-"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
            cache_size=0,
        )
        bounded: dict[str, Callable[..., Any]] = {
            "join": _filter_join,
            "replace": _filter_replace,
            "indent": _filter_indent,
            "sum": _filter_sum,
            "tojson": _filter_tojson,
        }
        self.filters = {name: _paid(self.filters[name]) for name in _FILTERS} | bounded
        kept = {name: self.globals[name] for name in ("range", "dict", "namespace")}
        self.globals.clear()
        self.globals.update(
            kept, raise_exception=_raise, _tick=_tick, _out=_out, _join=_join, _held=_held, _cut=_cut
        )

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _tick()
        if operator == "*" and not (isinstance(left, float) or isinstance(right, float)):
            if isinstance(left, int) and isinstance(right, int):
                if left.bit_length() + right.bit_length() > _BITS:
                    raise Refused("multiplies numbers beyond all measure")
            else:
                times = left if isinstance(left, int) else right
                _fits((_size(right) if times is left else _size(left)) * max(int(times), 1))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            if max(left.bit_length(), 1) * abs(right) > _BITS:
                raise Refused("raises numbers beyond all measure")
        elif operator == "+" and not isinstance(left, (int, float)):
            _fits(_size(left) + _size(right))
        elif operator == "%" and isinstance(left, (str, bytes)):
            raise Refused("formats text with %")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, called: Any, /, *args: Any, **named: Any) -> Any:  # type: ignore[override]
        _tick()
        owner = getattr(called, "__self__", None)
        if isinstance(owner, str) and getattr(called, "__name__", "") == "replace":
            return _filter_replace(owner, *args, **named)
        made = super().call(context, called, *args, **named)
        return _held(made) if isinstance(made, dict) else made if isinstance(made, range) else _drawn(made)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        allowed = attr in _METHODS if isinstance(obj, (str, bytes)) else True
        return allowed and super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        raise Refused(f"reaches for {attribute!r} of {type(obj).__name__}")


def _metered(tree: nodes.Template) -> nodes.Template:
    """The template with its budget drawn on in every loop and macro, for every text joined and written."""

    def call(name: str, values: list[nodes.Expr]) -> nodes.Call:
        return nodes.Call(nodes.Name(name, "load"), values, [], None, None)

    for node in list(tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock))):
        node.body.insert(0, nodes.Output([call("_tick", [])]))
    _rewrite(tree, call)
    return tree


def _rewrite(node: nodes.Node, call: Callable[[str, list[nodes.Expr]], nodes.Call]) -> None:
    for name, value in list(node.iter_fields()):
        if isinstance(value, list):
            setattr(node, name, [_changed(item, node, call) for item in value])
        elif isinstance(value, nodes.Node):
            setattr(node, name, _changed(value, node, call))


def _changed(value: Any, parent: nodes.Node, call: Callable[[str, list[nodes.Expr]], nodes.Call]) -> Any:
    if not isinstance(value, nodes.Node):
        return value
    _rewrite(value, call)
    if isinstance(value, nodes.Concat):
        value = call("_join", value.nodes)
    elif isinstance(value, nodes.Getitem) and isinstance(value.arg, nodes.Slice):
        ends = (value.arg.start, value.arg.stop, value.arg.step)
        value = call("_cut", [value.node, *(end or nodes.Const(None) for end in ends)])
    elif isinstance(value, (nodes.List, nodes.Dict)) or (
        isinstance(value, nodes.Tuple) and value.ctx == "load"
    ):
        value = call("_held", [value])
    # The template's own text is written out by Jinja itself, and is metered all the same.
    return call("_out", [_constant(value)]) if isinstance(parent, nodes.Output) else value


def _constant(value: nodes.Node) -> Any:
    return nodes.Const(value.data) if isinstance(value, nodes.TemplateData) else value


def compiled(source: str) -> jinja2.Template:
    """A template to be rendered within `budget()`. Raises Jinja's own errors."""
    environment = _Environment()
    tree = _metered(environment.parse(source))
    tree.set_environment(environment)
    tree.set_lineno(1)
    return environment.from_string(tree)


@contextmanager
def budget() -> Iterator[None]:
    """Time and characters for one rendering."""
    token = _budget.set(_Budget())
    try:
        yield
    finally:
        _budget.reset(token)
