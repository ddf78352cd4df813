"""What is told of a cluster's objects, for every pair of looks that matters."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from headway.cluster.kinds import MODEL_DEPLOYMENT, OWNED
from headway.cluster.transitions import facts_of, told_facts, transitions
from headway.domain.cluster_objects import DEPLOYMENT, POD, Kind, Object
from headway.domain.events import NewEvent
from headway.domain.sightings import Sighting

ROUTE = next(kind for kind in OWNED if kind.kind == "HTTPRoute")
LABELS = {"headway.dev/model": "iris", "headway.dev/version": "v1"}
NOW = 1_800_000_000.0
READY_AT = "2026-11-30T06:00:05Z"


def pod(
    *,
    run: bool = True,
    restarts: int = 0,
    ready: str | None = None,
    unready: str | None = None,
    ended: dict[str, Any] | None = None,
    waits: str | None = None,
    **more: Any,
) -> Object:
    state: dict[str, Any] = {"running": {"startedAt": "2026-11-30T06:00:00Z"}} if run else {}
    if waits:
        state = {"waiting": {"reason": waits}}
    container: dict[str, Any] = {"name": "model", "restartCount": restarts, "state": state}
    if ended is not None:
        container["lastState" if run or waits else "state"] = {"terminated": {"exitCode": 1, **ended}}
    conditions = [{"type": "Ready", "status": str(ready is not None), "lastTransitionTime": ready or unready}]
    metadata = {
        "name": "iris-v1-5d8f-x7k2p",
        "namespace": "models",
        "uid": "u-pod",
        "labels": LABELS,
        "ownerReferences": [{"kind": "ReplicaSet", "name": "iris-v1-5d8f", "controller": True}],
        **more.pop("metadata", {}),
    }
    return {"metadata": metadata, "status": {"containerStatuses": [container], "conditions": conditions, **more}}


def pending() -> Object:
    return pod(run=False)


def sighting(kind: Kind, item: Object, before: Sighting | None = None, version: str = "7") -> Sighting:
    facts = facts_of(kind, item)
    assert facts is not None
    known = before.facts if before is not None else None
    metadata = item["metadata"]
    return Sighting(
        metadata.get("uid", "u"), kind.kind, metadata["namespace"], metadata["name"], version, told_facts(known, facts)
    )


def gone(before: Sighting) -> Sighting:
    return Sighting(before.uid, before.kind, before.namespace, before.name, before.version, None, NOW)


def told(before: Object | None, after: Object | None, kind: Kind = POD, **how: Any) -> list[NewEvent]:
    was = sighting(kind, before, version="6") if before is not None else None
    if after is None:
        assert was is not None
        return transitions(was, gone(was), NOW, **how)
    return transitions(was, sighting(kind, after, was), NOW, **how)


def short(events: list[NewEvent]) -> list[str]:
    return [str(one.type).removesuffix(".v1").removeprefix("replica_") for one in events]


CRASHED = pod(waits="CrashLoopBackOff", ended={"reason": "Error", "message": "no file"})
LEAVING: dict[str, Any] = {"metadata": {"deletionTimestamp": "2026-11-30T06:01:00Z"}}


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        (None, pending(), ""),
        (None, pod(), "started"),
        (None, pod(ready=READY_AT), "started ready"),
        (pending(), pod(), "started"),
        (pod(), pod(ready=READY_AT), "ready"),
        (pod(ready=READY_AT), pod(ready=READY_AT), ""),
        (pod(ready=READY_AT), pod(unready="2026-11-30T06:02:00Z"), "unready"),
        (pod(ready=READY_AT), pod(ready="2026-11-30T06:03:00Z"), "unready ready"),
        (pod(), CRASHED, "exited"),
        (pod(ready=READY_AT), CRASHED, "exited"),
        (CRASHED, pod(restarts=1, ended={}), "started"),
        (pod(), pod(restarts=1, ended={}), "exited started"),
        (pod(), pod(restarts=3, ended={}, ready=READY_AT), "exited started exited started exited started ready"),
        (pod(ready=READY_AT), pod(restarts=1, ended={}, ready="2026-11-30T06:03:00Z"), "exited started ready"),
        (None, pod(restarts=2, waits="CrashLoopBackOff", ended={}), "started exited " * 3),
        (pod(ready=READY_AT), pod(ready=READY_AT, **LEAVING), "stopping"),
        (pod(ready=READY_AT), pod(unready="2026-11-30T06:02:00Z", **LEAVING), "stopping"),
        (pod(ready=READY_AT), pod(run=False, ended={"exitCode": 0}, **LEAVING), "stopping"),
        (pod(ready=READY_AT, **LEAVING), pod(run=False, ended={"exitCode": 0}, **LEAVING), ""),
        (pending(), pod(run=False, **LEAVING), ""),
        (pod(ready=READY_AT), None, "stopped"),
        (pod(**LEAVING), None, "stopped"),
        (CRASHED, None, "stopped"),
        (pending(), None, ""),
        (pod(), pod(run=False, ended={}, phase="Failed", reason="Evicted", message="low on memory"), "failed"),
        (pod(run=False, phase="Failed", reason="Evicted"), None, ""),
    ],
)
def test_of_a_pod(before: Object | None, after: Object | None, events: str) -> None:
    assert short(told(before, after)) == events.split()


def test_of_a_pod_it_says_which_replica_and_why() -> None:
    (event,) = told(pod(ready=READY_AT), pod(waits="CrashLoopBackOff", ended={"message": "no file\n", "exitCode": 3}))
    assert (event.model, event.version, event.replica) == ("iris", "v1", "iris-v1-5d8f-x7k2p")
    assert event.key == "u-pod/replica_exited.v1/1"
    assert event.data == {
        "namespace": "models",
        "phase": "backoff",
        "old": "ready",
        "restarts": 0,
        "reason": "CrashLoopBackOff",
        "failure": {
            "code": "replica_exited",
            "message": "ended with exit code 3; last it said:\nno file",
            "where": "iris-v1-5d8f-x7k2p",
        },
    }


def test_out_of_memory_is_the_reason_whatever_follows() -> None:
    (event,) = told(pod(), pod(waits="CrashLoopBackOff", ended={"reason": "OOMKilled", "exitCode": 137}))
    assert event.data["reason"] == "OOMKilled"


def test_the_moment_is_the_cluster_s_where_it_says_one_and_what_was_missed_is_marked() -> None:
    started, ready = told(None, pod(ready=READY_AT), adopted=True)
    assert (ready.at - started.at, started.data["adopted"], ready.data["adopted"]) == (5.0, True, True)
    assert "adopted" not in told(None, pod())[0].data


def test_a_container_that_was_started_many_times_unseen_is_made_up_for_within_bounds() -> None:
    events = told(pod(), pod(restarts=100_000, ended={}))
    assert 190 < len(events) <= 200
    assert events[-1].key == "u-pod/replica_started.v1/100001"


def test_a_node_that_forgot_its_counts_makes_no_start_the_same_as_an_earlier_one() -> None:
    first = sighting(POD, pod(restarts=3, ended={}), None)
    second = sighting(POD, pod(restarts=0), first)
    third = sighting(POD, pod(restarts=1, ended={}), second)
    assert short(transitions(first, second, NOW)) == ["exited", "started"]
    looks = ((None, first), (first, second), (second, third))
    keys = [one.key for before, after in looks for one in transitions(before, after, NOW)]
    assert len(keys) == len(set(keys)) == 11
    assert short(transitions(second, third, NOW)) == ["exited", "started"]


def test_whoever_missed_what_others_saw_calls_the_rest_the_same() -> None:
    """Of any history of a pod, the keys of one long look are among those of many short ones."""
    for seed in range(200):
        draw = random.Random(seed)
        history, restarts, down = [pending()], 0, False
        for second in range(draw.randrange(2, 12)):
            what = draw.choice(["ready", "unready", "crash", "again"])
            if what == "again" or (down and what != "crash"):
                restarts += 1
            down = what == "crash"
            moment = f"2026-11-30T06:00:{second:02}Z"
            ended: dict[str, Any] | None = {} if restarts else None
            match what:
                case "ready":
                    item = pod(restarts=restarts, ready=moment, ended=ended)
                case "unready":
                    item = pod(restarts=restarts, unready=moment, ended=ended)
                case "crash":
                    item = pod(restarts=restarts, waits="CrashLoopBackOff", ended={})
                case _:
                    item = pod(restarts=restarts, ended={})
            history.append(item)
        every = [event.key for one, two in itertools.pairwise(history) for event in told(one, two)]
        assert len(every) == len(set(every))
        runs = [event.key for event in told(history[0], history[-1]) if "ready" not in str(event.type)]
        assert set(runs) <= set(every)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"headway.dev/model": "iris"}},
        {"labels": {"headway.dev/model": "iris", "headway.dev/version": "latest"}},
        {"labels": {"headway.dev/model": "Iris!", "headway.dev/version": "v1"}},
        {"ownerReferences": []},
        {"name": "p" * 64},
    ],
)
def test_what_is_no_replica_is_passed_over(change: dict[str, Any]) -> None:
    assert facts_of(POD, pod(metadata=change)) is None


# -- models ------------------------------------------------------------------------------------------------


def model(versions: dict[str, tuple[int, int]] | None = None, *, deleted: bool = False, **conditions: str) -> Object:
    """``versions``: weight and replicas of each."""
    listed = [
        {"name": name, "digest": f"d-{name}", "image": f"iris:{name}", "weight": weight, "replicas": count}
        for name, (weight, count) in (versions or {}).items()
    ]
    stated = [{"type": name, "status": status, "message": f"why {name}"} for name, status in conditions.items()]
    metadata: dict[str, Any] = {"name": "iris", "namespace": "models", "uid": "u-model"}
    if deleted:
        metadata["deletionTimestamp"] = "2026-11-30T06:01:00Z"
    status = {"versions": listed, "conditions": stated}
    return {"metadata": metadata, "spec": {"scaling": {"minReplicas": 2}}, "status": status}


def lives(*looks: dict[str, tuple[int, int]]) -> list[str]:
    """What is told of versions over several looks."""
    before: Sighting | None = None
    found: list[str] = []
    for number, versions in enumerate(looks):
        after = sighting(MODEL_DEPLOYMENT, model(versions), before, version=str(number))
        events = transitions(before, after, NOW)
        found += [
            f"{one.version} {str(one.type).removesuffix('.v1').removeprefix('version_')}"
            for one in events
            if one.version
        ]
        before = after
    return found


@pytest.mark.parametrize(
    ("looks", "events"),
    [
        ([{"v1": (0, 0)}, {"v1": (0, 2)}, {"v1": (100, 2)}], "v1 created, v1 starting, v1 live"),
        ([{"v1": (100, 2)}], "v1 created, v1 starting, v1 live"),
        ([{"v1": (100, 2)}, {"v1": (100, 0)}, {"v1": (100, 1)}], "v1 created, v1 starting, v1 live"),
        (
            [{"v1": (100, 2)}, {"v1": (0, 2), "v2": (100, 2)}, {"v1": (0, 0), "v2": (100, 2)}],
            "v1 created, v1 starting, v1 live, v1 draining, v2 created, v2 starting, v2 live, v1 retired",
        ),
        ([{"v1": (100, 2)}, {"v1": (0, 0)}], "v1 created, v1 starting, v1 live, v1 draining, v1 retired"),
        (
            [{"v1": (100, 2)}, {"v1": (0, 0)}, {"v1": (0, 1)}, {"v1": (100, 2)}],
            "v1 created, v1 starting, v1 live, v1 draining, v1 retired, v1 starting, v1 live",
        ),
        (
            [{"v1": (100, 2)}, {"v1": (0, 2)}, {"v1": (100, 2)}],
            "v1 created, v1 starting, v1 live, v1 draining, v1 live",
        ),
        ([{"v1": (0, 1)}, {"v1": (0, 0)}], "v1 created, v1 starting, v1 retired"),
        ([{"v1": (0, 0)}, {"v1": (0, 0)}], "v1 created"),
    ],
)
def test_of_versions(looks: list[dict[str, tuple[int, int]]], events: str) -> None:
    assert lives(*looks) == events.split(", ")


@pytest.mark.parametrize(
    ("before", "after", "states"),
    [
        (None, model(), []),
        (None, model(Ready="True"), ["deploying", "ready", ""]),
        (model(), model(Ready="True", Accepted="True"), ["deploying", "ready", ""]),
        (model(Ready="True"), model(Ready="True", Healthy="False"), ["ready", "degraded", "why Healthy"]),
        (model(), model(Accepted="False"), ["deploying", "failed", "why Accepted"]),
        (model(Ready="True"), model(Ready="True", deleted=True), ["ready", "deleting", ""]),
    ],
)
def test_of_a_model_s_state(before: Object | None, after: Object, states: list[str]) -> None:
    found = [one for one in told(before, after, MODEL_DEPLOYMENT) if "state" in str(one.type)]
    assert [[one.data["old"], one.data["new"], one.data["message"]] for one in found] == ([states] if states else [])


def test_of_a_model_s_beginning_and_end() -> None:
    (created,) = told(None, model(), MODEL_DEPLOYMENT)
    assert (created.type, created.data) == ("deployment_created.v1", {"namespace": "models", "replicas": 2})
    (deleted,) = told(model(), None, MODEL_DEPLOYMENT)
    assert (deleted.type, deleted.key) == ("deployment_deleted.v1", "u-model/deployment_deleted.v1")


# -- Deployments and routes --------------------------------------------------------------------------------


def deployment(wished: int | None, late: bool = False, generation: int = 1) -> Object:
    conditions = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "late"}]
    metadata = {"name": "iris-v1", "namespace": "models", "uid": "u-d", "labels": LABELS, "generation": generation}
    metadata["annotations"] = {"headway.dev/version-digest": "d1"}
    return {"metadata": metadata, "spec": {"replicas": wished}, "status": {"conditions": conditions if late else []}}


def test_of_a_deployment() -> None:
    assert told(None, deployment(2), DEPLOYMENT) == []
    assert told(deployment(2), None, DEPLOYMENT) == []
    (scaled,) = told(deployment(2), deployment(5, generation=2), DEPLOYMENT)
    assert (scaled.type, scaled.version, scaled.data["old"], scaled.data["new"]) == ("deployment_scaled.v1", "v1", 2, 5)
    assert scaled.key == "u-d/deployment_scaled.v1/2"
    (failed,) = told(deployment(2), deployment(2, late=True), DEPLOYMENT)
    assert (failed.type, failed.data["digest"], failed.data["failure"]["message"]) == (
        "version_failed.v1",
        "d1",
        "late",
    )
    assert told(deployment(2, late=True), deployment(2, late=True), DEPLOYMENT) == []


def route(split: str) -> Object:
    metadata = {"name": "iris", "namespace": "models", "uid": "u-r", "labels": {"headway.dev/model": "iris"}}
    return {"metadata": {**metadata, "annotations": {"headway.dev/split": split}}}


def test_of_a_route() -> None:
    (first,) = told(None, route("v1=100"), ROUTE)
    assert (first.type, first.data["old"], first.data["new"]) == ("traffic_shifted.v1", {}, {"v1": 100})
    (second,) = told(route("v1=100"), route("v1=90,v2=10"), ROUTE)
    assert (second.data["old"], second.data["new"]) == ({"v1": 100}, {"v1": 90, "v2": 10})
    assert told(route("v1=100"), route("v1=100"), ROUTE) == []
    (last,) = told(route("v1=100"), None, ROUTE)
    assert last.data["new"] == {}


def test_what_a_mesh_puts_beside_the_model_server_is_not_the_replica() -> None:
    before, after = pod(ready=READY_AT), pod(ready=READY_AT)
    for one, restarts in ((before, 0), (after, 4)):
        proxy = {"name": "istio-proxy", "restartCount": restarts, "state": {"running": {}}}
        one["status"]["containerStatuses"].insert(0, proxy)
    assert told(before, after) == []
    assert [event.data.get("restarts") for event in told(None, after)] == [0, 0]
