"""README.md of an export of weights: which programs open it and how; hf's Python is run in a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WRITES = """\
tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
{ask}
written = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
print(tokenizer.decode(written[0], skip_special_tokens=True))
"""
_PLAIN = 'inputs = tokenizer("Once upon a time", return_tensors="pt", return_token_type_ids=False)'
_CHAT = """\
messages = [{"role": "user", "content": "Hello!"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)"""
_USE = {
    "language": ("AutoModelForCausalLM, AutoTokenizer", _WRITES.format(ask=_PLAIN)),
    "instruct": ("AutoModelForCausalLM, AutoTokenizer", _WRITES.format(ask=_CHAT)),
    "mask": ("AutoModelForMaskedLM, AutoTokenizer", """\
tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForMaskedLM.from_pretrained(".").eval()
inputs = tokenizer("A text", return_tensors="pt")
scores = model(**inputs).logits  # of every token, at every place
print(tokenizer.convert_ids_to_tokens(scores[0].argmax(-1).tolist()))
"""),
    "tag": ("AutoModelForTokenClassification, AutoTokenizer", """\
tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForTokenClassification.from_pretrained(".").eval()
inputs = tokenizer("Ada lives in Turin .".split(), is_split_into_words=True, return_tensors="pt")
tags = model(**inputs).logits[0].argmax(-1).tolist()
for piece, tag in zip(inputs.tokens(), tags):  # of a word in pieces the first stands for it
    print(piece, model.config.id2label[tag])
"""),
    "embed": ("AutoModel, AutoTokenizer", """\
tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModel.from_pretrained(".").eval()
inputs = tokenizer(["one text", "another one"], padding=True, truncation=True, return_tensors="pt")
steps = model(**inputs).last_hidden_state
real = inputs["attention_mask"][..., None]
vectors = POOL
vectors = torch.nn.functional.normalize(vectors, dim=-1)
print(vectors @ vectors.T)
"""),
    "classify": ("AutoImageProcessor, AutoModelForImageClassification", """\
processor = AutoImageProcessor.from_pretrained(".")
model = AutoModelForImageClassification.from_pretrained(".").eval()
picture = Image.new("RGB", (64, 64))  # Image.open(FILE)
picture = ImageOps.exif_transpose(picture).convert("L" if model.config.num_channels == 1 else "RGB")
inputs = processor(picture, return_tensors="pt")
code = model(**inputs).logits.argmax(-1).item()
print(model.config.id2label[code])
"""),
}  # fmt: skip
_POOL = {
    "mean": "(steps * real).sum(1) / real.sum(1)",
    "max": "steps.masked_fill(real == 0, -torch.inf).amax(1)",
    "last": "steps[torch.arange(len(steps)), real[..., 0].sum(1) - 1]",
}
_USE["prefer"] = _USE["instruct"]
_ALSO = {
    "language": "vLLM serves it: `vllm serve .`.",
    "instruct": "vLLM serves it: `vllm serve .`, with its chat template.",
    "prefer": "vLLM serves it: `vllm serve .`, with its chat template.",
    "embed": 'sentence-transformers reads it too: `SentenceTransformer(".").encode(texts)`.',
}


def readme(format: str, name: str, task: str, about: Mapping[str, Any]) -> str:
    """`about`: what verification.json says."""
    use = _llama(name, about) if format == "gguf" else _transformers(task, about)
    return f"""\
# {name}: {task}, for {"" if format == "gguf" else "transformers' "}{about["for"]}

Weights in {about["weights"]}. No modelworks is needed: {use}
## Compared with the Run

{_compared(about)}
`verification.json` has the table, `card.md` what the model is for and how good it is.
"""


def _transformers(task: str, about: Mapping[str, Any]) -> str:
    names, code = _USE[task]
    code = code.replace("NEW", str(_new(about))).replace("POOL", _POOL[about.get("pooling", "mean")])
    if about["for"] == "BertModel":  # else transformers makes a layer anew, and warns that it did
        code = code.replace(
            'AutoModel.from_pretrained("."', 'AutoModel.from_pretrained(".", add_pooling_layer=False'
        )
    more = "import torch\n" if "torch." in code else ""
    more += "from PIL import Image, ImageOps\n" if "Image." in code else ""
    also = f"\n{_ALSO[task]}\n" if task in _ALSO else ""
    imports = f"{more}from transformers import {names}"
    return f"`pip install transformers torch`.\n\n```python\n{imports}\n\n{code}```\n{also}"


def _new(about: Mapping[str, Any]) -> int:
    """Tokens to write: a short context has no room for many."""
    return max(1, min(40, about["length"] // 2))


def _llama(name: str, about: Mapping[str, Any]) -> str:
    return f"""llama.cpp and what is built on it.

```sh
llama-cli -m {name}.gguf -p "Once upon a time" -n {_new(about)} --temp 0
```

```python
from llama_cpp import Llama

llama = Llama("{name}.gguf", n_ctx=0, verbose=False)
print(llama("Once upon a time", max_tokens={_new(about)}, temperature=0)["choices"][0]["text"])
```
"""


def _compared(about: Mapping[str, Any]) -> str:
    found = about["verification"]
    if "skipped" in found:
        return f"Not compared: {found['skipped']}."
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    rows = f"{found['rows']} real rows ({found['data']}), batch {', '.join(found['batches'])}"
    most = f"{found['max_difference']:.3g}, at most {found['limit']:.1g} is let through"
    if (whole := found["whole_numbers"])["compared"]:
        most += f"; {whole['different']:,} of {whole['compared']:,} whole numbers differ"
    said = f"By {versions}: {rows}: max difference {most}."
    if alike := found.get("encoded"):
        said += f"\n{alike['equal']} of {alike['rows']} raw rows are encoded by this folder alone as training did."
    return said
