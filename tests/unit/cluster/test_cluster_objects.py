"""Every object that a table of documents comes to: reviewed, valid, restricted, whole."""

from __future__ import annotations

import random
from typing import Any

import pytest
import yaml

from headway.cluster.job_server import JOB_SERVER
from headway.domain.cluster_drift import APPLIED, says, stamped
from tests.unit.cluster import pod_security, schemas
from tests.unit.cluster.cases import CASES, every_object, expected, golden, rendered

OBJECTS = every_object()
NAMES = [name for name, _ in OBJECTS]
each_object = pytest.mark.parametrize("one", [one for _, one in OBJECTS], ids=NAMES)


@pytest.mark.parametrize("case", CASES)
def test_what_is_rendered_is_what_was_reviewed(case: str) -> None:
    from headway.cli.kube_objects import yaml_stream

    assert yaml_stream(rendered(case)) == expected(case), f"HEADWAY_UPDATE_GOLDEN=1 rewrites {golden(case).name}"


@pytest.mark.parametrize("case", CASES)
def test_what_is_printed_reads_as_what_was_meant(case: str) -> None:
    assert [one for one in yaml.safe_load_all(expected(case)) if one] == rendered(case)


def test_there_is_no_reviewed_file_without_a_case() -> None:
    assert {path.stem for path in golden("x").parent.glob("*.yaml")} == set(CASES)


@each_object
def test_an_object_fits_the_schema_of_its_kind(one: dict[str, Any]) -> None:
    if schemas.is_foreign(one) and schemas.crd_folder() is None:
        pytest.skip(f"no definition of {one['kind']} here: HEADWAY_TEST_CRDS names a folder with CRDs")
    schemas.check(one)


def test_a_wrong_object_does_not_fit() -> None:
    deployment = next(one for _, one in OBJECTS if one["kind"] == "Deployment")
    with pytest.raises(Exception, match="replica"):
        schemas.check({**deployment, "spec": {**deployment["spec"], "replica": 3}})


@each_object
def test_a_pod_meets_the_restricted_standard(one: dict[str, Any]) -> None:
    template = one.get("spec", {}).get("template") if one["kind"] in pod_security.WORKLOADS else None
    if template is not None:
        assert pod_security.breaches(template["spec"]) == []


@each_object
def test_an_object_says_whose_it_is(one: dict[str, Any]) -> None:
    metadata = one["metadata"]
    assert metadata["labels"]["app.kubernetes.io/managed-by"] == "headway"
    assert len(metadata["name"]) <= (63 if one["kind"] == "Service" else 253)
    assert all(len(value) <= 63 for value in metadata["labels"].values())
    assert stamped(one) == one
    assert metadata["annotations"][APPLIED]
    assert says(one, one)


@pytest.mark.parametrize("case", CASES)
def test_objects_of_one_kind_have_different_names(case: str) -> None:
    keys = [(one["kind"], one["metadata"]["name"]) for one in rendered(case)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("case", CASES)
def test_what_is_referred_to_is_rendered_too(case: str) -> None:
    there = {(one["kind"], one["metadata"]["name"]) for one in rendered(case)}
    there.add(("Service", JOB_SERVER))  # headway kube jobs
    missing = [reference for one in rendered(case) for reference in references(one) if reference not in there]
    assert missing == []


def references(one: dict[str, Any]) -> list[tuple[str, str]]:
    """Kind and name of what an object of ours names, of what is ours."""
    spec, kind = one.get("spec", {}), one["kind"]
    found: list[tuple[str, str]] = []
    if kind == "Deployment" and spec.get("replicas") != 0:
        found.append(("ServiceAccount", spec["template"]["spec"]["serviceAccountName"]))
    if kind == "HTTPRoute":
        for rule in spec["rules"]:
            found += [("Service", backend["name"]) for backend in rule["backendRefs"]]
            mirrors = [f["requestMirror"] for f in rule["filters"] if f["type"] == "RequestMirror"]
            found += [("Service", mirror["backendRef"]["name"]) for mirror in mirrors]
    if kind == "TraefikService":
        named = [*spec.get("weighted", {}).get("services", []), *spec.get("mirroring", {}).get("mirrors", [])]
        named += [spec["mirroring"]] if "mirroring" in spec else []
        found += [(target["kind"], target["name"]) for target in named]
    if kind == "IngressRoute":
        for rule in spec["routes"]:
            found += [(target["kind"], target["name"]) for target in rule["services"]]
            found += [("Middleware", used["name"]) for used in rule["middlewares"]]
    if kind == "Ingress":
        used = one["metadata"]["annotations"]["traefik.ingress.kubernetes.io/router.middlewares"].split(",")
        prefix = f"{one['metadata']['namespace']}-"
        found += [("Middleware", name.removeprefix(prefix).removesuffix("@kubernetescrd")) for name in used]
    if kind == "ScaledObject":
        found += [
            ("TriggerAuthentication", t["authenticationRef"]["name"])
            for t in spec["triggers"]
            if "authenticationRef" in t
        ]
    return found


def test_equal_documents_give_equal_objects_in_whatever_order_their_fields_stand() -> None:
    from headway.cluster.refusals import admitted
    from headway.cluster.render import render_documents

    def shuffled(value: Any, dice: random.Random) -> Any:
        if isinstance(value, dict):
            keys = list(value)
            dice.shuffle(keys)
            return {key: shuffled(value[key], dice) for key in keys}
        return [shuffled(one, dice) for one in value] if isinstance(value, list) else value

    data = yaml.safe_load((golden("full").parent / "full" / "1.yaml").read_text())
    first = render_documents([admitted(data)], None)
    for seed in range(5):
        assert render_documents([admitted(shuffled(data, random.Random(seed)))], None) == first
