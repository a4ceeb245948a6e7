"""Language models: damaged GGUF files, Hugging Face folders, tokenizers and templates; questions that are too long.

The sound ones are exports of the Run `plays`, in the case's folder under exports/.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from damage import DAMAGES, QUICK, Case, originals

GGUF, HF = "exports/gguf/plays.gguf", "exports/hf"
SHORT = ("--prompt", "to be", "--max-tokens", "2", "--temperature", "0")
CHATS = [{"instruction": f"say {n}", "output": f"word {n}"} for n in range(40)]
PAIRS = [{"prompt": f"say {n}", "chosen": f"word {n}", "rejected": "no"} for n in range(40)]
ATTACKS = {
    "class": "{{ messages.__class__.__mro__ }}", "globals": "{{ cycler.__init__.__globals__.os.system('touch owned') }}",
    "format": "{{ '{0.__class__}'.format(messages) }}", "long loop": "{% for i in range(10**9) %}x{% endfor %}",
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "big text": "{{ 'a' * 10**10 }}", "doubling": "{% set ns = namespace(x='a') %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "include": "{% include '/etc/passwd' %}", "unclosed": "{% for m in messages %}",
    "raises": "{{ raise_exception('no') }}", "unknown": "{{ nothing.there.at.all }}", "deep": "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", "number": 7, "list": ["a"], "silent": "",
}  # fmt: skip


def cases(dice: random.Random) -> Iterator[Case]:
    """All of them."""
    yield from _gguf(dice)
    yield from _folders(dice)
    yield from _templates()
    yield from _asked()
    yield from _trainings()


def case(name: str, argv: list[str], damage: Callable[[Path], object] | None = None, **more: Any) -> Case:
    """A command beside the sound Run and its exports."""
    more.setdefault("names", ("plays", "gguf", HF, "tokenizer", "config.json", "prompt"))
    return Case("language", name, argv, prepare=damage, runs=("plays",), **more)


def _changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


# ------------------------------------------------------------------------------------------- GGUF
def _rewritten(**changes: Any) -> Callable[[bytes], bytes]:
    """A GGUF file with other metadata; `a__b` stands for a.b, None takes an entry out."""

    def change(data: bytes) -> bytes:
        import tempfile

        from modelworks.engine.exchange.gguf import GGUF as Reader
        from modelworks.engine.exchange.gguf_write import _text, _value

        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            file.write(data)
            file.flush()
            held = Reader(file.name)
            about = dict(held.about)
            for name, value in changes.items():
                about.pop(name.replace("__", "."), None)
                if value is not None:
                    about[name.replace("__", ".")] = value
            head = b"GGUF" + struct.pack("<IQQ", 3, len(held.tensors), len(about))
            head += b"".join(_text(key) + _value(value) for key, value in about.items())
            for key, (shape, kind, offset) in held.tensors.items():
                head += _text(key) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], kind, offset)
            return head + bytes(-len(head) % 32) + data[held._start :]

    return change


def _gguf(dice: random.Random) -> Iterator[Case]:
    def put(at: int, form: str, value: int) -> Callable[[bytes], bytes]:
        return lambda data: data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]

    damages: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda data: b"", "three bytes": lambda data: data[:3], "the magic alone": lambda data: data[:4], "another magic": put(0, "<I", 1), "version 1": put(4, "<I", 1),
        "version 99": put(4, "<I", 99), "2⁶³ tensors": put(8, "<Q", 2**63), "a million tensors": put(8, "<Q", 10**6), "2⁶³ entries": put(16, "<Q", 2**63), "no entries": put(16, "<Q", 0),
        "a key of 2⁶⁰ bytes": put(24, "<Q", 2**60), "a value of type 77": put(24 + 8 + len("general.architecture"), "<I", 77), "cut in the head": lambda data: data[:700],
        "cut in the weights": lambda data: data[:-5000], "cut by one": lambda data: data[:-1], "a pickle": lambda data: b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.", "a picture": lambda data: originals.picture(0),
    }  # fmt: skip
    for name, change in damages.items():
        yield case(
            f"gguf: {name}",
            ["generate", GGUF, *SHORT],
            _changed(GGUF, change),
            expect=2,
            forbidden={"owned": ""},
        )
    for number in range(16):
        damage = DAMAGES[number % len(DAMAGES)]
        change = lambda data, d=damage: d(data[:20_000], dice) + data[20_000:]  # noqa: E731 - mostly its head
        yield case(f"gguf: {damage.__name__} {number}", ["generate", GGUF, *SHORT], _changed(GGUF, change))
    told: dict[str, dict[str, Any]] = {
        "another architecture": {"general__architecture": "gpt3"}, "no architecture": {"general__architecture": None}, "architecture a number": {"general__architecture": 3},
        "no blocks": {"llama__block_count": 0}, "a billion blocks": {"llama__block_count": 10**9}, "blocks a text": {"llama__block_count": "two"}, "no heads": {"llama__attention__head_count": 0},
        "seven heads": {"llama__attention__head_count": 7}, "five key heads": {"llama__attention__head_count_kv": 5}, "width 0": {"llama__embedding_length": 0}, "width a list": {"llama__embedding_length": [1, 2]},
        "hidden 10⁹": {"llama__feed_forward_length": 10**9}, "context 0": {"llama__context_length": 0}, "context 2³¹": {"llama__context_length": 2**31}, "no context": {"llama__context_length": None},
        "eps NaN": {"llama__attention__layer_norm_rms_epsilon": float("nan")}, "eps below 0": {"llama__attention__layer_norm_rms_epsilon": -1.0}, "base 0": {"llama__rope__freq_base": 0.0},
        "base NaN": {"llama__rope__freq_base": float("nan")}, "alignment 0": {"general__alignment": 0}, "alignment a text": {"general__alignment": "x"}, "alignment 7": {"general__alignment": 7},
        "no tokens": {"tokenizer__ggml__tokens": None}, "two tokens": {"tokenizer__ggml__tokens": ["a", "b"]}, "tokens are numbers": {"tokenizer__ggml__tokens": [1, 2]}, "tokens all alike": {"tokenizer__ggml__tokens": ["a"] * 300},
        "types too few": {"tokenizer__ggml__token_type": [1]}, "merges are words": {"tokenizer__ggml__merges": ["ab", "c"]}, "merges of nothing known": {"tokenizer__ggml__merges": ["qqq zzz"]},
        "merges are numbers": {"tokenizer__ggml__merges": [3]}, "another tokenizer": {"tokenizer__ggml__model": "llama"}, "another way to cut": {"tokenizer__ggml__pre": "mine"}, "tokenizer a number": {"tokenizer__ggml__model": 3},
        "end beyond the tokens": {"tokenizer__ggml__eos_token_id": 10**9}, "end a text": {"tokenizer__ggml__eos_token_id": "x"}, "template a number": {"tokenizer__chat_template": 3},
    }  # fmt: skip
    for name, changes in told.items():
        yield case(f"gguf says: {name}", ["generate", GGUF, *SHORT], _changed(GGUF, _rewritten(**changes)))
    yield case("gguf: sound", ["generate", GGUF, *SHORT], expect=0)
    yield case(
        "gguf: chat",
        ["chat", GGUF, "--max-tokens", "2"],
        files={"in.txt": b"hello\n/quit\n"},
        stdin="in.txt",
        expect=0,
    )


# ------------------------------------------------------------------------------------------- Hugging Face folders
def _tree(**changes: Any) -> Callable[[bytes], bytes]:
    """JSON with other entries; None takes one out."""

    def change(data: bytes) -> bytes:
        tree = {**json.loads(data), **changes}
        return json.dumps({key: value for key, value in tree.items() if value is not None}).encode()

    return change


def _folders(dice: random.Random) -> Iterator[Case]:
    config, weights, tokens = f"{HF}/config.json", f"{HF}/model.safetensors", f"{HF}/tokenizer.json"
    changes: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
        "config empty": (config, lambda data: b""), "config a list": (config, lambda data: b"[]"), "config deep": (config, lambda data: b"[" * 100_000), "config not UTF-8": (config, lambda data: b"\xff\xfe{}"),
        "of another type": (config, _tree(model_type="gpt3")), "type a list": (config, _tree(model_type=[1])), "no type": (config, _tree(model_type=None)), "code of its own": (config, _tree(auto_map={"AutoModel": "x--y.Z"})),
        "width 0": (config, _tree(hidden_size=0)), "width below 0": (config, _tree(hidden_size=-32)), "width a text": (config, _tree(hidden_size="32")), "width true": (config, _tree(hidden_size=True)), "width 10⁹": (config, _tree(hidden_size=10**9)),
        "no heads": (config, _tree(num_attention_heads=0)), "a billion layers": (config, _tree(num_hidden_layers=10**9)), "a vocabulary of 10¹²": (config, _tree(vocab_size=10**12)), "vocabulary of 5": (config, _tree(vocab_size=5)),
        "eps NaN": (config, lambda data: data.replace(b'"rms_norm_eps":', b'"rms_norm_eps": NaN, "x":')), "context 0": (config, _tree(max_position_embeddings=0)),
        "weights empty": (weights, lambda data: b""), "weights cut": (weights, lambda data: data[:-100]), "weights' header 2⁶³": (weights, lambda data: struct.pack("<Q", 2**63) + data[8:]),
        "weights a pickle": (weights, lambda data: b"\x80\x04cos\nsystem\n(S'touch owned'\ntR."), "weights not JSON": (weights, lambda data: data[:8] + b"x" * (len(data) - 8)),
        "tokenizer empty": (tokens, lambda data: b""), "tokenizer a list": (tokens, lambda data: b"[]"), "tokenizer deep": (tokens, lambda data: b"[" * 100_000), "tokenizer of another type": (tokens, _tree(model={"type": "Magic"})),
        "tokenizer without words": (tokens, _tree(model={"type": "BPE", "vocab": {}, "merges": []})), "ids beyond the model": (tokens, _tree(model={"type": "BPE", "vocab": {"a": 0, "b": 10**6}, "merges": []})),
        "ids below 0": (tokens, _tree(model={"type": "BPE", "vocab": {"a": -1}, "merges": []})), "a word of 10 MB": (tokens, _tree(model={"type": "BPE", "vocab": {"a" * 10**7: 0}, "merges": []})),
        "a regular expression that explodes": (tokens, _tree(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False})),
        "a regular expression that is none": (tokens, _tree(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": False})),
    }  # fmt: skip
    for name, (file, change) in changes.items():
        prompt = ("--prompt", "a" * 60 + "!") if "explodes" in name else SHORT[:2]
        yield case(
            f"folder: {name}",
            ["generate", HF, *prompt, *SHORT[2:]],
            _changed(file, change),
            forbidden={"owned": ""},
        )
    for file in (config, weights, tokens):
        yield case(
            f"folder: no {Path(file).name}",
            ["generate", HF, *SHORT],
            lambda folder, f=file: (folder / f).unlink(),
            expect=2,
        )
        for number in range(4):
            damage = DAMAGES[number]
            yield case(
                f"folder: {Path(file).name} {damage.__name__}",
                ["generate", HF, *SHORT],
                _changed(file, lambda data, d=damage: d(data, dice)),
            )

    def index(shard: str) -> Callable[[Path], object]:
        def damage(folder: Path) -> None:
            (folder / weights).unlink()
            (folder / HF / "model.safetensors.index.json").write_text(
                json.dumps({"weight_map": {"a": shard}})
            )

        return damage

    for shard in ("../../../etc/passwd", "/etc/passwd", "nothing.safetensors", ""):
        yield case(f"folder: shard {shard!r}", ["generate", HF, *SHORT], index(shard), expect=2)
    yield case("folder: sound", ["generate", HF, *SHORT], expect=0)


def _templates() -> Iterator[Case]:
    """Chat templates that attack, of a folder and of a recipe."""
    for name, template in ATTACKS.items():

        def damage(folder: Path, template: Any = template) -> None:
            file = folder / HF / "tokenizer_config.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": template}))

        yield case(
            f"template: {name}", ["chat", HF, "--max-tokens", "2"], damage, files={"in.txt": b"hello\n/quit\n"}, stdin="in.txt",
            forbidden={"owned": ""}, names=("template", "hf", HF, "answer"),
        )  # fmt: skip
        if isinstance(template, str) and template:
            words = [
                "train",
                "chat.json",
                "--task=instruct",
                "--init=plays",
                f"--fields.messages.template={template}",
            ]
            files = {"chat.json": json.dumps(CHATS).encode()}
            yield case(
                f"template in a recipe: {name}",
                [*words, *QUICK],
                files=files,
                names=("template", "chat.json"),
                forbidden={"owned": ""},
            )


# ------------------------------------------------------------------------------------------- questions
def _asked() -> Iterator[Case]:
    def asks(name: str, *words: str, verb: str = "generate", **more: Any) -> Case:
        more.setdefault(
            "names",
            (*(word.split("=")[0] for word in words if word.startswith("--")), "prompt", "context", "plays"),
        )
        return case(f"{verb}: {name}", [verb, "plays", *words], **more)

    long = "to be or not to be " * 2000
    yield asks("a prompt beyond the context", "--prompt", long, expect=2)
    yield asks("an empty prompt", "--prompt", "", "--max-tokens=2")
    yield asks(
        "prompts in a file", "--prompts", "p.txt", "--max-tokens=2", files={"p.txt": b"a\nb\n\nc\n"}, expect=0
    )
    for name, content in {"nothing": b"", "NUL": b"a\0b\n", "latin-1": "é".encode("latin-1"), "too long": long.encode(), "escapes": b"\x1b[31mred\x07\n"}.items():  # fmt: skip
        yield asks(
            f"prompts of {name}",
            "--prompts",
            "p.txt",
            "--max-tokens=2",
            files={"p.txt": content},
            names=("p.txt", "prompt", "context"),
        )
    for name, content in {"no JSON": b"{\n", "numbers": b"3\n", "deep": b"[" * 50_000, "no prompt": b'{"x": "a"}\n'}.items():  # fmt: skip
        yield asks(
            f"JSON lines: {name}",
            "--prompts",
            "p.jsonl",
            files={"p.jsonl": content},
            names=("p.jsonl",),
            expect=2,
        )
    for flag in ("--max-tokens=0", "--max-tokens=-1", "--temperature=-1", "--temperature=nan", "--top-p=0", "--top-p=2", "--top-k=-1", "--repetition-penalty=0", "--min-p=7", "--beams=0", "--lookup=-3", "--draft=nobody"):  # fmt: skip
        yield asks(
            flag,
            "--prompt",
            "a",
            flag,
            names=(flag.split("=")[0], flag.split("=")[0][2:].replace("-", "_"), "nobody"),
            expect=2,
        )
    for flag in ("--max-tokens=1000000000", "--temperature=1e30", "--temperature=1e-30", "--seed=-5", "--seed=99999999999999999999", "--lookup=1000000"):  # fmt: skip
        # Little is written: what random bytes the model writes is its own affair.
        words = ("--prompt", "to be", "--temperature=0", "--max-tokens=2", flag)
        yield asks(flag, *words, names=(flag.split("=")[0], flag.split("=")[0][2:]))
    for name, schema in {"no JSON": "{", "a number": '{"type": 3}', "endless": '{"$ref": "#"}', "abroad": '{"$ref": "file:///etc/passwd"}'}.items():  # fmt: skip
        yield asks(
            f"schema: {name}",
            "--prompt",
            "a",
            "--max-tokens=3",
            f"--schema={schema}",
            names=("schema", "constrain", "llguidance"),
        )
    for name, regex in {"unclosed": "(", "exploding": "(a*)*b", "giant": "a{1000000}"}.items():
        yield asks(
            f"regex: {name}",
            "--prompt",
            "a",
            "--max-tokens=3",
            f"--regex={regex}",
            names=("regex", "constrain", "llguidance"),
        )
    sound = {"question": "to be", "choices": ["or not", "and so"], "answer": 0}
    rows: dict[str, Any] = {
        "sound": [sound] * 3, "no choices": [sound, {"question": "a", "answer": 0}], "one choice": [{**sound, "choices": ["a"]}], "answer beyond": [{**sound, "answer": 9}], "no question": [{"choices": ["a", "b"], "answer": 0}],
        "choices of numbers": [{**sound, "choices": [1, 2]}], "empty choices": [{**sound, "choices": ["", " "]}], "a choice beyond the context": [{**sound, "choices": ["a", long]}], "a question beyond the context": [{**sound, "question": long}],
    }  # fmt: skip
    for name, found in rows.items():
        text = "\n".join(map(json.dumps, found)).encode()
        yield asks(
            name,
            "q.jsonl",
            verb="choose",
            files={"q.jsonl": text},
            names=("q.jsonl", "context"),
            expect=0 if name == "sound" else None,
        )
    yield asks(
        "more shots than examples",
        "q.jsonl",
        "--shots=9",
        verb="choose",
        files={"q.jsonl": json.dumps(sound).encode()},
        names=("shots",),
        expect=2,
    )


def _trainings() -> Iterator[Case]:
    def trains(name: str, content: Any, *words: str, file: str = "chat.json", **more: Any) -> Case:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        more.setdefault("names", (file, "messages", "chosen", "fields", "train", "init", "text", "tokenizer"))
        return case(
            f"train: {name}",
            ["train", file, *words, *QUICK],
            files={file: data, **more.pop("files", {})},
            **more,
        )

    instruct, prefer, language = (
        ("--task=instruct", "--init=plays"),
        ("--task=prefer", "--init=plays"),
        ("--task=language",),
    )
    small = ("--model.width=16", "--model.depth=1", "--model.heads=2")
    yield trains("chats", CHATS, *instruct, expect=0, rows=40)
    yield trains("pairs", PAIRS, *prefer, expect=0, rows=40)
    strange: dict[str, Any] = {
        "no answers": [{"instruction": "a"}] * 40, "empty answers": [{**row, "output": ""} for row in CHATS], "answers are lists": [{**row, "output": [1]} for row in CHATS],
        "longer than the context": [{**row, "instruction": "to be " * 5000} for row in CHATS], "one sound chat": [{**row, "output": "" if at else "a"} for at, row in enumerate(CHATS)],
        "special tokens in what is said": [{**row, "output": "<|end|><|im_end|><|endoftext|>"} for row in CHATS], "escapes": [{**row, "output": "\x1b[31m" + row["output"]} for row in CHATS],
        "unknown roles": [{"messages": [{"role": "wizard", "content": "a"}]}] * 40, "messages of numbers": [{"messages": [1, 2]}] * 40, "deep messages": b'[{"messages": ' + b"[" * 50_000,
    }  # fmt: skip
    for name, content in strange.items():
        yield trains(f"chats: {name}", content, *instruct)
    for name, change in {"alike": {"rejected": "same", "chosen": "same"}, "no rejected": {"rejected": ""}, "too long": {"chosen": "to be " * 5000}}.items():  # fmt: skip
        yield trains(f"pairs: {name}", [{**row, **change} for row in PAIRS], *prefer)
    yield trains("an adapter without a start", CHATS, "--task=instruct", "--train.adapter=lora", expect=2)
    yield trains("an adapter on nothing", CHATS, *instruct, "--train.adapter.match=[nothing*]", expect=2)
    yield trains("a start that is not there", CHATS, "--task=instruct", "--init=nobody", expect=2)
    plays = originals.sentences()
    for name, content in {"nothing": b"", "one letter": b"a", "NULs": b"\0" * 3000, "not UTF-8": b"\xff" * 3000, "a line of 3 MB": b"to be " * 500_000}.items():  # fmt: skip
        yield trains(f"corpus: {name}", content, *language, *small, file="t.txt")
    for flag in ("--fields.text.length=1", "--fields.text.length=0", "--fields.text.length=1000000", "--fields.text.vocabulary=1", "--fields.text.tokens=magic", "--fields.text.tokenizer=t.json", "--model.heads=3", "--task.softcap=-1"):  # fmt: skip
        yield trains(
            flag,
            plays,
            *language,
            *small,
            flag,
            file="t.txt",
            names=("t.txt", flag.split("=")[0].split(".")[-1], "text"),
        )
    for name, content in {"empty": b"", "not JSON": b"{", "of another kind": b'{"model": {"type": "Magic"}}', "without words": b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}'}.items():  # fmt: skip
        words = ("--fields.text.tokens=file", "--fields.text.tokenizer=k.json")
        yield trains(
            f"tokenizer: {name}",
            plays,
            *language,
            *small,
            *words,
            file="t.txt",
            files={"k.json": content},
            expect=2,
        )
