"""The command line against a control API pretended at the wire: arguments in, exit code and text out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest

import headway.client
from headway.cli.app import run

URL = "http://control.example:8421"
GATEWAY = "http://gateway.example:8420"
Answer = Callable[[httpx.Request], httpx.Response]


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class Terminal:
    """Runs commands in this process; every request goes to ``answers``, by ``METHOD /path``."""

    capture: pytest.CaptureFixture[str]
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)

    def answer(self, place: str, content: object, status: int = 200) -> None:
        self.answers[place] = lambda request: httpx.Response(status, json=content)

    def refuse(self, place: str, status: int, code: str, message: str, **more: Any) -> None:
        self.answer(place, {"error": {"code": code, "message": message, **more}}, status)

    def run(self, *args: str) -> Outcome:
        code = run(list(args))
        captured = self.capture.readouterr()
        return Outcome(code, captured.out, captured.err)

    def asked(self, index: int = -1) -> tuple[str, Any]:
        """``METHOD /path`` and JSON body of a request."""
        request = self.requests[index]
        body = json.loads(request.content) if request.content else None
        return f"{request.method} {request.url.path}", body

    def transport(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        found = self.answers.get(f"{request.method} {request.url.path}")
        if found is None:
            return httpx.Response(404, json={"error": {"code": "not_found", "message": f"nothing at {request.url}"}})
        return found(request)


def terminal(capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal whose commands reach its pretended API and nothing else."""
    made = Terminal(capture)
    reach = partial(
        headway.client.Client,
        URL,
        "hw_secret",
        gateway_url=GATEWAY,
        transport=httpx.MockTransport(made.transport),
    )
    monkeypatch.setattr(headway.client, "Client", reach)
    return made


def summary(name: str = "iris", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "state": "ready",
        "message": "",
        "live": [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10}],
        "replicas": 2,
        "ready_replicas": 3,
        "created_at": 1_700_000_000.0,
        "url": f"{GATEWAY}/models/{name}",
        **more,
    }


def version(name: str = "v1", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "digest": "d" * 64,
        "bundle_digest": "b" * 64,
        "state": "live",
        "state_since": 1_700_000_000.0,
        "created_at": 1_700_000_000.0,
        "weight": 100,
        **more,
    }


def model(name: str = "iris", **more: Any) -> dict[str, Any]:
    arms = [{"version": "v1", "weight": 100}]
    return {
        "name": name,
        "state": "ready",
        "message": "",
        "created_at": 1_700_000_000.0,
        "generation": 1,
        "replicas": 1,
        "ready_replicas": 1,
        "target": arms,
        "live": arms,
        "previous": [],
        "urls": {
            "production": f"{GATEWAY}/models/{name}",
            "pinned": {"v1": f"{GATEWAY}/models/{name}/versions/v1"},
        },
        "versions": [version()],
        "replica_list": [
            {
                "name": f"{name}-v1-bcdfg",
                "version": "v1",
                "phase": "ready",
                "ready": True,
                "restarts": 0,
                "pid": 4242,
                "rss_bytes": 67_108_864,
                "started_at": 1_700_000_000.0,
            }
        ],
        **more,
    }


def change(**more: Any) -> dict[str, Any]:
    return {
        "model": "iris",
        "target": [{"version": "v1", "weight": 100}],
        "replicas": 1,
        "cursor": 7,
        "scaling": None,
        "note": None,
        **more,
    }
