"""What users may ask for, and what becomes of the wish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from headway.control import commands
from headway.control.commands import Outcome
from headway.domain.deployments import Deployment
from headway.domain.errors import Conflict, HeadwayError, InvalidTraffic, VersionNotFound
from headway.domain.job_spec import Jobs
from headway.domain.lifecycle import DeploymentState, VersionState
from headway.domain.routing_table import Arm
from headway.domain.spec import ModelDeployment, parse
from headway.domain.version_specs import jobs_of

A, B, C = "a" * 64, "b" * 64, "c" * 64
V1, V2 = (Arm("v1", 100),), (Arm("v2", 100),)


def document(**spec: Any) -> ModelDeployment:
    return parse(
        {"apiVersion": "headway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "iris"}, "spec": spec}
    )


def serving(*names: str, split: tuple[Arm, ...] | None = None) -> Deployment:
    """A deployment whose versions ``names`` exist; the split (default: all to the last) is live."""
    deployment: Deployment | None = None
    for position in range(len(names)):
        deployment = commands.deploy(deployment, document(), "abcdef"[position] * 64, None, 1.0).deployment
    assert deployment is not None
    live = split or (Arm(names[-1], 100),)
    for version in deployment.versions:
        states = [VersionState.BUILDING, VersionState.STARTING, VersionState.LIVE]
        if all(arm.version != version.name for arm in live):
            states += [VersionState.DRAINING, VersionState.RETIRED]
        for state in states:
            version = version.moved(state, 2.0)
        deployment = deployment.with_version(version)
    return replace(deployment, target=live, live=live, state=DeploymentState.READY)


def types(outcome: Outcome) -> list[str]:
    return [str(event.type) for event in outcome.events]


def test_first_deploy_creates_v1_and_wishes_all_traffic_for_it() -> None:
    outcome = commands.deploy(None, document(), A, None, 5.0)
    assert outcome.version == "v1"
    assert outcome.deployment.target == V1
    assert outcome.deployment.live == ()
    assert types(outcome) == ["deployment_created.v1", "version_created.v1", "traffic_requested.v1"]


def test_same_content_again_is_unchanged() -> None:
    deployment = serving("v1")
    outcome = commands.deploy(deployment, document(), A, None, 9.0)
    assert outcome.unchanged
    assert outcome.events == ()
    assert outcome.deployment == deployment


def test_same_files_under_other_resources_are_a_new_version() -> None:
    outcome = commands.deploy(serving("v1"), document(resources={"memory": "1Gi"}), A, None, 9.0)
    assert outcome.version == "v2"


def test_retired_content_is_woken_not_built_again_as_a_new_version() -> None:
    outcome = commands.deploy(serving("v1", "v2"), document(), A, None, 9.0)
    assert outcome.version == "v1"
    assert outcome.deployment.version("v1").state is VersionState.PENDING
    assert outcome.deployment.target == V1


def test_version_names_are_never_used_again() -> None:
    deployment = serving("v1", "v2")
    assert commands.deploy(deployment, document(), C, None, 9.0).version == "v3"


def test_redeploy_without_scaling_keeps_the_replica_count() -> None:
    scaled = commands.scale(serving("v1"), 4, 3.0).deployment
    assert commands.deploy(scaled, document(), B, None, 9.0).deployment.replicas == 4
    stated = document(scaling={"minReplicas": 2})
    assert commands.deploy(scaled, stated, B, None, 9.0).deployment.replicas == 2


def test_canary_takes_its_share_from_what_is_live() -> None:
    outcome = commands.deploy(serving("v1"), document(), B, 10, 9.0)
    assert commands.weights_of(outcome.deployment.target) == {"v1": 90, "v2": 10}


def test_canary_needs_another_version_beside_it() -> None:
    with pytest.raises(Conflict, match="no other version"):
        commands.deploy(None, document(), A, 10, 9.0)
    with pytest.raises(Conflict, match="no other version"):
        commands.deploy(serving("v1"), document(), A, 10, 9.0)


def test_declared_traffic_must_name_the_content_it_comes_with() -> None:
    with pytest.raises(InvalidTraffic, match="this content is v2"):
        commands.deploy(serving("v1"), document(traffic=[{"version": "v1", "weight": 100}]), B, None, 9.0)


def test_declared_traffic_may_name_the_version_about_to_be_made() -> None:
    split = [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10}]
    outcome = commands.deploy(serving("v1"), document(traffic=split), B, None, 9.0)
    assert commands.weights_of(outcome.deployment.target) == {"v1": 90, "v2": 10}


def test_what_holds_for_jobs_is_what_the_newest_document_says_or_the_default() -> None:
    first = commands.deploy(None, document(jobs={"timeout": "1m"}), A, None, 1.0)
    assert jobs_of(first.deployment).timeout_s == 60
    again = commands.deploy(first.deployment, document(jobs={"timeout": "60s"}), A, None, 2.0)
    assert again.unchanged, "the same in other words"
    other = commands.deploy(first.deployment, document(jobs={"timeout": "2m"}), A, None, 2.0)
    assert (other.version, types(other)) == ("v1", ["deployment_configured.v1"])
    assert other.events[0].data["jobs"]["timeout"] == "2m"
    assert jobs_of(other.deployment).timeout_s == 120
    silent = commands.deploy(other.deployment, document(), A, None, 3.0)
    assert types(silent) == ["deployment_configured.v1"]
    assert (silent.deployment.jobs, jobs_of(silent.deployment)) == (None, Jobs())


def test_a_shadow_gets_no_share() -> None:
    doc = document(shadow={"version": "v2"})
    outcome = commands.deploy(serving("v1"), doc, B, None, 9.0)
    assert outcome.deployment.target == V1
    assert outcome.deployment.shadow is not None


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        ({"v1": 90, "v2": 20}, InvalidTraffic),
        ({"v1": -10, "v2": 110}, InvalidTraffic),
        ({}, InvalidTraffic),
        ({"v9": 100}, HeadwayError),
    ],
)
def test_impossible_splits_are_refused(weights: dict[str, int], error: type[HeadwayError]) -> None:
    with pytest.raises(error):
        commands.set_traffic(serving("v1", "v2"), weights, 9.0)


def test_promote_takes_the_newest_of_the_split() -> None:
    deployment = serving("v1", "v2", split=(Arm("v1", 90), Arm("v2", 10)))
    assert commands.promote(deployment, None, 9.0).deployment.target == V2
    assert commands.promote(deployment, "v1", 9.0).deployment.target == V1


def test_promote_without_a_canary_says_so() -> None:
    with pytest.raises(Conflict, match="no canary"):
        commands.promote(serving("v1"), None, 9.0)
    with pytest.raises(VersionNotFound):
        commands.promote(serving("v1"), "v7", 9.0)


def test_rollback_calls_off_a_rollout_under_way() -> None:
    under_way = commands.deploy(serving("v1"), document(), B, None, 9.0).deployment
    assert commands.rollback(under_way, 10.0).deployment.target == V1


def test_rollback_with_nothing_before_says_so() -> None:
    with pytest.raises(Conflict, match="nothing to roll back"):
        commands.rollback(serving("v1"), 9.0)


def test_a_model_being_deleted_takes_no_commands() -> None:
    going = commands.delete(serving("v1"), 9.0).deployment
    assert going.live == ()
    refused: list[Callable[[], Outcome]] = [
        lambda: commands.scale(going, 2, 10.0),
        lambda: commands.deploy(going, document(), B, None, 10.0),
        lambda: commands.rollback(going, 10.0),
    ]
    for command in refused:
        with pytest.raises(Conflict, match="being deleted"):
            command()
    assert commands.delete(going, 10.0).unchanged
