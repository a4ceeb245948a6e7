"""Chat templates: messages as the text that a model was trained to read. Templates come with models, so they are
not trusted: they run in jinja's sandbox, and what they make has a limit.

    render(template, [{"role": "user", "content": "Hello"}], prompt=True, tokens={"bos_token": "<s>"})

The form is Hugging Face's (`chat_template` of tokenizer_config.json). PLAIN is for models without one.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from modelworks.core.errors import UserError

Message = Mapping[str, str]
"""{"role": "system" | "user" | "assistant" | "tool", "content": …}"""
PLAIN = (
    "{%- for message in messages -%}"
    "{{ message.role | capitalize }}: {{ message.content | trim }}\n"
    "{% endfor -%}"
    "{%- if add_generation_prompt -%}Assistant:{%- endif -%}"
)
"""`User: Hello`, a line a message."""
CHATML = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
"""As many models have it; wants the special tokens <|im_start|> and <|im_end|>."""
NAMED = {"plain": PLAIN, "chatml": CHATML}
LARGEST = 16 << 20
"""Characters of a rendered conversation."""
_STEPS = 100_000  # of all ranges of one rendering together


def render(
    template: str,
    messages: Sequence[Message],
    *,
    prompt: bool = False,
    tokens: Mapping[str, str] | None = None,
) -> str:
    """The conversation as text; `prompt`: it ends where the assistant is to speak. UserError where it cannot be."""
    from jinja2 import TemplateError

    compiled = _compiled(template)
    left = _STEPS

    def steps(*bounds: int) -> range:
        nonlocal left
        made = range(*bounds)
        left -= len(made)
        if left < 0:
            raise UserError(f"chat template: counts beyond {_STEPS:,}")
        return made

    parts: list[str] = []
    size = 0
    try:
        for part in compiled.generate(
            messages=[dict(message) for message in messages],
            add_generation_prompt=prompt,
            range=steps,
            **{"bos_token": "", "eos_token": "", **(tokens or {})},
        ):
            parts.append(part)
            size += len(part)
            if size > LARGEST:
                raise UserError(f"chat template: makes more than {LARGEST >> 20} MB of text")
    except UserError:
        raise
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError,
            MemoryError) as error:  # fmt: skip
        raise UserError(f"chat template: {type(error).__name__}: {str(error)[:200]}") from None
    return "".join(parts)


@functools.cache
def _compiled(template: str) -> Any:
    from jinja2 import TemplateError
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        """Without products of texts, which fill memory in one step."""

        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" or not all(isinstance(one, (int, float)) for one in (left, right)):
                raise SecurityError(f"{operator} is not allowed on these")
            return super().call_binop(context, operator, left, right)

    def raise_exception(message: str) -> None:
        raise UserError(f"chat template: {str(message)[:200]}")

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    for name in ("lipsum", "cycler", "joiner"):
        environment.globals.pop(name, None)
    try:
        return environment.from_string(template)
    except (TemplateError, RecursionError) as error:
        raise UserError(f"chat template: {type(error).__name__}: {str(error)[:200]}") from None
