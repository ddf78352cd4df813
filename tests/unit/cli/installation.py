"""A whole control API in memory behind the command line, for tests of what commands make of what there is."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import headway.client
from headway.cli import autoscale, explain
from headway.client.client import Client
from headway.control.book import Changed
from headway.domain.decisions import DecisionRecord
from headway.domain.routing_table import Arm
from tests.unit.api.world import ADMIN, World, make_world
from tests.unit.cli.wire import Terminal

POLICY = ("--min", "1", "--max", "12", "--cpu", "80%", "--latency", "p95<900ms", "--step", "2")
"""Flags of a policy that has everything one needs."""


@dataclass
class Installation:
    """A control API in memory where iris v1 serves, and a terminal whose commands reach it."""

    world: World
    terminal: Terminal
    runner: asyncio.Runner

    def run(self, *args: str) -> tuple[int, str, str]:
        outcome = self.terminal.run(*args)
        return outcome.code, outcome.stdout, outcome.stderr

    def ok(self, *args: str) -> str:
        code, stdout, stderr = self.run(*args)
        assert code == 0, stderr
        return stdout

    def refused(self, *args: str) -> tuple[str, str]:
        """Where, and the whole of it."""
        code, stdout, stderr = self.run(*args)
        assert code in (2, 6), (code, stdout)
        found = re.search(r"^where: (.*)$", stderr, re.MULTILINE)
        return found[1] if found else "", stderr

    @property
    def policy(self) -> Any:
        return self.world.book.get("iris").scaling

    def trigger(self, name: str) -> Any:
        return next((t for t in (self.policy or {}).get("triggers", ()) if t["type"] == name), None)

    def records(self, *records: DecisionRecord) -> None:
        self.runner.run(self.world.decision_log.append(records))

    def split(self, **weights: int) -> None:
        arms = tuple(Arm(version, weight) for version, weight in weights.items())
        change = self.world.book.change("iris", lambda d: Changed(replace(d, live=arms, target=arms)) if d else None)
        self.runner.run(change)

    def transport(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            asked = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
            answer = await httpx.ASGITransport(app=self.world.app).handle_async_request(asked)
            return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

        return self.runner.run(ask())


@pytest.fixture
def here(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """iris v1 serves with one replica."""
    with asyncio.Runner() as runner:
        world = runner.run(make_world())
        made = Installation(world, terminal, runner)
        reach = partial(
            Client,
            "http://127.0.0.1:8421",
            ADMIN,
            gateway_url="http://127.0.0.1:8420",
            transport=httpx.MockTransport(made.transport),
        )
        monkeypatch.setattr(headway.client, "Client", reach)
        for module in (autoscale, explain):
            monkeypatch.setattr(module, "time", SimpleNamespace(time=world.clock.now))
        runner.run(world.deploy())
        made.split(v1=100)
        world.runtime.add("iris", "v1", "bcdfg")
        yield made


@pytest.fixture
def vienna(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where the wall clock is not in UTC."""
    monkeypatch.setenv("TZ", "Europe/Vienna")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
