"""Scaling from Python: what is asked for and made of the answers; waiting where each version has a count of its own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from headway.client import Client, Progress
from headway.client.connection import Connection
from headway.client.discovery import Place
from headway.client.rollout import Rollout
from headway.client.scaling import Decisions, follow
from headway.domain.errors import ControlUnreachable, InvalidInput, InvalidName, MissingExtra, StartTimeout
from tests.unit.client.control import URL, HandClock, PretendedControl, connection

STANDING: dict[str, Any] = {"model": "iris", "scaling": None, "replicas": 1, "versions": []}
DECISION = {
    "at": 1_760_000_000.5,
    "version": "v1",
    "current": 2,
    "desired": 4,
    "changed": True,
    "binding": "cpu",
    "summary": "s",
    "shadow": False,
    "cursor": 7,
    "document": {"format": 1},
}


class Asked:
    """Answers everything alike and remembers what was asked."""

    def __init__(self, content: object) -> None:
        self.content = content
        self.requests: list[httpx.Request] = []

    def client(self) -> Client:
        return Client(URL, "hw_secret", transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200, json=self.content)

    @property
    def last(self) -> tuple[str, dict[str, str]]:
        request = self.requests[-1]
        return f"{request.method} {request.url.path}", dict(request.url.params)


def test_questions_are_asked_as_they_are_given() -> None:
    asked = Asked({"model": "iris", "decisions": [DECISION]})
    with asked.client() as client:
        (found,) = client.decisions("iris")
        assert (found.desired, found.document) == (4, {"format": 1})
        assert asked.last == ("GET /v1/models/iris/decisions", {"limit": "100"})
        noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
        client.decisions("iris", version="v2", since="1d", until=noon, changed=True, last=5)
        params = {"version": "v2", "since": "1d", "until": f"{noon.timestamp():.9f}", "changed": "true", "limit": "5"}
        assert asked.last[1] == params
    told = Asked({"model": "iris", "at": 1.0, "decisions": [{**DECISION, "lines": ["a", "b"]}]})
    with told.client() as client:
        assert client.explain("iris").decisions[0].lines == ["a", "b"]
        assert told.last == ("GET /v1/models/iris/explain", {})
        client.explain("iris", 5e8, version="v1", changed=True)
        assert told.last[1] == {"at": "500000000.000000000", "version": "v1", "changed": "true"}


def test_a_policy_is_sent_whole_and_none_as_null() -> None:
    asked = Asked({"model": "iris", "scaling": None, "replicas": 1, "cursor": 3})
    with asked.client() as client:
        for document in ({"maxReplicas": 3, "triggers": []}, None):
            assert client.set_scaling("iris", document).cursor == 3
            assert json.loads(asked.requests[-1].content) == {"scaling": document}
            assert asked.last[0] == "PUT /v1/models/iris/scaling"


def test_what_cannot_be_asked_is_refused_here() -> None:
    asked = Asked({})
    with asked.client() as client:
        for call in (client.scaling, client.decisions, client.explain):
            with pytest.raises(InvalidName):
                call("../iris")
        with pytest.raises(InvalidName):
            client.decisions("iris", version="2")
        with pytest.raises(InvalidInput) as caught:
            client.explain("iris", datetime(2026, 5, 1))  # noqa: DTZ001
    assert caught.value.where == "at"
    assert not asked.requests


def test_decisions_become_a_frame_with_a_time_index(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked({"model": "iris", "decisions": [DECISION, {**DECISION, "desired": 2, "changed": False}]})
    with asked.client() as client:
        found = client.decisions("iris")
    frame = found.to_frame()
    assert list(frame.columns) == [key for key in DECISION if key != "at"]
    assert frame.index[0].isoformat() == "2025-10-09T08:53:20.500000+00:00"
    assert frame["desired"].tolist() == [4, 2]
    assert frame.loc[frame["changed"], "desired"].tolist() == [4]
    empty = Decisions().to_frame()
    assert (len(empty), empty.index.name, "binding" in empty) == (0, "at", True)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingExtra, match="headway\\[pandas\\]"):
        found.to_frame()


def test_following_outlives_a_restart_but_not_the_end() -> None:
    clock = HandClock()
    looks: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        looks.append(clock.at)
        if 2 <= clock.at < 10 or clock.at >= 12:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=STANDING)

    client = Client(URL, "hw_secret", transport=httpx.MockTransport(answer))
    links = Connection(lambda: Place(URL, "hw_secret"), httpx.MockTransport(answer))
    seen: list[tuple[float, int]] = []
    views = follow(links, lambda: client.scaling("iris"), 1.0, clock.time())
    with pytest.raises(ControlUnreachable):
        seen.extend((clock.at, view.replicas) for view in views)
    assert seen == [(0, 1), (1, 1), (10, 1), (11, 1)]
    assert looks[-1] > 11 + 60
    clock.at = 2
    looks.clear()
    with pytest.raises(ControlUnreachable):
        next(follow(links, lambda: client.scaling("iris"), 1.0, clock.time()))
    assert looks == [2]
    client.close()
    links.close()


# -- waiting -------------------------------------------------------------------------------------------


def canary(control: PretendedControl, counts: dict[str, int]) -> None:
    """v1 and v2 share the traffic; each is wished as often as ``counts`` say, and as many are ready."""
    for version in counts:
        control.wish(version, beside={"v1": 90, "v2": 10})
        control.versions[version].update(state="live", wished=counts[version])
    control.live, control.state = dict(control.target), "ready"
    control.running = {
        f"iris-{version}-{number}": version for version, count in counts.items() for number in range(count)
    }


def test_each_version_needs_as_many_replicas_as_are_wished_of_it() -> None:
    control = PretendedControl(replicas=5)
    canary(control, {"v1": 3, "v2": 1})
    assert Rollout(connection(control), "iris", cursor=0, timeout_s=0).wait().state == "ready"
    control.running.popitem()
    with pytest.raises(StartTimeout):
        Rollout(connection(control), "iris", cursor=0, timeout_s=0).wait()
    control.versions["v2"]["wished"] = 0
    assert Rollout(connection(control), "iris", cursor=0, timeout_s=0).wait().state == "ready"


def test_progress_counts_the_replicas_of_that_version_alone() -> None:
    control = PretendedControl(replicas=1)
    control.wish("v1")
    control.versions["v1"]["wished"] = 3
    clock = HandClock()
    told: list[Progress] = []

    def one_ready(number: int) -> Any:
        def step(c: PretendedControl) -> None:
            c.running[f"iris-v1-{number}"] = "v1"
            c.tell("replica_ready", "v1", f"iris-v1-{number}")

        return step

    def all_ready(c: PretendedControl) -> None:
        one_ready(2)(c)
        c.becomes_live("v1")

    control.script = [lambda c: c.starts("v1"), one_ready(0), one_ready(1), all_ready]
    rollout = Rollout(
        connection(control), "iris", cursor=0, timeout_s=60, version="v1", progress=told.append, time=clock.time()
    )
    rollout.wait()
    said = [step.text for step in told]
    assert "starting 3 replicas of v1" in said
    assert "1 of 3 replicas ready" in said
    assert "2 of 3 replicas ready" in said
    assert any(step == Progress("ready", "done", "3 of 3 replicas ready") for step in told)
