"""``headway simulate``: scaling policies replayed against recorded traffic before one of them is put in force."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape

from headway.cli.completion import model_names
from headway.cli.output import Format, OutputOption, emit_json, is_json, note, say, table
from headway.domain.errors import InvalidInput, PromiseBroken
from headway.domain.names import check_model_name

if TYPE_CHECKING:
    from headway.control.simulation import Candidate, Simulated, Traffic

PANEL = "Traffic and replicas"
MOST_POLICIES: Final = 6
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", autocompletion=model_names)]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(rich_help_panel=PANEL)(simulate)


def simulate(
    name: Name,
    policy: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A policy to try beside the one in force, as for autoscale -f.", dir_okay=False
        ),
    ] = None,
    least: Annotated[
        int | None, typer.Option("--min", metavar="COUNT", min=0, max=1000, help="As now, but for fewest replicas.")
    ] = None,
    most: Annotated[
        int | None, typer.Option("--max", metavar="COUNT", min=1, max=1000, help="As now, but for most.")
    ] = None,
    cpu: Annotated[str | None, typer.Option(metavar="PERCENT", help="As now, but for this target, or off.")] = None,
    concurrency: Annotated[str | None, typer.Option(metavar="COUNT", help="The same.")] = None,
    rps: Annotated[str | None, typer.Option(metavar="COUNT", help="The same.")] = None,
    latency: Annotated[str | None, typer.Option(metavar="PROMISE", help="The same: 'p95<900ms'.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Requests from then on; default: 1d ago.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Until then; default: now.")] = None,
    traffic: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Arrivals of a CSV instead of the log: a time and a count.", dir_okay=False),
    ] = None,
    times: Annotated[float, typer.Option(metavar="FACTOR", help="So many times as many requests.")] = 1.0,
    sla: Annotated[
        list[str] | None, typer.Option(metavar="PROMISE", help="'p95<1s', in quotes; 'errors<1%' beside it.")
    ] = None,
    service: Annotated[
        str, typer.Option(metavar="SOURCE", help="How long a request takes: log, plan, or a mean such as 40ms.")
    ] = "log",
    start_up: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="Until a new replica is ready; default: as measured.")
    ] = None,
    max_queue: Annotated[
        int | None, typer.Option(metavar="COUNT", min=1, help="Requests that may wait in a replica.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(metavar="COUNT", min=0, max=1000, help="At the begin; default: minReplicas.")
    ] = None,
    price: Annotated[float | None, typer.Option(metavar="MONEY", min=0.0, help="Of one core for an hour.")] = None,
    window: Annotated[str | None, typer.Option(metavar="LENGTH", help="Of the windows that are shown.")] = None,
    seed: Annotated[int, typer.Option(metavar="NUMBER", min=0, help="Of what is drawn at random.")] = 1,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page to write; its JSON goes beside it.", dir_okay=False)
    ] = None,
    output: OutputOption = Format.TEXT,
) -> int:
    """Replay recorded traffic under several scaling policies.

    The policy in force is compared with others by what each would have done.
    The decisions are made by the function that scales production, the replicas are simulated. Nothing is started or
    changed. Exit code 1 when something is promised and no policy keeps it.
    """
    from headway.cli import load_run, simulate_setting, simulate_source
    from headway.cli.scaling_edit import Flags
    from headway.client import Client
    from headway.control.simulation_report import Asked, document
    from headway.domain import promises

    check_model_name(name)
    promised = promises.parse_all(sla or [])
    if not 0 < times <= 1000:
        raise InvalidInput(f"{times:g} times as many", where="--times", hint="above 0, 1000 at most")
    window_s = None if window is None else simulate_source.length(window, "--window")
    if window_s == 0:
        raise InvalidInput("a window of 0 s has nothing in it", where="--window")
    if price is not None and not math.isfinite(price):
        raise InvalidInput(f"{price} is no price", where="--price")
    if report is not None:
        load_run.check_place(report)
    if len(policy or ()) > MOST_POLICIES:
        raise InvalidInput(f"{len(policy or ())} policies", where="--policy", hint=f"{MOST_POLICIES} at most at a time")
    changed = Flags(least, most, cpu, None, concurrency, rps, latency)
    asked = simulate_setting.Options(since, until, traffic, times, service, start_up, max_queue, replicas, seed)
    with Client() as client:
        tried = list(simulate_source.candidates(client, name, policy or (), changed))
        setting = simulate_setting.read(client, name, asked)
    tried, left_out = _replayable(name, tried)
    began = time.monotonic()
    runs = _carry_out(name, tried, setting.traffic)
    found = document(name, runs, setting.traffic, Asked(promised, price, window_s), [*left_out, *setting.notes])
    return _told(found, time.monotonic() - began, report)


def _replayable(name: str, tried: list[Candidate]) -> tuple[list[Candidate], list[str]]:
    """All of them; without the one in force where that cannot be replayed and others can. Then that is told."""
    from headway.control.simulation import planned

    for one in tried[1:]:
        planned(name, one)
    try:
        planned(name, tried[0])
    except InvalidInput as error:
        if len(tried) == 1:
            raise
        return tried[1:], [f"the policy in force is left out: {error.message}"]
    return tried, []


def _carry_out(name: str, tried: Sequence[Candidate], traffic: Traffic) -> list[Simulated]:
    from rich.text import Text

    from headway.cli import live_line
    from headway.control import simulation

    now: list[Any] = ["", 0.0]
    began = time.monotonic()

    def moving() -> Text:
        sign, style = live_line.spinner(time.monotonic() - began)
        return Text(sign, style).append(f"{now[0]}: {now[1]:.0%}", "default")

    live = live_line.begin(moving)
    try:
        found = []
        for one in tried:
            now[:] = [one.name, 0.0]
            found.append(simulation.simulate(name, one, traffic, _into(now)))
        return found
    finally:
        if live is not None:
            live.stop()


def _into(now: list[Any]) -> Callable[[float], None]:
    def told(share: float) -> None:
        now[1] = share

    return told


def _told(found: dict[str, Any], took_s: float, report: Path | None) -> int:
    from headway.cli import simulate_html, simulate_text

    if report is not None:
        simulate_html.write(found, report)
    if is_json():
        emit_json(found)
    else:
        for line in simulate_text.head(found, took_s):
            say(escape(line))
        table(simulate_text.columns(found), simulate_text.rows(found), empty="nothing was simulated")
        for line in simulate_text.after(found):
            say(escape(line))
    if report is not None:
        note(f"report: {escape(str(report))}, {escape(str(report.with_suffix('.json')))}")
    if found["promises"] and found["best"] is None:
        raise PromiseBroken(f"no policy keeps {' and '.join(found['promises'])}")
    return 0
