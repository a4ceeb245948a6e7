"""README.md of an export of weights: which programs open it and how; hf's Python is run in a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WRITES = """\
tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
{ask}
written = model.generate(**inputs, max_new_tokens=40, do_sample=False)
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
vectors = (steps * real).sum(1) / real.sum(1)  # pooling: mean; 1_Pooling/config.json says which it is
vectors = torch.nn.functional.normalize(vectors, dim=-1)
print(vectors @ vectors.T)
"""),
    "classify": ("AutoImageProcessor, AutoModelForImageClassification", """\
processor = AutoImageProcessor.from_pretrained(".")
model = AutoModelForImageClassification.from_pretrained(".").eval()
picture = np.zeros((64, 64, model.config.num_channels), np.uint8)
inputs = processor(picture, return_tensors="pt", input_data_format="channels_last")
code = model(**inputs).logits.argmax(-1).item()
print(model.config.id2label[code])
"""),
}  # fmt: skip
_USE["prefer"] = _USE["instruct"]
_ALSO = {
    "language": "vLLM serves it: `vllm serve .`.",
    "instruct": "vLLM serves it: `vllm serve .`, with its chat template.",
    "prefer": "vLLM serves it: `vllm serve .`, with its chat template.",
    "embed": 'sentence-transformers reads it too: `SentenceTransformer(".").encode(texts)`.',
}


def readme(format: str, name: str, task: str, about: Mapping[str, Any]) -> str:
    """`about`: what verification.json says."""
    use = _llama(name) if format == "gguf" else _transformers(task, about["for"])
    return f"""\
# {name}: {task}, for {"" if format == "gguf" else "transformers' "}{about["for"]}

Weights in {about["weights"]}. No modelworks is needed: {use}
## Compared with the Run

{_compared(about)}
`verification.json` has the table, `card.md` what the model is for and how good it is.
"""


def _transformers(task: str, name: str) -> str:
    names, code = _USE[task]
    if name == "BertModel":  # else transformers makes a layer anew, and warns that it did
        code = code.replace(
            'AutoModel.from_pretrained("."', 'AutoModel.from_pretrained(".", add_pooling_layer=False'
        )
    more = "".join(
        f"import {module}\n" for module in ("numpy as np", "torch") if f"{module.split()[-1]}." in code
    )
    also = f"\n{_ALSO[task]}\n" if task in _ALSO else ""
    space = "\n" if more else ""
    imports = f"{more}{space}from transformers import {names}"
    return f"`pip install transformers torch`.\n\n```python\n{imports}\n\n{code}```\n{also}"


def _llama(name: str) -> str:
    return f"""llama.cpp and what is built on it.

```sh
llama-cli -m {name}.gguf -p "Once upon a time" -n 40 --temp 0
```

```python
from llama_cpp import Llama

llama = Llama("{name}.gguf", n_ctx=0, verbose=False)
print(llama("Once upon a time", max_tokens=40, temperature=0)["choices"][0]["text"])
```
"""


def _compared(about: Mapping[str, Any]) -> str:
    found = about["verification"]
    if "skipped" in found:
        return f"Not compared: {found['skipped']}."
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    rows = f"{found['rows']} real rows ({found['data']}), batch {', '.join(found['batches'])}"
    most = f"{found['max_difference']:.3g}, at most {found['limit']:.1g} is let through"
    said = f"By {versions}: {rows}: max difference {most}."
    if alike := found.get("encoded"):
        said += f"\n{alike['equal']} of {alike['rows']} raw rows are encoded by this folder alone as training did."
    return said
