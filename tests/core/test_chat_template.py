"""chat_template: the text is Jinja's own, and templates that attack are refused in bounded time and memory."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import jinja2
import jinja2.ext
import pytest

from modelworks.core.chat_template import ChatTemplate
from modelworks.core.errors import UserError
from modelworks.core.template_sandbox import CHARACTERS

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = """{% if messages[0]['role'] == 'system' %}
    {% set loop_messages = messages[1:] %}
    {% set system_message = messages[0]['content'] %}
{% else %}
    {% set loop_messages = messages %}
    {% set system_message = false %}
{% endif %}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{- raise_exception('Conversation roles must alternate user/assistant') }}
    {%- endif -%}
    {% if loop.index0 == 0 and system_message != false %}
        {% set content = '<<SYS>>\\n' ~ system_message ~ '\\n<</SYS>>\\n\\n' ~ message['content'] %}
    {% else %}
        {% set content = message['content'] %}
    {% endif %}
    {% if message['role'] == 'user' %}
        {{- bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
    {% elif message['role'] == 'assistant' %}
        {% generation %}{{- ' ' + content.strip() + ' ' + eos_token }}{% endgeneration %}
    {% endif %}
{%- endfor -%}"""
TOOLS = """{%- set ns = namespace(last=0, seen=[]) %}
{%- macro show(tool, depth=0) %}
{{- '- ' ~ tool.name ~ ': ' ~ (tool | tojson(indent=2)) }}
{%- for key, value in tool.get('arguments', {}).items() %}{% if loop.index > 3 %}{% break %}{% endif %}
{{ key | upper }}={{ value | default('none') }}{{ ', ' if not loop.last }}
{%- endfor %}
{%- endmacro %}
{%- if tools is defined and tools %}{% for tool in tools %}{{ show(tool) }}
{% endfor %}{% endif %}
{%- for message in messages[::-1] %}{% if message.role == 'user' and not ns.last %}{% set ns.last = loop.index %}{% endif %}
{{- message.content.split('\\n')[-1] | trim | replace('a', 'bb') | indent(2, true) }}|{{ [1, 2.5, 3] | sum }}|{{ "%s" }}
{{- messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join(' / ') }}
{%- endfor %}{{ ns.last }}{% set block %}x{{ 3 * 'ab' }}{{ 7 // 2 + 2 ** 3 % 5 }}{% endset %}{{ block[1:4] }}"""
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " a banana\n狗 <b>&'\" "},
    {"role": "assistant", "content": "yes 🙈"},
    {"role": "user", "content": "and?"},
]
ARGUMENTS: dict[str, Any] = {
    "tools": [{"name": "find", "arguments": {"q": "text", "n": None, "ü": 1, "d": 2}}]
}


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def reference(source: str, **values: Any) -> str:
    """As transformers renders, without any bound."""
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation]
    )
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent
    )
    return environment.from_string(source).render(**values)


@pytest.mark.parametrize("source", [CHATML, LLAMA, TOOLS])
@pytest.mark.parametrize("prompt", [True, False])
def test_renders_what_jinja_renders(source: str, prompt: bool) -> None:
    expected = reference(
        source,
        messages=MESSAGES,
        add_generation_prompt=prompt,
        bos_token="<s>",
        eos_token="</s>",
        **ARGUMENTS,
    )
    template = ChatTemplate(source, bos_token="<s>", eos_token="</s>")
    assert template.render(MESSAGES, prompt, **ARGUMENTS) == expected
    assert expected.endswith("assistant\n") == (prompt and source == CHATML)


def test_the_template_can_refuse_and_messages_can_be_wrong() -> None:
    with pytest.raises(UserError, match="roles must alternate"):
        ChatTemplate(LLAMA, bos_token="", eos_token="").render(MESSAGES[2:])
    with pytest.raises(UserError, match="chat template: .*content"):
        ChatTemplate(CHATML).render([{"role": "user"}])
    with pytest.raises(UserError, match="line 2"):
        ChatTemplate("{{ 1 }}\n{% for %}")
    assert (
        ChatTemplate("{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}-").render([]) == "-"
    )


def test_long_conversations_fit() -> None:
    messages = [{"role": "user", "content": "x" * 1000}] * 1000
    assert len(ChatTemplate(CHATML).render(messages)) > 1_000_000


