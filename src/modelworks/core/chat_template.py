"""A chat template turns messages into the text that a model was tuned on; it is Jinja, as Hugging Face writes it.

    template = ChatTemplate(source, bos_token="<s>")
    text = template.render([{"role": "user", "content": "Hi"}], add_generation_prompt=True)

Templates come with foreign models, so they run in `template_sandbox`. `strftime_now` is absent: the same
messages give the same text on every day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from jinja2.sandbox import SecurityError

from modelworks.core.errors import UserError, printable
from modelworks.core.template_sandbox import CHARACTERS, Refused, budget, compiled

_SOURCE = 200_000  # characters of a template; the longest in use have about 20,000


class ChatTemplate:
    """A checked template, ready to render."""

    def __init__(self, source: str, **tokens: str) -> None:
        """`tokens`: bos_token, eos_token and the like, which templates may name."""
        if len(source) > _SOURCE:
            raise UserError(f"chat template: {len(source):,} characters; at most {_SOURCE:,}")
        self.source, self.tokens = source, tokens
        try:
            self._template = compiled(source)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"chat template line {error.lineno}: {printable(str(error.message))}") from None
        except (jinja2.TemplateError, RecursionError, MemoryError, SyntaxError, ValueError) as error:
            raise UserError(f"chat template: {type(error).__name__}: {printable(str(error))[:200]}") from None

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = False,
        tools: Sequence[Any] | None = None,
        **variables: Any,
    ) -> str:
        """The text of a conversation; with `add_generation_prompt` up to where the answer begins.

        Raises UserError where the template refuses the messages, fails, or asks for too much."""
        known = {**self.tokens, "tools": tools, **variables}
        parts: list[str] = []
        size = 0
        try:
            given = {"messages": messages, "add_generation_prompt": add_generation_prompt, **known}
            with budget():
                for part in self._template.generate(**given):
                    size += len(part)
                    if size > CHARACTERS:
                        raise Refused(f"writes more than {CHARACTERS:,} characters")
                    parts.append(part)
            return "".join(parts)
        except Refused as error:
            raise UserError(f"chat template: {printable(str(error))}", "templates are bounded") from None
        except SecurityError as error:
            raise UserError(f"chat template: refused: {printable(str(error))[:200]}") from None
        except jinja2.TemplateError as error:
            raise UserError(f"chat template: {printable(str(error.message or error))[:500]}") from None
        except RecursionError:
            raise UserError("chat template: calls itself without end") from None
        except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {printable(str(error))[:200]}"
            raise UserError(f"chat template: {reason}", "do the messages have what it needs?") from None
