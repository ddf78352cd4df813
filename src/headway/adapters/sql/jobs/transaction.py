"""What a transaction does after the requests that name their jobs: claims, sweeps, clearing, deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from headway.adapters.sql.jobs.group import Entry, Ledger, Steps
from headway.adapters.sql.jobs.requests import Clear, Due, Regrant, Request, Settle, Sweep, Take
from headway.adapters.sql.jobs.rows import job_of, line_of
from headway.adapters.sql.jobs.statements import Fetch, Statements
from headway.domain import job_rules as rules
from headway.domain.errors import HeadwayError
from headway.domain.job_order import Reminders, in_order, that_fit
from headway.domain.jobs import Claim, Delivery, Job, Swept

_AT_ONCE: Final = 1000
"""Jobs that a claim makes due, or finds expired, on its way."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A claimed job, with its input or the name of the file that holds it."""

    job: Job
    data: bytes | None
    file: str | None


@dataclass(frozen=True, slots=True)
class Cleared:
    count: int
    files: Sequence[str]
    """To be removed, once this is durable."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Answers in the order of the requests (an error stands for its request alone), and the newest cursor."""

    answers: Sequence[Any]
    cursor: int


def transaction(statements: Statements, requests: Sequence[Request], reminders: Reminders, *, fenced: bool) -> Steps:
    """All of ``requests``, as one; returns :class:`Settled`."""
    ledger = Ledger(statements, fenced=fenced)
    yield from ledger.begin()
    yield from ledger.load_for(requests)
    answers: list[Any] = [None] * len(requests)
    claims: list[tuple[int, Claim]] = []
    later: list[tuple[int, Request]] = []
    for place, request in enumerate(requests):
        match request:
            case Take(claim=claim):
                claims.append((place, claim))
            case Sweep() | Clear() | Due() | Settle() | Regrant():
                later.append((place, request))
            case _:
                try:
                    answers[place] = ledger.apply(request)
                except HeadwayError as error:
                    answers[place] = error
    if claims or later:
        yield from ledger.flush()
    if claims:
        taken = yield from _take(ledger, [claim for _, claim in claims])
        for (place, _), leases in zip(claims, taken, strict=True):
            answers[place] = leases
    for place, request in later:
        yield from ledger.flush()
        answers[place] = yield from _carry_out(ledger, request, reminders)
    yield from ledger.end()
    return Settled(answers, ledger.cursor)


def _carry_out(ledger: Ledger, request: Request, reminders: Reminders) -> Steps:
    match request:
        case Sweep(most=most):
            return (yield from _sweep(ledger, most, reminders))
        case Clear(most=most):
            return (yield from _clear(ledger, most))
        case Due(most=most, hold_s=hold_s):
            return (yield from _due(ledger, most, hold_s))
        case Settle():
            return (yield from _settle(ledger, request))
        case Regrant(lease_s=lease_s):
            running = yield from ledger.fetch_jobs(Fetch(ledger.statements.jobs_running))
            for entry in running:
                ledger.change(entry, rules.regranted(entry.job, lease_s, ledger.now))
            return None
        case _:
            raise HeadwayError(f"{type(request).__name__} is carried out elsewhere")


def _make_due(ledger: Ledger, most: int) -> Steps:
    """``(model, job id)`` of jobs whose not-before time has come, which now stand in their lines."""
    come = yield Fetch(ledger.statements.make_due, {"now": ledger.now, "most": most})
    yield from ledger.load_lines(model for _, model, _, _ in come)
    for job_id, model, version, urgency in come:
        ledger.line((model, version, urgency)).move("delayed", "queued")
        if job_id in ledger.entries:
            ledger.entries[job_id].shelf = "queued"
    return [(model, job_id) for job_id, model, _, _ in come]


