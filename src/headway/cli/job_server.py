"""``headway job-server``: what takes and hands out the jobs of a namespace of a cluster, in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from headway.cli.kube_objects import PANEL, Context
from headway.cli.lifecycle import read_settings
from headway.cli.output import Format, OutputOption, emit_json, is_json, note, say
from headway.cli.place import default_context, nowhere


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("job-server", rich_help_panel=PANEL)(job_server)


@nowhere
def job_server(
    context: Context = None,
    namespace: Annotated[
        str | None,
        typer.Option("-n", "--namespace", metavar="NAMESPACE", help="Whose models it serves. Default: its pod's."),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="PORT", help="For callers.")] = 8430,
    worker_port: Annotated[int, typer.Option(min=1, max=65535, metavar="PORT", help="For workers.")] = 8431,
    output: OutputOption = Format.TEXT,
) -> None:
    """Take and hand out the jobs of a cluster's namespace.

    It runs in the foreground, and several may run at once. Jobs are stored in PostgreSQL (HEADWAY_JOBS_DATABASE). It
    lets in whoever reaches it: that is for routes and network policies to say. Ctrl-C or SIGTERM ends it.
    """
    from headway.bootstrap_job_server import serve_namespace

    def told(what: str) -> None:
        if is_json():
            emit_json({"state": what, "host": host, "port": port, "worker_port": worker_port}, indent=None)
        else:
            note(f"the job server is {what}")

    ports = (port, worker_port)
    serve_namespace(context or default_context(), namespace, read_settings(), host, ports, told)
    if not is_json():
        say("the job server is down")
