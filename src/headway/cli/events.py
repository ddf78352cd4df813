"""``headway events``: every state transition, in order, from any point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from headway.cli.completion import model_names
from headway.cli.output import Format, OutputOption, emit_json, is_json, moment, out
from headway.domain.names import check_model_name

if TYPE_CHECKING:
    from headway.api.schemas import EventView

PANEL = "Look and call"
_SHOWN = ("message", "reason", "new", "summary", "trigger", "error", "note", "failure", "restarts", "phase", "pid")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(rich_help_panel=PANEL)(events)


def events(
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new events until Ctrl-C.")] = False,
    after: Annotated[int, typer.Option(metavar="CURSOR", min=0, help="Only events after this one.")] = 0,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Only events of this model.", autocompletion=model_names)
    ] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Show what happened, in order, from any point.

    Every change of a version, replica, route, traffic split or token is an event with a cursor; --after CURSOR goes on
    where another run has ended, and misses nothing.
    """
    from headway.client import Client

    if model is not None:
        check_model_name(model, where="--model")
    with Client() as client:
        found = client.events(after=after, model=model, follow=follow)
        if is_json() and not follow:
            emit_json(list(found))
            return
        for event in found:
            if is_json():
                emit_json(event, indent=None)
                continue
            out.print(_line(event))


def _line(event: EventView) -> Text:
    about = event.replica or "/".join(part for part in (event.model, event.version) if part) or "-"
    said = {key: event.data.get(key) for key in _SHOWN}
    told = "  ".join(f"{key}={_short(value)}" for key, value in said.items() if value not in (None, ""))
    line = Text.assemble(
        (f"{event.cursor:>6}  {moment(event.at)}", "dim"), f"  {event.type:<29} {about:<24} ", (told, "dim")
    )
    line.rstrip()
    return line


def _short(value: object) -> str:
    if isinstance(value, dict):
        value = value.get("message") or ", ".join(f"{k}={v}" for k, v in value.items())
    text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."
