"""What the formats of language models want to know of a Run's tokens, by Hugging Face's names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

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
    contract = field.contract()
    state = {**field.state, "tokenizer": contract["tokenizer"]}  # of words: one that cuts none
    told, tokenizer = _named(state, getattr(task, "documents", False))
    tokenizer = _normalised(tokenizer, contract)
    if "template" not in state and not told.get("add_bos_token"):
        tokenizer = _ended(tokenizer, field)
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


def _ended(tokenizer: str, field: Any) -> str:
    """tokenizer.json that puts around a text what the field puts there: what the file did before, nothing, or BERT's
    tokens."""
    import pyarrow as pa
    from tokenizers import Tokenizer

    words = field.contract()["tokens"] == "pieces"
    probe: Any = ["The", "3rd", "fox,"] if words else "The 3rd fox, 很好"
    end = field.state.get("end")
    wanted = np.asarray(field.encode(pa.array([probe])).values).reshape(-1).tolist()
    tree = json.loads(tokenizer)
    ids = {one["content"]: one["id"] for one in tree["added_tokens"]}
    around = [tree, {**tree, "post_processor": None}]
    if {"[CLS]", "[SEP]"} <= ids.keys():
        around.append({**tree, "post_processor": _template("[CLS]", "[SEP]", ids)})
    for one in around:
        text = json.dumps(one, ensure_ascii=False)
        found = Tokenizer.from_str(text).encode(probe, is_pretokenized=words).ids
        if wanted in (found, [*found, end]):
            return text
    return tokenizer


def _template(first: str, last: str, ids: Mapping[str, int]) -> dict[str, Any]:
    """A post_processor that puts special tokens around a text, and around two."""
    around = {name: {"SpecialToken": {"id": name, "type_id": 0}} for name in (first, last) if name}
    texts = [{"Sequence": {"id": one, "type_id": number}} for number, one in enumerate("AB")]
    head, tail = [around[first]] if first else [], [around[last]] if last else []
    return {
        "type": "TemplateProcessing",
        "single": [*head, texts[0], *tail],
        "pair": [*head, texts[0], *tail, texts[1], *tail],
        "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in around},
    }


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
    tree = json.loads(state["tokenizer"])
    tree["post_processor"] = _template(names[end], "", {names[end]: end})
    told |= {"bos_token": names[end], "add_bos_token": True}
    return told, json.dumps(tree, ensure_ascii=False)
