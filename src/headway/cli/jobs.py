"""``headway job``: predictions that are stored first and carried out later, by workers."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headway.cli.completion import model_names
from headway.cli.job_progress import GIVE_UP_S, BatchProgress, JobBar
from headway.cli.job_text import batch_error, details, end_error, event_line, row
from headway.cli.models import body_of
from headway.cli.output import Format, OutputOption, count_text, emit_json, is_json, note, out, say, table
from headway.domain.errors import InvalidInput
from headway.domain.job_ids import check_job_id
from headway.domain.lifecycle import JobState
from headway.domain.names import check_model_name, check_version_name

if TYPE_CHECKING:
    from headway.client import Client

app = typer.Typer(help="Submit predictions as jobs, wait for them, cancel them.", no_args_is_help=True)
PANEL = "Look and call"
HEADS = ("job", "state", "priority", "attempt", "waited", "ran", "submitted", "what")
_TYPES = {".csv": "text/csv", ".json": "application/json"}

Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", autocompletion=model_names)]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, as submit prints it.")]
Timeout = Annotated[
    float | None, typer.Option(metavar="SECONDS", min=0.0, help="Give up waiting; the job goes on. Default: never.")
]


def register(parent: typer.Typer) -> None:
    """Add ``headway job`` and its commands."""
    parent.add_typer(app, name="job", rich_help_panel=PANEL)


@app.command()
def submit(
    name: Name,
    data: Annotated[
        str | None, typer.Option("-d", "--data", metavar="JSON", help="The request's JSON, @FILE, or @- for stdin.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("-f", "--file", metavar="FILE", help="The request's body; .csv is sent as CSV.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="FILE", help="Many jobs at once: a JSON body per line; - for stdin.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Run it on this version, whatever the split.")
    ] = None,
    route: Annotated[
        str | None, typer.Option(metavar="PATH", help="Of another wire format, as /invocations. Default: /predict.")
    ] = None,
    priority: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=0, max=9, help="0 to 9, larger is sooner. Default: 5.")
    ] = None,
    not_before: Annotated[
        str | None, typer.Option("--not-before", metavar="TIME", help="Not sooner: 10m from now, or RFC 3339.")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="It expires if it has not ended by then: 2h, or RFC 3339.")
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="KEY", help="The same key again is the same job, not another one."),
    ] = None,
    webhook: Annotated[str | None, typer.Option(metavar="URL", help="Is told when the job has ended.")] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for the end and print the result.")] = False,
    timeout: Timeout = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Store a prediction as a job and print its id; with --wait, the result.

    It is stored durably before this returns, and carried out whatever happens then. A job that fails makes the exit
    code that of its error.
    """
    from headway.client import Client

    check_model_name(name)
    if version is not None:
        check_version_name(version, where="--version")
    if timeout is not None and not wait:
        raise InvalidInput("--timeout goes with --wait", where="--timeout")
    if [data, file, batch].count(None) != 2:
        raise InvalidInput("give one of -d, -f and --batch", where="-d", hint="for example -d '[[1, 2, 3]]'")
    if data is not None:
        body = body_of(data)
    else:
        body = body_of(f"@{file if file is not None else batch}", where="-f" if batch is None else "--batch")
    options: dict[str, Any] = {
        "version": version,
        "route": route,
        "priority": priority,
        "not_before": not_before,
        "deadline": deadline,
        "idempotency_key": idempotency_key,
        "webhook": webhook,
    }
    with Client() as client:
        if batch is not None:
            kind = "application/json" if batch.endswith(".json") else "application/x-ndjson"
            made = client.jobs.submit_batch(name, body, content_type=kind, **options)
            if wait:
                _wait_for_batch(client, name, made.batch, len(made.jobs), timeout)
            elif is_json():
                emit_json(made.document())
            else:
                sys.stdout.write("".join(f"{job_id}\n" for job_id in made.jobs))
                note(f"{count_text(len(made.jobs), 'job')} of batch {made.batch}: headway job list {name} --batch ID")
            return
        kind = _TYPES.get(file.suffix.lower(), "application/json") if file is not None else "application/json"
        job = client.jobs.submit(name, body, content_type=kind, **options)
        if wait:
            _wait_for(client, name, job.id, timeout)
        elif is_json():
            emit_json(job.document())
        else:
            out.print(job.id)
            note(f"{job.state}: headway job wait {name} {job.id}")


@app.command()
def get(name: Name, job_id: JobId, output: OutputOption = Format.TEXT) -> None:
    """Show a job: its state, place in the queue, attempts, progress, error."""
    from headway.client import Client

    _check(name, job_id)
    with Client() as client:
        job = client.jobs.get(name, job_id)
    if is_json():
        emit_json(job.document())
        return
    for line in details(job):
        out.print(line)


