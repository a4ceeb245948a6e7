"""Harness: a Run, a Hugging Face folder or a GGUF file as a model of EleutherAI's lm-eval (extra: lm-eval).

    import lm_eval
    from modelworks.engine.language.harness import harness

    lm_eval.simple_evaluate(model=harness("runs/gpt"), tasks=["hellaswag", "lambada_openai"], num_fewshot=0)

Its three questions are answered by likelihood.py and generate.py beside this file: how likely a continuation is, how
likely a whole text is, and what comes next until a stop string.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelworks.core.errors import need

BATCH = 16
"""Prompts that are continued at a time."""
NEW = 256
"""Most new tokens where a task does not say."""


def harness(name: str, weights: Any = "float32") -> Any:
    """An `lm_eval.api.model.LM`."""
    base: Any = need("lm_eval.api.model", "lm-eval", "the harness").LM
    from modelworks.engine.language.generate import Generator
    from modelworks.engine.language.pack import pack
    from modelworks.engine.language.ready import ready

    network, field = ready(name)
    return adapted(base, Generator(pack(network, weights), field), name)


def adapted(base: type, generator: Any, name: str) -> Any:
    """The same of a generator that is there; `base`: lm-eval's class LM."""
    from modelworks.engine.language.likelihood import Likelihood

    scorer = Likelihood(generator.network, generator.field)

    class Harness(base):
        """lm-eval's interface."""

        tokenizer_name = name

        def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
            pairs = [request.args for request in requests]
            found = [(score.total, score.greedy) for score in scorer.continuations(pairs)]
            for request, answer in zip(requests, found, strict=True):
                self.cache_hook.add_partial("loglikelihood", request.args, answer)
            return found

        def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
            found = [score.total for score in scorer.texts([request.args[0] for request in requests])]
            for request, answer in zip(requests, found, strict=True):
                self.cache_hook.add_partial("loglikelihood_rolling", request.args, answer)
            return found

        def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
            found: list[str] = []
            for start in range(0, len(requests), BATCH):
                found += _written(generator, requests[start : start + BATCH])
            for request, answer in zip(requests, found, strict=True):
                self.cache_hook.add_partial("generate_until", request.args, answer)
            return found

    return Harness()


def _written(generator: Any, requests: Sequence[Any]) -> list[str]:
    """Answers to requests, each with settings of its own; those that share them go together."""
    answers: dict[int, str] = {}
    groups: dict[str, list[int]] = {}
    for at, request in enumerate(requests):
        groups.setdefault(repr(sorted(request.args[1].items())), []).append(at)
    for places in groups.values():
        sampling = _sampling(requests[places[0]].args[1])
        # Room for the answer: what is too long is cut from the left, as lm-eval's own models do.
        room = max(1, generator.context - sampling.max_tokens)
        prompts = [generator.field.ids(requests[at].args[0])[-room:] for at in places]
        for at, answer in zip(places, generator.generate(prompts, sampling), strict=True):
            answers[at] = answer.text
    return [answers[at] for at in range(len(requests))]


def _sampling(asked: dict[str, Any]) -> Any:
    """lm-eval's settings of generation as ours."""
    from modelworks.engine.language.sampling import Sampling

    until = asked.get("until") or []
    until = [until] if isinstance(until, str) else until
    draws = bool(asked.get("do_sample", asked.get("temperature", 0) not in (0, None)))
    told = {
        name: asked[name]
        for name in ("top_p", "top_k", "min_p", "repetition_penalty")
        if asked.get(name) is not None
    }
    return Sampling(
        max_tokens=asked.get("max_gen_toks") or asked.get("max_new_tokens") or NEW,
        temperature=float(asked.get("temperature") or 1.0) if draws else 0.0,
        stop=tuple(text for text in until if text),
        **(told if draws else {}),
    )
