"""Print the JSON schema of recipes, so that editors complete and check the YAML.

modelworks schema > recipe.schema.json
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from modelworks.core.describe import descriptions
from modelworks.core.kinds import every, lightly
from modelworks.engine.data.clean import Clean
from modelworks.engine.data.split import Split
from modelworks.engine.recipe import Evaluate
from modelworks.engine.train.regime import Train
from modelworks.stages.list import contracts


def arguments(parser: argparse.ArgumentParser) -> None:
    """`modelworks schema` has no flags."""


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    with lightly():
        print(json.dumps(schema(), ensure_ascii=False, indent=1))
    return 0


def schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a recipe, with every kind's settings."""
    plain = (Train, Evaluate, Split, Clean)
    kinds = {folder: every(contract) for folder, contract in contracts().items()}
    defs: dict[str, Any] = {}
    for settings in plain:
        own = settings.model_json_schema(ref_template="#/$defs/{model}")
        defs |= own.pop("$defs", {})
        for key, told in descriptions(settings).items():
            own["properties"][key]["description"] = told
        defs[settings.__name__] = own
    for folder, found in kinds.items():
        options = []
        for name, kind in found.items():
            one = kind.model_json_schema(ref_template="#/$defs/{model}")
            defs.update(one.pop("$defs", {}))
            told = descriptions(kind)
            own = {
                key: {**value, "description": told.get(key, "")}
                for key, value in one.get("properties", {}).items()
            }
            one["properties"] = {"kind": {"const": name}, **own}
            one["required"] = ["kind", *one.get("required", [])]
            defs[f"{folder}.{name}"] = one
            options.append({"$ref": f"#/$defs/{folder}.{name}"})
        user = {
            "type": "object",
            "required": ["kind"],
            "properties": {"kind": {"type": "string", "pattern": r"\.py$"}},
        }
        defs[folder] = {"anyOf": [{"type": "string", "enum": list(found)}, *options, user]}
    return _linked(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "modelworks recipe",
            "type": "object",
            "additionalProperties": False,
            "required": ["data"],
            "properties": {
                "version": {"type": "integer"},
                "name": {"type": "string"},
                "target": {"type": "string"},
                "seed": {"type": "integer", "minimum": 0},
                "data": {
                    "anyOf": [
                        {"type": "string"},
                        {
                            "type": "object",
                            "required": ["source"],
                            "additionalProperties": False,
                            "properties": {
                                "source": {"anyOf": [{"type": "string"}, _ref("sources")]},
                                "split": _ref("Split"),
                                "clean": _ref("Clean"),
                            },
                        },
                    ]
                },
                "fields": {
                    "type": "object",
                    "additionalProperties": {
                        "anyOf": [
                            _ref("fields"),
                            {"const": "ignore"},
                            {"type": "null"},
                            {"type": "object", "not": {"required": ["kind"]}},
                        ]
                    },
                },
                "task": _ref("tasks"),
                "model": _ref("models"),
                "train": _ref("Train"),
                "evaluate": _ref("Evaluate"),
            },
            "$defs": defs,
        }
    )


def _linked(value: Any) -> Any:
    """Places where a kind is chosen become links to the list of kinds."""
    if isinstance(value, dict):
        if "x-kinds" in value:
            return _ref(value["x-kinds"])
        return {key: _linked(item) for key, item in value.items()}
    return [_linked(item) for item in value] if isinstance(value, list) else value


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}
