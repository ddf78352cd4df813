"""A model on a cluster as commands tell it: pods as replicas, what stays of a resource, the split before."""

from __future__ import annotations

from typing import Any

import pytest

from headway.api.cluster_views import model_view
from headway.cluster.changes import with_document
from headway.cluster.kinds import MODEL_DEPLOYMENT, SCALING_POLICY
from headway.cluster.pod_states import pod_state
from headway.cluster.standing import standing_of
from headway.cluster.status import Verdict, model_status
from headway.domain.cluster_objects import Name, Object
from headway.domain.routing_table import Arm

IRIS = Name("models", "iris")
NOW = 1_777_000_000.0
MOMENT = "2026-05-01T12:00:00Z"


def pod(*, conditions: list[dict[str, Any]] | None = None, deleted: bool = False, **container: Any) -> Object:
    metadata = {"name": "iris-v1-abc", "labels": {"headway.dev/version": "v1"}}
    if deleted:
        metadata["deletionTimestamp"] = MOMENT
    return {"metadata": metadata, "status": {"conditions": conditions or [], "containerStatuses": [container]}}


READY = [{"type": "Ready", "status": "True", "lastTransitionTime": MOMENT}]
UNSCHEDULABLE = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
RUNNING = {"running": {"startedAt": MOMENT}}


@pytest.mark.parametrize(
    ("one", "phase", "reason"),
    [
        (pod(conditions=READY, state=RUNNING, started=True), "ready", None),
        (pod(conditions=READY, state=RUNNING, started=True, deleted=True), "stopping", None),
        (pod(state=RUNNING, started=True), "unready", None),
        (pod(state=RUNNING), "starting", None),
        (pod(state={"waiting": {"reason": "ContainerCreating"}}), "starting", None),
        (pod(state={"waiting": {"reason": "ImagePullBackOff"}}), "starting", "ImagePullBackOff"),
        (pod(state={"waiting": {"reason": "CrashLoopBackOff"}}), "backoff", "CrashLoopBackOff"),
        (pod(state={"terminated": {"reason": "OOMKilled"}}), "backoff", "OOMKilled"),
        (pod(conditions=UNSCHEDULABLE), "starting", "Unschedulable"),
        ({**pod(), "status": {"phase": "Failed", "reason": "Evicted"}}, "failed", "Evicted"),
        ({"metadata": {"name": "iris-v1-abc"}}, "starting", None),
    ],
)
def test_a_pod_is_a_replica(one: Object, phase: str, reason: str | None) -> None:
    found = pod_state(one)
    assert (str(found.phase), found.reason) == (phase, reason)
    assert found.ready is (phase == "ready")


def test_moments_and_restarts_of_a_pod() -> None:
    found = pod_state(pod(conditions=READY, state=RUNNING, restartCount=3))
    assert (found.started_at, found.ready_at, found.restarts) == (1777636800.0, 1777636800.0, 3)


def test_what_a_document_leaves_open_stays() -> None:
    before = {
        "metadata": {**IRIS._asdict(), "resourceVersion": "7", "labels": {"team": "a"}, "finalizers": ["x"]},
        "spec": {
            "scaling": {"minReplicas": 3},
            "env": [{"name": "A", "value": "1"}],
            "traffic": [{"version": "v1", "weight": 100}],
            "kubernetes": {"image": "iris:1", "engine": "hpa"},
        },
        "status": {"replicas": 3},
    }
    after = with_document(before, IRIS, MODEL_DEPLOYMENT, {"kubernetes": {"image": "iris:2"}})
    assert after == {
        **before,
        "spec": {"scaling": {"minReplicas": 3}, "kubernetes": {"image": "iris:2", "engine": "hpa"}},
    }
    made = with_document(None, IRIS, MODEL_DEPLOYMENT, {"kubernetes": {"image": "iris:2"}})
    assert made["metadata"] == IRIS._asdict()
    policy = with_document({**before, "spec": {"scaling": {}, "engine": "keda"}}, IRIS, SCALING_POLICY, {"scaling": {}})
    assert policy["spec"] == {"scaling": {}}


def told(status: Object, *live: Arm) -> Object:
    resource = {"metadata": {**IRIS._asdict(), "generation": 1}, "status": status}
    found = model_status(resource, Verdict((), live, live, {}, (), {}), NOW)
    return {key: [(arm["version"], arm["weight"]) for arm in found[key]] for key in ("split", "previousSplit")}


def test_the_split_before_is_kept_over_what_is_no_split() -> None:
    v1, v2 = {"version": "v1", "weight": 100}, {"version": "v2", "weight": 100}
    assert told({}, Arm("v1", 100)) == {"split": [("v1", 100)], "previousSplit": []}
    assert told({"split": [v1]}, Arm("v1", 100)) == {"split": [("v1", 100)], "previousSplit": []}
    assert told({"split": [v1]}, Arm("v2", 100)) == {"split": [("v2", 100)], "previousSplit": [("v1", 100)]}
    moved = {"split": [v2], "previousSplit": [v1]}
    # Pods that are away for a moment make no split of nobody, neither now nor as the one before.
    assert told(moved) == {"split": [("v2", 100)], "previousSplit": [("v1", 100)]}
    assert told(moved, Arm("v2", 100)) == {"split": [("v2", 100)], "previousSplit": [("v1", 100)]}
    assert told(moved, Arm("v1", 100)) == {"split": [("v1", 100)], "previousSplit": [("v2", 100)]}


@pytest.mark.parametrize(
    ("route", "url"),
    [
        (None, ""),
        ({"gateway": {"name": "g"}}, "/models/iris"),
        ({"gateway": {"name": "g"}, "hosts": ["m.example.com"]}, "m.example.com/models/iris"),
        ({"ingress": {}, "hosts": ["m.example.com"]}, "http://m.example.com/models/iris"),
        ({"ingress": {"tlsSecret": "t"}, "hosts": ["m.example.com"]}, "https://m.example.com/models/iris"),
    ],
)
def test_where_a_model_answers(route: Any, url: str) -> None:
    spec = {"kubernetes": {"image": "iris:1", **({"route": route} if route else {})}}
    kinds = {"apiVersion": "headway.dev/v1alpha1", "kind": "ModelDeployment"}
    resource = {**kinds, "metadata": {**IRIS._asdict(), "uid": "u", "generation": 1}, "spec": spec}
    view = model_view(standing_of(resource, (), (), NOW))
    service = "http://iris-v1.models.svc"
    assert view.urls.production == (url or service)
    assert view.urls.pinned == {"v1": f"{url}/versions/v1" if url else service}
    assert (view.state, view.message) == ("deploying", "the operator has not looked at it yet")


def test_a_resource_that_cannot_be_read_is_told_all_the_same() -> None:
    kinds = {"apiVersion": "headway.dev/v1alpha1", "kind": "ModelDeployment"}
    resource = {**kinds, "metadata": {**IRIS._asdict(), "generation": 1}, "spec": {"unknown": 1}}
    view = model_view(standing_of(resource, (), (), NOW))
    assert (view.versions, view.target, view.urls.production) == ([], [], "")
