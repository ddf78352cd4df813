"""``headway latency`` and ``headway log``: how fast a model answered, and every request one by one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from headway.cli import output as printing
from headway.cli.completion import model_names
from headway.cli.output import emit_json, is_json, note, out
from headway.domain.errors import InvalidInput
from headway.domain.names import check_model_name
from headway.domain.query_log import GroupBy, LatencyField

if TYPE_CHECKING:
    from headway.api.schemas_query_log import LossesView, RecordPage, RecordView
    from headway.client.windows import Windows

PANEL = "Look and call"
PLOTS = (".html", ".png")
MOST = 10_000
"""Newest requests in one answer."""


class Format(StrEnum):
    """``text`` for people, the rest for programs."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


def _remember(value: Format) -> Format:
    printing.reset(printing.Format.JSON if value is Format.JSON else printing.Format.TEXT)
    return value


Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", autocompletion=model_names)]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="CONDITION", help="Only requests for which it holds: 'status>=500'; repeatable, all hold."),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Up to then; default: now.")]
Output = Annotated[
    Format, typer.Option("-o", "--output", help="text for people, the others for programs.", callback=_remember)
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (latency, log):
        app.command(rich_help_panel=PANEL)(command)


def latency(
    name: Name,
    window: Annotated[str, typer.Option(metavar="LENGTH", help="Length of a window: 10s, 1m, 1h, 1d.")] = "1m",
    since: Annotated[
        str, typer.Option(metavar="TIME", help="From then on: so long ago (30m, 7d), or 2026-05-01T12:00Z.")
    ] = "30m",
    until: Until = None,
    by: Annotated[
        list[GroupBy] | None, typer.Option(metavar="GROUP", help=f"Split windows by {', '.join(GroupBy)}; repeatable.")
    ] = None,
    field: Annotated[
        LatencyField, typer.Option(metavar="PHASE", help=f"What is measured: {', '.join(LatencyField)}.")
    ] = LatencyField.TOTAL,
    where: Where = None,
    exact: Annotated[
        bool | None,
        typer.Option("--exact/--sketch", help="Read every record, or sketches; default: whichever is quick."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it as well: an .html or .png file.", dir_okay=False)
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Show requests, errors and latency per window.

    Latency is of requests that were answered or failed inside the model; refused ones are counted, not timed.
    """
    from headway.client import Client

    check_model_name(name)
    _check_plot(plot)
    _check_terminal(output)
    asked: dict[str, Any] = {"field": field, "by": by or (), "where": where or (), "exact": exact}
    with Client() as client, options_named():
        found = client.windows(name, window=window, since=since, until=until, **asked)
        asked |= {"since": found.since, "until": found.until}  # "30m ago" moves on
        total = found
        if found.windows and len(found.spans()) > 1 and (output is Format.TEXT or plot is not None):
            total = client.windows(name, window=found.until - found.since + 1, **asked)
        if output is Format.JSON:
            emit_json(found)
        elif output is Format.TEXT:
            _print(found, total)
        else:
            _write(client.windows_file(name, output, window=window, **asked))
            _tell_losses(found.losses)
    if plot is not None:
        _draw(plot, found, total)


def log(
    name: Name,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new requests until Ctrl-C.")] = False,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="From then on: so long ago (10m, 1d), or 2026-05-01T12:00Z.")
    ] = "10m",
    until: Until = None,
    where: Where = None,
    limit: Annotated[
        int | None, typer.Option("-n", "--limit", metavar="COUNT", min=1, max=MOST, help="Only the newest so many.")
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Show every request, refused and failed ones too.

    On a terminal, columns that do not fit are left out; in a pipe and with -o json everything is there.
    """
    from headway.client import Client

    check_model_name(name)
    _check_terminal(output)
    if follow and until is not None:
        raise InvalidInput("--until and -f exclude each other", where="--until")
    if follow and output in (Format.CSV, Format.PARQUET):
        raise InvalidInput(f"-f does not go with -o {output}", where="-o", hint="-f prints text or JSON lines")
    asked: dict[str, Any] = {"since": since, "where": where or (), "last": limit}
    with Client() as client, options_named():
        if follow:
            _print_lines(client.follow_records(name, **asked), as_list=False)
        elif output in (Format.CSV, Format.PARQUET):
            (first,) = client.record_pages(name, until=until, **{**asked, "last": 1})
            asked |= {"since": first.since, "until": first.until}
            _write(client.records_file(name, output, **asked))
            _tell_losses(first.losses)
        else:
            told: list[LossesView] = []
            _print_lines(_records(client.record_pages(name, until=until, **asked), told), as_list=True)
            _tell_losses(told[-1])


def _print(found: Windows, total: Windows) -> None:
    from headway.cli.latency_text import report

    curves = out.is_terminal and out.encoding.startswith("utf")
    for line in report(found, None if total is found else total, width=out.width, curves=curves):
        out.print(line)


def _print_lines(records: Iterable[RecordView], *, as_list: bool) -> None:
    """``as_list``: a JSON list, whose end is known; else one value per line."""
    if is_json():
        _emit(records, as_list)
        return
    from headway.cli.record_text import fitting, header, line

    columns = fitting(out.width if out.is_terminal else None)
    empty = True
    for record in records:
        if empty:
            out.print(header(columns))
            empty = False
        out.print(line(record, columns))
    if empty:
        out.print("no requests in this time")


def _emit(records: Iterable[RecordView], as_list: bool) -> None:
    """Without keeping them all: a log can be longer than memory."""
    if not as_list:
        for record in records:
            emit_json(record, indent=None)
        return
    before = "["
    for record in records:
        sys.stdout.write(f"{before}\n{json.dumps(record.model_dump(mode='json'), ensure_ascii=False)}")
        before = ","
    sys.stdout.write("[]\n" if before == "[" else "\n]\n")
    sys.stdout.flush()


def _records(pages: Iterable[RecordPage], told: list[LossesView]) -> Iterator[RecordView]:
    for page in pages:
        yield from page.records
        told.append(page.losses)


def _tell_losses(losses: LossesView) -> None:
    from headway.cli.latency_text import losses_text

    for line in losses_text(losses):
        note(f"[yellow]{line}[/]")


def _write(chunks: Iterable[bytes]) -> None:
    sys.stdout.flush()
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _draw(path: Path, found: Windows, total: Windows) -> None:
    from headway.cli import chart_html, chart_png
    from headway.cli.chart import chart_of
    from headway.cli.latency_text import losses_text, period, sketch_text, title, totals

    facts = (period(found), totals(total), *sketch_text(found), *losses_text(found.losses))
    chart = chart_of(found, title(found), facts)
    content = chart_png.render(chart) if path.suffix == ".png" else chart_html.render(chart).encode()
    path.write_bytes(content)
    note(f"plot: {escape(str(path))}")


def _check_plot(path: Path | None) -> None:
    """Before anything is asked, and before the answer has been printed."""
    if path is None:
        return
    if path.suffix not in PLOTS:
        raise InvalidInput(f"cannot draw {path.name!r}", where="--plot", hint="name a file that ends in .html or .png")
    if not path.parent.is_dir():
        raise InvalidInput(f"there is no folder {path.parent}", where="--plot")
    if path.suffix == ".png":
        from headway.cli.chart_png import check_installed

        check_installed()


def _check_terminal(output: Format) -> None:
    if output is Format.PARQUET and sys.stdout.isatty():
        raise InvalidInput("parquet is not for a terminal", where="-o", hint="send it to a file: … > FILE.parquet")


@contextmanager
def options_named() -> Iterator[None]:
    """What the control API calls ``?since`` is called ``--since`` here."""
    try:
        yield
    except InvalidInput as error:
        if error.where is not None and error.where.startswith("?"):
            error.where = f"--{error.where[1:]}"
        raise
