"""Scaling decisions over made policies, readings and histories: what holds whatever comes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headway.scaling.behavior import Queue, push_largest, push_smallest, stabilize
from headway.scaling.decide import decide
from headway.scaling.decision import Decision, LatencyState, State, Status
from headway.scaling.explain import summary, tell
from headway.scaling.policy import (
    CronTrigger,
    Direction,
    ExternalTrigger,
    Fallback,
    FallbackBehavior,
    FunctionTrigger,
    LatencyTrigger,
    Panic,
    Pick,
    Policy,
    ReplicaTrigger,
    Rule,
    RuleType,
    Select,
    Signal,
    Statistic,
    Trigger,
)
from headway.scaling.record import decision_of, replay, to_document
from headway.scaling.samples import LatencyReading, LatencyWindow, PerReplica, Reading, ReplicaReading, Samples

T0 = 1_700_000_000.0
ODD = st.sampled_from([math.nan, math.inf, -math.inf, -1.0])
NUMBER = st.floats(0, 1e4, allow_nan=False) | st.sampled_from([0.0, 1.0])
MAYBE = NUMBER | st.none() | ODD
AGE = st.floats(0, 400) | st.none()
TARGET = st.sampled_from([0.1, 0.8, 1.0, 4.0, 10.0, 333.3])

rules = st.builds(Rule, st.sampled_from(RuleType), st.integers(1, 200), st.sampled_from([1.0, 15.0, 60.0]))
directions = st.builds(
    Direction,
    st.sampled_from([0.0, 0.0, 30.0, 300.0]),
    st.lists(rules, max_size=3).map(tuple),
    st.sampled_from(Select),
    st.sampled_from([0.0, 0.1, 0.3]),
)
panics = st.none() | st.builds(Panic, st.just(6.0), st.sampled_from([1.1, 2.0, 10.0]))
loads = st.builds(
    partial(ReplicaTrigger, "load"),
    st.sampled_from(Signal),
    TARGET,
    st.sampled_from([15.0, 60.0]),
    panics,
)
latencies = st.builds(
    partial(LatencyTrigger, "latency"),
    st.sampled_from(Statistic),
    st.just(0.9),
    st.just(60.0),
    st.just(180.0),
    st.sampled_from(Pick),
    st.sampled_from([1.0, 15.0]),
    st.integers(1, 3),
    st.sampled_from([0.0, 60.0]),
    st.just(0.5),
    st.sampled_from([0.0, 60.0, 300.0]),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([0.0, 0.1]),
)
externals = st.builds(
    partial(ExternalTrigger, "queue"),
    st.sampled_from(["redis", "jobs"]),
    TARGET,
    st.sampled_from([0.0, 5.0]),
    st.booleans(),
    st.just(90.0),
)
crons = st.just(CronTrigger("cron", "*/10 * * * *", "5/10 * * * *", "Europe/Berlin", 4))
functions = st.just(FunctionTrigger("mine", 60.0))
fallbacks = st.none() | st.builds(Fallback, st.integers(1, 3), st.integers(0, 9), st.sampled_from(FallbackBehavior))


@st.composite
def policies(draw: st.DrawFn, triggers: st.SearchStrategy[list[Trigger]] | None = None) -> Policy:
    least = draw(st.integers(0, 4))
    kinds: list[st.SearchStrategy[Trigger]] = [loads, latencies, externals, crons, functions]
    some = (
        draw(triggers)
        if triggers is not None
        else [draw(kind) for kind in draw(st.lists(st.sampled_from(kinds), unique=True))]
    )
    return Policy(
        least,
        draw(st.integers(max(1, least), 30)),
        tuple(some),
        draw(directions),
        draw(directions),
        draw(st.sampled_from([0.0, 60.0, 300.0])),
        draw(fallbacks),
        draw(st.sampled_from([False, False, False, True])),
    )


replicas = st.builds(ReplicaReading, st.booleans(), st.sampled_from([0.0, 5.0, 900.0]), MAYBE, MAYBE, AGE)
window = st.builds(LatencyWindow, st.integers(0, 900), st.floats(0, 5) | st.none(), st.floats(0, 1) | st.none())
readings = st.fixed_dictionaries(
    {},
    optional={
        "load": st.builds(PerReplica, st.lists(replicas, max_size=6).map(tuple)),
        "latency": st.builds(
            LatencyReading, st.lists(window, max_size=3).map(tuple), AGE, st.sampled_from(["", "", "lost"])
        ),
        "queue": st.builds(Reading, MAYBE, AGE, st.just(""), st.integers(0, 5)),
        "mine": st.builds(Reading, MAYBE, AGE, st.just(""), st.integers(0, 5)),
    },
)


@st.composite
def steps(draw: st.DrawFn) -> tuple[float, int, int, dict[str, Any], int | None]:
    """Seconds since the last one (some negative), held, not ready, readings, and a count set by somebody else."""
    after_s = draw(st.sampled_from([0.0, 1.0, 1.0, 15.0, 60.0, 400.0, -1.0, -5000.0]))
    by_hand = draw(st.none() | st.none() | st.none() | st.integers(0, 35))
    return after_s, draw(st.sampled_from([0, 0, 0, 7])), draw(st.integers(0, 2)), draw(readings), by_hand


def play(policy: Policy, count: int, script: list[Any]) -> list[tuple[Samples, State, Decision]]:
    """Every decision with what it was made from."""
    state, now, made = State(), T0, []
    for after_s, held, unready, given_readings, by_hand in script:
        now += after_s
        count = count if by_hand is None else by_hand
        samples = Samples(count, max(0, count - unready), held, given_readings)
        decision, following = decide(policy, samples, state, now)
        made.append((samples, state, decision))
        state = following
        count = count if policy.shadow else decision.desired
    return made


scripts = st.lists(steps(), min_size=1, max_size=12)


@given(policies(), st.integers(0, 35), scripts)
def test_bounds_hold_and_nothing_raises_whatever_comes(policy: Policy, count: int, script: list[Any]) -> None:
    for samples, _, decision in play(policy, count, script):
        assert policy.least <= decision.desired <= policy.most
        assert decision.current == samples.current
        assert summary(decision)
        changed_by = [(clamp.before, clamp.after) for clamp in decision.clamps]
        assert all(before != after for before, after in changed_by)
        chain = [decision.wish, *(value for pair in changed_by for value in pair), decision.desired]
        assert all(chain[at] == chain[at + 1] for at in range(0, len(chain), 2))  # each begins where the last ended


@given(policies(), st.integers(0, 35), scripts)
def test_a_recorded_decision_replays_to_the_same(policy: Policy, count: int, script: list[Any]) -> None:
    samples, state, decision = play(policy, count, script)[-1]
    document = json.loads(json.dumps(to_document(policy, samples, state, decision), allow_nan=False))
    assert replay(document) == decision_of(document) == decision
    assert tell(document)


@given(
    policies(st.tuples(externals, functions, crons).map(list)),
    st.integers(1, 30),
    st.floats(0, 300),
    st.integers(0, 30),
    scripts,
)
@settings(max_examples=40)
def test_what_a_flip_says_is_so(policy: Policy, count: int, value: float, answer: int, script: list[Any]) -> None:
    state = play(policy, count, script)[-1][1]
    samples = Samples(count, count, 0, {"queue": Reading(value, 1.0), "mine": Reading(float(answer), 1.0)})
    decision, _ = decide(policy, samples, state, T0 + 1e5)
    found = to_document(policy, samples, state, decision)["flip"]
    if not found or "value" not in found:
        return
    reading = (samples.readings or {})[found["trigger"]]
    assert isinstance(reading, Reading)
    assert reading.value is not None

    def at(value: float) -> int:
        there = replace(samples, readings={**(samples.readings or {}), found["trigger"]: replace(reading, value=value)})
        return decide(policy, there, state, decision.at)[0].desired

    assert at(found["value"]) == found["desired"] != decision.desired
    short = math.copysign(0.05, found["value"] - reading.value)  # the search is finer than this
    if abs(found["value"] - reading.value) > abs(short):
        assert at(found["value"] - short) == decision.desired


@given(policies(), st.integers(0, 35), scripts)
def test_rate_limits_hold_over_every_period(policy: Policy, count: int, script: list[Any]) -> None:
    """With forward clocks and no other hands, the count never leaves what the rules allow from each earlier count."""
    quiet = [(max(after_s, 0.0), 0, unready, given_readings, None) for after_s, _, unready, given_readings, _ in script]
    policy = replace(policy, least=1, shadow=False)
    count = min(max(count, 1), policy.most)  # bounds are above rules
    made = play(policy, count, quiet)
    for at, (_, _, decision) in enumerate(made):
        for rule, direction in [(r, d) for d in (policy.up, policy.down) for r in d.rules]:
            if direction.select is Select.MAX and len(direction.rules) > 1:
                continue
            begin = next(each for each in made if each[2].at > decision.at - rule.period_s)
            start = begin[2].current
            up = direction is policy.up
            if direction.select is Select.DISABLED:
                assert decision.desired <= decision.current if up else decision.desired >= decision.current
            elif up and decision.desired > decision.current:
                assert decision.desired <= _up_to(rule, start)
            elif not up and decision.desired < decision.current:
                assert decision.desired >= _down_to(rule, start)
        assert at < len(made)


def _up_to(rule: Rule, start: int) -> int:
    return start + rule.value if rule.type is RuleType.PODS else math.ceil(round(start * (1 + rule.value / 100), 6))


def _down_to(rule: Rule, start: int) -> int:
    return start - rule.value if rule.type is RuleType.PODS else math.floor(round(start * (1 - rule.value / 100), 6))


@given(policies(), st.integers(1, 35), scripts)
def test_no_data_never_lowers(policy: Policy, count: int, script: list[Any]) -> None:
    for samples, _, decision in play(policy, count, script):
        if any(each.status is Status.NO_DATA for each in decision.proposals):
            assert decision.desired >= min(samples.current, policy.most)


@given(
    st.lists(st.tuples(st.sampled_from([0.5, 1.0, 30.0, 60.0]), st.integers(0, 6)), min_size=1, max_size=40),
    st.integers(0, 6),
    st.sampled_from([0.0, 1.0, 60.0]),
)
def test_windows_are_what_all_their_wishes_say(wishes: list[tuple[float, int]], current: int, window_s: float) -> None:
    """The queues keep a few of the wishes; the HPA's rule, over all of them, gives the same."""
    ups: Queue = ()
    downs: Queue = ()
    now, heard = T0, []
    for after_s, wish in wishes:
        now += after_s
        heard.append((now, wish))
        ups, downs = push_smallest(ups, wish, window_s, now), push_largest(downs, wish, window_s, now)
        inside = [each for at, each in heard if at > now - window_s] + [wish]
        wanted = min(max(current, min(inside)), max(max(inside), min(inside)))
        assert stabilize(wish, current, ups, downs) == wanted
        assert len(ups) <= 7
        assert len(downs) <= 7


