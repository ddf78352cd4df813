"""``headway loadtest``: send a model a load, watch it, and report what it bore."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headway.cli import load_options as options
from headway.cli.completion import model_names
from headway.cli.load_belongings import refuse_idle, typed
from headway.cli.output import Format, OutputOption, note
from headway.domain.errors import InvalidInput
from headway.domain.load_shapes import Arrivals, LoadShape, Loop
from headway.domain.names import check_model_name, check_version_name

if TYPE_CHECKING:
    from headway.control.load_test import LoadTester
    from headway.ports.load_generator import LoadRequest
    from headway.ports.model_watch import ModelWatch

PANEL = "Look and call"
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", autocompletion=model_names)]
Maker = Callable[["ModelWatch"], "LoadTester"]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(rich_help_panel=PANEL)(loadtest)


def loadtest(
    context: typer.Context,
    name: Name,
    users: options.Users = None,
    rate: options.Rate = None,
    stages: options.Stages = None,
    replay: Annotated[bool, typer.Option("--replay", help="Open loop: arrivals and sizes from the query log.")] = False,
    replay_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The same, of a CSV: headway log -o csv writes one.", dir_okay=False),
    ] = None,
    duration: options.Duration = "1m",
    spawn_rate: options.SpawnRate = None,
    think_time: options.ThinkTime = "1s",
    arrivals: options.ArrivalKind = Arrivals.POISSON,
    seed: options.Seed = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="With --replay: from then on (10m: that long ago).")
    ] = "10m",
    until: Annotated[str | None, typer.Option(metavar="TIME", help="With --replay: up to then; default: now.")] = None,
    speed: Annotated[
        float, typer.Option(metavar="TIMES", help="With --replay and --replay-file: so many times as fast.")
    ] = 1.0,
    data: options.Data = None,
    rows: options.Rows = 1,
    version: Annotated[str | None, typer.Option(metavar="VERSION", help="Load this version alone.")] = None,
    locustfile: options.Locustfile = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT", min=1, max=options.MOST_WORKERS, help="Send from so many processes; default: one."
        ),
    ] = None,
    web: Annotated[
        int | None, typer.Option(metavar="PORT", min=1, max=65535, help="With users: Locust's own page, at this port.")
    ] = None,
    sla: options.Sla = None,
    stop: options.Stop = False,
    timeout: options.Timeout = "30s",
    report: options.ReportFile = None,
    output: OutputOption = Format.TEXT,
) -> int:
    """Send a model a load and report how it bore it.

    Response times, rate, replicas and processor use over time, as a page and as JSON.

    Open loop (--rate, --replay) or closed loop (--users): they answer different questions. Exit code 1 when a promise
    of --sla is broken, 10 when the generator was the bottleneck, so that nothing can be told.
    """
    from headway.cli import load_replay, load_run, load_source
    from headway.cli.query_log import options_named
    from headway.client import Client
    from headway.client.model_watch import RestModelWatch

    check_model_name(name)
    if version is not None:
        check_version_name(version, where="--version")
    promised = load_source.promised(sla, stop=stop)
    wait_s = load_source.length(timeout, "--timeout")
    page = load_run.page_of(report, name)
    if replay and replay_file is not None:
        raise InvalidInput("--replay and --replay-file exclude each other", where="--replay-file")
    chosen = load_source.Chosen(users, rate, stages, replay_file or replay)
    load = chosen.load if replay_file is None else "replay_file"
    refuse_idle(typed(context), load, locustfile=locustfile is not None)
    with Client() as client, Client() as own:
        client.get(name)
        shape = chosen.shape(duration, spawn_rate, think_time, arrivals, seed)
        sizes = None
        if replay_file is not None:
            found = load_replay.replayed_file(replay_file, speed, rows, "--replay-file")
            shape, sizes = found.shape, found.sizes
        elif shape is None:
            note("reading the query log")
            with options_named():
                found = load_source.replayed(client, name, since, until, speed)
            shape, sizes = found.shape, found.sizes
        make = _maker(shape, locustfile, workers or 0, web, wait_s)
        made: list[LoadRequest] = []
        if locustfile is None:
            made = load_source.requests(client, name, version, data, rows, sizes)
            given = None if data is None or rows != 1 or sizes is not None else partial(load_source.file_rows, data)
            made = load_source.fitting(client, name, version, made, given)
        if shape.loop is Loop.CLOSED:
            note("starting Locust" if web is None else f"starting Locust, its page: http://127.0.0.1:{web}")
        order = load_run.Order(client.load_target(name, version=version), shape, made, promised, stop)
        told = load_run.carry_out(lambda: make(RestModelWatch(own, name)), order)
    return load_run.told(told, page, load_run.write(told, page))


def _check_port(port: int) -> None:
    """Before the load: Locust would carry it out and only then tell that its page had no port."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError as error:
            raise InvalidInput(
                f"no page can be at port {port} of 127.0.0.1: {error.strerror or error}",
                where="--web",
                hint="another port",
            ) from None


def _maker(shape: LoadShape, locustfile: Path | None, workers: int, web: int | None, timeout_s: float) -> Maker:
    """How to make the tester. Raises ``MissingExtra`` when users are wanted and Locust is not installed."""
    from headway import bootstrap_load
    from headway.adapters.loadgen.locust import check_installed

    if shape.loop is Loop.OPEN:
        for flag, value in (("--locustfile", locustfile), ("--web", web)):
            if value is not None:
                raise InvalidInput(f"{flag} belongs to users, and this load is a rate", where=flag)
        return lambda watch: bootstrap_load.load_tester(watch, timeout_s=timeout_s, workers=workers)
    check_installed()
    if locustfile is not None and not locustfile.is_file():
        raise InvalidInput(f"there is no file {locustfile}", where="--locustfile")
    if web is not None:
        _check_port(web)
    given: dict[str, Any] = {"locustfile": locustfile, "workers": workers, "web_port": web, "timeout_s": timeout_s}
    return lambda watch: bootstrap_load.users_tester(watch, **given)
