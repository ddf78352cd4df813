"""Replicas come and go by command and by accident, and no request is lost."""

from __future__ import annotations

from tests.e2e.blackbox.place import Place, asking, deploy, ok, status
from tests.waiting import wait_until


def ready(place: Place, model: str) -> int:
    return int(status(place, model)["ready_replicas"])


def test_more_and_fewer_without_losing_a_request(place: Place) -> None:
    deploy(place, "scaled", {"WORK_MS": 5})
    if place.answers:
        with asking(place, "scaled", pause_s=0.02) as answers:
            scale_up_and_down(place)
        assert set(answers) == {"200"}
    else:
        scale_up_and_down(place)
    ok(place, "delete", "scaled", "--yes")


def scale_up_and_down(place: Place) -> None:
    ok(place, "scale", "scaled", "3")
    wait_until(lambda: ready(place, "scaled") == 3, place.patience_s, what="three replicas")
    if place.answers:
        call = place.caller("scaled")
        seen: set[str] = set()

        def all_seen() -> bool:
            seen.add(call("/predict").headers["x-headway-replica"])
            return len(seen) == 3

        wait_until(all_seen, place.patience_s, what="an answer of each")
    ok(place, "scale", "scaled", "1")
    wait_until(lambda: len(status(place, "scaled")["replica_list"]) == 1, place.patience_s, what="one replica")


def test_a_replica_that_dies_is_replaced(place: Place) -> None:
    deploy(place, "mortal", scaling={"minReplicas": 2})
    dead = place.kill("mortal")

    def replaced() -> bool:
        return ready(place, "mortal") == 2 and dead not in place.lives("mortal")

    wait_until(replaced, place.patience_s, what=f"another replica than {dead}")
    ok(place, "delete", "mortal", "--yes")


def test_traffic_goes_on_while_nobody_looks_after_it(place: Place) -> None:
    place.needs("control")
    deploy(place, "alone", {"FACTOR": 2}, scaling={"minReplicas": 2})
    before = place.lives("alone")
    place.stop_control()
    try:
        call = place.caller("alone")
        assert {call("/predict").status for _ in range(100)} == {200}
    finally:
        place.start_control()
    wait_until(lambda: ready(place, "alone") == 2, place.patience_s)
    assert place.lives("alone") == before
    deploy(place, "alone", {"FACTOR": 5}, scaling={"minReplicas": 2})
    assert place.caller("alone")("/predict", "[[1]]").json() == {"predictions": [[5]]}
    ok(place, "delete", "alone", "--yes")
