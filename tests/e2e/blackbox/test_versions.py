"""Versions take over, come back, share the traffic; one that is broken gets none."""

from __future__ import annotations

import pytest

from tests.e2e.blackbox.place import Place, deploy, document, live, ok
from tests.waiting import wait_until


def answer(place: Place, model: str, version: str | None = None) -> object:
    return place.caller(model, version)("/predict", "[[1]]").json()["predictions"][0][0]


def check(place: Place, model: str, factor: int, version: str | None = None) -> None:
    """It answers so, where anything answers."""
    if place.answers:
        wait_until(lambda: answer(place, model, version) == factor, place.patience_s, what=f"an answer times {factor}")


def test_a_version_takes_over_and_comes_back(place: Place) -> None:
    deploy(place, "double", {"FACTOR": 2})
    check(place, "double", 2)
    assert "unchanged" in deploy(place, "double", {"FACTOR": 2}).text
    deploy(place, "double", {"FACTOR": 3})
    assert live(place, "double") == {"v2": 100}
    check(place, "double", 3)
    ok(place, "rollback", "double")
    wait_until(lambda: live(place, "double") == {"v1": 100}, place.patience_s, what="v1 has all the traffic again")
    check(place, "double", 2)
    ok(place, "delete", "double", "--yes")
    assert "double" not in {one["name"] for one in ok(place, "list", "-o", "json").json()}
    assert place.run("status", "double").code != 0


def test_a_canary_shares_the_traffic_until_it_is_promoted(place: Place) -> None:
    deploy(place, "shared", {"FACTOR": 2})
    deploy(place, "shared", {"FACTOR": 3}, "--canary", "30%")
    assert live(place, "shared") == {"v1": 70, "v2": 30}
    check(place, "shared", 2, "v1")
    check(place, "shared", 3, "v2")
    ok(place, "traffic", "shared", "v1=50", "v2=50")
    wait_until(lambda: live(place, "shared") == {"v1": 50, "v2": 50}, place.patience_s, what="half and half")
    ok(place, "promote", "shared")
    wait_until(lambda: live(place, "shared") == {"v2": 100}, place.patience_s, what="v2 has all the traffic")
    check(place, "shared", 3)
    ok(place, "delete", "shared", "--yes")


def test_each_version_gets_its_share(place: Place) -> None:
    place.needs("gateway")
    deploy(place, "shares", {"FACTOR": 2})
    deploy(place, "shares", {"FACTOR": 3}, "--canary", "20%")
    call = place.caller("shares")
    seen = [call("/predict").version for _ in range(1000)]
    # 200 expected, standard deviation 12.6: five of them to either side.
    assert 137 <= seen.count("v2") <= 263
    assert seen.count("v1") + seen.count("v2") == 1000
    ok(place, "delete", "shares", "--yes")


BROKEN = {
    "in load": ("load", ("RuntimeError", "the weights are gone")),
    "in predict": ("predict", ("RuntimeError", "no way to say")),
    "without a word": ("exit", ("7",)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_version_that_is_broken_gets_no_traffic_and_says_why(place: Place, kind: str) -> None:
    place.needs("answers")
    how, words = BROKEN[kind]
    name = f"broken-{how}"
    deploy(place, name, {"FACTOR": 2})
    probes = {"startup": {"path": "/health/ready", "periodSeconds": 1, "failureThreshold": 8}}
    outcome = place.run(
        "deploy", str(document(place, name, {"FACTOR": 3, "BREAK": how}, probes=probes)), "--timeout", "40"
    )
    assert outcome.code not in (0, 70), outcome
    for word in words:
        assert word in outcome.stderr, outcome
    assert "Traceback" not in outcome.text
    assert live(place, name) == {"v1": 100}
    assert answer(place, name) == 2
    ok(place, "delete", name, "--yes")
