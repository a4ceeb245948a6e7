"""Messages as the text that a model was trained to read, through its own template or one of ours.

render(template, [{"role": "user", "content": "Hello"}], prompt=True, tokens={"bos_token": "<s>"})
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from modelworks.core.chat_template import ChatTemplate

Message = Mapping[str, str]
"""{"role": "system" | "user" | "assistant" | "tool", "content": …}"""
PLAIN = (
    "{% for message in messages %}"
    "{{ message.role | capitalize }}: {{ message.content | trim }}\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""`User: Hello`, a line a message; for models without a template."""
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As many models have it; wants the special tokens <|im_start|> and <|im_end|>."""
NAMED = {"plain": PLAIN, "chatml": CHATML}


def render(
    template: str,
    messages: Sequence[Message],
    *,
    prompt: bool = False,
    tokens: Mapping[str, str] | None = None,
) -> str:
    """The conversation as text; `prompt`: it ends where the assistant is to speak. UserError where it cannot be."""
    known = {"bos_token": "", "eos_token": "", **(tokens or {})}
    return _compiled(template, tuple(sorted(known.items()))).render(messages, add_generation_prompt=prompt)


@functools.lru_cache(64)
def _compiled(template: str, tokens: tuple[tuple[str, str], ...]) -> ChatTemplate:
    return ChatTemplate(template, **dict(tokens))
