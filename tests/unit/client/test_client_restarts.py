"""Waiting outlives a control plane that goes away: lost connections, restarts, another address."""

from __future__ import annotations

import httpx
import pytest

from headway.client import Progress
from headway.client.connection import Connection
from headway.client.discovery import Place
from headway.client.rollout import Rollout, follow
from headway.domain.errors import ControlUnreachable, StartTimeout
from tests.unit.client.control import HandClock, PretendedControl, connection


@pytest.fixture
def control() -> PretendedControl:
    return PretendedControl()


def test_a_control_plane_that_restarts_is_waited_for_and_the_events_go_on_after_the_last_cursor(
    control: PretendedControl,
) -> None:
    clock = HandClock()
    control.wish("v1")
    control.script = [lambda c: c.starts("v1"), lambda c: c.becomes_live("v1")]
    away = 0

    def restarting(request: httpx.Request) -> httpx.Response | None:
        nonlocal away
        if control.followed == 1 and away < 3:
            away += 1
            raise httpx.ConnectError("refused")
        return None

    control.override = restarting
    told: list[Progress] = []
    rollout = Rollout(
        connection(control),
        "iris",
        cursor=0,
        timeout_s=60,
        version="v1",
        progress=told.append,
        time=clock.time(),
    )
    assert rollout.wait().state == "ready"

    assert clock.pauses == 3
    assert [r.headers["last-event-id"] for r in control.requests if "last-event-id" in r.headers] == ["0", "4"]
    assert [(p.stage, p.state) for p in told].count(("environment", "done")) == 1


def test_a_control_plane_that_restarts_elsewhere_is_found_again(control: PretendedControl) -> None:
    clock = HandClock()
    control.wish("v1")
    control.starts("v1")
    control.becomes_live("v1")
    old, new = Place("http://127.0.0.1:1", "hw_secret"), Place("http://127.0.0.1:2", "hw_secret")
    places = [Place("http://127.0.0.1:3", "hw_of_another"), new]

    def moved(request: httpx.Request) -> httpx.Response | None:
        if request.url.port != 2:
            assert request.url.port == 1, "a place with another token is another Headway"
            raise httpx.ConnectError("refused")
        return None

    control.override = moved
    found = Connection(lambda: places.pop(0) if clock.pauses else old, httpx.MockTransport(control.answer))
    assert Rollout(found, "iris", cursor=0, timeout_s=60, time=clock.time()).wait().state == "ready"
    assert clock.pauses == 2


def test_a_control_plane_that_stays_away_ends_in_a_timeout(control: PretendedControl) -> None:
    clock = HandClock()

    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    control.override = gone
    rollout = Rollout(connection(control), "iris", cursor=0, timeout_s=30, version="v1", time=clock.time())
    with pytest.raises(StartTimeout, match="control API did not answer"):
        rollout.wait()

    assert clock.at >= 30


def test_followed_events_go_on_after_a_broken_stream(control: PretendedControl) -> None:
    control.tell("version_building", "v1")
    control.script = [lambda c: None, lambda c: c.tell("version_starting", "v1")]
    with control.client() as client:
        found = client.events(follow=True)
        assert [next(found).cursor, next(found).cursor] == [1, 2]

    assert [r.headers["last-event-id"] for r in control.requests] == ["0", "1"]


def test_following_gives_up_at_once_when_nothing_ever_answered(control: PretendedControl) -> None:
    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    control.override = gone
    with pytest.raises(ControlUnreachable):
        next(follow(connection(control), after=0, model=None))
