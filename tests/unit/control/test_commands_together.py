"""Several versions and their split, wished in one go."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from headway.control import commands
from headway.control.commands import Outcome
from headway.domain.deployments import Deployment, Source
from headway.domain.errors import InvalidSpec, InvalidTraffic
from headway.domain.routing_table import Arm, Shadow
from headway.domain.spec import ModelDeployment, parse

A, B, C = "a" * 64, "b" * 64, "c" * 64


def document(**spec: Any) -> ModelDeployment:
    return parse(
        {"apiVersion": "headway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "iris"}, "spec": spec}
    )


def weight(share: int, **spec: Any) -> ModelDeployment:
    return document(arm={"weight": share}, **spec)


def together(current: Deployment | None, *parts: tuple[ModelDeployment, str]) -> Outcome:
    return commands.deploy_together(current, parts, 9.0)


def test_versions_split_and_shadow_come_at_once() -> None:
    outcome = together(None, (weight(10), A), (weight(90), B), (document(arm={"shadow": 50}), C))
    assert outcome.versions == ("v1", "v2", "v3")
    assert outcome.version == "v2", "the one with the largest share"
    assert outcome.deployment.target == (Arm("v1", 10), Arm("v2", 90))
    assert outcome.deployment.shadow == Shadow("v3", 50)
    assert [str(event.type) for event in outcome.events] == [
        "deployment_created.v1",
        "version_created.v1",
        "version_created.v1",
        "version_created.v1",
        "traffic_requested.v1",
    ]


def test_each_version_keeps_where_its_files_came_from() -> None:
    source = Source("models:/iris@champion", "models:/iris/3")
    outcome = commands.deploy_together(None, [(weight(75), A), (weight(25), B)], 9.0, {B: source})
    assert [version.source for version in outcome.deployment.versions] == [None, source]
    assert [event.data.get("source") for event in outcome.events[1:3]] == [None, {**asdict(source)}]
    alone = commands.deploy(None, weight(100), A, None, 9.0, source=source)
    assert alone.deployment.version("v1").source == source


def test_the_same_again_is_unchanged_and_other_weights_are_no_other_versions() -> None:
    first = together(None, (weight(75), A), (weight(25), B)).deployment
    live = replace(first, live=first.target)
    again = together(live, (weight(75), A), (weight(25), B))
    assert (again.unchanged, again.events, again.deployment) == (True, (), live)
    moved = together(live, (weight(50), A), (weight(50), B))
    assert [v.name for v in moved.deployment.versions] == ["v1", "v2"]
    assert moved.deployment.target == (Arm("v1", 50), Arm("v2", 50))


def test_what_is_left_out_leaves_the_split() -> None:
    first = together(None, (weight(75), A), (document(arm={"weight": 25}), B)).deployment
    after = together(first, (weight(100), A)).deployment
    assert after.target == (Arm("v1", 100),)
    assert commands.deploy(first, weight(100), A, None, 9.0).deployment == after


def test_a_policy_holds_for_the_model() -> None:
    scaling = {"minReplicas": 3}
    outcome = together(None, (weight(50, scaling=scaling), A), (weight(50, scaling=scaling), B))
    assert outcome.deployment.replicas == 3
    with pytest.raises(InvalidSpec, match="document 2 says something else") as caught:
        together(None, (weight(50, scaling=scaling), A), (weight(50), B))
    assert caught.value.where == "spec.scaling"


@pytest.mark.parametrize(
    ("parts", "error", "said"),
    [
        ([(weight(50), A), (weight(40), B)], InvalidTraffic, "sum to 90"),
        ([(weight(100), A), (document(), B)], InvalidSpec, "document 2 does not say its share"),
        ([(weight(50), A), (weight(50), A)], InvalidSpec, "documents 1 and 2 are the same version"),
        ([(document(arm={"shadow": 100}), A)], InvalidTraffic, "sum to 0"),
        (
            [(weight(100), A), (document(arm={"shadow": 1}), B), (document(arm={"shadow": 2}), C)],
            InvalidSpec,
            "one shadow",
        ),
        ([(weight(100, traffic=[{"version": "v1", "weight": 100}]), A)], InvalidSpec, "exclude each other"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    parts: list[tuple[ModelDeployment, str]], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        together(None, *parts)


def test_arm_says_one_thing() -> None:
    for arm in ({}, {"weight": 1, "shadow": 1}):
        with pytest.raises(InvalidSpec, match="either weight or shadow"):
            document(arm=arm)
