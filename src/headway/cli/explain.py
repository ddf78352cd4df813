"""``headway explain``: why a model has as many replicas, or workers, as it has, or had at some time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from headway.cli.completion import model_names
from headway.cli.latency_text import printable
from headway.cli.output import Format, OutputOption, count_text, emit_json, is_json, note, out
from headway.cli.scaling_text import folded, moved, reason
from headway.cli.times import clock, day, instant, length, local, localized
from headway.domain.errors import InvalidInput, ModelNotFound
from headway.domain.names import check_model_name, check_version_name

if TYPE_CHECKING:
    from headway.api.schemas_scaling import DecisionView, Explanation
    from headway.client import Client

PANEL = "Traffic and replicas"
MOST = 1000
SHOWN_SINCE = 5
"""Later changes that are told one by one."""
HISTORY_S = 3600.0
STALE_S = 120.0
"""A model that is scaled has a record of the last minute."""
GAP = "  "
_HEAD = re.compile(r"^\s*\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: ")


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(rich_help_panel=PANEL)(explain)


def explain(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", autocompletion=model_names)],
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When: -10m, 09:30 or 2026-05-01T12:00 (local time); default: now."),
    ] = None,
    version: Annotated[str | None, typer.Option(metavar="VERSION", help="Only decisions about this version.")] = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only decisions that changed the number of replicas.")
    ] = False,
    workers: Annotated[
        bool, typer.Option("--workers", help="Of the workers that carry out its jobs, instead of its replicas.")
    ] = False,
    history: Annotated[bool, typer.Option("--history", help="List decisions, a line each.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="With --history: from then on; default: an hour ago.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("-n", "--limit", metavar="COUNT", min=1, max=MOST, help="With --history: the newest so many."),
    ] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Tell why a model has as many replicas as it has.

    What was seen and how old it was, what each trigger wished, what held it back, what settled it, and what would have
    led elsewhere; then what has happened since. With --at, of the decision that was in force at that time.
    """
    from headway.client import Client

    check_model_name(name)
    if version is not None:
        check_version_name(version, where="--version")
    now = time.time()
    if history:
        if at is not None:
            raise InvalidInput("--at is for one decision, --history for many", where="--at", hint="use --since")
        begin = now - HISTORY_S if since is None else instant(since, now, where="--since")
        with Client() as client:
            found = client.decisions(
                name, version=version, since=begin, changed=changed, workers=workers, last=limit or MOST
            )
        _print_history(name, found, begin, workers)
        return
    for given, option in ((since, "--since"), (limit, "--limit")):
        if given is not None:
            raise InvalidInput(f"{option} goes with --history", where=option)
    moment = None if at is None else instant(at, now, where="--at", last=True)
    with Client() as client:
        _print(client, name, moment, version, changed, workers)


def _print(client: Client, name: str, at: float | None, version: str | None, changed: bool, workers: bool) -> None:
    view = client.explain(name, at, version=version, changed=changed, workers=workers)
    if is_json():
        emit_json(view)
        return
    if not view.decisions:
        _print_none(client, name, at, changed, workers)
    elif not workers and at is None and max(one.at for one in view.decisions) < time.time() - STALE_S:
        _note_what_is(client, name)
    for number, decision in enumerate(view.decisions):
        if number:
            out.print()
        since = client.decisions(
            name, version=decision.version, since=decision.at, changed=True, workers=workers, last=MOST
        )
        later = [one for one in since if one.cursor > decision.cursor]
        for line in story(name, decision, later, at, time.time(), out.width if out.is_terminal else None):
            out.print(line)


def _note_what_is(client: Client, name: str) -> None:
    """A decision from long ago may be all there is, because nobody decides any more."""
    with suppress(ModelNotFound):
        if client.scaling(name).scaling is None:
            note(f"note: {name} has a fixed number of replicas now")


def _print_none(client: Client, name: str, at: float | None, changed: bool, workers: bool) -> None:
    if workers:
        when = "" if at is None else f" by {local(at)}"
        out.print(f"no decision about workers of {name} {'changed their number' if changed else 'was recorded'}{when}")
        return
    standing = client.scaling(name)
    if standing.scaling is None and not changed and at is None:
        replicas = count_text(standing.replicas, "replica")
        out.print(f"{name} has a fixed number of replicas, {replicas} of each version: nothing is decided")
        note(f"hint: headway autoscale {name} --max 12 --cpu 80% lets the load decide")
        return
    when = "" if at is None else f" by {local(at)}"
    out.print(f"no decision about {name} {'changed its replicas' if changed else 'was recorded'}{when}")


def story(
    name: str, decision: Explanation, later: Sequence[DecisionView], at: float | None, now: float, width: int | None
) -> Iterator[Text]:
    """Lines of one decision; ``later``: what changed after it; ``width``: what lines are wrapped to."""
    ago = f"{length(now - decision.at)} ago" if at is None else f"{length(at - decision.at)} before {local(at)}"
    shadow = ", in shadow: not carried out" if decision.shadow else ""
    head = f"{moved(decision.current, decision.desired)}, settled by {printable(decision.binding)}{shadow}"
    what = "workers " if decision.role == "work" else ""
    yield Text(f"{name} {decision.version}: {what}{head}", "bold")
    yield Text(f"  decided {local(decision.at)}, {ago}")
    for line in decision.lines:
        # The first begins with the time in UTC, which stands above in local time.
        told = localized(_HEAD.sub("", printable(line)).strip(), decision.at)
        yield from folded("  ", told, width, hang=2)
    if not later:
        yield Text("  nothing has changed since")
        return
    yield Text("since then", "bold")
    yield from _table([_row(one) for one in later[:SHOWN_SINCE]], "  ", width)
    if len(later) > SHOWN_SINCE:
        more = count_text(len(later) - SHOWN_SINCE, "more change")
        which = " --workers" if decision.role == "work" else ""
        yield Text(f"  and {more}: headway explain {name} --history --changed{which}", "dim")


def _print_history(name: str, found: Sequence[DecisionView], begin: float, workers: bool) -> None:
    if is_json():
        emit_json(list(found))
        return
    if not found:
        of_what = f"workers of {name}" if workers else name
        out.print(f"no decision about {of_what} was recorded since {local(begin)}")
        return
    days = {day(one.at) for one in (found[0], found[-1])}
    rows = [(local(one.at) if len(days) > 1 else clock(one.at), one.version, *_row(one)[1:]) for one in found]
    if len(days) == 1:
        out.print(Text(days.pop(), "dim"))
    heads = ("time", "version", "workers" if workers else "replicas", "settled by", "because")
    for number, line in enumerate(_table([heads, *rows], "", out.width if out.is_terminal else None)):
        line.stylize("bold" if number == 0 else "")
        out.print(line)


def _row(one: DecisionView) -> tuple[str, ...]:
    replicas = moved(one.current, one.desired) + (" (shadow)" if one.shadow and one.changed else "")
    return clock(one.at), replicas, printable(one.binding), reason(one.summary, one.binding)


def _table(rows: Sequence[Sequence[str]], indent: str, width: int | None) -> Iterator[Text]:
    """Columns, the last one folded below itself."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    for *cells, last in rows:
        ahead = "".join(cell.ljust(wide) + GAP for cell, wide in zip(cells, widths, strict=True))
        yield from folded(f"{indent}{ahead}", last, width)
