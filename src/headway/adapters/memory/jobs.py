"""Jobs in memory: all four job ports on dicts.

Each method changes everything it changes without yielding to the event loop, so it is one transaction; a rule that is
broken is found before anything changes. Nothing survives the process. Lines are sorted when somebody asks, which
is meant for tests, not for a million jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from headway.adapters.memory.job_events import MemoryJobEvents
from headway.domain import job_rules as rules
from headway.domain.clock_steps import ClockSteps
from headway.domain.errors import HeadwayError
from headway.domain.job_order import Reminders, in_order, next_turn, that_fit
from headway.domain.jobs import (
    Beat,
    BeatVerdict,
    Claim,
    Delivery,
    Job,
    JobCount,
    JobError,
    JobQuery,
    Lease,
    NewJob,
    Outcome,
    Submitted,
    Swept,
)
from headway.domain.lifecycle import JobState
from headway.ports.clock import Clock
from headway.ports.job_store import Content

_Line = tuple[str, str | None, int]
"""Model, version, priority: within it, turns can be compared."""


@dataclass(slots=True)
class _Kept:
    job: Job
    turn: int
    due: bool
    """It waits, and its not-before time has come. Once true, a clock that steps back does not undo it."""
    fingerprint: bytes

    @property
    def line(self) -> _Line:
        return self.job.model, self.job.version, self.job.priority


@dataclass(slots=True)
class _Call:
    delivery: Delivery
    due_at: float
    over: bool = False
    reason: str | None = None


class MemoryJobs(MemoryJobEvents):
    """JobStore, JobLeases, JobFeed and WebhookOutbox, for one event loop.

    ``fenced`` False takes fencing away, only to show by experiment that it is needed.
    """

    def __init__(self, clock: Clock, *, fenced: bool = True) -> None:
        super().__init__()
        self._clock = clock
        self._fenced = fenced
        self._kept: dict[str, _Kept] = {}
        self._contents: dict[tuple[str, Content], bytes] = {}
        self._keys: dict[tuple[str, str, str], str] = {}
        self._claimed_turn: dict[_Line, int] = {}
        self._callers_turn: dict[tuple[_Line, str], int] = {}
        self._calls: dict[str, _Call] = {}
        self._steps = ClockSteps(clock.now(), clock.monotonic())
        self._reminders = Reminders()

    async def start(self) -> None:
        """There is nothing to open."""

    async def close(self) -> None:
        """There is nothing to close."""

    # -- JobStore ----------------------------------------------------------------------------

    async def submit(self, jobs: Sequence[NewJob], *, most_queued: int | None = None) -> list[Submitted]:
        """See the port."""
        now = self._now()
        answers: list[str] = []
        added: dict[str, NewJob] = {}
        keys: dict[tuple[str, str, str], bytes] = {}
        for new in jobs:
            key = _key(new)
            known = self._keys.get(key) if key else None
            if key and known is not None:
                rules.check_same(new, self._kept[known].fingerprint)
            elif key and key in keys:
                rules.check_same(new, keys[key])
                known = next(n.job_id for n in added.values() if _key(n) == key)
            elif new.job_id in self._kept or new.job_id in added:
                raise HeadwayError(f"the id {new.job_id} was used before")
            else:
                added[new.job_id] = new
                if key:
                    keys[key] = rules.fingerprint(new)
            answers.append(known or new.job_id)
        for model in {new.model for new in added.values()}:
            waiting = sum(k.job.model == model and k.job.state is JobState.QUEUED for k in self._kept.values())
            rules.check_room(model, waiting, sum(n.model == model for n in added.values()), most_queued)
        for new in added.values():
            self._add(new, now)
        told: set[str] = set()
        result = []
        for job_id in answers:
            result.append(Submitted(self._kept[job_id].job, job_id in added and job_id not in told))
            told.add(job_id)
        return result

    async def get(self, job_id: str) -> Job:
        """See the port."""
        return self._find(job_id).job

    async def place(self, job_id: str, most: int = 10_000) -> int | None:
        """See the port."""
        kept = self._find(job_id)
        if kept.job.state is not JobState.QUEUED:
            return None
        own = _order(kept)
        return min(most, sum(_order(k) < own for k in self._line(kept.job.model, kept.job.version)))

    async def find(self, query: JobQuery) -> list[Job]:
        """See the port."""
        found = [
            kept.job
            for job_id, kept in sorted(self._kept.items(), reverse=True)
            if kept.job.model == query.model
            and (not query.states or kept.job.state in query.states)
            and query.client in (None, kept.job.client)
            and query.batch in (None, kept.job.batch)
            and query.version in (None, kept.job.version)
            and (query.before is None or job_id < query.before)
        ]
        return found[: max(0, query.limit)]

    async def cancel(self, job_id: str) -> Job:
        """See the port."""
        now = self._now()
        kept = self._find(job_id)
        self._change(kept, rules.canceled(kept.job, now), now)
        return kept.job

    async def content(self, job_id: str, which: Content) -> bytes:
        """See the port."""
        try:
            return self._contents[job_id, which]
        except KeyError:
            raise rules.no_content(job_id, which) if job_id in self._kept else rules.not_found(job_id) from None

    # -- JobLeases ---------------------------------------------------------------------------

    async def claim(self, claim: Claim) -> list[Lease]:
        """See the port."""
        now = self._now()
        self._make_due(now)
        for kept in self._kept.values():
            if kept.job.state is JobState.QUEUED and rules.overdue(kept.job, now):
                self._change(kept, rules.expired(kept.job, now), now)
        pinned = [kept.job for kept in self._line(claim.model, claim.version)]
        following = [kept.job for kept in self._line(claim.model, None)] if claim.follows else []
        leases = []
        for job in that_fit(in_order(pinned, following), claim):
            kept = self._kept[job.job_id]
            self._change(kept, rules.claimed(job, claim, now), now)
            self._claimed_turn[kept.line] = max(kept.turn, self._claimed_turn.get(kept.line, 0))
            leases.append(Lease(kept.job, kept.job.token, self._contents[job.job_id, "input"]))
        return leases

    async def renew(self, worker: str, beats: Sequence[Beat], lease_s: float) -> list[BeatVerdict]:
        """See the port."""
        now = self._now()
        verdicts: list[BeatVerdict] = []
        for beat in beats:
            kept = self._kept.get(beat.job_id)
            if kept is None:
                verdicts.append("lost")
                continue
            after, verdict = rules.beaten(kept.job, beat, lease_s, now)
            self._change(kept, after, now)
            verdicts.append(verdict)
        return verdicts

    async def finish(self, outcomes: Sequence[Outcome]) -> list[bool]:
        """See the port."""
        now = self._now()
        accepted = []
        for outcome in outcomes:
            kept = self._kept.get(outcome.job_id)
            if kept is None or not rules.accepts(kept.job, outcome, fenced=self._fenced):
                accepted.append(False)
                continue
            after = rules.finished(kept.job, outcome, now, fenced=self._fenced)
            if after.state is JobState.SUCCEEDED:
                self._contents[outcome.job_id, "result"] = outcome.body
            self._change(kept, after, now)
            accepted.append(after.state is not JobState.EXPIRED)
        return accepted

    async def abandon(self, worker: str, error: JobError) -> list[str]:
        """See the port."""
        now = self._now()
        held = [k for k in self._kept.values() if k.job.state is JobState.RUNNING and k.job.worker == worker]
        for kept in held:
            self._change(kept, rules.abandoned(kept.job, error, now), now)
        return sorted(kept.job.job_id for kept in held)

    async def sweep(self, most: int = 1000) -> Swept:
        """See the port."""
        now = self._now()
        due = self._make_due(now, most)
        found: dict[str, list[str]] = {"lost": [], "timed_out": [], "expired": []}
        open_jobs = [kept for kept in self._kept.values() if not kept.job.ended]
        for kept in sorted(open_jobs, key=lambda k: (rules.attend_at(k.job) or 0.0, k.job.job_id)):
            before = kept.job
            if (kind := rules.finding(before, now)) and sum(map(len, found.values())) < most:
                self._change(kept, rules.swept(before, now), now)
                found[kind].append(before.job_id)
        for model, version in sorted({k.line[:2] for k in self._kept.values() if k.due}, key=_by_name):
            if self._reminders.is_up(model, version, now):
                line = self._line(model, version)
                due += [k for k in line[:most] if k not in due and k.job.not_before <= now - Reminders.EVERY_S]
        return Swept(**found, due=[(k.job.model, k.job.job_id) for k in due])

    async def clear(self, most: int = 1000) -> int:
        """See the port."""
        now = self._now()
        over = [
            job_id
            for job_id, kept in sorted(self._kept.items())
            if kept.job.keep_until is not None and kept.job.keep_until <= now and not self._has_open_call(job_id)
        ][:most]
        for job_id in over:
            kept = self._kept.pop(job_id)
            if kept.job.idempotency_key is not None:
                del self._keys[kept.job.model, kept.job.client, kept.job.idempotency_key]
            self._contents.pop((job_id, "input"), None)
            self._contents.pop((job_id, "result"), None)
            self._calls.pop(rules.delivery_id(job_id), None)
        self.forget(over)
        return len(over)

    # -- JobFeed -----------------------------------------------------------------------------

    async def counts(self) -> list[JobCount]:
        """See the port."""
        self._make_due(self._now())
        lines: dict[tuple[str, str | None], list[_Kept]] = {}
        for kept in self._kept.values():
            if not kept.job.ended:
                lines.setdefault(kept.line[:2], []).append(kept)
        counts = []
        for (model, version), line in sorted(lines.items(), key=lambda item: _by_name(item[0])):
            due = [kept.job.not_before for kept in line if kept.due]
            running = sum(kept.job.state is JobState.RUNNING for kept in line)
            counts.append(
                JobCount(model, version, len(due), len(line) - len(due) - running, running, min(due, default=None))
            )
        return counts

    # -- WebhookOutbox -----------------------------------------------------------------------

    async def due(self, most: int, hold_s: float) -> list[Delivery]:
        """See the port."""
        now = self._now()
        up = sorted((c for c in self._calls.values() if not c.over and c.due_at <= now), key=lambda c: c.due_at)
        for call in up[:most]:
            call.due_at = now + hold_s
            call.delivery = replace(call.delivery, token=call.delivery.token + 1)
        return [call.delivery for call in up[:most]]

    async def delivered(self, delivery: Delivery) -> bool:
        """See the port."""
        call = self._held(delivery)
        if call is not None:
            call.over = True
        return call is not None

    async def postpone(self, delivery: Delivery, wait_s: float | None, reason: str) -> bool:
        """See the port."""
        now = self._now()
        call = self._held(delivery)
        if call is None:
            return False
        # Another token: whoever postponed it does not hold it any more.
        call.delivery = replace(call.delivery, tries=call.delivery.tries + 1, token=call.delivery.token + 1)
        call.over, call.due_at, call.reason = wait_s is None, now + (wait_s or 0.0), reason
        return True

    # -- what they share ---------------------------------------------------------------------

    def _now(self) -> float:
        now = self._clock.now()
        if step := self._steps.step_s(now, self._clock.monotonic()):
            for kept in self._kept.values():
                kept.job = rules.stepped(kept.job, step)
            for call in self._calls.values():
                call.due_at += step
        return now

    def _find(self, job_id: str) -> _Kept:
        try:
            return self._kept[job_id]
        except KeyError:
            raise rules.not_found(job_id) from None

    def _line(self, model: str, version: str | None) -> list[_Kept]:
        own = [k for k in self._kept.values() if k.due and k.job.model == model and k.job.version == version]
        return sorted(own, key=_order)

    def _make_due(self, now: float, most: int | None = None) -> list[_Kept]:
        waiting = [k for k in self._kept.values() if k.job.state is JobState.QUEUED and not k.due]
        come = sorted((k for k in waiting if k.job.not_before <= now), key=lambda k: k.job.not_before)[:most]
        for kept in come:
            kept.due = True
        return come

    def _add(self, new: NewJob, now: float) -> None:
        job = rules.submitted(new, now)
        line = job.model, job.version, job.priority
        turn = next_turn(self._claimed_turn.get(line, 0), self._callers_turn.get((line, job.client), 0))
        self._callers_turn[line, job.client] = turn
        key = _key(new)
        self._kept[job.job_id] = _Kept(job, turn, job.not_before <= now, rules.fingerprint(new) if key else b"")
        self._contents[job.job_id, "input"] = new.body
        if key:
            self._keys[key] = job.job_id
        self.record(rules.event(None, job, now))

    def _change(self, kept: _Kept, after: Job, now: float) -> None:
        before, kept.job = kept.job, after
        if before.state is not after.state:
            kept.due = after.state is JobState.QUEUED and after.not_before <= now
        if after.ended and not before.ended and after.webhook is not None:
            delivery = Delivery(rules.delivery_id(after.job_id), after, after.webhook.url, 0, 0)
            self._calls[delivery.delivery_id] = _Call(delivery, now)
        self.record(rules.event(before, after, now))

    def _held(self, delivery: Delivery) -> _Call | None:
        call = self._calls.get(delivery.delivery_id)
        return call if call and not call.over and (not self._fenced or call.delivery.token == delivery.token) else None

    def _has_open_call(self, job_id: str) -> bool:
        call = self._calls.get(rules.delivery_id(job_id))
        return call is not None and not call.over


def _key(new: NewJob) -> tuple[str, str, str] | None:
    return None if new.idempotency_key is None else (new.model, new.client, new.idempotency_key)


def _by_name(queue: tuple[str, str | None]) -> tuple[str, str]:
    return queue[0], queue[1] or ""


def _order(kept: _Kept) -> tuple[int, int, str]:
    return -kept.job.priority, kept.turn, kept.job.job_id