DOUBLING = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = EXPRESSION %}{% endfor %}{{ ns.x | length }}"
ATTACKS = {
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "class by name": "{{ ''|attr('__class__') }}",
    "class by item": "{{ messages['__class__'] }}{{ messages.__class__ }}",
    "class unseen": "{% if messages.__class__ %}{% endif %}",
    "globals": "{{ raise_exception.__globals__ }}",
    "function": "{{ _out.__code__ }}",
    "generator": "{{ (messages|map('upper')).gi_frame }}",
    "format": "{{ '{0.__class__}'.format(messages) }}",
    "format wide": "{{ '{:1000000000}'.format(1) }}",
    "format map": "{{ '{a}'.format_map({}) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "mutation": "{{ messages.append(1) }}{{ messages.clear() }}",
    "mutation of a dict": "{{ messages[0].update(role='system') }}",
    "text times": "{{ 'a' * 10**9 }}",
    "text times, reversed": "{{ (10**9 * 'a')|length }}",
    "list times": "{{ ([0] * 10**9)|length }}",
    "nested times": "{{ ('a' * 1000000 * 1000000)|length }}",
    "power": "{{ 10**(10**9) }}",
    "towers": "{% set ns = namespace(x=9) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "doubling +": DOUBLING.replace("EXPRESSION", "ns.x + ns.x"),
    "doubling ~": DOUBLING.replace("EXPRESSION", "ns.x ~ ns.x"),
    "doubling replace": DOUBLING.replace("EXPRESSION", "ns.x | replace('', ns.x)"),
    "doubling method": DOUBLING.replace("EXPRESSION", "ns.x.replace('a', ns.x)"),
    "doubling join": DOUBLING.replace("EXPRESSION", "[ns.x, ns.x] | join(ns.x)"),
    "doubling lists": DOUBLING.replace("EXPRESSION", "[ns.x, ns.x]"),
    "doubling dicts": DOUBLING.replace("EXPRESSION", "dict(a=ns.x, b=ns.x)"),
    "doubling tuples": DOUBLING.replace("EXPRESSION", "(ns.x, ns.x)"),
    "doubling blocks": "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}"
    "{% endset %}{% set ns.x = y %}{% endfor %}",
    "huge loop": "{% for i in range(10**9) %}{% endfor %}",
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops of sums": "{% for i in range(99999) %}{% set x = range(99999)|sum %}{% endfor %}",
    "sums in a row": "{{ range(99999)|sum }}" * 3000,
    "silent sums in a row": "{% set x = range(99999)|sum %}" * 2000,
    "lists in a row": "".join(f"{{% set x{at} = range(99999)|list %}}" for at in range(1500)),
    "slices in a row": "{% set a = 'a' * 3999999 %}"
    + "".join(f"{{% set x{at} = a[1:] %}}" for at in range(1500)),
    "splits in a row": "{% set a = 'a ' * 1999999 %}"
    + "".join(f"{{% set x{at} = a.split() %}}" for at in range(1500)),
    "much output": "{% for i in range(99999) %}{{ 'a' * 99999 }}{% endfor %}",
    "much plain output": "{% for i in range(99999) %}" + "a" * 9999 + "{% endfor %}",
    "recursion": "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "branching recursion": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "recursive loop": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "block": "{% block a %}{{ self.a() }}{% endblock %}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "extends": "{% extends 'x' %}",
    "lipsum": "{{ lipsum(n=10**9) }}",
    "centre": "{{ 'a'.center(10**9) }}",
    "centre filter": "{{ 'a'|center(10**9) }}",
    "json": "{{ messages|tojson(indent=10**9) }}",
    "sum of lists": "{{ [[1]]|sum(start=[]) }}",
    "nothing there": "{{ messages[7].content }}",
    "deep": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "long": "x" * 300_000,
}


@pytest.mark.parametrize("name", list(ATTACKS))
def test_attacks_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelworks.core.template_sandbox.SECONDS", 0.25)
    messages = [{"role": "user", "content": "hello"}]
    start = time.monotonic()
    with pytest.raises(UserError, match="chat template") as caught:
        ChatTemplate(ATTACKS[name]).render(messages)
    assert time.monotonic() - start < 8  # compiling the longest takes most of it
    assert len(str(caught.value)) < 700
    assert messages == [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    "name", ["doubling ~", "lists in a row", "slices in a row", "splits in a row", "list times"]
)
def test_attacks_take_little_memory(name: str) -> None:
    template = ChatTemplate(ATTACKS[name])
    tracemalloc.start()
    with pytest.raises(UserError):
        template.render([])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * CHARACTERS
