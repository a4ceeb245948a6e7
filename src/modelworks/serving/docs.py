"""Docs: /openapi.json as one page that needs nothing from elsewhere, not even a script.

page = render(application.openapi())
"""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ info.title }} {{ info.version }}: routes</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h2 { border-bottom: 1px solid #ccc; padding-bottom: .2rem; margin-top: 2.5rem; }
details { border: 1px solid #ddd; border-radius: 4px; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; } summary:focus-visible { outline: 2px solid #0b57d0; }
code, pre { font: 14px/1.4 ui-monospace, monospace; } pre { background: #f5f5f5; padding: .6rem; overflow-x: auto; }
b { display: inline-block; min-width: 3.5rem; } table { border-collapse: collapse; }
td { padding: .1rem 1rem .1rem 0; vertical-align: top; }
@media (prefers-color-scheme: dark) {
  body { background: #161616; color: #e8e8e8; } pre { background: #222; } details { border-color: #444; }
}
</style>
<h1>{{ info.title }} {{ info.version }}</h1>
<p>The same as JSON: <a href="openapi.json">openapi.json</a>. Where keys are asked for:
<code>Authorization: Bearer KEY</code>, <code>X-API-Key: KEY</code>, or HTTP Basic with the key as the password.</p>
{% for tag, operations in tags.items() %}
<h2>{{ tag }}</h2>
{% for one in operations %}
<details><summary><b>{{ one.method }}</b> <code>{{ one.path }}</code> {{ one.summary }}</summary>
<p>{{ one.description }}</p>
{% if one.parameters %}<table>{% for each in one.parameters %}
<tr><td><code>{{ each.name }}</code></td><td>{{ each.in }}</td><td>{{ each.description }}</td></tr>
{% endfor %}</table>{% endif %}
{% for kind, example in one.bodies %}<p>Body: <code>{{ kind }}</code></p>
{% if example %}<pre>{{ example }}</pre>{% endif %}{% endfor %}
<table>{% for status, text in one.responses %}
<tr><td><code>{{ status }}</code></td><td>{{ text }}</td></tr>{% endfor %}</table>
</details>
{% endfor %}{% endfor %}
</html>
"""
_LONG = 2000


def render(document: dict[str, Any]) -> str:
    """The page."""
    tags: dict[str, list[dict[str, Any]]] = {}
    schemas = document.get("components", {}).get("schemas", {})
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tags.setdefault((operation.get("tags") or ["more"])[0], []).append(
                {
                    "method": method.upper(),
                    "path": path,
                    "summary": operation.get("summary", ""),
                    "description": operation.get("description", ""),
                    "parameters": operation.get("parameters", []),
                    "bodies": [
                        (kind, _example(content, schemas))
                        for kind, content in operation.get("requestBody", {}).get("content", {}).items()
                    ],
                    "responses": [
                        (status, found.get("description", ""))
                        for status, found in operation["responses"].items()
                    ],
                }
            )
    template = Environment(autoescape=True).from_string(_PAGE)
    return template.render(info=document["info"], tags=tags)


def _example(content: dict[str, Any], schemas: dict[str, Any]) -> str:
    """What a body looks like: an example where there is one, else its schema."""
    examples = content.get("examples") or {}
    for example in examples.values():
        return _short(example["value"])
    schema = content.get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    schema = schemas.get(name, schema)
    return _short(schema) if schema.get("type") != "string" else ""


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=1)
    return text if len(text) <= _LONG else text[:_LONG] + "\n…"