@st.composite
def more(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Readings of one moment, and the same with more load somewhere; nothing known in one and unknown in the other."""
    given_readings = draw(readings)
    raised = dict(given_readings)
    factor = draw(st.floats(1.0, 3.0))
    extra = draw(st.sampled_from([0.0, 0.5, 20.0]))

    def grow(value: float | None) -> float | None:
        return value * factor + extra if value is not None and math.isfinite(value) and value >= 0 else value

    for name, reading in given_readings.items():
        if isinstance(reading, PerReplica):
            each = tuple(r._replace(value=grow(r.value), burst=grow(r.burst)) for r in reading.replicas)
            raised[name] = PerReplica(each)
        elif isinstance(reading, Reading):
            raised[name] = replace(reading, value=grow(reading.value))
    return given_readings, raised


@given(policies(), st.integers(0, 35), scripts, more(), st.integers(0, 9), st.integers(0, 9))
def test_more_load_never_proposes_or_decides_fewer(
    policy: Policy, count: int, script: list[Any], load: tuple[dict[str, Any], dict[str, Any]], held: int, ready: int
) -> None:
    made = play(policy, count, script)
    samples, state, last = made[-1]
    _, state = decide(policy, samples, state, last.at)
    current = last.current if policy.shadow else last.desired
    decisions = [
        decide(policy, Samples(current, min(ready, current), held + n * 5, given_readings), state, last.at + 1)[0]
        for n, given_readings in enumerate(load)
    ]
    assert decisions[0].desired <= decisions[1].desired
    for less, much in zip(decisions[0].proposals, decisions[1].proposals, strict=True):
        if less.trigger != "latency" and less.desired is not None and much.desired is not None:
            assert less.desired <= much.desired


@given(policies(latencies.map(lambda each: [each])), st.integers(1, 20), st.floats(0.01, 5), st.floats(1.0, 5.0))
def test_slower_answers_never_mean_fewer(policy: Policy, count: int, value: float, factor: float) -> None:
    """While no step is being judged: then a slower answer may well mean that the step was useless."""
    assume(count <= policy.most)
    calm = LatencyState(evaluated_at=T0 - 999, below_since=T0 - 999, idle_since=T0 - 999)
    state = State(latency={"latency": calm}, at=T0 - 1, last=count, active_at=T0 - 1)
    wishes = [
        decide(
            policy,
            Samples(count, count, 0, {"latency": LatencyReading((LatencyWindow(600, each, 0.9),), 0.0)}),
            state,
            T0,
        )[0].desired
        for each in (value, value * factor)
    ]
    assert wishes[0] <= wishes[1]


@given(
    loads,
    st.integers(1, 20),
    st.lists(st.floats(0.901, 1.099), min_size=1, max_size=30),
    st.sampled_from([0.1, 0.2]),
)
def test_noise_within_the_tolerance_never_flaps(
    trigger: ReplicaTrigger, count: int, noise: list[float], tolerance: float
) -> None:
    free = Direction(0.0, (), Select.MAX, tolerance)
    assume(trigger.panic is None or trigger.panic.threshold >= 2)
    policy = Policy(1, 50, (trigger,), free, free)
    state = State()
    for second, each in enumerate(noise):
        reading = ReplicaReading(True, 900.0, trigger.target * each, trigger.target * each, 0.5)
        samples = Samples(count, count, 0, {"load": PerReplica((reading,) * count)})
        decision, state = decide(policy, samples, state, T0 + second)
        assume(count > 1 or trigger.panic is None)  # ceil(1.05) is twice one replica: a panic, as in Knative
        assert decision.desired == count


@given(policies(), st.integers(0, 20), scripts, st.floats(0.1, 1e6))
@settings(max_examples=50)
def test_a_clock_set_back_changes_no_age(policy: Policy, count: int, script: list[Any], back_s: float) -> None:
    """Right after it, the decision is the one that would have been made had the clock stood still."""
    triggers = tuple(each for each in policy.triggers if not isinstance(each, CronTrigger))
    policy = replace(policy, triggers=triggers)
    back_s = float(round(back_s))  # so that instants stay exact
    samples, state, last = play(policy, count, script)[-1]
    _, after = decide(policy, samples, state, last.at)
    current = last.current if policy.shadow else last.desired
    seen = replace(samples, current=current)
    still, _ = decide(policy, seen, after, last.at)
    moved, _ = decide(policy, seen, after, last.at - back_s)
    assert replace(moved, at=still.at) == still
