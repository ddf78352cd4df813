"""Why a version does not come up, from what Kubernetes says."""

from __future__ import annotations

from typing import Any

import pytest

from headway.cluster.obstacles import LOG_LINES, Obstacle, missing, obstacle

NOW = 1_750_000_000.0
STARTED = "2025-06-15T15:05:40Z"  # a minute before NOW
FULL = "0/3 nodes are available: 1 Insufficient cpu, 3 Insufficient memory. preemption: 0/3 nodes are available."


def pod(container: dict[str, Any] | None = None, *conditions: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    statuses = (
        [{"name": "model", "image": "r/iris:1", "restartCount": 0, "ready": False, **container}] if container else []
    )
    return {"metadata": metadata, "status": {"conditions": list(conditions), "containerStatuses": statuses}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def ended(restarts: int = 3, **how: Any) -> dict[str, Any]:
    return {**waiting("CrashLoopBackOff"), "restartCount": restarts, "lastState": {"terminated": how}}


def running(**more: Any) -> dict[str, Any]:
    return {"state": {"running": {"startedAt": STARTED}}, **more}


def refused(message: str) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": message}]}}


UNSCHEDULED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": FULL}
READY = {"type": "Ready", "status": "True"}


def found(*pods: dict[str, Any], deployment: dict[str, Any] | None = None, patience_s: float = 30) -> Obstacle | None:
    return obstacle(deployment or {}, pods, NOW, patience_s)


@pytest.mark.parametrize(
    ("one", "reason", "words"),
    [
        (pod(None, UNSCHEDULED), "Unschedulable", "3 Insufficient memory"),
        (pod(waiting("ImagePullBackOff", "not found")), "ImagePullFailed", "r/iris:1: not found"),
        (pod(waiting("ErrImagePull")), "ImagePullFailed", "r/iris:1: ErrImagePull"),
        (pod(waiting("CreateContainerConfigError", "secret x")), "ContainerConfigWrong", "Error: secret x"),
        (pod(ended(exitCode=1, message="Traceback\nValueError: no")), "CrashLoop", "ValueError: no"),
        (pod(ended(exitCode=139, signal=11)), "CrashLoop", "signal 11"),
        (pod(ended(exitCode=137, reason="OOMKilled")), "OutOfMemory", "more memory"),
        (pod({**running(), "restartCount": 1, "lastState": {"terminated": {"exitCode": 3}}}), "CrashLoop", "code 3"),
        (pod({"state": {"terminated": {"exitCode": 2, "message": "no model"}}}), "CrashLoop", "no model"),
        (pod(running(started=True)), "NotReady", f"since {STARTED} and its readiness probe fails"),
    ],
)
def test_each_cause_is_told(one: dict[str, Any], reason: str, words: str) -> None:
    cause = found(one)
    assert cause is not None
    assert cause.reason == reason
    assert words in cause.text
    assert cause.hint


@pytest.mark.parametrize(
    "one",
    [
        pod(running(ready=True), READY),
        pod(waiting("ContainerCreating")),
        pod(waiting("PodInitializing")),
        pod(running(started=False)),
        pod(),
        pod(ended(exitCode=1), deletionTimestamp="2025-06-15T15:06:00Z"),
    ],
)
def test_what_is_well_or_on_its_way_is_no_obstacle(one: dict[str, Any]) -> None:
    assert found(one) is None


def test_one_that_runs_is_given_time() -> None:
    assert found(pod(running(started=True)), patience_s=61) is None
    assert found(pod(running(started=True)), patience_s=59) is not None


def test_pods_that_nobody_may_make() -> None:
    quota = found(deployment=refused('pods "iris-v1-x" is forbidden: exceeded quota: small, requested: cpu=2'))
    assert quota is not None
    assert quota.reason == "QuotaExceeded"
    webhook = found(deployment=refused('admission webhook "x" denied the request'))
    assert webhook is not None
    assert webhook.reason == "PodsRefused"
    gone = {"status": {"conditions": [{"type": "ReplicaFailure", "status": "False"}]}}
    assert found(deployment=gone) is None


def test_the_nearest_cause_counts_and_how_many_pods_it_holds() -> None:
    crash, full = pod(ended(exitCode=1)), pod(None, UNSCHEDULED)
    cause = found(crash, full, crash, full)
    assert cause is not None
    assert (cause.reason, cause.pods) == ("Unschedulable", 2)


def test_what_the_cluster_has_too_little_of() -> None:
    assert missing(FULL) == {"cpu": 1, "memory": 3}
    assert missing("0/1 nodes are available: 1 node(s) had untolerated taint") == {}
    cause = found(pod(None, UNSCHEDULED))
    assert cause is not None
    assert "processors and memory" in cause.hint
    taint = {**UNSCHEDULED, "message": "0/1 nodes are available: 1 node(s) had untolerated taint {a: b}."}
    cause = found(pod(None, taint))
    assert cause is not None
    assert "tolerations" in cause.hint


def test_a_long_log_is_cut_to_its_end() -> None:
    cause = found(pod(ended(exitCode=1, message="\n".join(f"line {n}" for n in range(50)))))
    assert cause is not None
    assert cause.said.count("line ") == LOG_LINES
    assert "line 49" in cause.said
