"""Workers: how the machine is shared out, and what the policy of workers makes of a queue."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway.control.job_demand import demand_of, spread
from headway.control.worker_shares import TURN_S, Wish, shared_out
from headway.domain.job_spec import JobWorkers
from headway.domain.jobs import JobCount
from headway.domain.routing_table import Arm
from headway.scaling.decide import decide
from headway.scaling.decision import State
from headway.scaling.from_spec import worker_policy
from headway.scaling.record import decision_of, replay, to_document
from headway.scaling.samples import Reading, Samples

keys = st.tuples(st.sampled_from(["a", "b", "c", "d"]), st.sampled_from(["v1", "v2"]))
wishes = st.dictionaries(keys, st.builds(Wish, st.integers(0, 12), st.integers(0, 12)), max_size=8)
since = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.sampled_from([0.0, 5.0, TURN_S, 900.0]))


@given(wishes, st.integers(0, 30), since)
def test_nobody_gets_more_than_it_wants_and_nothing_is_left_over_that_somebody_wants(
    asked: dict[tuple[str, str], Wish], most: int, since_s: dict[str, float]
) -> None:
    given_out = shared_out(asked, most, since_s)
    assert given_out.keys() == asked.keys()
    assert all(0 <= count <= asked[key].wanted for key, count in given_out.items())
    assert sum(given_out.values()) == min(most, sum(wish.wanted for wish in asked.values()))


@given(wishes, st.integers(0, 30), since)
def test_no_model_has_two_more_than_one_that_wants_more(
    asked: dict[tuple[str, str], Wish], most: int, since_s: dict[str, float]
) -> None:
    given_out = shared_out(asked, most, since_s)

    def of(model: str, found: dict[tuple[str, str], int]) -> int:
        return sum(count for (name, _), count in found.items() if name == model)

    wanted = {key: wish.wanted for key, wish in asked.items()}
    models = {model for model, _ in asked}
    hungry = [model for model in models if of(model, given_out) < of(model, wanted)]
    for model in hungry:
        assert all(of(other, given_out) <= of(model, given_out) + 1 for other in models)


@given(wishes, st.integers(1, 8))
def test_a_turn_that_has_just_begun_is_kept(asked: dict[tuple[str, str], Wish], most: int) -> None:
    """What is given out is given out again a moment later, whoever waits."""
    first = shared_out(asked, most, dict.fromkeys("abcd", 900.0))
    now = {key: Wish(wish.wanted, first[key]) for key, wish in asked.items()}
    has = {model for (model, _), count in first.items() if count}
    again = shared_out(now, most, {model: 1.0 if model in has else 900.0 for model in "abcd"})
    assert {model for (model, _), count in again.items() if count} == has


arms = st.lists(st.integers(0, 100), min_size=1, max_size=4).map(
    lambda weights: [Arm(f"v{n + 1}", weight) for n, weight in enumerate(_hundred(weights))]
)


def _hundred(weights: list[int]) -> list[int]:
    total = sum(weights) or 1
    scaled = [weight * 100 // total for weight in weights]
    scaled[0] += 100 - sum(scaled)
    return scaled


@given(st.integers(0, 1000), arms)
def test_jobs_that_follow_production_are_all_asked_for_once(jobs: int, live: list[Arm]) -> None:
    shares = spread(jobs, live)
    assert sum(shares.values()) == jobs
    for arm in live:
        assert abs(shares.get(arm.version, 0) - jobs * arm.weight / 100) < 1
    counts = [JobCount("m", None, jobs, 5, 3, None), JobCount("m", "v1", 2, 9, 1, None)]
    assert sum(demand_of(counts, {"v9": 3}, live).values()) == jobs + 3 + 3


policies = st.builds(
    lambda least, more, target, window, cooldown: (
        least,
        JobWorkers(max=max(1, least + more), target=target, scale_down_window=window, cooldown=cooldown),
    ),
    st.integers(0, 3),
    st.integers(0, 40),
    st.sampled_from([0.5, 1.0, 4.0]),
    st.sampled_from(["0s", "30s"]),
    st.sampled_from(["0s", "30s"]),
)
seen = st.lists(st.tuples(st.integers(0, 3000) | st.none(), st.none() | st.integers(0, 20)), min_size=1, max_size=30)


@given(policies, seen)
def test_workers_cover_the_queue_at_once_and_stay_within_bounds_and_room(
    made: tuple[int, JobWorkers], script: list[tuple[int | None, int | None]]
) -> None:
    least, workers = made
    policy, state, count, now = worker_policy(workers, least), State(), 0, 1_000_000.0
    for jobs, room in script:
        now += 1.0
        reading = Reading(None, None, "away", 1) if jobs is None else Reading(float(jobs), 0.0)
        samples = Samples(count, count, 0, {"jobs": reading}, room)
        before = state
        decision, state = decide(policy, samples, before, now)
        document = to_document(policy, samples, before, decision)
        assert replay(document) == decision == decision_of(document)
        assert 0 <= decision.desired <= policy.most
        if room is not None:
            assert decision.desired <= room
        elif jobs is None:
            assert decision.desired >= min(count, policy.most), "no data never lowers"
        else:
            enough = min(policy.most, -(-jobs // 1) if workers.target == 1.0 else int(-(-jobs // workers.target)))
            assert decision.desired >= max(least, enough), "a burst is covered at once"
        count = decision.desired


def test_a_quiet_queue_ends_without_a_worker() -> None:
    policy, state, count, now = worker_policy(JobWorkers(), 0), State(), 8, 1000.0
    counts = []
    for _ in range(120):
        now += 1.0
        decision, state = decide(policy, Samples(count, count, 0, {"jobs": Reading(0.0, 0.0)}), state, now)
        count = decision.desired
        counts.append(count)
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0
