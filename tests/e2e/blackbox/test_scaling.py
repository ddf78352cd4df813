"""Load brings replicas, silence takes them away; what moved them can be read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.blackbox.place import Place, deploy, ok, status
from tests.waiting import wait_until

POLICY = {
    "minReplicas": 1,
    "maxReplicas": 3,
    "triggers": [{"type": "concurrency", "target": 1, "window": "6s", "panicWindow": "0s"}],
    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}},
}


@contextmanager
def load(place: Place, model: str, callers: int) -> Iterator[set[int]]:
    """So many requests in flight; the statuses of all answers."""
    statuses: set[int] = set()
    over = threading.Event()
    call = place.caller(model)

    def keep_asking() -> None:
        while not over.is_set():
            statuses.add(call("/predict").status)

    threads = [threading.Thread(target=keep_asking) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        over.set()
        for thread in threads:
            thread.join()


def ready(place: Place) -> int:
    return int(status(place, "elastic")["ready_replicas"])


def test_load_brings_replicas_and_silence_takes_them_away(place: Place) -> None:
    place.needs("signals")
    deploy(place, "elastic", {"WORK_MS": 100}, server={"maxBatchSize": 1}, scaling=POLICY)
    assert ready(place) == 1
    with load(place, "elastic", 8) as statuses:
        wait_until(lambda: ready(place) == 3, place.patience_s, what="three replicas under load")
    assert statuses == {200}
    wait_until(lambda: ready(place) == 1, place.patience_s, what="one replica in silence")
    ok(place, "delete", "elastic", "--yes")
