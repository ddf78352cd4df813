"""One visit: start a server, time its first right answer, check, load, weigh, check again, stop."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from . import wrk
from .contenders import Contender, Row, Site, predictions
from .process import Server

CONNECTIONS: Final = (1, 64)
FIRST_ANSWER_WITHIN_S: Final = 90.0
POLL_S: Final = 0.005
WARM_UP_S: Final = 1.0
TOGETHER: Final = 24
"""Requests for different rows sent at once, so that batching has something to mix up."""


class WrongAnswer(Exception):
    """A server answered something else than the model does."""


class NoAnswer(Exception):
    """A server did not come up, or fell over."""


@dataclass(slots=True)
class Visit:
    """What one visit found. ``loads`` by number of connections."""

    server: str
    model: str
    round: int
    version: str
    cold_start_s: float = 0.0
    pss_mb: float = 0.0
    rss_mb: float = 0.0
    processes: int = 0
    loads: dict[int, dict[str, float]] = field(default_factory=dict)
    problem: str | None = None
    """Why there are no figures."""
    wrong: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def visit_from(document: dict[str, Any]) -> Visit:
    """The visit that ``to_dict`` wrote, from JSON."""
    document["loads"] = {int(connections): load for connections, load in document["loads"].items()}
    return Visit(**document)


@dataclass(frozen=True, slots=True)
class Questions:
    """Rows, and the classes that the model gives them."""

    rows: Sequence[Row]
    classes: Sequence[int]


def measure(
    contender: Contender,
    visit: Visit,
    *,
    python: Path,
    model: Path,
    cache: Path,
    questions: Questions,
    seconds: float,
    connections: Sequence[int] = CONNECTIONS,
) -> None:
    """Fill in ``visit``; what goes wrong is noted in it."""
    folder = Path(tempfile.mkdtemp(prefix="hb-"))  # short: Ray keeps sockets below it
    log = cache / "logs" / f"{visit.server}-{visit.model}-{visit.round}.log"
    site = Site(python=python, model_name=visit.model, model=model, folder=folder, ports=_free_ports())
    server = None
    try:
        command = contender.command(site)
        began = time.perf_counter()
        server = Server(command, folder=folder, log=log, environment=_environment(contender, site))
        _first_answer(contender, site, questions, server)
        visit.cold_start_s = time.perf_counter() - began
        _check(contender, site, questions)
        url = f"http://127.0.0.1:{site.port}{contender.path}"
        body = contender.request([questions.rows[0]])
        for count in connections:
            wrk.run(url, body, connections=count, seconds=WARM_UP_S)
            before_s = server.cpu_s()
            load = wrk.run(url, body, connections=count, seconds=seconds)
            cpu_us = (server.cpu_s() - before_s) / load.requests * 1e6
            visit.loads[count] = {**asdict(load), "cpu_us": cpu_us}
        weight = server.weigh()
        visit.pss_mb, visit.rss_mb, visit.processes = weight.pss_mb, weight.rss_mb, weight.processes
        _check(contender, site, questions)
    except WrongAnswer as error:
        visit.problem, visit.wrong = str(error), True
    except (NoAnswer, wrk.GeneratorFailed) as error:
        visit.problem = str(error)
    finally:
        if server is not None:
            if visit.problem is not None and server.gone:
                visit.problem += f" ({server.tail()})"
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _environment(contender: Contender, site: Site) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "PATH": f"{site.bin}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONUNBUFFERED": "1",
        "BENCH_MODEL": str(site.model),
        "BENCH_PORT": str(site.port),
        "BENCH_BATCH": "1" if site.batching else "0",
        "BENCH_FOLDER": str(site.folder),
        **{name: value.format(folder=site.folder) for name, value in contender.environment.items()},
    }


def _free_ports() -> tuple[int, int, int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    first, second, third = (int(each.getsockname()[1]) for each in held)
    for each in held:
        each.close()
    return first, second, third


def _ask(contender: Contender, site: Site, rows: list[Row], timeout_s: float = 10.0) -> list[Any]:
    """The classes that the server gives ``rows``. Raises ``OSError`` and what HTTP and JSON raise."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=timeout_s)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", contender.path, contender.request(rows), headers)
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise ConnectionError(f"status {response.status}: {text[:200]!r}")
        return predictions(json.loads(text))
    finally:
        connection.close()


def _first_answer(contender: Contender, site: Site, questions: Questions, server: Server) -> None:
    deadline = time.perf_counter() + FIRST_ANSWER_WITHIN_S
    last = "nothing listens"
    while True:
        try:
            found = _ask(contender, site, [questions.rows[0]])
        except (OSError, http.client.HTTPException, ValueError) as error:
            last = f"{type(error).__name__}: {error}"
        else:
            if found != [questions.classes[0]]:
                raise WrongAnswer(f"first answer {found}, the model says {questions.classes[0]}")
            return
        if server.gone:
            raise NoAnswer("the process ended")
        if time.perf_counter() > deadline:
            raise NoAnswer(f"no answer within {FIRST_ANSWER_WITHIN_S:.0f} s: {last}")
        time.sleep(POLL_S)


def _check(contender: Contender, site: Site, questions: Questions) -> None:
    """Different rows at once: each gets its own answer."""

    def ask(place: int) -> tuple[int, list[Any]]:
        return place, _ask(contender, site, [questions.rows[place]], timeout_s=30.0)

    places = [number % len(questions.rows) for number in range(TOGETHER)]
    with ThreadPoolExecutor(TOGETHER) as threads:
        try:
            for place, found in threads.map(ask, places):
                if found != [questions.classes[place]]:
                    raise WrongAnswer(f"row {place} got {found}, the model says {questions.classes[place]}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from None
