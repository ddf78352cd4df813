"""What is asked of the store of jobs and changes nothing, written like transactions: without I/O."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headway.adapters.sql.jobs import rows as r
from headway.adapters.sql.jobs.group import Steps
from headway.adapters.sql.jobs.statements import JOBS, Begin, Fetch, Query, Statements, shelf_is
from headway.adapters.sql.jobs.tables import events, jobs
from headway.domain import job_rules as rules
from headway.domain.jobs import JobCount, JobQuery
from headway.domain.lifecycle import JobState


class Questions:
    """Their statements; those whose conditions vary are compiled once per variant."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._variants: dict[Any, Query] = {}
        most = statements.limit()
        ahead = (
            sa.select(sa.literal_column("1"))
            .where(
                shelf_is("queued"),
                jobs.c.model == sa.bindparam("model"),
                jobs.c.version == sa.bindparam("version"),
                sa.tuple_(jobs.c.urgency, jobs.c.turn, jobs.c.job_id)
                < sa.tuple_(
                    sa.bindparam("urgency", type_=sa.Integer),
                    sa.bindparam("turn", type_=sa.BigInteger),
                    sa.bindparam("job_id", type_=sa.Text),
                ),
            )
            .limit(most)
            .subquery()
        )
        self._ahead = statements.query(sa.select(sa.func.count()).select_from(ahead))
        self._oldest = statements.query(
            sa.select(jobs.c.not_before)
            .where(shelf_is("queued"), jobs.c.model == sa.bindparam("model"), jobs.c.version == sa.bindparam("version"))
            .order_by(jobs.c.not_before)
            .limit(statements.limit())
        )
        self._come = statements.query(
            sa.select(jobs.c.model, jobs.c.version, sa.func.count(), sa.func.min(jobs.c.not_before))
            .where(shelf_is("delayed"), jobs.c.not_before <= sa.bindparam("now", type_=sa.Double))
            .group_by(jobs.c.model, jobs.c.version)
        )

    def get(self, job_id: str) -> Steps:
        """The job; raises ``JobNotFound``."""
        return r.job_of((yield from self._row(job_id)))

    def place(self, job_id: str, most: int) -> Steps:
        """See the port."""
        row = yield from self._row(job_id)
        job = r.job_of(row)
        if job.state is not JobState.QUEUED:
            return None
        given = {
            "model": job.model,
            "version": job.version or "",
            "urgency": r.urgency_of(job.priority),
            "turn": row[4],
            "job_id": job_id,
            "most": most,
        }
        ((count,),) = yield Fetch(self._ahead, given)
        return count

    def find(self, query: JobQuery) -> Steps:
        """See the port."""
        asked = {
            "states": [
                *(str(state) for state in query.states),
                *(["delayed"] if JobState.QUEUED in query.states else []),
            ],
            "client": query.client,
            "batch": query.batch,
            "version": query.version,
            "before": query.before,
        }
        given = {name: value for name, value in asked.items() if value is not None and value != []}
        key = ("find", *given)
        if key not in self._variants:
            conditions = {
                "states": self._statements.among(jobs.c.shelf, "states"),
                "client": jobs.c.client == sa.bindparam("client"),
                "batch": jobs.c.batch == sa.bindparam("batch"),
                "version": jobs.c.version == sa.bindparam("version"),
                "before": jobs.c.job_id < sa.bindparam("before"),
            }
            self._variants[key] = self._statements.query(
                sa.select(*JOBS)
                .where(jobs.c.model == sa.bindparam("model"), *(conditions[name] for name in given))
                .order_by(jobs.c.job_id.desc())
                .limit(self._statements.limit())
            )
        rows = yield Fetch(self._variants[key], {**given, "model": query.model, "most": query.limit})
        return [r.job_of(row) for row in rows]

    def content(self, job_id: str, which: str) -> Steps:
        """``(data, file)``, of which one is None. Raises ``JobNotFound``."""
        rows = yield Fetch(self._statements.content, {"job_id": job_id, "which": which})
        if rows:
            return rows[0]
        yield from self._row(job_id)
        raise rules.no_content(job_id, which)

    def events(self, after: int, limit: int, model: str | None, job_id: str | None) -> Steps:
        """See the port."""
        given = {name: value for name, value in (("model", model), ("job_id", job_id)) if value is not None}
        key = ("events", *given)
        if key not in self._variants:
            own = (events.c[name] == sa.bindparam(f"the_{name}") for name in given)
            self._variants[key] = self._statements.query(
                sa.select(*(events.c[name] for name in r.EVENT_COLUMNS))
                .where(events.c.cursor > sa.bindparam("after", type_=sa.BigInteger), *own)
                .order_by(events.c.cursor)
                .limit(self._statements.limit())
            )
        named = {f"the_{name}": value for name, value in given.items()}
        rows = yield Fetch(self._variants[key], {**named, "after": after, "most": limit})
        return [r.event_of(row) for row in rows]

    def last_cursor(self) -> Steps:
        """See the port."""
        ((cursor,),) = yield Fetch(self._statements.cursor)
        return cursor

    def counts(self) -> Steps:
        """From the totals of the lines; what came due since somebody last looked is counted apart."""
        ((now, _, _),) = yield Begin()
        totals: dict[tuple[str, str], list[int]] = {}
        for model, version, _, _, queued, delayed, running in (yield Fetch(self._statements.all_lines)):
            total = totals.setdefault((model, version), [0, 0, 0])
            for place, number in enumerate((queued, delayed, running)):
                total[place] += number
        come = {(model, version): rest for model, version, *rest in (yield Fetch(self._come, {"now": now}))}
        counts = []
        for (model, version), (queued, delayed, running) in sorted(totals.items()):
            if not queued + delayed + running:
                continue
            moments = []
            if queued:
                found = yield Fetch(self._oldest, {"model": model, "version": version, "most": 1})
                moments += [oldest for (oldest,) in found]
            more, earliest = come.get((model, version), (0, None))
            if more:
                moments.append(earliest)
            due_at = min(moments, default=None)
            counts.append(JobCount(model, version or None, queued + more, delayed - more, running, due_at))
        return counts

    def unknown_files(self, names: dict[str, str]) -> Steps:
        """Those of ``names`` (file by job id and file name) that no job names."""
        ids = [*set(names.values())]
        known = {name for (name,) in (yield Fetch(self._statements.known_files, {"ids": ids}))}
        return [name for name in names if name not in known]

    def _row(self, job_id: str) -> Steps:
        rows = yield Fetch(self._statements.jobs_by_id, {"ids": [job_id]})
        if not rows:
            raise rules.not_found(job_id)
        return rows[0]
