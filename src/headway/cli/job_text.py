"""Jobs in words for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.text import Text

from headway.cli.latency_text import printable
from headway.cli.output import count_text, moment
from headway.cli.times import length
from headway.domain.errors import DeadlineExceeded, HeadwayError, JobNotSucceeded, tree

if TYPE_CHECKING:
    from headway.client.job_views import Job, JobEvent

_COLOURS = {"succeeded": "green", "failed": "red", "expired": "yellow", "canceled": "dim", "running": "cyan"}


def details(job: Job) -> Iterator[Text]:
    """Lines about one job."""
    yield Text.assemble((job.id, "bold"), "  ", (job.state, _COLOURS.get(job.state, "")), f"  {_remark(job)}".rstrip())
    version = job.version or "of production"
    on = f", ran on {job.ran_version}" if job.ran_version not in (None, job.version) else ""
    yield Text(f"  version    {version}{on}")
    yield Text(f"  attempts   {job.attempts} of {job.max_attempts}")
    yield Text(f"  priority   {job.priority}")
    for name, at in (
        ("submitted", job.submitted_at),
        ("not before", job.not_before),
        ("deadline", job.deadline),
        ("started", job.started_at),
        ("finished", job.finished_at),
        ("kept until", job.expires_at),
    ):
        if at is not None:
            yield Text(f"  {name:<10} {_moment(at)}")
    ran = "" if job.run_ms is None else f", ran {_ran(job)}"
    yield Text(f"  waited     {length(job.queued_ms / 1000)}{ran}")
    for name, value in (("client", job.client), ("batch", job.batch)):
        if value:
            yield Text(f"  {name:<10} {printable(value)}")
    if job.error is not None:
        where = f" ({printable(job.error.where)})" if job.error.where else ""
        last = "" if job.ended else "last attempt: "
        yield Text(f"  error      {last}{printable(job.error.message)}{where} [{job.error.code}]", "red")
        if job.error.hint:
            yield Text(f"  hint       {printable(job.error.hint)}")


def row(job: Job) -> tuple[object, ...]:
    """One job in a list."""
    return (
        job.id,
        job.state,
        job.priority,
        f"{job.attempts}/{job.max_attempts}",
        length(job.queued_ms / 1000),
        _ran(job),
        _moment(job.submitted_at),
        _remark(job),
    )


def event_line(event: JobEvent) -> Text:
    """One transition."""
    told = [f"attempt {event.attempt}"] if event.attempt else []
    told += [printable(event.error.message)[:200]] if event.error is not None else []
    line = Text.assemble(
        (f"{event.cursor:>6}  {_moment(event.at)}", "dim"), f"  {event.type:<27} {event.id}  ", (", ".join(told), "dim")
    )
    line.rstrip()
    return line


def progress_text(job: Job) -> str:
    """How far a job is, in a few words."""
    if job.state == "queued":
        if job.attempts:
            return f"waits for attempt {job.attempts + 1} of {job.max_attempts}"
        return "queued" + (f", {count_text(job.place, 'job')} ahead" if job.place else "")
    if job.state == "running":
        again = f"attempt {job.attempts} of {job.max_attempts}" if job.attempts > 1 else ""
        said = printable(job.progress.note) if job.progress is not None else ""
        return ", ".join(part for part in ("running", again, said) if part)
    return job.state


def end_error(job: Job) -> HeadwayError:
    """The error that a job which has not succeeded has ended with."""
    about: dict[str, Any] = {"job": job.id, "state": job.state, "attempts": job.attempts}
    if job.state == "canceled":
        return JobNotSucceeded(f"job {job.id} was canceled", details=about)
    if job.state == "expired":
        return DeadlineExceeded(f"job {job.id} has expired: its deadline passed before it had ended", details=about)
    error = job.error
    if error is None:
        return JobNotSucceeded(f"job {job.id} has {job.state}", details=about)
    kind = next((one for one in tree() if one.code == error.code), JobNotSucceeded)
    tries = f" after {count_text(job.attempts, 'attempt')}" if job.attempts > 1 else ""
    return kind(f"job {job.id} failed{tries}: {error.message}", where=error.where, hint=error.hint, details=about)


def batch_error(failed: Sequence[Job], count: int) -> HeadwayError:
    """The error of a batch of which ``failed`` have not succeeded: that of the first one, told of all."""
    first = end_error(failed[-1])  # lists are newest first
    return type(first)(
        f"{len(failed)} of {count_text(count, 'job')} have not succeeded; the first: {first.message}",
        where=first.where,
        hint=first.hint,
        details={"jobs": [job.id for job in reversed(failed)][:100]},
    )


def _remark(job: Job) -> str:
    if job.ended:
        return "" if job.error is None or job.succeeded else printable(job.error.message)[:120]
    text = progress_text(job).removeprefix(job.state).removeprefix(", ")
    fraction = job.progress.fraction if job.progress is not None else None
    percent = f"{fraction:.0%}" if fraction is not None and job.state == "running" else ""
    return ", ".join(part for part in (percent, text) if part)


def _ran(job: Job) -> str:
    return "-" if job.run_ms is None else length(job.run_ms / 1000)


def _moment(at: datetime) -> str:
    return moment(at.timestamp())
