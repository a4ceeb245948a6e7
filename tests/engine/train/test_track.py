"""The console tells the speed of training, not of what happens between steps."""

from __future__ import annotations

import re

from modelworks.engine.train.loop import Event
from modelworks.engine.train.track import Console


def told(events: list[Event]) -> list[str]:
    lines: list[str] = []
    console = Console("accuracy", echo=lines.append)
    for event in events:
        console._told = 0.0  # every validation is told
        console(event)
    return lines


def rates(lines: list[str]) -> list[int]:
    return [int(found.replace(",", "")) for line in lines for found in re.findall(r"([\d,]+) rows/s", line)]


def test_a_validation_does_not_slow_the_speed() -> None:
    """Ten rows a step of 0.1 s: 100 rows/s, however long validations and checkpoints take."""
    events, seconds = [], 0.0
    for step in range(1, 31):
        seconds += 0.1
        events.append(Event("step", step, 10 * step, step / 10, seconds, {"loss": 1.0}))
        if step % 10 == 0:
            seconds += 3.0
            events.append(Event("valid", step, 10 * step, step / 10, seconds, {"accuracy": 0.5, "loss": 1.0}))
            seconds += 1.0
            events.append(Event("checkpoint", step, 10 * step, step / 10, seconds))
            seconds += 0.5
            events.append(Event("valid", step, 10 * step, step / 10, seconds, {"accuracy": 0.5, "loss": 1.0}))
    # The rows of the very first step have no beginning to be timed from: they are left out.
    found = rates(told(events))
    assert len(found) >= 6
    assert all(95 <= rate <= 101 for rate in found)


def test_the_speed_is_never_nought_or_negative() -> None:
    """Epochs too short to time, and a rewind that counts the rows back."""
    events = [Event("step", 1, 10, 0.1, 0.001), Event("valid", 1, 10, 0.1, 0.002, {"loss": 1.0})]
    assert rates(told(events)) == []
    for step in range(2, 6):
        events.append(Event("step", step, 10 * step, step / 10, 0.001 * step))
    events.append(Event("valid", 5, 50, 0.5, 0.2, {"loss": 1.0}))
    events.append(Event("note", 2, 20, 0.2, 0.3, {}, "rewound"))
    events.append(Event("step", 3, 30, 0.3, 0.4))
    events.append(Event("valid", 3, 30, 0.3, 0.5, {"loss": 1.0}))
    assert rates(told(events))
    assert min(rates(told(events))) > 0
