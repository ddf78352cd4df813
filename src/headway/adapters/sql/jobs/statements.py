"""Every statement on the tables of jobs, for SQLite and for PostgreSQL, compiled once.

What changes many rows is one statement with many rows: in SQLite the driver runs it row by row without a way through
Python, in PostgreSQL the rows travel as arrays. A list of ids is one parameter: an array there, JSON here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from headway.adapters.sql.jobs import rows as r
from headway.adapters.sql.jobs.tables import EVENT_CURSOR, callers, contents, counters, deliveries, events, jobs, lines

DialectName = Literal["sqlite", "postgresql"]
JOBS: Final = tuple(jobs.c[name] for name in r.STORED)
CHANNEL: Final = "headway_job_events"
"""That PostgreSQL notifies of the newest cursor."""


@dataclass(frozen=True, slots=True)
class Query:
    """Text with the names of its parameters, in order."""

    text: str
    names: Sequence[str]
    constants: Mapping[str, Any]

    def values(self, given: Mapping[str, Any]) -> list[Any]:
        """Of the parameters, in order."""
        known = {**self.constants, **given}
        return [known[name] for name in self.names]


@dataclass(frozen=True, slots=True)
class Fetch:
    """A step of a transaction: ask, and be given rows."""

    query: Query
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Write:
    """Do it for each row, a value per column."""

    query: Query
    rows: Sequence[r.Row]


@dataclass(frozen=True, slots=True)
class Writes:
    """A step of a transaction: do all of them. No two concern the same row, so they may be one statement."""

    writes: Sequence[Write]


@dataclass(frozen=True, slots=True)
class Told:
    """A step of a transaction: with its commit, other processes may hear that this is the newest cursor."""

    cursor: int


@dataclass(frozen=True, slots=True)
class Begin:
    """The first step of a transaction: be given ``[(now, step_s, cursor)]``.

    That is the database's time, by how much it was set since the last transaction, and the newest event's cursor.
    """


Step = Fetch | Writes | Told | Begin


def shelf_is(name: str) -> sa.ColumnElement[bool]:
    """Written out, as the condition of a partial index has to be."""
    return jobs.c.shelf == sa.literal_column(f"'{name}'")


_HELD: Final = deliveries.c.over_at.is_(None)
_HOLDER: Final = sa.and_(
    _HELD,
    deliveries.c.delivery_id == sa.bindparam("the_id"),
    sa.or_(sa.not_(sa.bindparam("fenced", type_=sa.Boolean)), deliveries.c.token == sa.bindparam("the_token")),
)


class Statements:
    """For one dialect."""

    def __init__(self, dialect: DialectName) -> None:
        self._arrays = dialect == "postgresql"
        if self._arrays:
            from sqlalchemy.dialects.postgresql import asyncpg

            self._dialect: sa.Dialect = asyncpg.dialect()  # type: ignore[no-untyped-call]
        else:
            self._dialect = sqlite.dialect()
        now = sa.bindparam("now", type_=sa.Double)

        self.jobs_by_id = self.query(sa.select(*JOBS).where(self.among(jobs.c.job_id)))
        self.jobs_by_worker = self.query(
            sa.select(*JOBS).where(shelf_is("running"), self.among(jobs.c.worker, "workers"))
        )
        self.jobs_by_key = self.query(
            sa.select(jobs.c.fingerprint, *JOBS).where(
                self.among(jobs.c.model, "models"),
                self.among(jobs.c.client, "clients"),
                self.among(jobs.c.idempotency_key, "keys"),
            )
        )
        self.jobs_running = self.query(sa.select(*JOBS).where(shelf_is("running")))
        self.jobs_delayed = self.query(sa.select(*JOBS).where(shelf_is("delayed"), jobs.c.attempts > 0))
        self.jobs_to_attend = self.query(
            sa.select(*JOBS).where(jobs.c.attend_at <= now).order_by(jobs.c.attend_at).limit(self.limit())
        )
        self.jobs_overdue = self.query(
            sa.select(*JOBS)
            .where(jobs.c.attend_at <= now, jobs.c.shelf != sa.literal_column("'running'"))
            .order_by(jobs.c.attend_at)
            .limit(self.limit())
        )
        self.anything_up = self.query(
            sa.select(
                sa.exists().where(shelf_is("delayed"), jobs.c.not_before <= now),
                sa.exists().where(jobs.c.attend_at <= now, jobs.c.shelf != sa.literal_column("'running'")),
            )
        )
        """Whether jobs are to be made due, and whether any has expired while it waited."""
        self.line_heads = self.query(
            sa.select(*JOBS)
            .where(
                shelf_is("queued"),
                jobs.c.model == sa.bindparam("model"),
                jobs.c.version == sa.bindparam("version"),
                sa.or_(jobs.c.deadline_at.is_(None), jobs.c.deadline_at > now),
            )
            .order_by(jobs.c.urgency, jobs.c.turn, jobs.c.job_id)
            .limit(self.limit())
        )
        self.waiting_longest = self.query(
            sa.select(jobs.c.job_id)
            .where(
                shelf_is("queued"),
                jobs.c.model == sa.bindparam("model"),
                jobs.c.version == sa.bindparam("version"),
                jobs.c.not_before <= sa.bindparam("since", type_=sa.Double),
            )
            .order_by(jobs.c.not_before)
            .limit(self.limit())
        )
        come = (
            sa.select(jobs.c.job_id)
            .where(shelf_is("delayed"), jobs.c.not_before <= now)
            .order_by(jobs.c.not_before)
            .limit(self.limit())
        )
        self.make_due = self.query(
            sa.update(jobs)
            .where(jobs.c.job_id.in_(come))
            .values(shelf=sa.literal_column("'queued'"))
            .returning(jobs.c.job_id, jobs.c.model, jobs.c.version, jobs.c.urgency)
        )
        self.over = self.query(
            sa.select(jobs.c.job_id)
            .where(
                jobs.c.keep_until <= now,
                ~sa.exists().where(deliveries.c.job_id == jobs.c.job_id, _HELD),
            )
            .order_by(jobs.c.keep_until)
            .limit(self.limit())
        )

        self.content = self.query(
            sa.select(contents.c.data, contents.c.file).where(
                contents.c.job_id == sa.bindparam("job_id"), contents.c.which == sa.bindparam("which")
            )
        )
        self.inputs = self.query(
            sa.select(contents.c.job_id, contents.c.data, contents.c.file).where(
                self.among(contents.c.job_id), contents.c.which == sa.literal_column("'input'")
            )
        )
        self.files_of = self.query(
            sa.select(contents.c.file).where(self.among(contents.c.job_id), contents.c.file.is_not(None))
        )
        self.known_files = self.query(sa.select(contents.c.file).where(self.among(contents.c.job_id)))
        self.lines_of = self.query(
            sa.select(*lines.c).where(self.among(lines.c.model, "models")).order_by(lines.c.urgency)
        )
        self.all_lines = self.query(sa.select(*lines.c).order_by(lines.c.model, lines.c.version, lines.c.urgency))
        self.callers_of = self.query(
            sa.select(*callers.c).where(self.among(callers.c.model, "models"), self.among(callers.c.client, "clients"))
        )
        busy = sa.exists().where(
            lines.c.model == callers.c.model,
            lines.c.version == callers.c.version,
            lines.c.urgency == callers.c.urgency,
            lines.c.queued + lines.c.delayed + lines.c.running > 0,
        )
        self.forget_callers = self.query(sa.delete(callers).where(~busy))
        self.forget_lines = self.query(sa.delete(lines).where(lines.c.queued + lines.c.delayed + lines.c.running == 0))
        self.forget = [
            self.query(sa.delete(table).where(self.among(table.c.job_id)))
            for table in (contents, events, deliveries, jobs)
        ]

        counter = counters.c.name == sa.literal_column(f"'{EVENT_CURSOR}'")
        self.cursor = self.query(sa.select(counters.c.value).where(counter))
        seconds = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
        self.begin = self.query(sa.select(seconds, sa.literal_column("0.0"), counters.c.value).where(counter))
        """For PostgreSQL: what :class:`Begin` asks for."""

        self.due_deliveries = self.query(
            sa.update(deliveries)
            .where(
                deliveries.c.delivery_id.in_(
                    sa.select(deliveries.c.delivery_id)
                    .where(_HELD, deliveries.c.due_at <= now)
                    .order_by(deliveries.c.due_at)
                    .limit(self.limit())
                )
            )
            .values(token=deliveries.c.token + 1, due_at=sa.bindparam("until", type_=sa.Double))
            .returning(*(deliveries.c[name] for name in ("delivery_id", "job_id", "url", "tries", "token")))
        )
        self.delivered = self.query(
            sa.update(deliveries).where(_HOLDER).values(over_at=now).returning(deliveries.c.delivery_id)
        )
        self.postpone = self.query(
            sa.update(deliveries)
            .where(_HOLDER)
            .values(
                tries=deliveries.c.tries + 1,
                token=deliveries.c.token + 1,
                due_at=sa.bindparam("until", type_=sa.Double),
                over_at=sa.bindparam("over", type_=sa.Double),
                reason=sa.bindparam("why", type_=sa.Text),
            )
            .returning(deliveries.c.delivery_id)
        )
        self.shift_deliveries = self.query(
            sa.update(deliveries)
            .where(_HELD)
            .values(due_at=deliveries.c.due_at + sa.bindparam("step", type_=sa.Double))
        )

        self.put_counters = self._insert(counters, ("name", "value"), key=("name",))
        self.insert_jobs = self._insert(jobs, r.INSERTED)
        self.insert_contents = self._insert(contents, ("job_id", "which", "data", "file"))
        self.put_contents = self._insert(contents, ("job_id", "which", "data", "file"), key=("job_id", "which"))
        self.insert_events = self._insert(events, r.EVENT_COLUMNS)
        self.insert_deliveries = self._insert(
            deliveries, ("delivery_id", "job_id", "url", "tries", "token", "due_at"), key=("delivery_id",)
        )
        line = ("model", "version", "urgency")
        self.put_lines = self._insert(lines, (*line, "turn", "queued", "delayed", "running"), key=line)
        self.put_callers = self._insert(callers, (*line, "client", "turn"), key=(*line, "client"))
        self.change_jobs = self._update(jobs, "job_id", r.CHANGING)
        self.lease_jobs = self._update(jobs, "job_id", r.LEASING)

    def query(self, statement: sa.Executable) -> Query:
        """Compiled."""
        compiled: Any = statement.compile(dialect=self._dialect)  # type: ignore[attr-defined]
        names = compiled.positiontup or []
        return Query(str(compiled), names, {name: compiled.params[name] for name in names})

    def among(self, column: sa.ColumnElement[Any], name: str = "ids") -> sa.ColumnElement[bool]:
        """``column`` is one of a list that is given as one parameter."""
        if self._arrays:
            return column == sa.any_(sa.bindparam(name, type_=sa.ARRAY(sa.Text)))
        listed = sa.func.json_each(sa.bindparam(name, type_=sa.Text)).table_valued("value")
        return column.in_(sa.select(listed.c.value))

    def limit(self) -> sa.BindParameter[int]:
        """At most ``most`` rows."""
        return sa.bindparam("most", type_=sa.BigInteger)

    def _insert(self, table: sa.Table, names: Sequence[str], key: Sequence[str] = ()) -> Query:
        replaced = [name for name in names if name not in key]
        if self._arrays:
            given = self._rows(table, names)
            into = postgresql.insert(table).from_select([*names], sa.select(*(given.c[name] for name in names)))
            if key:
                into = into.on_conflict_do_update(
                    index_elements=[*key], set_={name: into.excluded[name] for name in replaced}
                )
            return self.query(into)
        one = sqlite.insert(table).values({name: sa.bindparam(name) for name in names})
        if key:
            one = one.on_conflict_do_update(index_elements=[*key], set_={name: one.excluded[name] for name in replaced})
        return self._in_order(self.query(one), names)

    def _update(self, table: sa.Table, key: str, names: Sequence[str]) -> Query:
        """Rows hold the values of ``names``, then the key."""
        if self._arrays:
            given = self._rows(table, (*names, key))
            return self.query(
                sa.update(table).where(table.c[key] == given.c[key]).values({name: given.c[name] for name in names})
            )
        one = sa.update(table).where(table.c[key] == sa.bindparam(f"the_{key}"))
        query = self.query(one.values({name: sa.bindparam(f"new_{name}") for name in names}))
        return self._in_order(query, [*(f"new_{name}" for name in names), f"the_{key}"])

    def _in_order(self, query: Query, names: Sequence[str]) -> Query:
        """SQLite may be given a row as it is only when its parameters stand in the row's order; numbered, they do."""
        place = {name: f"?{i + 1}" for i, name in enumerate(names)}
        pieces = query.text.split("?")
        text = "".join(piece + place[name] for piece, name in zip(pieces, query.names, strict=False)) + pieces[-1]
        return Query(text, names, {})

    def _rows(self, table: sa.Table, names: Sequence[str]) -> sa.TableValuedAlias:
        arrays = [sa.bindparam(name, type_=sa.ARRAY(table.c[name].type)) for name in names]
        columns = [sa.column(name, table.c[name].type) for name in names]
        return sa.func.unnest(*arrays).table_valued(*columns, name="given").render_derived()
