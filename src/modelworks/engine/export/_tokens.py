"""What the formats of language models want to know of a Run's tokens, by Hugging Face's names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modelworks.core.errors import UserError
from modelworks.core.run import RunFolder

_PADS = ("<pad>", "[PAD]")
"""Names of the token 0 where it is of no text."""


def common(run: RunFolder, predictor: Any) -> dict[str, Any]:
    """Size of the vocabulary, context, special tokens and tokenizer.json. Raises UserError without a tokenizer."""
    task = predictor.task
    tokens = [field for field in task.inputs(predictor.fields).values() if field.layout.form == "tokens"]
    if len(tokens) != 1 or not tokens[0].state.get("tokenizer"):
        raise UserError(
            f"{run.path}: export wants a model of one text with a tokenizer",
            "train with fields.TEXT.tokens: bpe; characters and bytes have no tokenizer.json",
        )
    (field,) = tokens
    told, tokenizer = _named(field.state, getattr(task, "documents", False))
    tokenizer = _normalised(tokenizer, field.contract())
    return {"size": field.layout.size, "length": field.layout.length, "tokens": told, "tokenizer": tokenizer}


def _normalised(tokenizer: str, contract: Mapping[str, Any]) -> str:
    """tokenizer.json that also does what the field does before it."""
    steps: list[dict[str, Any]] = [{"type": "NFKC"}] if contract.get("nfkc") else []
    steps += [{"type": "Lowercase"}] if contract.get("lowercase") else []
    steps += [{"type": "Strip", "strip_left": True, "strip_right": True}] if contract.get("trim") else []
    if not steps:
        return tokenizer
    tree = json.loads(tokenizer)
    own = tree.get("normalizer") or {"type": "Sequence", "normalizers": []}
    steps += own["normalizers"] if own["type"] == "Sequence" else [own]
    return json.dumps({**tree, "normalizer": {"type": "Sequence", "normalizers": steps}}, ensure_ascii=False)


def _named(state: Mapping[str, Any], documents: bool) -> tuple[dict[str, Any], str]:
    """(special tokens and the chat template by Hugging Face's names, tokenizer.json).

    `documents`: the model has only seen texts that an end token begins, so the file puts one before every text."""
    told: dict[str, Any] = dict(state.get("named") or {})
    names = {code: name for name, code in (state.get("specials") or {}).items()}
    end = state.get("end", -1)
    if end in names:
        told["eos_token"] = names[end]
    first = next((one for one in json.loads(state["tokenizer"])["added_tokens"] if one["id"] == 0), {})
    if first.get("content") in _PADS:
        told.setdefault("pad_token", first["content"])
    if template := state.get("template"):
        told["chat_template"] = template
    if state.get("begin", -1) in names:
        told |= {"bos_token": names[state["begin"]], "add_bos_token": True}
    if not (documents and end in names):
        return told, state["tokenizer"]
    first = {"SpecialToken": {"id": names[end], "type_id": 0}}
    texts = [{"Sequence": {"id": one, "type_id": number}} for number, one in enumerate("AB")]
    tree = json.loads(state["tokenizer"])
    tree["post_processor"] = {
        "type": "TemplateProcessing", "single": [first, texts[0]], "pair": [first, *texts],
        "special_tokens": {names[end]: {"id": names[end], "ids": [end], "tokens": [names[end]]}},
    }  # fmt: skip
    told |= {"bos_token": names[end], "add_bos_token": True}
    return told, json.dumps(tree, ensure_ascii=False)
