"""Scaling for real: load on a slow model brings replicas, silence takes them away, and a crash changes neither."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.calls import Caller
from tests.installation import Installation
from tests.waiting import wait_until

SLOW = "import time\n\n\ndef predict(X):\n    time.sleep(0.1)\n    return X\n"
CONCURRENCY = {"type": "concurrency", "target": 1, "window": "3s", "panicWindow": "0s"}
BEHAVIOR = {"scaleDown": {"stabilizationWindowSeconds": 3}}
TIMEOUT_S = 100.0


def spec(**scaling: Any) -> str:
    """A document that scales quickly down."""
    head = {"apiVersion": "headway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "slow"}}
    server = {"maxBatchSize": 1}
    return json.dumps({**head, "spec": {"server": server, "scaling": {"behavior": BEHAVIOR, **scaling}}})


@contextmanager
def load(url: str, callers: int) -> Iterator[list[int]]:
    """So many requests in flight until the end of the block; the statuses of all answers."""
    statuses: list[int] = []
    over = threading.Event()

    def keep_asking() -> None:
        call = Caller(url)
        while not over.is_set():
            statuses.append(call("/models/slow/predict", "[[1.0]]").status)
        call.close()

    threads = [threading.Thread(target=keep_asking) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        over.set()
        for thread in threads:
            thread.join()


def replicas(headway: Installation) -> int:
    """Ready replicas that are not leaving."""
    shown = headway.ok("status", "slow", "-o", "json").json()
    return int(shown["ready_replicas"])


def decided(headway: Installation) -> list[tuple[int, int]]:
    """Every change the autoscaler made, from old to new."""
    events = headway.ok("events", "--model", "slow", "-o", "json").json()
    return [(e["data"]["old"], e["data"]["new"]) for e in events if e["type"] == "scaling_decided.v1"]


def records(headway: Installation) -> list[dict[str, Any]]:
    """Every recorded decision that changed the count, oldest first."""
    call = Caller(headway.control_url)
    token = f"Bearer {headway.admin_token()}"
    reply = call("/v1/models/slow/decisions?changed=true&limit=1000", None, Authorization=token)
    call.close()
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = reply.json()["decisions"]
    return found


def recorded(headway: Installation) -> list[tuple[int, int]]:
    """The same from the records."""
    return [(r["current"], r["desired"]) for r in records(headway)]


def test_load_brings_replicas_a_crash_changes_nothing_and_silence_takes_them_away(
    running: Installation, write_model: Callable[..., Path]
) -> None:
    policy = spec(minReplicas=1, maxReplicas=3, triggers=[CONCURRENCY])
    running.ok("deploy", str(write_model("slow", SLOW, spec=policy)))
    with load(running.data_url, 8) as statuses:
        wait_until(lambda: replicas(running) == 3, TIMEOUT_S, what="3 ready replicas")
        pid = running.ok("info", "-o", "json").json()["pid"]
        running.kill(next(p for p in running.processes() if p.pid == pid))
        running.up()
        before = len(statuses)
        wait_until(lambda: len(statuses) > before + 50, TIMEOUT_S, what="answers after the restart")
        assert replicas(running) == 3
        assert max(new for _, new in decided(running)) == decided(running)[-1][1] == 3
    assert set(statuses) == {200}
    wait_until(lambda: replicas(running) == 1, TIMEOUT_S, what="1 ready replica")

    changes = decided(running)
    assert (changes[0][0], changes[-1][1]) == (1, 1)
    wait_until(lambda: recorded(running)[-1:] == changes[-1:], TIMEOUT_S, what="a record of the last change")
    # What was carried out in the very moment of the kill may have an event and no record.
    assert len(changes) - 1 <= len(recorded(running)) <= len(changes)
    assert set(recorded(running)) <= set(changes)
    assert all(r["summary"] and r["binding"] for r in records(running))
