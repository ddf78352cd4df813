"""Which routes follow from deployments and replicas."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from headway.domain.deployments import Deployment, Version
from headway.domain.lifecycle import DeploymentState, ReplicaPhase, VersionState
from headway.domain.replicas import Failure, ReplicaStatus
from headway.domain.routing_table import Arm, Endpoint, GatewayToken, RoutingTable, Shadow, Sticky
from headway.domain.spec import VersionSpec
from headway.routing import render


def version(name: str, state: VersionState = VersionState.LIVE, **server: Any) -> Version:
    spec = VersionSpec.model_validate({"server": server}).model_dump(mode="json", by_alias=True)
    return Version(name, "0" * 64, "1" * 64, 0.0, spec, state)


def deployment(*versions: Version, **live: int) -> Deployment:
    arms = tuple(Arm(v, w) for v, w in live.items())
    return Deployment("iris", 0.0, DeploymentState.READY, versions=versions, target=arms, live=arms)


def replica(name: str, version: str = "v1", phase: ReplicaPhase = ReplicaPhase.READY) -> ReplicaStatus:
    return ReplicaStatus(name, "iris", version, phase, f"unix:/r/{name}")


def table_of(given: Deployment, *replicas: ReplicaStatus, draining: tuple[str, ...] = ()) -> RoutingTable:
    return render([given], replicas, [], False, draining)


def endpoints(table: RoutingTable) -> dict[str, list[str]]:
    return {v.version: [e.replica_id for e in v.endpoints] for m in table.models for v in m.versions}


def test_ready_replicas_of_running_versions_are_routed() -> None:
    given = deployment(version("v1"), version("v2"), v1=90, v2=10)
    table = table_of(given, replica("a"), replica("b"), replica("c", "v2"))
    [route] = table.models
    assert route.arms == (Arm("v1", 90), Arm("v2", 10))
    assert endpoints(table) == {"v1": ["a", "b"], "v2": ["c"]}
    assert route.versions[0].endpoints[0] == Endpoint("a", "unix:/r/a")


def test_traffic_follows_what_is_live_not_what_is_wished() -> None:
    given = replace(deployment(version("v1"), version("v2", VersionState.STARTING), v1=100), target=(Arm("v2", 100),))
    table = table_of(given, replica("a"), replica("b", "v2"))
    assert table.models[0].arms == (Arm("v1", 100),)
    assert endpoints(table) == {"v1": ["a"], "v2": ["b"]}, "a starting version can be reached by its own path"


@pytest.mark.parametrize("phase", [p for p in ReplicaPhase if p is not ReplicaPhase.READY])
def test_a_replica_that_is_not_ready_gets_nothing(phase: ReplicaPhase) -> None:
    assert endpoints(table_of(deployment(version("v1"), v1=100), replica("a", phase=phase))) == {"v1": []}


def test_a_replica_that_drains_or_has_no_address_gets_nothing() -> None:
    given = deployment(version("v1"), v1=100)
    assert endpoints(table_of(given, replica("a"), replica("b"), draining=("a",))) == {"v1": ["b"]}
    assert endpoints(table_of(given, replace(replica("a"), address=None))) == {"v1": []}


@pytest.mark.parametrize("state", list(VersionState))
def test_versions_that_run_or_are_live_have_routes(state: VersionState) -> None:
    running = {VersionState.STARTING, VersionState.LIVE, VersionState.DRAINING}
    assert ("v2" in endpoints(table_of(deployment(version("v1"), version("v2", state), v1=100)))) is (state in running)
    assert "v2" in endpoints(table_of(deployment(version("v2", state), v2=100))), "whatever takes traffic is routed"


def test_a_deployment_being_deleted_has_no_routes() -> None:
    given = replace(deployment(version("v1"), v1=100), state=DeploymentState.DELETING)
    assert table_of(given, replica("a")) == RoutingTable()


def test_a_model_without_a_live_version_is_known_all_the_same() -> None:
    [route] = table_of(deployment(version("v1", VersionState.PENDING))).models
    assert (route.arms, route.versions) == ((), ())


def test_a_shadow_counts_once_it_has_a_replica() -> None:
    given = replace(deployment(version("v1"), version("v2"), v1=100), shadow=Shadow("v2", 30))
    assert table_of(given, replica("a")).models[0].shadow is None
    assert table_of(given, replica("a"), replica("b", "v2")).models[0].shadow == Shadow("v2", 30)


def test_sticky_and_limits_are_passed_on() -> None:
    given = replace(
        deployment(version("v1", maxQueue=7, timeout="1500ms", maxBodySize="1Mi"), v1=100), sticky=Sticky("header", "x")
    )
    [route] = table_of(given).models
    assert route.sticky == Sticky("header", "x")
    limits = route.versions[0]
    assert (limits.max_concurrency, limits.timeout_s, limits.max_body_bytes) == (7, 1.5, 1024 * 1024)


def test_the_order_of_what_is_given_does_not_matter() -> None:
    replicas = [replica("a"), replica("b"), replica("c", "v2")]
    tokens = [GatewayToken(name, "0" * 64, None, None) for name in ("x", "y")]
    models = [deployment(version("v1"), version("v2"), v1=100), replace(deployment(version("v1"), v1=100), name="wine")]
    tables = {
        repr((render(m, r, t, True, ()), render(m, r, t, True, ()).tokens))
        for m in permutations(models)
        for r in permutations(replicas)
        for t in permutations(tokens)
    }
    assert len(tables) == 1
    assert render(models, replicas, tokens, True, ()).require_token


def hold_of(given: Deployment, *replicas: ReplicaStatus) -> float:
    [route] = table_of(given, *replicas).models
    return route.versions[0].hold_s


def scaled(given: Deployment, count: int) -> Deployment:
    policy = {"minReplicas": 0, "maxReplicas": 4, "triggers": [{"type": "concurrency", "target": 4}]}
    return given.with_scaling(policy, {"v1": count}, 1)


ONE = deployment(version("v1", timeout="20s"), v1=100)
NEW = replica("a", phase=ReplicaPhase.STARTING)
LOOPING = replace(replica("a", phase=ReplicaPhase.BACKOFF), restarts=4, reason="CrashLoopBackOff")
KILLED = Failure("exited", "killed by signal 9")


@pytest.mark.parametrize(
    ("given", "replicas", "expected"),
    [
        pytest.param(scaled(ONE, 0), [], 20.0, id="at zero by its policy: as long as a request may take"),
        pytest.param(scaled(ONE, 1), [], 20.0, id="one is wished for"),
        pytest.param(scaled(ONE, 1), [NEW], 20.0, id="it is on its way"),
        pytest.param(ONE, [replica("a")], 10.0, id="the only one may be killed"),
        pytest.param(ONE, [replace(NEW, restarts=1, failure=KILLED)], 10.0, id="it was killed"),
        pytest.param(ONE, [replica("a", phase=ReplicaPhase.UNREADY)], 10.0, id="it does not answer"),
        pytest.param(ONE, [LOOPING, replace(NEW, restarts=1)], 10.0, id="one of two is hopeful"),
        pytest.param(ONE, [LOOPING], 0.0, id="it crashes again and again"),
        pytest.param(ONE, [replica("a", phase=ReplicaPhase.FAILED)], 0.0, id="it has failed"),
        pytest.param(ONE, [replace(NEW, restarts=1, failure=Failure("load_failed", "no"))], 0.0, id="cannot be loaded"),
        pytest.param(scaled(ONE, 1), [LOOPING], 0.0, id="broken although scaled"),
        pytest.param(replace(ONE, replicas=0), [], 0.0, id="at zero by its owner, for good"),
        pytest.param(replace(ONE, state=DeploymentState.FAILED), [], 0.0, id="a failed deployment"),
        pytest.param(replace(ONE, versions=(version("v1", VersionState.STARTING),)), [NEW], 0.0, id="not yet live"),
    ],
)
def test_requests_wait_for_what_has_served_and_will_again(
    given: Deployment, replicas: list[ReplicaStatus], expected: float
) -> None:
    assert hold_of(given, *replicas) == expected


def test_a_short_time_limit_is_a_short_wait() -> None:
    assert hold_of(deployment(version("v1", timeout="2s"), v1=100), replica("a")) == 2.0
