"""Where the black-box suite runs: one Headway, driven by its command line and asked over HTTP, wherever it lives."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx2

from tests.e2e.calls import Reply
from tests.installation import Outcome
from tests.waiting import PATIENCE_S

MODEL = Path(__file__).with_name("model")
"""The folder that every version of every model in the suite is made of."""


class Call(Protocol):
    """Asks one model for an answer: ``call("/predict", "[[1, 2]]")``."""

    def __call__(
        self, path: str, body: str | bytes | None = "[[1, 2]]", *, method: str | None = None, **headers: str
    ) -> Reply: ...


class Place(Protocol):
    """A laptop or a cluster, for the length of one test module."""

    name: str
    scratch: Path
    patience_s: float
    """For a rollout to come through."""
    answers: bool
    """Whether its replicas are real: on a cluster whose nodes run nothing they only look so."""

    def needs(self, what: str) -> None:
        """Skip the test by name unless this place has it: ``answers``, a ``gateway`` that makes a split felt,
        ``control`` that may be killed, ``signals`` (what scales can ask the replicas)."""
        ...

    def run(self, *args: str) -> Outcome:
        """``headway ARGS`` here; any exit code is an answer."""
        ...

    def caller(self, model: str, version: str | None = None) -> Call:
        """Who asks the model, or one version of it."""
        ...

    def lives(self, model: str) -> set[str]:
        """What tells each replica that runs from the ones before it."""
        ...

    def kill(self, model: str) -> str:
        """End one of them without asking it; which."""
        ...

    def stop_control(self) -> None:
        """Kill what looks after models; what runs goes on."""
        ...

    def start_control(self) -> None:
        """Start it again."""
        ...

    def kubernetes(self) -> dict[str, Any]:
        """``spec.kubernetes`` of a model here. A laptop takes it and has nothing to do for it."""
        ...


KEPT_S = 2.0
"""For a connection that is idle: gateways close theirs after 5 s, and a request sent at that moment is lost."""


def http_client(**options: Any) -> httpx2.Client:
    """For :func:`caller_of`; threads may share it."""
    return httpx2.Client(trust_env=False, timeout=PATIENCE_S, limits=httpx2.Limits(keepalive_expiry=KEPT_S), **options)


def caller_of(http: httpx2.Client, prefix: str) -> Call:
    """Asks what is found under ``prefix``."""

    def call(path: str, body: str | bytes | None = "[[1, 2]]", *, method: str | None = None, **headers: str) -> Reply:
        sent = {"content-type": "application/json", **{key.replace("_", "-").lower(): v for key, v in headers.items()}}
        answer = http.request(method or ("GET" if body is None else "POST"), prefix + path, content=body, headers=sent)
        return Reply(answer.status_code, dict(answer.headers), answer.content)

    return call


def ok(place: Place, *args: str) -> Outcome:
    """:meth:`Place.run`, failing the test unless the exit code is 0."""
    outcome = place.run(*args)
    assert outcome.code == 0, str(outcome)
    return outcome


def document(place: Place, name: str, env: Mapping[str, object] = {}, **spec: Any) -> Path:
    """A folder whose ``headway.yaml`` says so; the model is always the same, its environment says what it does."""
    folder = place.scratch / name
    folder.mkdir(exist_ok=True)
    for file in ("model.py", "sample.json"):
        (folder / file).write_bytes((MODEL / file).read_bytes())
    stated = [{"name": key, "value": str(value)} for key, value in env.items()]
    whole = {
        "apiVersion": "headway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {**({"env": stated} if stated else {}), "kubernetes": place.kubernetes(), **spec},
    }
    (folder / "headway.yaml").write_text(json.dumps(whole))
    return folder


def deploy(place: Place, name: str, env: Mapping[str, object] = {}, *options: str, **spec: Any) -> Outcome:
    """``headway deploy`` of such a folder; it has to serve."""
    return ok(place, "deploy", str(document(place, name, env, **spec)), *options)


def status(place: Place, name: str) -> dict[str, Any]:
    """``headway status NAME -o json``."""
    found: dict[str, Any] = ok(place, "status", name, "-o", "json").json()
    return found


def live(place: Place, name: str) -> dict[str, int]:
    """Which version has which share."""
    return {arm["version"]: arm["weight"] for arm in status(place, name)["live"]}


@contextmanager
def asking(place: Place, model: str, callers: int = 1, pause_s: float = 0.0) -> Iterator[Counter[str]]:
    """So many ask all the while, each again after a pause; how often it was ``200``, and what was said instead."""
    answers: Counter[str] = Counter()
    over = threading.Event()
    call = place.caller(model)

    def ask() -> None:
        while not over.wait(pause_s):
            reply = call("/predict")
            answers["200" if reply.status == 200 else f"{reply.status} {reply.body[:200]!r}"] += 1

    threads = [threading.Thread(target=ask) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()
