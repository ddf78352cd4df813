"""``headway worker``: one worker in the foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from headway.cli.lifecycle import PANEL, read_settings
from headway.cli.output import Format, OutputOption, emit_json, is_json, note, say

if TYPE_CHECKING:
    from headway.domain.replicas import ReplicaStatus


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(rich_help_panel=PANEL)(worker)


def worker(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model.")],
    version: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION", help="Whose jobs it takes. Default: the one with the largest share of traffic."
        ),
    ] = None,
    job_server: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="unix:/PATH or tcp:HOST:PORT. Default: the job server of this home."),
    ] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Run one more worker for a model's jobs, in the foreground.

    Ctrl-C (or SIGTERM) ends it once its job is done, within the grace period of the model's jobs; a second one gives
    the job back to others at once. Workers that follow the queue need no such command.
    """
    from headway.bootstrap_worker import work, work_of

    settings = read_settings()
    task = work_of(settings, name, version, job_server)

    def told(what: str, status: ReplicaStatus) -> None:
        if what == "ready":
            _tell_ready(task.job_server, status)
        elif what == "ended" and status.failure is not None:
            note(escape(f"the worker ended ({status.reason}): {status.failure.message}; a fresh one is started"))
        elif what == "stopping":
            note("stopping: the job under way may end; Ctrl-C again gives it back at once")

    work(settings, task, told)
    if not is_json():
        say("the worker is down")


def _tell_ready(job_server: str, status: ReplicaStatus) -> None:
    if is_json():
        emit_json(
            {
                "worker": status.worker_name,
                "model": status.model,
                "version": status.version,
                "job_server": job_server,
                "pid": status.pid,
            },
            indent=None,
        )
    else:
        say(f"[bold]{escape(status.worker_name)}[/] takes jobs of {status.model} {status.version}, pid {status.pid}")
