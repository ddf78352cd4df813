"""A small control API at the wire: what the client sees of one model's rollout, told by the test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from headway.client import Client, Progress
from headway.client.connection import Connection
from headway.client.discovery import Place
from headway.client.rollout import Time

URL = "http://control.example:8421"
GATEWAY = "http://gateway.example:8420"
Handler = Callable[[httpx.Request], httpx.Response | None]


@dataclass
class PretendedControl:
    """Answers like the control API. ``script``: what happens, one step whenever the client begins to follow events."""

    name: str = "iris"
    replicas: int = 1
    state: str = "deploying"
    target: dict[str, int] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)
    shadow: str | None = None
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    """Ready replicas: name to version."""
    events: list[dict[str, Any]] = field(default_factory=list)
    bundles: dict[str, bytes] = field(default_factory=dict)
    script: list[Callable[[PretendedControl], None]] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    unchanged: bool = False
    override: Handler | None = None
    followed: int = 0

    # -- what the test does with it ------------------------------------------------------------------

    def client(self) -> Client:
        return Client(URL, "hw_secret", gateway_url=GATEWAY, transport=httpx.MockTransport(self.answer))

    def tell(self, kind: str, version: str | None = None, replica: str | None = None, **data: Any) -> None:
        event = {"cursor": len(self.events) + 1, "at": 0.0, "type": f"{kind}.v1", "model": self.name}
        self.events.append({**event, "version": version, "replica": replica, "data": data})

    def wish(self, version: str, *, beside: dict[str, int] | None = None) -> None:
        self.versions[version] = view_of_version(version, "pending")
        self.target = beside or {version: 100}

    def starts(self, version: str) -> None:
        self.versions[version]["state"] = "starting"
        self.tell("version_building", version)
        self.tell("version_environment_ready", version, lock=None, cached=False)
        self.tell("version_starting", version)
        self.tell("replica_started", version, f"{self.name}-{version}-bcdfg")

    def becomes_live(self, version: str) -> None:
        self.versions[version]["state"] = "live"
        self.running[f"{self.name}-{version}-bcdfg"] = version
        self.tell("replica_ready", version, f"{self.name}-{version}-bcdfg")
        old, self.live, self.state = self.live, dict(self.target), "ready"
        self.tell("version_live", version)
        self.tell("traffic_shifted", old=old, new=self.live)

    def fails(self, version: str, **failure: Any) -> None:
        told = {"code": "load_failed", "message": "ValueError: no", "where": "model.py:3", "log_tail": "…no", **failure}
        self.versions[version].update(state="failed", failure=told)
        self.tell("version_failed", version, failure=told)
        self.target, self.state = dict(self.live), "ready" if self.live else "failed"

    # -- what the client asks ------------------------------------------------------------------------

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.override is not None and (given := self.override(request)) is not None:
            return given
        path, method = request.url.path, request.method
        if path.startswith("/v1/bundles/"):
            return self._bundle(method, path.rpartition("/")[2], request)
        if path == "/v1/events":
            return self._events(request)
        if path == f"/v1/models/{self.name}/deploy":
            self.bodies.append(json.loads(request.content))
            return httpx.Response(202, json=self._deployed())
        if path == f"/v1/models/{self.name}":
            return httpx.Response(200, json=self.view())
        return refusal(404, "not_found", f"nothing at {path}")

    def _bundle(self, method: str, digest: str, request: httpx.Request) -> httpx.Response:
        if method == "HEAD":
            return httpx.Response(200 if digest in self.bundles else 404)
        self.bundles[digest] = request.read()
        return httpx.Response(201, json={"digest": digest, "created": True})

    def _deployed(self) -> dict[str, Any]:
        version = list(self.versions)[-1]
        return {
            "model": self.name,
            "version": version,
            "digest": "d" * 64,
            "unchanged": self.unchanged,
            "cursor": 0,
            "urls": {"production": f"{GATEWAY}/models/{self.name}"},
        }

    def _events(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("accept") != "text/event-stream":
            after = int(request.url.params["after"])
            return httpx.Response(200, json=[e for e in self.events if e["cursor"] > after])
        self.followed += 1
        after = int(request.headers["last-event-id"])
        if self.script:
            self.script.pop(0)(self)
        return httpx.Response(200, content=self._stream(after))

    def _stream(self, after: int) -> Iterator[bytes]:
        yield b": events follow\n\n"
        for event in self.events:
            if event["cursor"] > after:
                yield f"id: {event['cursor']}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
        raise httpx.ReadTimeout("nothing happens")

    def view(self) -> dict[str, Any]:
        def arms(split: dict[str, int]) -> list[dict[str, Any]]:
            return [{"version": version, "weight": weight} for version, weight in split.items()]

        return {
            "name": self.name,
            "state": self.state,
            "message": "",
            "created_at": 0.0,
            "generation": 1,
            "replicas": self.replicas,
            "ready_replicas": len(self.running),
            "target": arms(self.target),
            "live": arms(self.live),
            "previous": [],
            "shadow": {"version": self.shadow, "percent": 100} if self.shadow else None,
            "urls": {"production": f"{GATEWAY}/models/{self.name}"},
            "versions": list(self.versions.values()),
            "replica_list": [
                {"name": name, "version": version, "phase": "ready", "ready": True, "restarts": 0}
                for name, version in self.running.items()
            ],
        }


def view_of_version(name: str, state: str) -> dict[str, Any]:
    return {
        "name": name,
        "digest": "d" * 64,
        "bundle_digest": "b" * 64,
        "state": state,
        "state_since": 0.0,
        "created_at": 0.0,
    }


def refusal(status: int, code: str, message: str, **more: Any) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": code, "message": message, **more}})


def model_folder(parent: Path, name: str = "iris", **files: str) -> Path:
    """A folder with a ``model.py``; ``files`` by name with ``_`` for the dot."""
    folder = parent / name
    folder.mkdir()
    (folder / "model.py").write_text("def predict(X):\n    return X\n")
    for file, content in files.items():
        (folder / file.replace("_", ".")).write_text(content)
    return folder


def stages(told: list[Progress]) -> list[tuple[str, str]]:
    """Stage and state of what was told, repetitions left out."""
    found: list[tuple[str, str]] = []
    for one in told:
        if not found or found[-1] != (one.stage, one.state):
            found.append((one.stage, one.state))
    return found


class HandClock:
    """Time that passes only while somebody pauses."""

    def __init__(self) -> None:
        self.at = 0.0
        self.pauses = 0

    def pause(self, seconds: float) -> None:
        self.pauses += 1
        self.at += seconds

    def time(self) -> Time:
        return Time(now=lambda: self.at, pause=self.pause)


def connection(control: PretendedControl) -> Connection:
    return Connection(lambda: Place(URL, "hw_secret"), httpx.MockTransport(control.answer))
