"""The objects of a load test: reviewed, valid, restricted, and all of them the master's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headway.cli.kube_objects import yaml_stream
from headway.cluster.jobs import worker_labels
from headway.cluster.load_objects import (
    COMPONENT,
    HUB_PORT,
    INSTANCE,
    LOAD_KINDS,
    LOCUST_PORT,
    LoadRun,
    load_kind,
    load_objects,
    master,
    side_objects,
    workers,
)
from headway.cluster.names import MODEL_LABEL, labels
from headway.cluster.pods import PORT
from tests.unit.cluster import pod_security, schemas
from tests.unit.cluster.cases import FOLDER, UPDATE

RUN = LoadRun(
    name="load-iris-3f9a1c",
    model="iris",
    namespace="models",
    image="registry.example.com/headway:0.1.0",
    workers=4,
    order=b"what to do",
    token="0123456789abcdef",
    patience_s=300,
    lasts_s=810,
)
OTHER = replace(RUN, target_token="secret", master_host="fd00::7", cpu="2", memory="1Gi")
EVERY = [*load_objects(RUN), *load_objects(OTHER), master(RUN, suspended=True)]
GOLDEN = FOLDER.parent / "kube-load" / "load-iris.yaml"
LONGEST = replace(RUN, name=f"load-{'m' * 40}-3f9a1c", model="m" * 40)


def test_what_is_rendered_is_what_was_reviewed() -> None:
    text = yaml_stream(load_objects(RUN))
    if UPDATE:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8"), f"HEADWAY_UPDATE_GOLDEN=1 rewrites {GOLDEN.name}"


@pytest.mark.parametrize("one", EVERY, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_an_object_fits_the_schema_of_its_kind_and_its_pods_are_restricted(one: dict[str, Any]) -> None:
    schemas.check(one)
    assert load_kind(one) in LOAD_KINDS
    if template := one.get("spec", {}).get("template"):
        assert pod_security.breaches(template["spec"]) == []


def test_all_belong_to_the_job_of_the_master() -> None:
    for one in (*side_objects(RUN, "uid-7"), workers(RUN, "uid-7")):
        (owner,) = one["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Job", RUN.name, "uid-7")
        assert one["metadata"]["labels"] == RUN.labels


def test_the_longest_name_of_a_model_leaves_names_that_kubernetes_takes() -> None:
    for one in load_objects(LONGEST):
        assert len(one["metadata"]["name"]) + len("-63") <= 63
        assert all(len(value) <= 63 for value in one["metadata"]["labels"].values())


def test_the_operator_does_not_take_its_pods_for_replicas() -> None:
    for one in load_objects(RUN):
        own = one.get("spec", {}).get("template", one)["metadata"]["labels"]
        assert MODEL_LABEL not in own
        assert own["app.kubernetes.io/managed-by"] != "headway"


def test_service_and_policy_let_workers_reach_the_master_and_nobody_else() -> None:
    named = [one for one in load_objects(RUN) if one["metadata"]["name"] == RUN.name]
    found = {one["kind"]: one["spec"] for one in named if one["kind"] in ("Service", "NetworkPolicy")}
    pods = {one["spec"]["template"]["metadata"]["labels"][COMPONENT]: one for one in (master(RUN), workers(RUN))}
    of_master = pods["master"]["spec"]["template"]["metadata"]["labels"]
    assert found["Service"]["selector"].items() <= of_master.items()
    (rule,) = found["NetworkPolicy"]["ingress"]
    (source,) = rule["from"]
    chosen = source["podSelector"]["matchLabels"]
    assert chosen.items() <= pods["worker"]["spec"]["template"]["metadata"]["labels"].items()
    assert not chosen.items() <= of_master.items()
    assert {port["port"] for port in rule["ports"]} == {HUB_PORT, LOCUST_PORT}
    assert found["NetworkPolicy"]["podSelector"]["matchLabels"] == {INSTANCE: RUN.name}


def test_the_master_asks_ready_replicas_of_the_model_and_no_other_pods() -> None:
    (service,) = (one for one in load_objects(RUN) if one["metadata"]["name"] == RUN.replicas_name)
    assert not service["spec"].get("publishNotReadyAddresses")
    chosen = service["spec"]["selector"].items()
    assert all(chosen <= labels("iris", version).items() for version in ("v1", "v2"))
    assert not chosen <= labels("wine", "v1").items()
    assert not chosen <= worker_labels("iris", "v1").items()
    (port,) = service["spec"]["ports"]
    (container,) = master(RUN)["spec"]["template"]["spec"]["containers"]
    assert container["command"][-2:] == ["--replicas", f"load-iris-3f9a1c-pods.models.svc:{port['port']}"]
    assert port["targetPort"] == PORT


@pytest.mark.parametrize(
    ("host", "place"),
    [
        (None, "load-iris-3f9a1c.models.svc:7070"),
        ("10.0.0.7", "10.0.0.7:7070"),
        ("fd00::7", "[fd00::7]:7070"),
    ],
)
def test_workers_find_the_master_by_its_service_or_where_they_are_told(host: str | None, place: str) -> None:
    (container,) = workers(replace(RUN, master_host=host))["spec"]["template"]["spec"]["containers"]
    assert place in container["command"]
