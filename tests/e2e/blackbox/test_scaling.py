"""Load brings replicas, silence takes them away."""

from __future__ import annotations

from tests.e2e.blackbox.place import Place, asking, deploy, ok, status
from tests.waiting import wait_until

POLICY = {
    "minReplicas": 1,
    "maxReplicas": 3,
    "triggers": [{"type": "concurrency", "target": 1, "window": "6s", "panicWindow": "0s"}],
    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}},
}


def ready(place: Place) -> int:
    return int(status(place, "elastic")["ready_replicas"])


def test_load_brings_replicas_and_silence_takes_them_away(place: Place) -> None:
    place.needs("signals")
    deploy(place, "elastic", {"WORK_MS": 100}, server={"maxBatchSize": 1}, scaling=POLICY)
    assert ready(place) == 1
    with asking(place, "elastic", 8) as answers:
        wait_until(lambda: ready(place) == 3, place.patience_s, what="three replicas under load")
    assert set(answers) == {"200"}
    wait_until(lambda: ready(place) == 1, place.patience_s, what="one replica in silence")
    ok(place, "delete", "elastic", "--yes")
