"""What is stored comes back as it was, whatever it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.adapters.sql.documents import deployment_document, deployment_from, to_json, version_document
from headway.domain.deployments import Deployment, Version
from headway.domain.lifecycle import DeploymentState, VersionState
from headway.domain.replicas import Failure
from headway.domain.routing_table import Arm, Shadow, Sticky

text = st.text(st.characters(), max_size=20)  # lone surrogates and NUL among them
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(text, json_values, max_size=4)
arms = st.lists(st.builds(Arm, text, st.integers(0, 100)), max_size=3).map(tuple)
failures = st.builds(Failure, text, text, st.none() | text, st.none() | text, text)
versions = st.builds(
    Version,
    name=text,
    digest=text,
    bundle_digest=text,
    created_at=numbers,
    spec=json_objects,
    state=st.sampled_from(VersionState),
    state_since=numbers,
    failure=st.none() | failures,
    python=st.none() | text,
    lock_digest=st.none() | text,
)
deployments = st.builds(
    Deployment,
    name=text,
    created_at=numbers,
    state=st.sampled_from(DeploymentState),
    message=text,
    replicas=st.integers(0, 2**40),
    versions=st.lists(versions, max_size=3).map(tuple),
    target=arms,
    live=arms,
    previous=arms,
    sticky=st.none() | st.builds(Sticky, text, text),
    shadow=st.none() | st.builds(Shadow, text, st.integers(0, 100)),
    generation=st.integers(0, 2**60),
    resource_version=st.integers(0, 2**60),
    extra=json_objects,
)


def through_json(value: Any) -> Any:
    return json.loads(to_json(value))


@given(deployments)
def test_a_deployment_survives_its_documents(deployment: Deployment) -> None:
    row: Any = {
        "name": deployment.name,
        "resource_version": deployment.resource_version,
        "state": str(deployment.state),
        "document": through_json(deployment_document(deployment)),
    }
    version_rows: Any = [
        {"name": v.name, "state": str(v.state), "document": through_json(version_document(v))}
        for v in deployment.versions
    ]
    again = deployment_from(row, version_rows)
    assert again == deployment
    assert repr(again) == repr(deployment)  # equality alone would take 1 for 1.0 and True


@pytest.mark.parametrize("missing", ["extra", "generation", "sticky", "live", "message"])
def test_a_field_that_an_older_headway_did_not_write_takes_its_default(missing: str) -> None:
    deployment = Deployment("iris", 1.0)
    document = deployment_document(deployment)
    del document[missing]
    row: Any = {"name": "iris", "resource_version": 0, "state": "deploying", "document": document}
    assert deployment_from(row, []) == deployment
