"""Records: what would have flipped a decision, in words and numbers; what is worth recording."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from headway.domain.errors import InvalidInput
from headway.scaling.decide import decide
from headway.scaling.decision import Clamp, Decision, LatencyState, Proposal, State
from headway.scaling.explain import summary, tell
from headway.scaling.policy import (
    DOWN,
    CronTrigger,
    Direction,
    ExternalTrigger,
    Fallback,
    FunctionTrigger,
    LatencyTrigger,
    Panic,
    Policy,
    ReplicaTrigger,
    Rule,
    RuleType,
)
from headway.scaling.record import decision_of, interesting, policy_in, replay, to_document
from headway.scaling.samples import LatencyReading, LatencyWindow, PerReplica, Reading, ReplicaReading, Samples
from tests.unit.scaling.scene import T0, concurrency, each, latency, policy, queue, reading, samples, windows


def recorded(rules: Policy, seen: Samples, state: State | None = None) -> tuple[Decision, dict[str, Any]]:
    state = State() if state is None else state
    decision, _ = decide(rules, seen, state, T0)
    document: dict[str, Any] = json.loads(json.dumps(to_document(rules, seen, state, decision), allow_nan=False))
    assert replay(document) == decision == decision_of(document)
    assert policy_in(document) == rules
    return decision, document


def flip(rules: Policy, seen: Samples, state: State | None = None) -> dict[str, Any]:
    found: dict[str, Any] = recorded(rules, seen, state)[1]["flip"]
    return found


def test_the_nearest_value_that_flips() -> None:
    held = flip(policy(concurrency(4.0)), samples(2, concurrency=each(4.2, 4.2)))
    assert held["text"] == "concurrency above 4.4 per replica would have led to 3 instead of 2"
    assert (held["trigger"], held["desired"], held["value"]) == ("concurrency", 3, pytest.approx(4.4, rel=1e-5))
    grown = flip(policy(queue(10.0)), samples(2, queue=reading(61.0)))
    assert grown["text"] == "queue below 60 would have led to 6 instead of 7"
    idle = flip(policy(concurrency(4.0)), samples(1, concurrency=each(0.0)))
    assert idle["text"] == "concurrency above 4.4 per replica would have led to 2 instead of 1"
    floor = flip(policy(queue(10.0), least=3), samples(3, queue=reading(1.0)))
    assert floor["text"] == "queue above 33 would have led to 4 instead of 3"


def test_what_the_flip_says_is_so() -> None:
    rules, seen = policy(concurrency(4.0)), samples(10, concurrency=each(*[5.1] * 10))
    found = flip(rules, seen)
    again, _ = decide(rules, samples(10, concurrency=each(*[found["value"]] * 10)), State(), T0)
    assert again.desired == found["desired"] != decide(rules, seen, State(), T0)[0].desired


OLD = State(downs=((T0 - 100, 9),), last=9, at=T0 - 1)
CLAMPS: list[tuple[str, Policy, Samples, State, str]] = [
    ("stabilization", policy(queue(10.0), down=DOWN), samples(9, queue=reading(20.0)), OLD,
     "after 22:16:40 UTC the scale-down stabilization window lets it go further, towards 2"),
    ("stabilization", policy(queue(10.0), up=Direction(60.0, ())), samples(2, queue=reading(90.0)),
     State(ups=((T0 - 20, 2),), at=T0 - 1),
     "after 22:14:00 UTC the scale-up stabilization window lets it go further, towards 9"),
    ("rate", policy(queue(10.0), up=Direction(0.0, (Rule(RuleType.PODS, 2, 60.0),))), samples(3, queue=reading(90.0)),
     State(changes=((T0 - 10, 1),)), "without the scale-up rules: 9"),
    ("maxReplicas", policy(queue(10.0), most=5), samples(3, queue=reading(90.0)), State(),
     "with maxReplicas: 9 it would have been 9"),
    ("minReplicas", policy(queue(10.0), least=3), samples(2, queue=reading(None)), State(),
     "with minReplicas: 2 it would have been 2"),
    ("no_data", policy(queue(10.0), concurrency(4.0)), samples(3, queue=reading(1.0)), State(),
     "with data that asks for no more than the others do: 1"),
    ("panic", policy(concurrency(4.0, Panic())), samples(3, concurrency=each(1, 1, 1, burst=1.0)),
     State(panic_until=T0 + 30, panic_peak=8), "after 22:13:50 UTC, without another burst: 1"),
    ("cooldown", policy(queue(10.0), least=0), samples(1, queue=reading(0.0)), State(active_at=T0 - 60),
     "after 22:17:20 UTC, if nothing becomes active: 0"),
    ("activation", policy(queue(10.0, activation=50.0), least=0), samples(2, queue=reading(20.0)),
     State(active_at=T0 - 300), "one active trigger, or one request, would have led to 2"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rules", "seen", "state", "text"), CLAMPS)
def test_what_would_have_flipped_a_clamp(name: str, rules: Policy, seen: Samples, state: State, text: str) -> None:
    decision, document = recorded(rules, seen, state)
    assert (decision.binding, document["flip"]["clamp"]) == (name, name)
    assert document["flip"]["text"] == text


def test_other_flips() -> None:
    calendar = CronTrigger("night", "0 22 * * *", "0 6 * * *", "UTC", 5)
    assert (
        flip(policy(calendar, queue(10.0)), samples(5, queue=reading(20.0)))["text"] == "without the wish of night: 2"
    )
    lost = samples(5, queue=reading(None, None, "down", 3))
    assert flip(policy(queue(), fallback=Fallback(3, 7)), lost)["text"] == "without the wish of queue: 5"
    assert "a value from any of them" in flip(policy(queue()), samples(3))["text"]
    asleep = replace(calendar, start="0 1 * * *", end="0 2 * * *")
    assert "any one that becomes active" in flip(policy(asleep), samples(1))["text"]
    assert recorded(policy(), samples(3))[1]["flip"] is None
    slow, fine = samples(2, latency=windows(1.5)), samples(2, latency=windows(0.6))
    assert flip(policy(latency()), slow)["text"] == "latency (p95) at or below 0.9 s would have left it at 2"
    assert "above 0.9 s at the evaluation of 22:13:20 UTC would lead to 3" in flip(policy(latency()), fine)["text"]
    assert "waiting is only 5%" in flip(policy(latency()), samples(2, latency=windows(1.5, queue_share=0.05)))["text"]


def test_it_is_told_in_plain_words() -> None:
    rules = policy(concurrency(4.0), queue(10.0), latency(), down=DOWN)
    seen = samples(9, concurrency=each(*[1.0] * 9), queue=reading(20.0), latency=windows(0.6))
    _, document = recorded(replace(rules, triggers=rules.triggers[:2]), seen, OLD)
    assert tell(document) == [
        "2023-11-14 22:13:20 UTC: 9 replicas wished, 9 ready, bounds 1 to 100",
        "  concurrency wishes 3: 1 per replica over 9, target 4, 0 s old",
        "  queue wishes 2: 20, target 10 per replica, 1 s old",
        "  largest wish: 3",
        "  stabilization: 3 -> 9 (9 or more were wished within the last 300 s)",
        "  The count stays at 9: stabilization, instead of 3 (9 or more were wished within the last 300 s).",
        "  binding: stabilization",
        f"  what would have changed it: {document['flip']['text']}",
    ]
    _, document = recorded(replace(rules, shadow=True), replace(seen, held=2, readings={}))
    told = tell(document)
    assert "2 requests held, shadow: nothing is carried out" in told[0]
    assert "  queue has no data: nothing has been read yet" in told


@pytest.mark.parametrize("part", [
    Policy, Direction, Rule, Fallback, Panic, ReplicaTrigger, LatencyTrigger, ExternalTrigger, CronTrigger,
    FunctionTrigger, Samples, PerReplica, ReplicaReading, LatencyReading, LatencyWindow, Reading, State, LatencyState,
    Decision, Proposal, Clamp,
])  # fmt: skip
def test_the_reference_names_every_field(part: type) -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "decision-record.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    assert set(get_type_hints(part)) <= named


def test_one_sentence() -> None:
    def of(rules: Policy, seen: Samples) -> str:
        return summary(decide(rules, seen, State(), T0)[0])

    grow = samples(2, queue=reading(50.0))
    assert of(policy(queue(10.0)), grow) == "The count goes from 2 to 5: queue (50, target 10 per replica)."
    assert of(policy(queue(10.0), shadow=True), grow).startswith("The count would go from 2 to 5")
    assert of(policy(queue(10.0)), samples(2)) == "The count stays at 2: no trigger has data."
    assert of(policy(), samples(2)) == "The count stays at 2: there is no trigger."


def test_every_number_survives() -> None:
    for value in (math.nan, math.inf, -math.inf, 0.1 + 0.2, 5):
        decision, document = recorded(policy(queue()), samples(2, queue=reading(value)))
        assert decision.desired >= 1
        assert "NaN" not in json.dumps(document["decision"]["clamps"])


@pytest.mark.parametrize("broken", [
    {}, {"format": 2}, {"format": 1}, {"format": 1, "policy": 3}, {"format": 1, "policy": {"least": "x"}},
])  # fmt: skip
def test_a_document_that_is_none_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        replay(broken)
    with pytest.raises(InvalidInput):
        tell(broken)


def test_what_is_recorded() -> None:
    def said(at: float, desired: int = 2, binding: str = "queue", **more: Any) -> Decision:
        return Decision(T0 + at, 2, desired, 2, (), (), binding, **more)

    last = said(0)
    assert interesting(last, None)
    assert not interesting(said(59.9), last)
    assert interesting(said(60), last)
    assert interesting(said(1, 3), said(0, 3))
    assert interesting(said(1, not_replica_bound="latency"), last)
    assert not interesting(said(9.9, binding="rate"), last)
    assert interesting(said(10, binding="rate"), last)
    assert interesting(said(-1), last)
    assert not interesting(said(1, 3, shadow=True), said(0, 3, shadow=True))
    assert interesting(said(1, 4, shadow=True), said(0, 3, shadow=True))
