"""The search, on made-up steps whose size, loss and time are known: what it says is the best of what it tried."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import UserError
from modelworks.engine.compress import search as place
from modelworks.engine.compress.edits import NUMBERS, RANK, SPARSE, STRUCTURE, Step, Target
from modelworks.engine.compress.measure import Row

WHOLE = 1_000_000


class World:
    """Steps with a true share of bytes, loss and share of time each; a plan's multiply and add up."""

    def __init__(self, facts):
        self.facts = dict(facts)
        self.parent = SimpleNamespace(
            network=lambda: SimpleNamespace(made=[], eval=lambda: self.last), results={}
        )
        self.tried = []
        self.row = self._row("parent", [])
        self.metric, self.unit, self.main, self.chooser = "accuracy", "points", "test", "valid"

    def steps(self):
        found = []
        for name, (order, share, _, _, tunes) in self.facts.items():

            def make(network, parent, name=name):
                if name == "breaks":
                    raise ValueError("does not suit")
                network.made.append(name)
                self.last = network
                return {"kind": name}

            found.append(Step(name, order, make, share, tunes))
        return found

    def measure(self, name, network):
        self.tried.append(tuple(network.made))
        return self._row(name, network.made)

    def _row(self, name, made):
        size, lost, time = 1.0, 0.0, 1.0
        for one in made:
            _, share, loss, faster, _ = self.facts[one]
            size, lost, time = size * share, lost + loss, time * faster
        quality = {"value": 0.9 - lost / 100, "low": None, "high": None}
        # What the test rows say must choose nothing.
        return Row(name, round(size * WHOLE), size, quality, -lost, lost, time, time, 0.0, "probability")


FACTS = {
    "int8": (NUMBERS, 0.25, 0.0, 0.9, False),
    "int8 static": (NUMBERS, 0.25, 0.1, 0.6, False),
    "int4": (NUMBERS, 0.14, 1.5, 0.9, False),
    "int4 trained": (NUMBERS, 0.13, 0.3, 0.9, True),
    "rank": (RANK, 0.7, 0.4, 0.8, False),
    "zeros": (SPARSE, 0.6, 0.6, 1.0, True),
    "prune": (STRUCTURE, 0.5, 0.2, 0.5, True),
    "breaks": (RANK, 0.6, 0.0, 0.1, False),
}


def found(monkeypatch, target, facts=FACTS, tries=40):
    world = World(facts)
    monkeypatch.setattr(place, "offered", lambda parent, target: world.steps())
    return world, place.search(world.parent, world, target, tries, lambda text: None)


def test_a_size_is_met_by_what_loses_least(monkeypatch):
    world, best = found(monkeypatch, Target(size=0.26 * WHOLE))
    assert best.met
    assert best.row.what == "int8 static"  # a tenth of a point is no difference, the time is
    world, best = found(monkeypatch, Target(size=0.15 * WHOLE))
    assert best.met
    assert best.row.size_bytes <= 0.15 * WHOLE
    assert best.row.price <= 0.5
    assert best.edits == [{"kind": name} for name in world.tried[best_at(best)]]


def best_at(best):
    return next(at for at, row in enumerate(best.rows) if row is best.row)


def test_a_time_is_met_by_shapes(monkeypatch):
    _, best = found(monkeypatch, Target(latency=0.35))
    assert best.met
    assert best.row.latency_ms <= 0.35
    assert "prune" in best.row.what


def test_the_smallest_within_a_drop(monkeypatch):
    world, best = found(monkeypatch, Target(drop=0.75))
    assert best.met
    within = [row.size_bytes for row in best.rows if row.price <= 0.75]
    assert best.row.size_bytes == min(within)
    assert best.row.size_share < 0.1  # pruned and trained for four bits: half a point
    assert not any("breaks" in made for made in world.tried)


def test_what_is_out_of_reach_is_told_with_the_nearest(monkeypatch):
    _, best = found(monkeypatch, Target(size=100))
    assert not best.met
    assert best.row is not None


def test_no_more_is_tried_than_may_be(monkeypatch):
    world, best = found(monkeypatch, Target(size=100), tries=3)
    assert len(best.rows) == len(world.tried) <= 3


def test_nothing_to_try(monkeypatch):
    _, best = found(monkeypatch, Target(drop=1), facts={})
    assert best.row is None
    assert not best.met


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.floats(0.05, 1.0), st.floats(-1, 5), st.floats(0.2, 1.5), st.booleans()
        ),
        max_size=8,
    ),
    st.sampled_from(["size", "latency", "drop"]),
    st.floats(0.05, 0.9),
)
def test_whatever_the_steps_the_answer_is_the_best_tried(facts, what, amount):
    amount = amount * WHOLE if what == "size" else amount
    with pytest.MonkeyPatch.context() as patch:
        target = Target(**{what: amount})
        world, best = found(patch, target, {f"step {n}": fact for n, fact in enumerate(facts)}, 30)
    meeting = [row for row in best.rows if place.meets(row, target)]
    assert best.met == bool(meeting)
    for made in world.tried:  # one step an order, in order
        orders = [world.facts[name][0] for name in made]
        assert orders == sorted(set(orders))
    if what == "drop" and meeting:
        assert best.row.size_bytes == min(row.size_bytes for row in meeting)
    elif meeting:
        assert best.row in meeting
        assert best.row.price <= min(row.price for row in meeting) + place.ALIKE * len(meeting)


def test_errors_of_users_are_no_reason_to_give_up(monkeypatch):
    world = World(FACTS)
    steps = world.steps()
    steps[0] = Step("int8", NUMBERS, lambda network, parent: (_ for _ in ()).throw(UserError("no")), 0.25)
    monkeypatch.setattr(place, "offered", lambda parent, target: steps)
    best = place.search(world.parent, world, Target(size=0.26 * WHOLE), 20, lambda text: None)
    assert best.met
