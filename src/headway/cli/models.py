"""Commands that look at models and call them: list, status, versions, predict, logs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from headway.cli.completion import model_names
from headway.cli.output import (
    Format,
    OutputOption,
    emit_json,
    is_json,
    log_lines,
    moment,
    out,
    say,
    size,
    split_text,
    table,
)
from headway.domain.errors import InvalidInput
from headway.domain.names import check_model_name, check_version_name

if TYPE_CHECKING:
    from headway.api.schemas import FailureView, ModelView

PANEL = "Look and call"
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", autocompletion=model_names)]
MAX_BODY_FILE = 1 << 30
_COLOURS = {"ready": "green", "degraded": "yellow", "deploying": "yellow", "failed": "red", "deleting": "dim"}


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(name="list", rich_help_panel=PANEL)(list_models)
    for command in (status, versions, predict, logs):
        app.command(rich_help_panel=PANEL)(command)


def list_models(output: OutputOption = Format.TEXT) -> None:
    """List deployed models."""
    from headway.client import Client

    with Client() as client:
        found = client.list()
    if is_json():
        emit_json(found)
        return
    rows = [
        (m.name, m.state, split_text(m.live), f"{m.ready_replicas}/{m.replicas * max(len(m.live), 1)}", m.url)
        for m in found
    ]
    table(("model", "state", "traffic", "ready", "url"), rows, empty="no models yet: headway deploy DIR")


def status(name: Name, output: OutputOption = Format.TEXT) -> None:
    """Show a model: its state, traffic, versions and replicas."""
    from headway.client import Client

    with Client() as client:
        view = client.get(check_model_name(name))
    if is_json():
        emit_json(view)
    else:
        _print_status(view)


def _print_status(view: ModelView) -> None:
    colour = _COLOURS.get(view.state, "white")
    say(f"[bold]{view.name}[/]  [{colour}]{view.state}[/]  {escape(view.message)}".rstrip())
    say(f"  traffic   {split_text(view.live)}")
    if view.target != view.live:
        say(f"  wished    {split_text(view.target)}")
    if view.shadow is not None:
        say(f"  shadow    {view.shadow.version} gets a copy of {view.shadow.percent} %")
    if view.sticky is not None:
        say(f"  sticky    by {view.sticky.kind} {escape(view.sticky.name)}")
    say(f"  replicas  {view.ready_replicas} ready, {view.replicas} wished of each version in the split")
    say(f"  url       {view.urls.production}")
    for version, url in view.urls.pinned.items():
        say(f"            {url}  (always {version})")
    out.print()
    _print_versions(view)
    out.print()
    rows = [
        (r.name, r.phase, r.restarts, r.pid or "-", size(r.rss_bytes), moment(r.started_at), r.reason or "")
        for r in view.replica_list
    ]
    table(("replica", "phase", "restarts", "pid", "memory", "started", "reason"), rows, empty="no replicas")
    newest = view.versions[-1:]
    failures = [(v.name, v.failure) for v in newest if v.state == "failed"]
    for name, failure in failures + [(r.name, r.failure) for r in view.replica_list]:
        if failure is not None:
            _print_failure(name, failure)


def _print_failure(name: str, failure: FailureView) -> None:
    where = f" ({failure.where})" if failure.where else ""
    out.print()
    say(f"[bold red]{name} failed:[/] {escape(failure.message + where)}")
    tail = log_lines(failure.log_tail)
    if tail:
        say("[bold]last lines of its log:[/]")
    for line in tail:
        say(f"  [dim]{escape(line)}[/]")
    if failure.hint:
        say(f"[bold]hint:[/] {escape(failure.hint)}")


def _print_versions(view: ModelView) -> None:
    rows = [
        (v.name, v.state, _share(v.weight), moment(v.created_at), v.digest[:12], _failure(v.failure))
        for v in view.versions
    ]
    table(("version", "state", "traffic", "created", "digest", "failure"), rows, empty="no versions")


def _share(weight: int | None) -> str:
    return "-" if weight is None else f"{weight} %"


def _failure(failure: object) -> str:
    message = str(getattr(failure, "message", "") or "")
    return message if len(message) <= 80 else message[:77] + "..."


def versions(name: Name, output: OutputOption = Format.TEXT) -> None:
    """List a model's versions."""
    from headway.client import Client

    with Client() as client:
        view = client.get(check_model_name(name))
    if is_json():
        emit_json(view.versions)
    else:
        _print_versions(view)


def predict(
    name: Name,
    data: Annotated[
        str, typer.Option("-d", "--data", metavar="JSON", help="The request's JSON, @FILE, or @- for standard input.")
    ],
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Call this version, whatever the split.")
    ] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Send a request through the gateway and print the answer.

    The gateway chooses the version by the traffic split, as for every caller; --version pins one.
    """
    from headway.client import Client

    check_model_name(name)
    if version is not None:
        check_version_name(version, where="--version")
    with Client() as client:
        answer = client.predict(name, body_of(data), version=version)
    sys.stdout.write(answer.decode("utf-8", "replace").rstrip("\n") + "\n")


def body_of(data: str) -> bytes:
    """The bytes of ``-d``: itself, a file's, or standard input's. ``InvalidInput`` when the file cannot be read."""
    if not data.startswith("@"):
        # As the shell gave it, also where that is no UTF-8.
        return os.fsencode(data)
    if data == "@-":
        if sys.stdin is None:
            raise InvalidInput("standard input is closed", where="-d")
        return sys.stdin.buffer.read()
    path = Path(data[1:])
    try:
        if path.stat().st_size > MAX_BODY_FILE:
            raise InvalidInput(f"{path} is larger than 1 GiB", where="-d")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidInput(f"cannot read {path}: {why}", where="-d") from None


def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines until Ctrl-C.")] = False,
    tail: Annotated[
        int | None, typer.Option(metavar="LINES", min=0, help="Only so many last lines of each replica.")
    ] = None,
    replica: Annotated[
        str | None, typer.Option(metavar="REPLICA", help="Only this replica; also one that has ended.")
    ] = None,
    version: Annotated[str | None, typer.Option(metavar="VERSION", help="Only replicas of this version.")] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Show what a model's replicas printed."""
    from headway.client import Client

    check_model_name(name)
    if version is not None:
        check_version_name(version, where="--version")
    with Client() as client:
        for line in client.logs(name, replica=replica, version=version, tail=tail, follow=follow):
            if is_json():
                emit_json({"line": line}, indent=None)
            else:
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
