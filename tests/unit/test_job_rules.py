"""The rules of jobs that a table of examples shows best."""

from __future__ import annotations

import pytest

from headway.domain import job_rules as rules
from headway.domain.clock_steps import ClockSteps
from headway.domain.job_order import Reminders
from headway.domain.jobs import JobError, NewJob, Outcome, RetryPolicy
from headway.domain.lifecycle import JobState

RAISED = ("requests.exceptions.ConnectionError", "requests.exceptions.RequestException", "builtins.OSError")


@pytest.mark.parametrize(
    ("code", "exception", "retry_on", "expected"),
    [
        ("model_failed", RAISED, ("ConnectionError",), True),
        ("model_failed", RAISED, ("requests.exceptions.ConnectionError",), True),
        ("model_failed", RAISED, ("exceptions.ConnectionError",), False),
        ("model_failed", RAISED, ("OSError",), True),
        ("model_failed", RAISED, ("builtins.OSError",), True),
        ("model_failed", RAISED, ("TimeoutError", "KeyError"), False),
        ("model_failed", ("Exception",), ("Exception",), True),
        ("model_failed", RAISED, (), False),
        ("model_failed", (), ("Exception",), False),
        ("result_too_large", RAISED, ("OSError",), False),
        ("invalid_request", RAISED, ("OSError",), False),
        ("payload_too_large", (), ("Exception",), False),
        ("overloaded", (), (), True),
        ("not_ready", (), (), True),
        ("worker_lost", (), (), True),
        ("job_timed_out", (), (), True),
        ("out_of_memory", (), (), False),
        ("from_a_newer_headway", (), (), True),
    ],
)
def test_which_errors_another_attempt_may_mend(
    code: str, exception: tuple[str, ...], retry_on: tuple[str, ...], expected: bool
) -> None:
    assert rules.is_retried(RetryPolicy(retry_on=retry_on), JobError(code, "", exception=exception)) is expected


@pytest.mark.parametrize(
    ("asked", "expected"), [(0.0, 0.0), (7.5, 7.5), (1e9, rules.MOST_ASKED_WAIT_S), (-1.0, 10.0), (float("nan"), 10.0)]
)
def test_the_models_wish_for_a_wait(asked: float, expected: float) -> None:
    assert rules.next_wait_s(RetryPolicy(initial_s=10.0, jitter=0.0), "j", 1, asked) == expected


def test_a_wait_grows_up_to_its_most_even_where_numbers_end() -> None:
    retry = RetryPolicy(initial_s=1.0, factor=10.0, most_s=300.0, jitter=0.0)
    assert [rules.next_wait_s(retry, "j", n) for n in (1, 2, 3, 4, 1000)] == [1, 10, 100, 300, 300]


def test_clock_steps_are_told_from_drift() -> None:
    steps = ClockSteps(1000.0, 5.0)
    assert steps.step_s(1010.2, 15.0) == 0.0
    assert steps.step_s(1020.4, 25.0) == 0.0
    assert steps.step_s(1030.6, 35.0) == pytest.approx(0.6)  # three times 0.2 make a step
    assert steps.step_s(1040.6, 45.0) == 0.0
    assert steps.step_s(-2559.4, 45.0) == pytest.approx(-3600.0)
    assert steps.step_s(-2549.4, 55.0) == 0.0


def test_reminders_come_now_and_then_for_each_queue() -> None:
    reminders = Reminders()
    asked = [(at, version) for at in (0.0, 9.0, 10.0, 5.0) for version in ("v1", None)]
    told = [(at, version) for at, version in asked if reminders.is_up("iris", version, at)]
    assert told == [(0.0, "v1"), (0.0, None), (10.0, "v1"), (10.0, None)]


def test_an_outcome_without_fencing_counts_whatever_it_says() -> None:
    job = rules.submitted(NewJob("j", "iris", "v1", "", "/predict", "", b""), 1.0)
    late = Outcome("j", 7)
    assert not rules.accepts(job, late)
    assert rules.accepts(job, late, fenced=False)
    assert rules.finished(job, late, 2.0, fenced=False).state is JobState.SUCCEEDED
