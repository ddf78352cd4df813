"""One transaction that carries out what several callers asked for, each as if it were alone.

It is written without I/O: a generator that yields what it wants of the database (:class:`Fetch`, :class:`Writes`) and
is sent the rows, so SQLite's thread and PostgreSQL's connection run the same code. First everything that concerns jobs
known by their ids is loaded with few statements and decided in memory, request after request, by the rules of
:mod:`headway.domain.job_rules`; a request that breaks a rule is answered with its error and has changed nothing. Then
all changes are written, a statement per table (in PostgreSQL one in all). Claims and sweeps follow, on what is written.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from headway.adapters.sql.jobs import rows as r
from headway.adapters.sql.jobs.requests import Abandon, Cancel, Finish, Renew, Request, Submit
from headway.adapters.sql.jobs.statements import Begin, Fetch, Statements, Step, Told, Write, Writes
from headway.adapters.sql.jobs.tables import EVENT_CURSOR
from headway.domain import job_rules as rules
from headway.domain.errors import HeadwayError
from headway.domain.job_order import next_turn
from headway.domain.jobs import BeatVerdict, Job, JobEvent, NewJob, Submitted
from headway.domain.lifecycle import JobState

Steps = Generator[Step, list[Any], Any]
INLINE_BYTES: Final = 32 * 1024
"""Contents up to here lie in the database, larger ones beside it."""
_COUNTED: Final = ("queued", "delayed", "running")
_Key = tuple[str, str, str]


@dataclass(slots=True)
class Entry:
    """A job as the transaction sees it."""

    job: Job
    turn: int
    shelf: str
    changed: bool = False
    """All of it is written again."""
    leased: bool = False
    """Its lease is."""
    new: bool = False
    """It is not written yet."""


@dataclass(slots=True)
class Line:
    """Turn of the last job claimed, and how many jobs there are on each shelf."""

    turn: int = 0
    queued: int = 0
    delayed: int = 0
    running: int = 0
    changed: bool = False

    def move(self, old: str | None, new: str | None, by: int = 1) -> None:
        for shelf, sign in ((old, -1), (new, 1)):
            if shelf in _COUNTED:
                setattr(self, shelf, getattr(self, shelf) + sign * by)
                self.changed = True


@dataclass(frozen=True, slots=True)
class Finished:
    """Of each outcome, whether it was accepted and whether its body is the job's result."""

    accepted: Sequence[bool]
    stored: Sequence[bool]


