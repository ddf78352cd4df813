"""What is installed on a cluster: valid, restricted, narrow, and the same in ``deploy/``."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from headway.cli.app import run
from headway.cli.kube_objects import yaml_stream
from headway.cluster.install import INSTALLED, install, installed_kind
from headway.cluster.job_server import job_server
from headway.settings import Settings
from tests.unit.cluster import pod_security, schemas

OBJECTS = install("headway-operator")
FOLDER = schemas.ROOT / "deploy"


@pytest.mark.parametrize("one", OBJECTS, ids=[f"{one['kind']} {one['metadata']['name']}" for one in OBJECTS])
def test_an_object_fits_the_schema_of_its_kind(one: dict[str, Any]) -> None:
    schemas.check(one)


def test_the_operators_pod_is_restricted_but_for_its_token() -> None:
    [deployment] = [one for one in OBJECTS if one["kind"] == "Deployment"]
    assert pod_security.breaches(deployment["spec"]["template"]["spec"]) == ["automountServiceAccountToken"]


def test_rights_are_narrow() -> None:
    rules = [rule for one in OBJECTS for rule in one.get("rules", [])]
    granted = {(group, resource) for rule in rules for group in rule["apiGroups"] for resource in rule["resources"]}
    assert not {resource for _, resource in granted} & {"secrets", "pods/exec", "roles", "clusterroles"}
    assert [rule["verbs"] for rule in rules if "pods" in rule["resources"]] == [["get", "list", "watch"]]
    assert [rule["resources"] for rule in rules if "update" in rule["verbs"] and rule["resources"] != ["leases"]] == [
        ["modeldeployments"],
        ["modeldeployments/finalizers", "scalingpolicies/finalizers"],
    ]
    assert not [rule for rule in rules if "*" in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])]


def test_objects_can_be_created_in_their_order() -> None:
    kinds = [installed_kind(one) for one in OBJECTS]
    assert kinds == sorted(kinds, key=INSTALLED.index)


def test_the_folder_for_gitops_holds_what_is_installed() -> None:
    written = (FOLDER / "operator.yaml").read_text(encoding="utf-8")
    assert written == yaml_stream(OBJECTS), "headway kube install --image headway-operator --dry-run prints it"
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
    assert kustomization["resources"] == ["operator.yaml"]
    assert [image["name"] for image in kustomization["images"]] == ["headway-operator"]


def test_where_events_go_is_read_from_a_secret_that_the_operator_may_not_read() -> None:
    objects = install("headway-operator", events_secret="where-events-go")
    [deployment] = [one for one in objects if one["kind"] == "Deployment"]
    schemas.check(deployment)
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    given = {one["name"]: one["valueFrom"].get("secretKeyRef") for one in container["env"] if "valueFrom" in one}
    assert given.pop("HEADWAY_OPERATOR_NAMESPACE") is None
    assert {f"HEADWAY_{name.upper()}" for name in Settings.model_fields} >= given.keys()
    assert given["HEADWAY_OPERATOR_DATABASE"] == {"name": "where-events-go", "key": "database"}
    assert [one.get("optional") for one in given.values()] == [None, True, True, True]
    assert [one for one in objects if one["kind"] != "Deployment"] == [
        one for one in OBJECTS if one["kind"] != "Deployment"
    ]


JOBS = job_server("r/headway:1", "models")


@pytest.mark.parametrize("one", JOBS, ids=[f"{one['kind']} {one['metadata']['name']}" for one in JOBS])
def test_an_object_of_the_job_server_fits_the_schema_of_its_kind(one: dict[str, Any]) -> None:
    schemas.check(one)
    assert one["metadata"]["namespace"] == "models"


def test_the_job_server_is_restricted_and_reads_where_jobs_are_from_a_secret() -> None:
    kinds = [installed_kind(one) for one in JOBS]
    assert kinds == sorted(kinds, key=INSTALLED.index)
    pod = JOBS[-1]["spec"]["template"]["spec"]
    assert pod_security.breaches(pod) == ["automountServiceAccountToken"]
    given = {one["name"] for one in pod["containers"][0]["env"] if "secretKeyRef" in one.get("valueFrom", {})}
    assert given <= {f"HEADWAY_{name.upper()}" for name in Settings.model_fields}
    rules = next(one for one in JOBS if one["kind"] == "Role")["rules"]
    assert all(rule["verbs"] == ["get", "list", "watch"] for rule in rules)


def test_a_dry_run_of_the_job_server_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kube", "jobs", "--image", "r/headway:1", "-n", "models", "--dry-run"]) == 0
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == JOBS


def test_a_dry_run_prints_and_touches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kube", "install", "--image", "r/headway:1", "-n", "ops", "--dry-run"]) == 0
    found = list(yaml.safe_load_all(capsys.readouterr().out))
    assert found == install("r/headway:1", "ops")
    command = ["kube", "install", "--image", "r/headway:1", "--events-secret", "events", "--dry-run"]
    assert run(command) == 0
    found = list(yaml.safe_load_all(capsys.readouterr().out))
    assert found == install("r/headway:1", events_secret="events")
