"""Options of load tests, the same wherever the load comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from headway.domain.load_shapes import Arrivals

MOST_WORKERS: Final = 64

Users = Annotated[
    str | None, typer.Option(metavar="COUNT", help="Closed loop: so many Locust users, or FROM:TO, such as 1:200.")
]
Rate = Annotated[
    str | None, typer.Option(metavar="RATE", help="Open loop: arrivals a second, or FROM:TO, such as 100:2000.")
]
Stages = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Stages of users or of rates, as YAML or JSON.", dir_okay=False)
]
Duration = Annotated[str, typer.Option(metavar="LENGTH", help="With --users and --rate: 30s, 3m.")]
SpawnRate = Annotated[float | None, typer.Option(metavar="COUNT", help="With --users: so many more users a second.")]
ThinkTime = Annotated[
    str, typer.Option(metavar="LENGTH", help="Mean time that users think between an answer and the next request.")
]
ArrivalKind = Annotated[Arrivals, typer.Option(metavar="KIND", help="With --rate: poisson or constant.")]
Seed = Annotated[
    int | None, typer.Option(metavar="NUMBER", min=0, help="Of Poisson arrivals and thinking times; default 1.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Rows to send, .csv, .json or .jsonl; default: the model's sample.", dir_okay=False
    ),
]
Rows = Annotated[int, typer.Option(metavar="COUNT", min=1, max=100_000, help="Rows in a request.")]
Locustfile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Users of your own, as for Locust.", dir_okay=False)
]
Sla = Annotated[list[str] | None, typer.Option(metavar="PROMISE", help="'p95<1s', 'errors<1%', in quotes; repeatable.")]
Stop = Annotated[bool, typer.Option("--stop", help="End as soon as a promise is broken for 5 s.")]
Timeout = Annotated[str, typer.Option(metavar="LENGTH", help="How long to wait for an answer.")]
ReportFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The page to write; its JSON goes beside it.", dir_okay=False)
]
