"""Whatever users, rollouts and decisions do to an elastic deployment, counts stay what they have to be."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headway.control import commands, rollout
from headway.control.commands import Outcome
from headway.domain.deployments import Deployment
from headway.domain.errors import HeadwayError
from headway.domain.lifecycle import ReplicaPhase, VersionState
from headway.domain.replicas import ReplicaStatus
from headway.domain.spec import ModelDeployment, parse

HEAD: dict[str, Any] = {
    "apiVersion": "headway.dev/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "iris"},
}
BOUNDS = [(0, 1), (0, 9), (1, 4), (3, 9)]


def document(bounds: tuple[int, int] | None, stated: bool = True) -> ModelDeployment:
    if not stated:
        return parse({**HEAD, "spec": {}})
    if bounds is None:
        return parse({**HEAD, "spec": {"scaling": {"minReplicas": 2}}})
    triggers = [{"type": "concurrency", "target": 4}]
    return parse(
        {**HEAD, "spec": {"scaling": {"minReplicas": bounds[0], "maxReplicas": bounds[1], "triggers": triggers}}}
    )


SILENT, FIXED = document(None, stated=False), document(None)
ELASTIC = [document(bounds) for bounds in BOUNDS]
versions = st.sampled_from(["v1", "v2", "v3"])
steps = st.one_of(
    st.tuples(
        st.just("deploy"), st.sampled_from([SILENT, SILENT, FIXED, *ELASTIC]), st.sampled_from("abc"),
        st.sampled_from([None, 1, 10, 50]),
    ),
    st.tuples(st.just("promote"), st.none() | versions),
    st.tuples(st.just("rollback")),
    st.tuples(st.just("split"), versions, versions, st.integers(0, 100)),
    st.tuples(st.just("scale"), st.integers(0, 12)),
    st.tuples(st.just("configure"), st.sampled_from([None, FIXED, *ELASTIC])),
    st.tuples(st.just("decide"), versions, st.integers(0, 12)),
    st.tuples(st.just("time"), st.integers(1, 4)),
    st.tuples(st.just("time"), st.integers(1, 4)),
)  # fmt: skip


def asked(deployment: Deployment, step: tuple[Any, ...], now: float) -> Outcome:
    match step:
        case ("deploy", doc, letter, canary):
            return commands.deploy(deployment, doc, letter * 64, canary, now)
        case ("promote", version):
            return commands.promote(deployment, version, now)
        case ("rollback",):
            return commands.rollback(deployment, now)
        case ("split", one, other, weight):
            return commands.set_traffic(deployment, {one: weight, other: 100 - weight}, now)
        case ("scale", replicas):
            return commands.scale(deployment, replicas, now)
        case ("configure", doc):
            return commands.configure_scaling(deployment, doc.spec.scaling if doc is not None else None, now)
        case ("decide", version, count):
            return commands.set_wished(deployment, version, count, "because", now)
    raise AssertionError(step)


def a_round(deployment: Deployment, now: float) -> Deployment:
    """Of a reconciler whose builds and replicas are all there at once."""
    present = [
        ReplicaStatus(f"{version.name}-{i}", "iris", version.name, ReplicaPhase.READY, "unix:/x")
        for version in deployment.versions
        for i in range(deployment.wished(version.name) if rollout.runs(deployment, version.name) else 0)
    ]
    deployment, _ = rollout.advance(deployment, present, now)
    for version in deployment.versions:
        if version.state is VersionState.BUILDING:
            deployment = deployment.with_version(version.moved(VersionState.STARTING, now))
    before = {arm.version for arm in deployment.live}
    shifted = rollout.shift(deployment, present, now)
    if shifted is not None:
        deployment, _ = shifted
        if deployment.scaling is not None:
            served = {replica.version for replica in present}
            assert {arm.version for arm in deployment.live} - before <= served, "it never showed that it can"
    judged = rollout.judge(deployment, present, now)
    deployment = judged[0] if judged is not None else deployment
    assert rollout.judge(deployment, present, now) is None, "told again and again"
    return deployment


def check(deployment: Deployment) -> None:
    live = {arm.version for arm in deployment.live}
    target = {arm.version for arm in deployment.target}
    least, most = deployment.bounds
    if deployment.scaling is None:
        assert "scaled" not in deployment.extra
        assert least == most == deployment.replicas
        return
    for version in live | target:
        assert least <= deployment.wished(version) <= most
    for version in target - live:
        assert deployment.wished(version) >= 1


@given(st.sampled_from([FIXED, *ELASTIC]), st.lists(steps, max_size=20))
def test_counts_are_always_within_bounds_and_of_versions_that_are_needed(
    first: ModelDeployment, course: list[tuple[Any, ...]]
) -> None:
    deployment = commands.deploy(None, first, "a" * 64, None, 1.0).deployment
    now = 1.0
    for step in course:
        now += 1.0
        generation = deployment.generation
        if step[0] == "time":
            for _ in range(step[1]):
                deployment = a_round(deployment, now)
        else:
            try:
                outcome = asked(deployment, step, now)
            except HeadwayError:
                continue
            assert outcome.unchanged == (outcome.deployment == deployment)
            assert outcome.unchanged != bool(outcome.events)
            deployment = outcome.deployment
            assert deployment.generation == generation + (not outcome.unchanged)
        check(deployment)
    for _ in range(4):
        deployment = a_round(deployment, now)
    check(deployment)
    assert deployment.target == deployment.live
    assert set(deployment.counts) <= rollout.wanted(deployment)
