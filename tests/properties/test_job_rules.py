"""Whatever happens to a job, in whatever order: its rules hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headway.domain import job_rules as rules
from headway.domain.errors import tree
from headway.domain.job_order import in_order, that_fit
from headway.domain.jobs import Beat, Claim, Job, JobError, NewJob, Outcome, RetryPolicy
from headway.domain.lifecycle import JOB_TRANSITIONS, JobState

retries = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 5),
    initial_s=st.floats(0, 100),
    factor=st.floats(1, 10),
    most_s=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
    retry_on=st.lists(st.sampled_from(["Exception", "KeyError"])).map(tuple),
)
errors = st.builds(
    JobError,
    code=st.sampled_from([error.code for error in tree()]),
    message=st.just("no"),
    exception=st.sampled_from([(), ("KeyError", "Exception"), ("SystemExit",)]),
    retry_after_s=st.none() | st.floats(),
)
outcomes = st.builds(
    Outcome,
    job_id=st.just("j"),
    token=st.integers(0, 4),
    error=st.none() | errors,
    body=st.binary(max_size=6),
    given_back=st.booleans(),
    canceled=st.booleans(),
)
steps = st.one_of(
    st.tuples(st.just("claim"), st.none()),
    st.tuples(st.just("finish"), outcomes),
    st.tuples(st.just("renew"), st.integers(0, 4)),
    st.tuples(st.just("abandon"), errors),
    st.tuples(st.just("cancel"), st.none()),
    st.tuples(st.just("sweep"), st.none()),
    st.tuples(st.just("step"), st.floats(-5000, 5000)),
)


def after(job: Job, step: tuple[str, Any], now: float) -> Job:
    kind, value = step
    running, due = job.state is JobState.RUNNING, job.state is JobState.QUEUED and not rules.overdue(job, now)
    if kind == "claim" and due:
        return rules.claimed(job, Claim("w", "iris", "v1", True), now)
    if kind == "finish" and rules.accepts(job, value):
        return rules.finished(job, value, now)
    if kind == "renew":
        return rules.beaten(job, Beat("j", value), 15.0, now)[0]
    if kind == "abandon" and running:
        return rules.abandoned(job, value, now)
    if kind == "cancel":
        return rules.canceled(job, now)
    if kind == "sweep":
        return rules.swept(job, now)
    return rules.stepped(job, value) if kind == "step" else job


@given(retries, st.none() | st.floats(100, 300), st.lists(st.tuples(steps, st.floats(0, 60)), max_size=30))
def test_every_history_keeps_the_rules(
    retry: RetryPolicy, deadline: float | None, history: list[tuple[tuple[str, Any], float]]
) -> None:
    now = 100.0
    new = NewJob("j", "iris", "v1", "ann", "/predict", "", b"", deadline_at=deadline, retry=retry, timeout_s=50.0)
    job = rules.submitted(replace(new, max_result_bytes=4), now)
    told = [rules.event(None, job, now)]
    for step, pause in history:
        now += pause
        before, job = job, after(job, step, now)
        told.append(rules.event(before, job, now))
        assert job.state is before.state or job.state in JOB_TRANSITIONS[before.state]
        assert not before.ended or job == before
        assert job.token == before.token + (job.state is JobState.RUNNING and before.state is JobState.QUEUED)
        assert 0 <= job.attempts <= min(job.token, retry.max_attempts)
        assert (job.lease_until is None) == (job.state is not JobState.RUNNING)
        assert (job.finished_at is None) == (job.keep_until is None) == (not job.ended)
        assert (job.result_bytes is not None) == (job.state is JobState.SUCCEEDED)
        if job.state is JobState.FAILED:
            assert job.error is not None
        moment = rules.attend_at(job)
        assert (rules.finding(job, now) is not None) == (moment is not None and moment <= now)
        assert rules.finding(rules.swept(job, now), now) is None
    types = [event.type for event in told if event]
    assert types[0] == rules.JobEventType.SUBMITTED
    ends = [kind for kind in types if kind in rules.END_EVENTS]
    assert len(ends) == job.ended
    assert not ends or ends[0] == types[-1]
    assert types.count(rules.JobEventType.STARTED) == job.token


@given(retries, st.text(max_size=26), st.integers(1, 1000))
def test_waits_stay_within_their_bounds_and_are_the_same_each_time(
    retry: RetryPolicy, job_id: str, attempts: int
) -> None:
    wait = rules.next_wait_s(retry, job_id, attempts)
    assert 0 <= wait <= retry.most_s * (1 + retry.jitter)
    assert wait == rules.next_wait_s(retry, job_id, attempts)
    plain = rules.next_wait_s(replace(retry, jitter=0.0), job_id, attempts)
    assert plain * (1 - retry.jitter) * 0.999 <= wait <= plain * (1 + retry.jitter) * 1.001


def line(numbers: list[tuple[int, int]], mark: str) -> list[Job]:
    """A line of jobs in the order of claims: priorities falling, submission as it comes."""
    jobs = [
        rules.submitted(NewJob(f"{at:06}{mark}{i}", "iris", "v1", "", "", "", b"", priority=priority), 1.0)
        for i, (priority, at) in enumerate(numbers)
    ]
    return sorted(jobs, key=lambda job: -job.priority)


numbers = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), max_size=12)


@given(numbers, numbers, st.integers(0, 30))
def test_two_lines_become_one_and_neither_is_reordered(
    one: list[tuple[int, int]], other: list[tuple[int, int]], most: int
) -> None:
    a, b = line(one, "a"), line(other, "b")
    merged = [*in_order(a, b)]
    assert [job for job in merged if job in a] == a
    assert [job for job in merged if job in b] == b
    assert len(merged) == len(a) + len(b)
    assert [job.priority for job in merged] == sorted((job.priority for job in merged), reverse=True)
    taken = that_fit(iter(merged), Claim("w", "iris", "v1", True, most=most))
    assert taken == merged[:most]


asked = st.builds(
    NewJob,
    st.just("j"),
    st.just("iris"),
    st.sampled_from(["v1", None]),
    st.just(""),
    st.text(max_size=3),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.text(max_size=3),
    asked=st.text(st.characters(), max_size=3),
)


@given(asked, asked)
def test_fingerprints_tell_different_wishes_apart(one: NewJob, other: NewJob) -> None:
    same = replace(one, version=None) == replace(other, version=None)
    assert (rules.fingerprint(one) == rules.fingerprint(other)) == same
