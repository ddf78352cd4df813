"""``headway payloads``: what some requests asked and what was answered, where the spec says to keep some."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from headway.cli.completion import model_names
from headway.cli.latency_text import GAP, printable
from headway.cli.output import Format, OutputOption, emit_json, is_json, note, out
from headway.cli.query_log import PANEL, Until, options_named
from headway.domain.names import check_model_name

MOST = 1000
HOW = "headway.yaml switches it on (spec.queryLog.payloads.sample: 1%), from the next deploy on"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(rich_help_panel=PANEL)(payloads)


def payloads(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", autocompletion=model_names)],
    since: Annotated[
        str, typer.Option(metavar="TIME", help="From then on: so long ago (10m, 1d), or 2026-05-01T12:00Z.")
    ] = "1h",
    until: Until = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="COUNT", min=1, max=MOST, help="Only the newest so many.")
    ] = 100,
    output: OutputOption = Format.TEXT,
) -> None:
    """Show requests that were kept whole, with their answers.

    On a terminal, bodies are cut to its width; in a pipe and with -o json everything is there.
    """
    from headway.client import Client

    check_model_name(name)
    with Client() as client, options_named():
        found = client.payloads(name, since=since, until=until, last=limit)
    if is_json():
        emit_json(found)
        return
    if not found:
        out.print("no payloads in this time")
        note(f"hint: {HOW}")
    for payload in found:
        for line in block(payload, out.width if out.is_terminal else None):
            out.print(line)


def block(payload: dict[str, Any], width: int | None) -> list[Text]:
    """Three lines for people; ``width``: what longer ones are cut to."""
    at = datetime.fromtimestamp(payload["ts_ns"] // 1_000_000 / 1000, UTC)
    moment = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}Z"
    facts = [moment, *(printable(str(payload[key])) for key in ("version", "route", "status", "request_id"))]
    lines = [
        Text(GAP.join(facts), "bold"),
        Text(f"  in   {_compact(payload['input'])}"),
        Text(f"  out  {_compact(payload['output'])}"),
    ]
    if width is not None:
        for line in lines:
            line.truncate(width, overflow="ellipsis")
    return lines


def _compact(value: Any) -> str:
    return printable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
