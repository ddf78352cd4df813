"""``headway loadtest``: send a model a load, watch it, and report what it bore."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from headway.cli.completion import model_names
from headway.cli.main import INTERRUPTED
from headway.cli.output import Format, OutputOption, emit_json, is_json, note, say, table
from headway.domain.errors import InvalidInput, PromiseBroken, Unsupported, VerdictRefused
from headway.domain.load_shapes import Arrivals, LoadShape, Loop
from headway.domain.names import check_model_name, check_version_name

if TYPE_CHECKING:
    from headway.client import Client
    from headway.control.load_test import LoadTester
    from headway.domain.load_reports import LoadReport
    from headway.ports.load_generator import LoadRequest
    from headway.ports.model_watch import ModelWatch

PANEL = "Look and call"
MOST_WORKERS = 64
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", autocompletion=model_names)]
Maker = Callable[["ModelWatch"], "LoadTester"]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(rich_help_panel=PANEL)(loadtest)


def loadtest(
    name: Name,
    users: Annotated[
        str | None, typer.Option(metavar="COUNT", help="Closed loop: so many Locust users, or FROM:TO, such as 1:200.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="Open loop: arrivals a second, or FROM:TO, such as 100:2000.")
    ] = None,
    stages: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Stages of users or of rates, as YAML or JSON.", dir_okay=False)
    ] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Open loop: arrivals and sizes from the query log.")] = False,
    duration: Annotated[str, typer.Option(metavar="LENGTH", help="With --users and --rate: 30s, 3m.")] = "1m",
    spawn_rate: Annotated[
        float | None, typer.Option(metavar="COUNT", help="With --users: so many more users a second.")
    ] = None,
    think_time: Annotated[
        str, typer.Option(metavar="LENGTH", help="Mean time that users think between an answer and the next request.")
    ] = "1s",
    arrivals: Annotated[
        Arrivals, typer.Option(metavar="KIND", help="With --rate: poisson or constant.")
    ] = Arrivals.POISSON,
    seed: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=0, help="Of Poisson arrivals and thinking times; default 1.")
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="With --replay: from then on (10m: that long ago).")
    ] = "10m",
    until: Annotated[str | None, typer.Option(metavar="TIME", help="With --replay: up to then; default: now.")] = None,
    speed: Annotated[float, typer.Option(metavar="TIMES", help="With --replay: so many times as fast.")] = 1.0,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Rows to send, .csv, .json or .jsonl; default: the model's sample.", dir_okay=False
        ),
    ] = None,
    rows: Annotated[int, typer.Option(metavar="COUNT", min=1, max=100_000, help="Rows in a request.")] = 1,
    version: Annotated[str | None, typer.Option(metavar="VERSION", help="Load this version alone.")] = None,
    locustfile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Users of your own, as for Locust.", dir_okay=False)
    ] = None,
    workers: Annotated[
        str | None, typer.Option(metavar="COUNT", help="Send from so many processes; default: one.")
    ] = None,
    web: Annotated[
        int | None, typer.Option(metavar="PORT", min=1, max=65535, help="With users: Locust's own page, at this port.")
    ] = None,
    sla: Annotated[
        list[str] | None, typer.Option(metavar="PROMISE", help="'p95<1s', 'errors<1%', in quotes; repeatable.")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="End as soon as a promise is broken for 5 s.")] = False,
    timeout: Annotated[str, typer.Option(metavar="LENGTH", help="How long to wait for an answer.")] = "30s",
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page to write; its JSON goes beside it.", dir_okay=False)
    ] = None,
    output: OutputOption = Format.TEXT,
) -> int:
    """Send a model a load and report how it bore it.

    Response times, rate, replicas and processor use over time, as a page and as JSON.

    Open loop (--rate, --replay) or closed loop (--users): they answer different questions. Exit code 1 when a promise
    of --sla is broken, 10 when the generator was the bottleneck, so that nothing can be told.
    """
    from headway.cli import load_run, load_source
    from headway.client import Client
    from headway.client.model_watch import RestModelWatch
    from headway.domain import promises

    check_model_name(name)
    if version is not None:
        check_version_name(version, where="--version")
    promised = promises.parse_all(sla or [])
    if stop and not promised:
        raise InvalidInput("--stop needs a promise to be broken", where="--stop", hint="add --sla 'p95<1s'")
    wait_s = load_source.length(timeout, "--timeout")
    processes = _workers(workers)
    page = report or Path(f"loadtest-{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}.html")
    load_run.check_place(page)
    chosen = _Chosen(users, rate, stages, replay)
    with Client() as client, Client() as own:
        client.get(name)
        shape, sizes = chosen.shape(client, name, duration, spawn_rate, think_time, arrivals, seed, since, until, speed)
        make = _maker(shape, locustfile, processes, web, wait_s)
        made: list[LoadRequest] = []
        if locustfile is None:
            made = load_source.requests(client, name, version, data, rows, sizes)
            load_source.tried(client, name, version, made[0])
        if web is not None:
            note(f"Locust's page: http://127.0.0.1:{web}")
        order = load_run.Order(client.load_target(name, version=version), shape, made, promised, stop)
        found = load_run.carry_out(lambda: make(RestModelWatch(own, name)), order)
    beside = load_run.write(found, page)
    return _told(found, page, beside)


class _Chosen:
    """Which of the four loads it is."""

    def __init__(self, users: str | None, rate: str | None, stages: Path | None, replay: bool) -> None:
        given = {"--users": users, "--rate": rate, "--stages": stages, "--replay": replay or None}
        named = [flag for flag, value in given.items() if value is not None]
        if len(named) > 1:
            raise InvalidInput(f"{' and '.join(named)} exclude each other", where=named[1])
        if not named:
            raise InvalidInput(
                "what load?", where="--users", hint="--users 1:50, --rate 100, --stages FILE or --replay"
            )
        self._users, self._rate, self._stages = users, rate, stages

    def shape(
        self,
        client: Client,
        name: str,
        duration: str,
        spawn_rate: float | None,
        think_time: str,
        arrivals: Arrivals,
        seed: int | None,
        since: str,
        until: str | None,
        speed: float,
    ) -> tuple[LoadShape, tuple[int, ...] | None]:
        """The shape and, of a replay, the rows of each request."""
        from headway.cli import load_source
        from headway.cli.query_log import options_named

        if self._users is not None:
            return load_source.users_shape(
                self._users, duration, spawn_rate, think_time, 1 if seed is None else seed
            ), None
        if self._rate is not None:
            if arrivals is Arrivals.RECORDED:
                raise InvalidInput("recorded arrivals are those of --replay", where="--arrivals")
            return load_source.rate_shape(self._rate, duration, arrivals, 1 if seed is None else seed), None
        if self._stages is not None:
            return load_source.stages_shape(self._stages, seed), None
        note("reading the query log")
        with options_named():
            found = load_source.replayed(client, name, since, until, speed)
        return found.shape, found.sizes


def _workers(text: str | None) -> int:
    if text is None:
        return 0
    if text.startswith("kubernetes"):
        raise Unsupported(
            "workers as Kubernetes objects are not supported yet",
            where="--workers",
            hint="--workers 4: local processes",
        )
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_WORKERS):
        raise InvalidInput(f"{text[:40]!r} is not a number of workers", where="--workers", hint=f"1 to {MOST_WORKERS}")
    return int(text)


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
    options: dict[str, Any] = {"locustfile": locustfile, "workers": workers, "web_port": web, "timeout_s": timeout_s}
    return lambda watch: bootstrap_load.users_tester(watch, **options)


def _told(report: LoadReport, page: Path, beside: Path) -> int:
    from headway.cli.load_text import PHASES, rows, summary
    from headway.domain.load_documents import to_document
    from headway.domain.load_reports import Ending, Outcome

    if is_json():
        emit_json(to_document(report))
    else:
        table(PHASES, rows(report), empty="nothing was sent")
        for text in summary(report):
            say(escape(text))
        if report.health.saturated and report.verdict.outcome is Outcome.NONE:
            note("[yellow]these figures are of the generator as much as of the model[/]")
    note(f"report: {escape(str(page))}, {escape(str(beside))}")
    if report.ending is Ending.INTERRUPTED:
        return INTERRUPTED
    if report.ending is Ending.FAILED:
        raise VerdictRefused(f"the load could not be carried out: {report.notes[-1]}")
    if report.verdict.outcome is Outcome.BROKEN:
        raise PromiseBroken("; ".join(report.verdict.reasons), details={"report": str(page)})
    if report.verdict.outcome is Outcome.REFUSED:
        raise VerdictRefused(
            f"no verdict: {'; '.join(report.verdict.reasons)}",
            hint="load less, send from elsewhere, or from several processes: --workers 2",
            details={"report": str(page)},
        )
    return 0
