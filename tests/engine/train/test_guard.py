"""The guard: what it lets pass, what it stops, what it remembers."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.settings import Settings, dump_yaml, parse_yaml, read
from modelworks.engine.train.guard import Guard, Watch


def steady(watch, steps=60, level=1.0):
    return [
        watch.check(level + 0.1 * math.sin(step), 2.0 + 0.2 * math.cos(step)).action for step in range(steps)
    ]


@pytest.mark.parametrize("action", ["skip", "rewind", "stop"])
@pytest.mark.parametrize(
    "loss,norm,word",
    [
        (math.nan, 1.0, "loss is not a number"),
        (math.inf, 1.0, "loss is infinite"),
        (1.0, math.nan, "gradient norm is not a number"),
    ],
)
def test_what_is_not_finite_never_passes(action, loss, norm, word):
    verdict = Watch(Guard(action=action)).check(loss, norm, rows=[3, 17], step=1200)
    assert verdict.action == action
    assert word in verdict.reason
    assert "step 1,200" in verdict.reason
    assert "(rows 3, 17)" in verdict.reason


def test_long_batches_are_cut_in_the_message():
    assert (
        "(rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 118 more)"
        in Watch(Guard()).check(math.nan, rows=range(128)).reason
    )


def test_a_spike_is_judged_only_after_the_warm_up():
    watch = Watch(Guard(spike=3.0))
    assert watch.check(1.0).action == "ok"
    assert watch.check(100.0).action == "ok"
    watch = Watch(Guard(spike=3.0))
    assert set(steady(watch)) == {"ok"}
    assert watch.check(2.9).action == "ok"
    verdict = watch.check(50.0)
    assert (verdict.action, watch.skipped) == ("skip", 1)
    assert "50 spikes over its recent median 1" in verdict.reason
    # The spike itself is not remembered as recent.
    assert watch.check(50.0).action == "skip"


def test_gradient_spikes_have_their_own_factor():
    watch = Watch(Guard(gradient_spike=5.0))
    steady(watch)
    assert watch.check(1000.0, 2.0).action == "ok"
    assert "gradient norm" in watch.check(1.0, 100.0).reason


def test_noise_is_no_spike():
    """Over the median by the factor, but within what this loss does anyway."""
    watch = Watch(Guard(spike=2.0))
    for step in range(100):
        watch.check(10.0 if step % 10 == 0 else 0.1)
    assert watch.check(12.0).action == "ok"


def test_a_negative_loss_is_judged_by_its_deviation():
    watch = Watch(Guard(spike=2.0))
    for step in range(60):
        watch.check(-5.0 + 0.1 * math.sin(step))
    assert watch.check(-4.9).action == "ok"
    assert watch.check(3.0).action == "skip"


def test_patience_is_counted_in_a_row():
    watch = Watch(Guard(patience=2))
    bad = [watch.check(v).action for v in (math.nan, math.nan, 1.0, math.nan, math.nan, math.nan)]
    assert bad == ["skip", "skip", "ok", "skip", "skip", "stop"]


def test_rewinding_in_a_circle_ends():
    """The good steps that are replayed after a rewind do not make the count start anew."""
    watch = Watch(Guard(action="rewind", patience=2, warmup=50))
    seen = []
    for _ in range(4):
        steady(watch, 20)
        seen.append(watch.check(math.nan).action)
    assert seen == ["rewind", "rewind", "stop", "stop"]
    watch = Watch(Guard(action="rewind", patience=0, warmup=50))
    steady(watch, 50)
    assert watch.check(math.nan).action == "stop"


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.one_of(st.floats(0, 10), st.just(math.nan), st.just(1e6)), min_size=20, max_size=120),
    st.integers(0, 100),
)
def test_a_resumed_watch_judges_the_same(losses, cut):
    guard = Guard(spike=3.0, window=16, warmup=5, patience=4)
    whole = Watch(guard)
    verdicts = [whole.check(loss, loss) for loss in losses]
    first = Watch(guard)
    before = [first.check(loss, loss) for loss in losses[:cut]]
    second = Watch(guard)
    second.load(json.loads(json.dumps(first.state)))
    assert before + [second.check(loss, loss) for loss in losses[cut:]] == verdicts


def test_settings_survive_yaml():
    """`on` would have been read as true by YAML 1.1; `action` is not."""

    class Tree(Settings):
        guard: Guard = Guard()

    assert read(Tree, parse_yaml("guard: stop")).guard.action == "stop"
    tree = Tree(guard=Guard(action="rewind", spike=2.5))
    assert read(Tree, parse_yaml(dump_yaml(tree))) == tree
