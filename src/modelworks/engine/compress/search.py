"""Search: which edits, alone and together, meet a target at the least loss.

    found = search(parent, measurer, Target(size=250_000), tries=16, echo=print)
    found.plan, found.row, found.rows, found.met

A plan is at most one step of each order (shapes, factors, zeros, numbers). Plans are tried from the mildest that may
meet the target on; those that train come last, and only where the others missed it or lost more than NOTHING.
    size, latency    of the plans that meet it, the one that loses least
    drop             of the plans that lose no more, the smallest
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from modelworks.core.errors import UserError, printable
from modelworks.engine.compress.edits import NUMBERS, Step, Target, offered
from modelworks.engine.compress.flops import flops_share
from modelworks.engine.compress.measure import Measurer, Row
from modelworks.engine.compress.parent import ParentRun
from modelworks.engine.network import Network

NOTHING = 0.5
"""Points, or per cent, that may be lost before a better plan is looked for."""
ALIKE = 0.2
"""Points, or per cent, that are no difference: the faster plan is the better one then."""
FAILED = 3
"""Plans in a row that lose too much, after which milder ones of the kind are all that there is."""


@dataclass
class Plan:
    """Steps that are made together."""

    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        return " + ".join(step.name for step in self.steps)

    @property
    def share(self) -> float:
        """The share of bytes that it is thought to leave."""
        total = 1.0
        for step in self.steps:
            total *= step.share
        return total

    @property
    def tunes(self) -> bool:
        return any(step.tunes for step in self.steps)

    def make(self, parent: ParentRun) -> tuple[Network, list[dict[str, Any]]]:
        """The network and the edits."""
        network = parent.network()
        found = [step.make(network, parent) for step in sorted(self.steps, key=lambda step: step.order)]
        return network.eval(), found


@dataclass
class Found:
    """What the search came to."""

    rows: list[Row] = field(default_factory=list)
    """Of every plan tried, in turn."""
    row: Row | None = None
    """The best: the one that meets the target, else the one that comes nearest."""
    network: Network | None = None
    edits: list[dict[str, Any]] = field(default_factory=list)
    met: bool = False


def search(
    parent: ParentRun, measurer: Measurer, target: Target, tries: int, echo: Callable[[str], None]
) -> Found:
    """Try plans until nothing better is to be expected, at most `tries`."""
    found, failed = Found(), set()
    for plan in _in_turn(parent, target, measurer.row, found):
        if len(found.rows) >= tries:
            break
        if failed & {step.name for step in plan.steps}:
            continue
        try:
            network, edits = plan.make(parent)
        except (
            UserError,
            RuntimeError,
            ValueError,
        ) as error:  # one that does not suit is no reason to give up
            failed |= {step.name for step in plan.steps[:-1] or plan.steps}
            echo(f"  {'':>6} {plan.name}: {printable(str(error)).splitlines()[0][:160]}")
            continue
        row = measurer.measure(plan.name, network)
        row.flops_share = flops_share(edits)
        parent.results[plan.name] = row
        found.rows.append(row)
        met = meets(row, target)
        if found.row is None or _better(row, found.row, target):
            found.row, found.network, found.edits, found.met = row, network, edits, met
        echo(f"  {len(found.rows):>3}/{tries} {told(row, measurer)}{' · meets the target' if met else ''}")
    return found


def meets(row: Row, target: Target) -> bool:
    """Whether a row is within the target."""
    if target.size is not None:
        return row.size_bytes <= target.size
    if target.latency is not None:
        return row.latency_ms <= target.latency
    assert target.drop is not None
    return row.price <= target.drop


def told(row: Row, measurer: Measurer) -> str:
    """A row in one line."""
    value = row.quality["value"]
    quality = f"{measurer.metric} {value:.4f} on {measurer.main}"
    lost = f"{row.price:+.2f} {measurer.unit} lost on {measurer.chooser}"
    time = f"{row.latency_ms:.3g} ms (×{row.latency_share:.2f})"
    return f"{row.what} · {row.size_share:.3f} of the bytes · {quality} ({lost}) · {time}"


def _better(one: Row, best: Row, target: Target) -> bool:
    good, before = meets(one, target), meets(best, target)
    if good != before:
        return good
    if target.drop is not None:
        if good:
            return one.size_bytes < best.size_bytes
        return one.price < best.price
    if not good:  # the nearer, but not one that has lost its wits on the way
        spoilt = one.price > max(20.0, 2 * best.price)
        nearer = (
            one.size_bytes < best.size_bytes if target.size is not None else one.latency_ms < best.latency_ms
        )
        return nearer and not spoilt
    if abs(one.price - best.price) > ALIKE:
        return one.price < best.price
    return (one.latency_share, one.size_bytes) < (best.latency_share, best.size_bytes)


def _in_turn(parent: ParentRun, target: Target, whole: Row, found: Found) -> Iterator[Plan]:
    """Plans, best prospects first; what was found so far decides whether to go on."""
    steps = sorted(offered(parent, target), key=lambda step: -step.share)
    numbers = [step for step in steps if step.order == NUMBERS]
    eights = [step for step in numbers if step.name.startswith("int8") and step.name != "int8 and less"]
    for step in eights:  # how 8 bits are best computed, which the other steps go by
        yield Plan((step,))
    rest = [step for step in numbers if step not in eights]
    eight = _name_of_best(parent.results, eights)
    others = [[step for step in steps if step.order == order] for order in range(NUMBERS)]
    with_numbers = [eight] if eight else []
    with_numbers += [step for step in rest if not step.tunes and step.share < 0.25]
    joined = [
        Plan((*(step for step in chosen if step is not None), last))
        for chosen in product(*([None, *some] for some in others))
        if any(chosen)
        for last in with_numbers
    ]
    alone = [Plan((step,)) for step in (rest if numbers else steps)]  # --only may leave no numbers
    if target.size is not None:
        share = target.size / whole.size_bytes
        yield from _for_size(alone + joined, share, target, found)
    elif target.latency is not None:
        # Bytes are no milliseconds, but fewer of them in smaller shapes are: only shapes and factors promise it.
        fewer = [plan for plan in joined if plan.steps[-1] is eight and any(s.order < 2 for s in plan.steps)]
        yield from _until(fewer if numbers else alone, target, found)
    else:
        yield from _for_drop(alone, joined, target, found)


def _name_of_best(results: Mapping[str, Row], steps: list[Step]) -> Step | None:
    done = [step for step in steps if step.name in results]
    if not done:
        return None
    least = min(max(results[step.name].price, 0.0) for step in done)
    good = [step for step in done if results[step.name].price <= least + ALIKE]
    return min(good, key=lambda step: results[step.name].latency_share)


def _for_size(plans: list[Plan], share: float, target: Target, found: Found) -> Iterator[Plan]:
    fitting = [plan for plan in plans if plan.share <= share * 1.03]
    yield from _until(sorted(fitting, key=lambda plan: -plan.share), target, found)


def _until(plans: list[Plan], target: Target, found: Found) -> Iterator[Plan]:
    """Mildest first, those that train last; ends where the target is met at (nearly) no loss, or where plans that
    go ever further only lose more."""
    for tunes in (False, True):
        worse = 0
        for plan in plans:
            if plan.tunes != tunes:
                continue
            if found.met and found.row is not None and found.row.price <= NOTHING:
                return
            if worse >= FAILED:
                break
            before, count = found.row, len(found.rows)
            yield plan
            if len(found.rows) > count and found.met:
                worse = worse + 1 if found.row is before else 0


def _for_drop(alone: list[Plan], joined: list[Plan], target: Target, found: Found) -> Iterator[Plan]:
    """Ever fewer bytes until too much is lost, several times in a row; then those that train."""
    for tunes in (False, True):
        for plans in (alone, joined):
            worse = 0
            for plan in sorted(plans, key=lambda plan: -plan.share):
                if plan.tunes != tunes or plan.share >= 1:
                    continue
                if found.met and found.row is not None and plan.share > found.row.size_share * 1.05:
                    continue  # what is thought to be larger than the best is not worth the time
                if worse >= FAILED:
                    break
                count = len(found.rows)
                yield plan
                if len(found.rows) > count:
                    worse = 0 if meets(found.rows[-1], target) else worse + 1