@app.command()
def wait(name: Name, job_id: JobId, timeout: Timeout = None, output: OutputOption = Format.TEXT) -> None:
    """Wait until a job has ended, showing how far it is, and print the result.

    A job that has failed makes the exit code that of its error.
    """
    from headway.client import Client

    _check(name, job_id)
    with Client() as client:
        _wait_for(client, name, job_id, timeout)


@app.command()
def result(name: Name, job_id: JobId, output: OutputOption = Format.TEXT) -> None:
    """Print the result of a job that has succeeded."""
    from headway.client import Client

    _check(name, job_id)
    with Client() as client:
        _print_result(client.jobs.result(name, job_id).body)


@app.command()
def cancel(name: Name, job_id: JobId, output: OutputOption = Format.TEXT) -> None:
    """Call a job off, also while it runs."""
    from headway.client import Client

    _check(name, job_id)
    with Client() as client:
        job = client.jobs.cancel(name, job_id)
    if is_json():
        emit_json(job.document())
    elif job.state == JobState.CANCELED:
        say(f"{job_id} is canceled")
    elif job.ended:
        say(f"{job_id} has {job.state} already")
    else:
        say(f"{job_id} is told to stop: headway job get {name} {job_id}")


@app.command(name="list")
def list_jobs(
    name: Name,
    state: Annotated[
        list[str] | None, typer.Option(metavar="STATE", help="Only such: queued, running, failed, …; repeatable.")
    ] = None,
    client_name: Annotated[
        str | None, typer.Option("--client", metavar="TOKEN", help="Only jobs of the token with this name.")
    ] = None,
    batch: Annotated[str | None, typer.Option(metavar="ID", help="Only jobs of this batch.")] = None,
    version: Annotated[str | None, typer.Option(metavar="VERSION", help="Only jobs for this version.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="COUNT", min=1, max=100_000, help="The newest so many.")
    ] = 50,
    output: OutputOption = Format.TEXT,
) -> None:
    """List a model's jobs, newest first."""
    from headway.client import Client

    check_model_name(name)
    for one in state or []:
        if one not in list(JobState):
            raise InvalidInput(f"{one[:40]!r} is no state", where="--state", hint=", ".join(JobState))
    if version is not None:
        check_version_name(version, where="--version")
    with Client() as client:
        found = client.jobs.list(
            name, states=state or (), client=client_name, batch=batch, version=version, limit=limit
        )
    if is_json():
        emit_json([job.document() for job in found])
        return
    table(HEADS, [row(job) for job in found], empty=f"no such jobs of {name}")


@app.command()
def events(
    name: Name,
    job_id: Annotated[str | None, typer.Argument(metavar="ID", help="Only of this job, until it ends.")] = None,
    after: Annotated[
        int | None, typer.Option(metavar="CURSOR", min=0, help="What happened after this; default: from now on.")
    ] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Follow what happens to a model's jobs until Ctrl-C, or to one job until it ends."""
    from headway.client import Client
    from headway.client.job_views import JobEvent

    check_model_name(name)
    if job_id is not None:
        _check(name, job_id)
        if after is not None:
            raise InvalidInput("--after goes without a job", where="--after", hint="of one job everything is told")
    with Client() as client:
        found = client.jobs.events(name, after=after) if job_id is None else client.jobs.follow(name, job_id)
        for one in found:
            if is_json():
                emit_json(one.document(), indent=None)
            elif isinstance(one, JobEvent):
                out.print(event_line(one))


def _wait_for(client: Client, name: str, job_id: str, timeout_s: float | None) -> None:
    with JobBar(f"{name} {job_id}") as bar:
        job = client.jobs.wait(name, job_id, timeout_s=timeout_s, progress=bar.update)
    if job.succeeded and not is_json():
        _print_result(client.jobs.result(name, job_id, patience_s=GIVE_UP_S).body)
        return
    if is_json():
        emit_json(job.document())
    if not job.succeeded:
        raise end_error(job)


def _wait_for_batch(client: Client, name: str, batch: str, count: int, timeout_s: float | None) -> None:
    with BatchProgress(f"{name}, batch {batch}", count) as progress:
        progress.follow(client, name, batch, timeout_s)
    ended = client.jobs.list(name, batch=batch, limit=count, patience_s=GIVE_UP_S)
    if is_json():
        emit_json([job.document() for job in ended])
    else:
        states = Counter(job.state for job in ended)
        say(", ".join(f"{number} {state}" for state, number in states.most_common()))
    failed = [job for job in ended if not job.succeeded]
    if failed:
        raise batch_error(failed, count)


def _print_result(body: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(body if body.endswith(b"\n") else body + b"\n")
    sys.stdout.buffer.flush()


def _check(name: str, job_id: str) -> None:
    check_model_name(name)
    check_job_id(job_id, name)
