"""Figures as Markdown: the tables that are printed, and the page ``docs/benchmarks.md`` around them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from .contenders import ALL, HEADWAY, LAYERS, MODELS, PEERS, Contender
from .figures import (
    BARS,
    Measure,
    Spread,
    Verdict,
    best,
    cold_start_s,
    judge,
    load,
    memory_mb,
    p99_ms,
    problems,
    rate,
    ratio,
    spread,
    values,
)
from .visit import Visit

NONE = "–"
ENOUGH_ROUNDS = 5
"""For a page that need not call itself provisional."""


def number(value: float) -> str:
    """Three significant digits, thousands with a comma; three decimals at most."""
    if value >= 1000:
        digits = len(str(int(value)))
        return f"{round(value, 3 - digits):,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def cell(found: Spread | None) -> str:
    """``median (low-high)``."""
    if found is None:
        return NONE
    if found.count == 1:
        return number(found.median)
    return f"{number(found.median)} ({number(found.low)}-{number(found.high)})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first to the right."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def results(visits: Sequence[Visit], model: str, servers: Sequence[str]) -> str:
    """One row per server, the fastest at 64 connections first; those without figures last."""
    columns: tuple[tuple[str, Measure], ...] = (
        ("requests/s, 1", rate(1)),
        ("requests/s, 64", rate(64)),
        ("p99 ms, 1", p99_ms(1)),
        ("p99 ms, 64", p99_ms(64)),
        ("CPU µs, 1", load(1, "cpu_us")),
        ("CPU µs, 64", load(64, "cpu_us")),
        ("memory MB", memory_mb),
        ("cold start s", cold_start_s),
    )

    def speed(server: str) -> float:
        found = spread(values(visits, server, model, rate(64)).values())
        return -found.median if found else 0.0

    rows = []
    for server in sorted(servers, key=speed):
        found = (spread(values(visits, server, model, measure).values()) for _, measure in columns)
        rows.append([ALL[server].title, *map(cell, found)])
    return table([MODELS[model], *(name for name, _ in columns)], rows)


def to_fastest(visits: Sequence[Visit], model: str, servers: Sequence[str]) -> str:
    """Requests per second of each server as a multiple of the fastest peer's, per round."""
    rows = []
    peers = [name for name in servers if name in {peer.name for peer in PEERS}]
    reference = {count: best(visits, peers, model, rate(count), most=True) for count in (1, 64)}
    for server in servers:
        row = [ALL[server].title]
        for count in (1, 64):
            found = reference[count]
            row.append(cell(ratio(visits, server, found[0], model, rate(count))) if found else NONE)
        rows.append(row)
    names = [f"{count}: against {ALL[found[0]].title}" if found else str(count) for count, found in reference.items()]
    return table([MODELS[model], *names], rows)


def to_protocol(visits: Sequence[Visit], servers: Sequence[str]) -> str:
    """The layer that was chosen as a multiple of each layer, per round."""
    columns = (("requests/s, 1", rate(1)), ("requests/s, 64", rate(64)), ("p99, 64", p99_ms(64)))
    costs = (("CPU, 1", load(1, "cpu_us")), ("CPU, 64", load(64, "cpu_us")), ("memory", memory_mb))
    rows = [
        [ALL[server].title, *(cell(ratio(visits, LAYERS[0].name, server, "logistic", m)) for _, m in columns + costs)]
        for server in servers
    ]
    return table(["asyncio protocol as a multiple of", *(name for name, _ in columns + costs)], rows)


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """The bars, what was measured, and whether it is enough."""
    rows = []
    for verdict in verdicts:
        bar = verdict.bar
        bound = f"{'at least' if bar.at_least else 'at most'} {number(bar.bound)}"
        against = ALL[verdict.peer].title if verdict.peer else NONE
        rows.append([f"{MODELS[bar.model]}: {bar.what}", against, bound, cell(verdict.ratio), verdict.word])
    return table(["Headway as a multiple of the best peer", "that peer", "bar", "measured", "verdict"], rows)