def _take(ledger: Ledger, claims: Sequence[Claim]) -> Steps:
    """The jobs of each claim. Each line is asked once, for as many as all claims on it may take."""
    yield from ledger.load_lines(claim.model for claim in claims)
    up = {"now": ledger.now, "most": _AT_ONCE}
    ((any_due, any_overdue),) = yield Fetch(ledger.statements.anything_up, up)
    if any_due:
        yield from _make_due(ledger, _AT_ONCE)
    if any_overdue:
        for entry in (yield from ledger.fetch_jobs(Fetch(ledger.statements.jobs_overdue, up))):
            ledger.change(entry, rules.swept(entry.job, ledger.now))
    demand: dict[tuple[str, str], int] = {}
    for claim in claims:
        for version in (claim.version, "") if claim.follows else (claim.version,):
            demand[claim.model, version] = demand.get((claim.model, version), 0) + max(0, claim.most)
    heads: dict[tuple[str, str], list[Job]] = {}
    for (model, version), most in demand.items():
        if not any(line.queued for key, line in ledger.lines.items() if key[:2] == (model, version)):
            heads[model, version] = []
            continue
        given = {"model": model, "version": version, "now": ledger.now, "most": most}
        found = yield from ledger.fetch_jobs(Fetch(ledger.statements.line_heads, given))
        heads[model, version] = [entry.job for entry in found if entry.shelf == "queued"]
    taken: list[list[Entry]] = []
    for claim in claims:
        pinned = heads[claim.model, claim.version]
        following = heads[claim.model, ""] if claim.follows else []
        own = []
        for job in that_fit(in_order(pinned, following), claim):
            (pinned if pinned and pinned[0] is job else following).pop(0)
            own.append(_hand_out(ledger, ledger.entries[job.job_id], claim))
        taken.append(own)
    ids = [entry.job.job_id for own in taken for entry in own]
    if not ids:
        return [[] for _ in claims]
    inputs = {job_id: found for job_id, *found in (yield Fetch(ledger.statements.inputs, {"ids": ids}))}
    return [[Taken(entry.job, *inputs[entry.job.job_id]) for entry in own] for own in taken]


def _hand_out(ledger: Ledger, entry: Entry, claim: Claim) -> Entry:
    ledger.change(entry, rules.claimed(entry.job, claim, ledger.now))
    line = ledger.line(line_of(entry.job))
    line.turn = max(line.turn, entry.turn)
    return entry


def _sweep(ledger: Ledger, most: int, reminders: Reminders) -> Steps:
    due = yield from _make_due(ledger, most)
    found: dict[str, list[str]] = {"lost": [], "timed_out": [], "expired": []}
    query = Fetch(ledger.statements.jobs_to_attend, {"now": ledger.now, "most": most})
    for entry in (yield from ledger.fetch_jobs(query)):
        kind = rules.finding(entry.job, ledger.now)
        if kind is not None:
            ledger.change(entry, rules.swept(entry.job, ledger.now))
            found[kind].append(entry.job.job_id)
    yield from ledger.flush()
    waiting: dict[tuple[str, str], int] = {}
    for model, version, _, _, queued, _, _ in (yield Fetch(ledger.statements.all_lines)):
        waiting[model, version] = waiting.get((model, version), 0) + queued
    told = {job_id for _, job_id in due}
    for (model, version), queued in waiting.items():
        if queued and reminders.is_up(model, version, ledger.now):
            given = {"model": model, "version": version, "since": ledger.now - reminders.EVERY_S, "most": most}
            rows = yield Fetch(ledger.statements.waiting_longest, given)
            due += [(model, job_id) for (job_id,) in rows if job_id not in told]
    return Swept(**found, due=due)


def _clear(ledger: Ledger, most: int) -> Steps:
    ids = [job_id for (job_id,) in (yield Fetch(ledger.statements.over, {"now": ledger.now, "most": most}))]
    if not ids:
        return Cleared(0, [])
    files = yield Fetch(ledger.statements.files_of, {"ids": ids})
    for query in (*ledger.statements.forget,):
        yield Fetch(query, {"ids": ids})
    yield Fetch(ledger.statements.forget_callers)
    yield Fetch(ledger.statements.forget_lines)
    return Cleared(len(ids), [name for (name,) in files])


def _due(ledger: Ledger, most: int, hold_s: float) -> Steps:
    given = {"now": ledger.now, "most": most, "until": ledger.now + hold_s}
    held = yield Fetch(ledger.statements.due_deliveries, given)
    if not held:
        return []
    rows = yield Fetch(ledger.statements.jobs_by_id, {"ids": [job_id for _, job_id, _, _, _ in held]})
    jobs = {row[0]: job_of(row) for row in rows}
    return [Delivery(delivery_id, jobs[job_id], url, tries, token) for delivery_id, job_id, url, tries, token in held]


def _settle(ledger: Ledger, request: Settle) -> Steps:
    delivery = request.delivery
    holder = {"the_id": delivery.delivery_id, "the_token": delivery.token, "fenced": ledger.fenced}
    if request.reason is None:
        rows = yield Fetch(ledger.statements.delivered, {**holder, "now": ledger.now})
    else:
        over = ledger.now if request.wait_s is None else None
        given = {**holder, "until": ledger.now + (request.wait_s or 0.0), "over": over, "why": request.reason}
        rows = yield Fetch(ledger.statements.postpone, given)
    return bool(rows)