class Ledger:
    """What a transaction has loaded and changed, and the way to write it."""

    def __init__(self, statements: Statements, *, fenced: bool) -> None:
        self.statements = statements
        self.fenced = fenced
        self.now = 0.0
        self.cursor = 0
        self.entries: dict[str, Entry] = {}
        self.lines: dict[r.LineKey, Line] = {}
        self._models: set[str] = set()
        """Whose lines are loaded."""
        self._callers: dict[tuple[r.LineKey, str], int] = {}
        self._turned: set[tuple[r.LineKey, str]] = set()
        self._keys: dict[_Key, tuple[str, bytes]] = {}
        self._new_jobs: list[r.Row] = []
        self._new_inputs: list[r.Row] = []
        self._new_results: list[r.Row] = []
        self._new_deliveries: list[r.Row] = []
        self._told: list[JobEvent] = []
        self._first_cursor = 0

    # -- loading -----------------------------------------------------------------------------

    def begin(self) -> Steps:
        """The time, and what follows when it was set."""
        ((self.now, step_s, self.cursor),) = yield Begin()
        self._first_cursor = self.cursor
        if step_s:
            for query in (self.statements.jobs_running, self.statements.jobs_delayed):
                for entry in (yield from self.fetch_jobs(Fetch(query))):
                    self.change(entry, rules.stepped(entry.job, step_s))
            yield Fetch(self.statements.shift_deliveries, {"step": step_s})
            yield from self.flush()

    def fetch_jobs(self, step: Fetch) -> Steps:
        """The jobs that ``step`` finds, as entries, with their lines at hand."""
        rows = yield step
        found = [self._adopt(row) for row in rows]
        yield from self.load_lines(entry.job.model for entry in found)
        return found

    def load_lines(self, models: Iterable[str]) -> Steps:
        """The lines of these models, if they are not at hand yet."""
        wanted = set(models) - self._models
        if wanted:
            for model, version, urgency, *totals in (yield Fetch(self.statements.lines_of, {"models": [*wanted]})):
                self.lines[model, version, urgency] = Line(*totals)
            self._models |= wanted

    def load_for(self, requests: Sequence[Request]) -> Steps:
        """What the requests that name their jobs will look at."""
        ids: set[str] = set()
        workers: set[str] = set()
        new_jobs: list[NewJob] = []
        for request in requests:
            match request:
                case Submit(jobs=jobs):
                    new_jobs.extend(jobs)
                case Cancel(job_id=job_id):
                    ids.add(job_id)
                case Renew(beats=beats):
                    ids.update(beat.job_id for beat in beats)
                case Finish(outcomes=outcomes):
                    ids.update(outcome.job_id for outcome in outcomes)
                case Abandon(worker=worker):
                    workers.add(worker)
                case _:
                    pass
        if ids:
            yield from self.fetch_jobs(Fetch(self.statements.jobs_by_id, {"ids": [*ids]}))
        if workers:
            yield from self.fetch_jobs(Fetch(self.statements.jobs_by_worker, {"workers": [*workers]}))
        if new_jobs:
            yield from self._load_for_new(new_jobs)

    def _load_for_new(self, new_jobs: Sequence[NewJob]) -> Steps:
        models, clients = {new.model for new in new_jobs}, {new.client for new in new_jobs}
        yield from self.load_lines(models)
        query = Fetch(self.statements.callers_of, {"models": [*models], "clients": [*clients]})
        for model, version, urgency, client, turn in (yield query):
            self._callers[(model, version, urgency), client] = turn
        keyed = [new for new in new_jobs if new.idempotency_key is not None]
        if keyed:
            given = {
                "models": [*{new.model for new in keyed}],
                "clients": [*{new.client for new in keyed}],
                "keys": [*{new.idempotency_key for new in keyed}],
            }
            for fingerprint, *row in (yield Fetch(self.statements.jobs_by_key, given)):
                job = self._adopt(row).job
                assert job.idempotency_key is not None
                self._keys[job.model, job.client, job.idempotency_key] = (job.job_id, fingerprint)

    def _adopt(self, row: r.Row) -> Entry:
        entry = self.entries.get(row[0])
        if entry is None:
            entry = self.entries[row[0]] = Entry(r.job_of(row), row[4], row[5])
        return entry

    # -- changing ----------------------------------------------------------------------------

    def line(self, key: r.LineKey) -> Line:
        """Of a model whose lines are at hand."""
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = Line()
        return line

    def change(self, entry: Entry, after: Job) -> None:
        """``entry`` becomes ``after``; what is told about it is told."""
        before = entry.job
        if after is before:
            return
        entry.job = after
        if before.state is not after.state:
            shelf = r.shelf_of(after, self.now)
            self.line(r.line_of(after)).move(entry.shelf, shelf)
            entry.shelf = shelf
        same = (before.state, before.cancel_at, before.started_at) == (after.state, after.cancel_at, after.started_at)
        if same and after.state is JobState.RUNNING:
            entry.leased = True
        else:
            entry.changed = True
        if after.ended and not before.ended and after.webhook is not None:
            delivery_id = rules.delivery_id(after.job_id)
            self._new_deliveries.append((delivery_id, after.job_id, after.webhook.url, 0, 0, self.now))
        self._tell(rules.event(before, after, self.now))

    def _tell(self, event: JobEvent | None) -> None:
        if event is not None:
            self._told.append(event)

    def apply(self, request: Request) -> Any:
        """The answer to a request that names its jobs. Raises before it has changed anything."""
        match request:
            case Submit():
                return self._submit(request)
            case Cancel(job_id=job_id):
                entry = self.entries.get(job_id)
                if entry is None:
                    raise rules.not_found(job_id)
                self.change(entry, rules.canceled(entry.job, self.now))
                return entry.job
            case Renew():
                return self._renew(request)
            case Finish():
                return self._finish(request)
            case Abandon(worker=worker, error=error):
                held = [e for e in self.entries.values() if e.shelf == "running" and e.job.worker == worker]
                for entry in held:
                    self.change(entry, rules.abandoned(entry.job, error, self.now))
                return sorted(entry.job.job_id for entry in held)
            case _:
                raise HeadwayError(f"{type(request).__name__} does not name its jobs")

    def _submit(self, request: Submit) -> list[Submitted]:
        answers: list[tuple[str, bool]] = []
        added: dict[str, NewJob] = {}
        keys: dict[_Key, tuple[str, bytes]] = {}
        for new in request.jobs:
            key = None if new.idempotency_key is None else (new.model, new.client, new.idempotency_key)
            known = key and (keys.get(key) or self._keys.get(key))
            if known:
                rules.check_same(new, known[1])
                answers.append((known[0], False))
                continue
            if new.job_id in added or new.job_id in self.entries:
                raise used_before(new.job_id)
            added[new.job_id] = new
            answers.append((new.job_id, True))
            if key:
                keys[key] = (new.job_id, rules.fingerprint(new))
        if request.most_queued is not None:
            for model in {new.model for new in added.values()}:
                waiting = sum(line.queued + line.delayed for key, line in self.lines.items() if key[0] == model)
                own = sum(new.model == model for new in added.values())
                rules.check_room(model, waiting, own, request.most_queued)
        self._keys.update(keys)
        fingerprints = dict(keys.values())
        for new in added.values():
            self._add(new, fingerprints.get(new.job_id), request.files.get(new.job_id))
        return [Submitted(self.entries[job_id].job, created) for job_id, created in answers]

    def _add(self, new: NewJob, fingerprint: bytes | None, file: str | None) -> None:
        job = rules.submitted(new, self.now)
        key = r.line_of(job)
        line = self.line(key)
        turn = next_turn(line.turn, self._callers.get((key, job.client), 0))
        self._callers[key, job.client] = turn
        self._turned.add((key, job.client))
        shelf = r.shelf_of(job, self.now)
        line.move(None, shelf)
        self.entries[job.job_id] = Entry(job, turn, shelf, new=True)
        self._new_jobs.append(r.inserted(job, turn, shelf, fingerprint))
        self._new_inputs.append((job.job_id, "input", None if file else new.body, file))
        self._tell(rules.event(None, job, self.now))

    def _renew(self, request: Renew) -> list[BeatVerdict]:
        verdicts: list[BeatVerdict] = []
        for beat in request.beats:
            entry = self.entries.get(beat.job_id)
            if entry is None:
                verdicts.append("lost")
                continue
            after, verdict = rules.beaten(entry.job, beat, request.lease_s, self.now)
            self.change(entry, after)
            verdicts.append(verdict)
        return verdicts

    def _finish(self, request: Finish) -> Finished:
        accepted, stored = [], []
        for place, outcome in enumerate(request.outcomes):
            entry = self.entries.get(outcome.job_id)
            kept = counts = False
            if entry is not None and rules.accepts(entry.job, outcome, fenced=self.fenced):
                after = rules.finished(entry.job, outcome, self.now, fenced=self.fenced)
                counts, kept = after.state is not JobState.EXPIRED, after.state is JobState.SUCCEEDED
                if kept:
                    file = request.files.get(place)
                    self._new_results.append((outcome.job_id, "result", None if file else outcome.body, file))
                self.change(entry, after)
            accepted.append(counts)
            stored.append(kept)
        return Finished(accepted, stored)

    # -- writing -----------------------------------------------------------------------------

    def flush(self) -> Steps:
        """Write what has changed since the last time."""
        statements = self.statements
        changed = [e for e in self.entries.values() if e.changed]
        leased = [e for e in self.entries.values() if e.leased and not e.changed]
        moved = [(key, line) for key, line in self.lines.items() if line.changed]
        first = self.cursor + 1
        self.cursor += len(self._told)
        writes = (
            (statements.insert_jobs, self._new_jobs),
            (statements.insert_contents, self._new_inputs),
            (statements.put_contents, self._new_results),
            (statements.change_jobs, [(*r.changed(e.job, e.shelf), e.job.job_id) for e in changed]),
            (statements.lease_jobs, [(*r.leased(e.job), e.job.job_id) for e in leased]),
            (statements.insert_deliveries, self._new_deliveries),
            (statements.insert_events, [r.event_row(event, first + i) for i, event in enumerate(self._told)]),
            (statements.put_counters, [(EVENT_CURSOR, self.cursor)] if self._told else []),
            (statements.put_lines, [(*key, x.turn, x.queued, x.delayed, x.running) for key, x in moved]),
            (statements.put_callers, [(*key, client, self._callers[key, client]) for key, client in self._turned]),
        )
        if any(rows for _, rows in writes):
            # Of rows that are new and changed already, an insert and an update cannot be one statement.
            at_once = not any(entry.new and (entry.changed or entry.leased) for entry in (*changed, *leased))
            steps = [Write(query, rows) for query, rows in writes if rows]
            for some in [steps] if at_once else [[step] for step in steps]:
                yield Writes(some)
        for entry in (*changed, *leased):
            entry.changed = entry.leased = False
        for row in self._new_jobs:
            self.entries[row[0]].new = False
        for _, line in moved:
            line.changed = False
        self._new_jobs, self._new_inputs, self._new_results, self._new_deliveries = [], [], [], []
        self._told = []
        self._turned = set()

    def end(self) -> Steps:
        """Write the rest."""
        yield from self.flush()
        if self.cursor != self._first_cursor:
            yield Told(self.cursor)


def used_before(job_id: str) -> HeadwayError:
    """Ids are drawn by us, and drawn anew for each job."""
    return HeadwayError(f"the id {job_id} was used before")