def verdicts(visits: Sequence[Visit]) -> list[Verdict]:
    """On every bar."""
    return [judge(visits, bar, [peer.name for peer in PEERS]) for bar in BARS]


def failures(visits: Sequence[Visit], not_installed: Mapping[str, str]) -> str:
    """Who could not be measured, and why; empty when all were."""
    lines = [f"- {ALL[name].title}: not installed: {reason}" for name, reason in not_installed.items()]
    lines += [
        f"- {ALL[visit.server].title}, {MODELS[visit.model]}, round {visit.round}: {visit.problem}"
        for visit in problems(visits)
    ]
    return "\n".join(lines)


def how_they_run(servers: Iterable[Contender], versions: Mapping[str, str]) -> str:
    """What was switched on, with versions."""
    rows = [[each.title, versions.get(each.name, NONE), each.switched_on] for each in servers]
    return "\n".join(["| | version | how it runs |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def page(
    visits: Sequence[Visit],
    *,
    machine: Mapping[str, str],
    versions: Mapping[str, str],
    not_installed: Mapping[str, str],
    seconds: float,
) -> str:
    """The whole of ``docs/benchmarks.md``."""
    servers = [HEADWAY.name, *(peer.name for peer in PEERS)]
    rounds = max(Counter((visit.server, visit.model) for visit in visits).values())
    failed = failures(visits, not_installed)
    parts = [
        INTRODUCTION,
        *([PROVISIONAL.format(rounds=rounds)] if rounds < ENOUGH_ROUNDS else []),
        "## What it shows",
        verdict_table(verdicts(visits)),
        "## Requests per second as a multiple of the fastest peer",
        "Columns: connections. Median of the ratios within a round, and their range.",
        *(to_fastest(visits, model, servers) for model in MODELS),
        "## Figures",
        "Columns with 1 and 64: connections. Median over rounds, and range. They hold for this machine and this day.",
        *(results(visits, model, servers) for model in MODELS),
        *(["Without figures:", failed] if failed else []),
        "## How each runs",
        how_they_run([HEADWAY, *PEERS], versions),
        "## Machine and method",
        "\n".join(f"- {name}: {value}" for name, value in machine.items()),
        METHOD.format(rounds=rounds, seconds=f"{seconds:g}"),
    ]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """\
# Benchmarks

Headway's model server beside other Python model servers: the same joblib files, the same row, one core for the
server, another for the load generator. This page is written by `make bench-server`, which runs in about 25 minutes on
any Linux machine with two cores and [wrk](https://github.com/wg/wrk) (Debian, Ubuntu: `sudo apt-get install wrk`).
Other programs measure how exact [load tests](explanation/load-tests.md) and
[capacity plans](explanation/capacity.md#how-well-it-does) are.

**Read ratios, not absolute figures.** Requests per second depend on the machine, its neighbours and the weather; on a
shared machine they change by a third within minutes. Servers therefore take turns, round after round, and a ratio is
taken between two visits of the same round."""

PROVISIONAL = """\
!!! warning "Provisional"
    Figures of {rounds} rounds only, and other work may have run beside them: the verdicts may change."""

METHOD = """\
- Load: wrk, closed loop (each connection sends when it was answered), one row per request, 1 and then 64
  connections, {seconds} s each after 1 s of warm-up; {rounds} rounds.
- All processes of a server are pinned to core 0, wrk and the harness to core 1. One server runs at a time, started
  anew for each visit.
- Answers are checked before and after the load, 24 requests with rows of different classes at once; an answer with an
  error status during the load makes the visit void.
- Memory is the proportional set size of all of a server's processes after the load. Cold start is from the start of
  the process to its first right answer, files in the page cache.
- A closed loop hides stalls: p99 says how evenly a server treats its connections, not what users see at a given rate.
- CPU µs is the time per request that all of a server's processes spent on their core during the timed run. It
  depends less on what else the machine does than requests per second do.

More rounds: `make bench-server ARGS="--add --rounds 3"`. Some servers only: `ARGS="--only headway,fastapi"`. The
prototypes of the HTTP layer: `ARGS="--layers"`; what came of them is
[decision 6](decisions/0006-http-layer.md)."""
