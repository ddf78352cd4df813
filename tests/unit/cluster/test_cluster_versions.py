"""Versions on a cluster: what makes a new one, where they are kept, and who gets the traffic."""

from __future__ import annotations

from typing import Any

import pytest

from headway.cluster.names import IMAGE_ANNOTATION, SPEC_ANNOTATION, model_owner, side_object
from headway.cluster.render import render_documents, render_model
from headway.cluster.versions import described, version_of, with_version
from headway.cluster.workloads import deployment
from headway.domain.errors import InvalidTraffic, StorageFailed
from headway.domain.routing_table import Arm
from headway.domain.spec import ModelDeployment, parse

OWNER = model_owner("iris", "models", "0b4e")


def document(image: str = "iris:1", **spec: Any) -> ModelDeployment:
    kubernetes = {"image": image, "route": {"gateway": {"name": "public"}}}
    kinds = {"apiVersion": "headway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "iris"}}
    return parse({**kinds, "spec": {"kubernetes": kubernetes, **spec}})


def names(documents: list[ModelDeployment]) -> list[str]:
    known: tuple[Any, ...] = ()
    found = []
    for one in documents:
        version = described(one, known)
        known = with_version(known, version)
        found.append(version.name)
    return found


def test_an_image_or_a_setting_of_the_version_makes_a_new_one_and_the_same_again_does_not() -> None:
    steps = [
        document(),
        document("iris:2"),
        document("iris:2", server={"maxQueue": 9}),
        document(scaling={"minReplicas": 4}),
        document("iris:2"),
        document("iris:3"),
    ]
    assert names(steps) == ["v1", "v2", "v3", "v1", "v2", "v4"]


def test_a_version_is_read_back_from_its_deployment() -> None:
    version = described(document(env=[{"name": "A", "value": "ö"}]), ())
    kept = deployment(OWNER, version, document().spec.kubernetes, 2)
    assert version_of(kept) == version


@pytest.mark.parametrize("damage", [{IMAGE_ANNOTATION: "iris:9"}, {SPEC_ANNOTATION: "{"}, {SPEC_ANNOTATION: None}])
def test_a_damaged_record_is_noticed(damage: dict[str, Any]) -> None:
    kept = deployment(OWNER, described(document(), ()), document().spec.kubernetes, 2)
    annotations = {**kept["metadata"]["annotations"], **damage}
    kept["metadata"]["annotations"] = {key: value for key, value in annotations.items() if value is not None}
    with pytest.raises(StorageFailed, match="iris-v1"):
        version_of(kept)


def test_objects_go_with_their_owner() -> None:
    version = described(document(), ())
    for one in render_model(document(), [version], (Arm("v1", 100),), OWNER):
        [reference] = one["metadata"]["ownerReferences"]
        assert (reference["kind"], reference["uid"], reference["controller"]) == ("ModelDeployment", "0b4e", True)


def test_routes_follow_what_is_live_while_what_was_asked_for_starts() -> None:
    first, second = described(document(), ()), described(document("iris:2"), [described(document(), ())])
    asked, live = (Arm("v2", 100),), (Arm("v1", 100),)
    found = render_model(document("iris:2"), [first, second], asked, OWNER, live=live, counts={"v1": 3, "v2": 4})
    counts = {one["metadata"]["name"]: one["spec"]["replicas"] for one in found if one["kind"] == "Deployment"}
    assert counts == {"iris-v1": 3, "iris-v2": 4}
    [route] = [one for one in found if one["kind"] == "HTTPRoute"]
    assert [backend["name"] for backend in route["spec"]["rules"][-1]["backendRefs"]] == ["iris-v1"]
    nothing = render_model(document("iris:2"), [first, second], asked, OWNER, live=())
    assert "HTTPRoute" not in {one["kind"] for one in nothing}


def test_a_version_without_traffic_is_kept_without_pods() -> None:
    found = render_documents([document(), document("iris:2")], None)
    kept = [one for one in found if one["metadata"]["name"] == "iris-v1"]
    assert [(one["kind"], one["spec"]["replicas"]) for one in kept] == [("Deployment", 0)]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"traffic": [{"version": "v3", "weight": 100}]}, "no version v3"),
        ({"traffic": [{"version": "v1", "weight": 100}]}, "this content is v2"),
        ({"shadow": {"version": "v3"}}, "no version v3"),
        ({"shadow": {"version": "v2"}}, "no traffic of its own"),
    ],
)
def test_a_split_that_cannot_be_is_refused(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidTraffic, match=words):
        render_documents([document(), document("iris:2", **spec)], None)


def test_no_model_can_be_called_like_a_side_object_of_another() -> None:
    assert len(side_object("a", "b")) > 40
    assert side_object("a", "b-c") != side_object("a-b", "c")
