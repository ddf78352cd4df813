"""The ModelDeployment document: what it means, and what makes a new version."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headway.domain.errors import InvalidName, InvalidSpec
from headway.domain.job_spec import Jobs
from headway.domain.jobs import RetryPolicy
from headway.domain.replicas import Probe
from headway.domain.routing_table import Arm
from headway.domain.spec import (
    ModelDeployment,
    VersionSpec,
    arms,
    default_document,
    json_schema,
    parse,
    version_digest,
)
from headway.server.config import ServerOptions, options_from

HEAD: dict[str, Any] = {
    "apiVersion": "headway.dev/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "iris"},
}


def document(spec: object) -> dict[str, Any]:
    return {**HEAD, "spec": spec}


def level(spec: object) -> dict[str, Any]:
    return parse(document(spec)).version_level()


# -- what it means -----------------------------------------------------------------------------


def test_a_document_without_a_spec_is_the_default_one() -> None:
    assert parse(HEAD) == default_document("iris")


def test_the_default_document_needs_a_name_that_can_be_one() -> None:
    with pytest.raises((InvalidName, InvalidSpec)):
        default_document("My Model")


def test_defaults_are_filled_into_the_version_level() -> None:
    probe = {"initialDelaySeconds": 0, "successThreshold": 1}
    assert level({}) == {
        "model": {"entrypoint": None, "sample": None},
        "env": [],
        "resources": {"cpu": None, "memory": None},
        "server": {
            "maxBatchSize": 64,
            "maxBatchDelay": "0s",
            "latencyTarget": None,
            "maxQueue": 256,
            "timeout": "30s",
            "maxBodySize": "32Mi",
            "workers": 1,
        },
        "queryLog": {"payloads": None},
        "metrics": {"compat": None},
        "probes": {
            "startup": {
                **probe,
                "path": "/health/ready",
                "periodSeconds": 1,
                "timeoutSeconds": 1,
                "failureThreshold": 120,
            },
            "readiness": {
                **probe,
                "path": "/health/ready",
                "periodSeconds": 5,
                "timeoutSeconds": 2,
                "failureThreshold": 3,
            },
            "liveness": {
                **probe,
                "path": "/health/live",
                "periodSeconds": 10,
                "timeoutSeconds": 5,
                "failureThreshold": 3,
            },
        },
        "terminationGracePeriodSeconds": 30,
    }


def test_the_default_server_section_is_the_model_servers_own_default() -> None:
    """Two places state these defaults; a replica of a folder without a document must not differ from a bare server."""
    assert options_from(VersionSpec.model_validate(level({})).server_options()) == ServerOptions()


def test_the_version_level_is_read_back_in_the_units_of_the_runtime() -> None:
    spec = VersionSpec.model_validate(
        level(
            {
                "model": {"entrypoint": "pkg.model:Iris", "sample": "data/sample.json"},
                "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}],
                "resources": {"cpu": 1.5, "memory": "1.5Gi"},
                "server": {
                    "maxBatchSize": 8,
                    "maxBatchDelay": "2.5ms",
                    "latencyTarget": "20ms",
                    "maxQueue": 9,
                    "timeout": "1m30s",
                    "maxBodySize": "1M",
                    "workers": 3,
                },
                "probes": {"readiness": {"path": "/health/status", "initialDelaySeconds": 7}},
                "queryLog": {"payloads": {"sample": "2.50%", "redact": ["b", "a"]}},
                "terminationGracePeriodSeconds": 5,
            }
        )
    )
    assert spec.payload_options() == {"sample": 0.025, "max_bytes": 16384, "redact": ["a", "b"]}
    assert spec.model.entrypoint == "pkg.model:Iris"
    assert spec.model.sample == "data/sample.json"
    assert spec.env() == {"A": "1", "B": "2"}
    assert spec.cpu_millicores() == 1500
    assert spec.memory_bytes() == 1536 * 1024 * 1024
    assert spec.server_options() == {
        "max_batch_size": 8,
        "max_batch_delay_s": 0.0025,
        "latency_target_s": 0.02,
        "max_queue": 9,
        "timeout_s": 90.0,
        "max_body_bytes": 1_000_000,
        "workers": 3,
    }
    assert (spec.timeout_s, spec.max_queue, spec.termination_grace_s) == (90.0, 9, 5.0)
    # A probe that is given in part keeps the other defaults of its own kind.
    assert spec.probes().readiness == Probe(
        path="/health/status",
        period_s=5.0,
        timeout_s=2.0,
        initial_delay_s=7.0,
        failure_threshold=3,
        success_threshold=1,
    )
    assert spec.probes().startup.failure_threshold == 120
    assert spec.probes().liveness.path == "/health/live"


def test_no_resources_mean_no_limits() -> None:
    spec = VersionSpec.model_validate(level({}))
    assert spec.cpu_millicores() is None
    assert spec.memory_bytes() is None


@pytest.mark.parametrize(
    "spec",
    [
        {"scaling": {"minReplicas": 5, "maxReplicas": 5}},
        {"traffic": [{"version": "v1", "weight": 100}]},
        {"sticky": {"header": "x-user"}},
        {"shadow": {"version": "v2", "percent": 5}},
        {"jobs": {"maxAttempts": 7}},
        {"model": {"path": "elsewhere"}},
    ],
    ids=lambda spec: next(iter(spec)),
)
def test_what_is_of_the_deployment_makes_no_new_version(spec: dict[str, Any]) -> None:
    assert level(spec) == level({})


@pytest.mark.parametrize(
    "spec",
    [
        {"model": {"entrypoint": "model:Other"}},
        {"model": {"sample": "other.json"}},
        {"env": [{"name": "A", "value": "1"}]},
        {"resources": {"memory": "64Mi"}},
        {"server": {"maxQueue": 255}},
        {"server": {"workers": 2}},
        {"metrics": {"compat": "seldon"}},
        {"probes": {"liveness": {"periodSeconds": 11}}},
        {"terminationGracePeriodSeconds": 31},
    ],
    ids=lambda spec: next(iter(spec)),
)
def test_what_touches_a_replica_makes_a_new_version(spec: dict[str, Any]) -> None:
    assert version_digest("0" * 64, level(spec)) != version_digest("0" * 64, level({}))


def test_other_files_make_a_new_version() -> None:
    assert version_digest("0" * 64, level({})) != version_digest("1" * 64, level({}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"resources": {"cpu": "0.5"}}, {"resources": {"cpu": "500m"}}),
        ({"resources": {"cpu": 2}}, {"resources": {"cpu": "2000m"}}),
        ({"resources": {"memory": "1Gi"}}, {"resources": {"memory": "1024Mi"}}),
        ({"resources": {"memory": 536870912}}, {"resources": {"memory": "512Mi"}}),
        ({"server": {"timeout": "90s"}}, {"server": {"timeout": "1m30s"}}),
        ({"server": {"maxBatchDelay": "0.002s"}}, {"server": {"maxBatchDelay": "2ms"}}),
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
        ),
        ({"server": {"timeout": "30s"}}, {}),
    ],
)
def test_the_same_meaning_is_the_same_version(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert version_digest("0" * 64, level(one)) == version_digest("0" * 64, level(other))


def test_the_split_of_a_document() -> None:
    split = [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10}]
    assert arms(parse(document({"traffic": split}))) == (Arm("v1", 90), Arm("v2", 10))
    assert arms(parse(HEAD)) is None


def test_the_terms_of_jobs_are_read_in_the_units_they_are_used_in() -> None:
    jobs = parse(
        document(
            {
                "jobs": {
                    "maxAttempts": 5,
                    "retryOn": ["TimeoutError"],
                    "backoff": {"initial": "500ms", "factor": 3, "max": "1m", "jitter": 0},
                    "timeout": "1m30s",
                    "resultTtl": "48h",
                    "maxResultSize": "1Mi",
                    "gracePeriod": "90s",
                    "workers": {"max": 2},
                }
            }
        )
    ).spec.jobs
    assert jobs.retry() == RetryPolicy(5, 0.5, 3.0, 60.0, 0.0, ("TimeoutError",))
    assert (jobs.timeout_s, jobs.result_ttl_s, jobs.max_result_bytes, jobs.grace_s) == (90.0, 172_800.0, 1 << 20, 90.0)
    assert Jobs().retry() == RetryPolicy(), "two places state these defaults"
    assert (Jobs().timeout_s, Jobs().result_ttl_s) == (3600.0, 86_400.0)


def test_the_terms_of_jobs_are_stored_and_read_back_as_they_are() -> None:
    jobs = parse(document({"jobs": {"version": "production", "workers": {"min": 1}}})).spec.jobs
    stored = jobs.document()
    assert stored is not None
    assert Jobs.model_validate(json.loads(json.dumps(stored))) == jobs
    assert Jobs().document() is None


# -- the schema --------------------------------------------------------------------------------


def test_the_schema_names_every_field_as_it_is_written() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["properties"]) == {"apiVersion", "kind", "metadata", "spec"}
    for part in (schema, *schema["$defs"].values()):
        assert part["additionalProperties"] is False
        assert not [name for name in part["properties"] if "_" in name]


def test_a_quantity_may_be_a_number_in_the_schema_too() -> None:
    memory = json_schema()["$defs"]["Resources"]["properties"]["memory"]
    assert {"string", "number"} <= {kind for part in _flat(memory) if (kind := part.get("type"))}


def _flat(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [schema, *(inner for part in schema.get("anyOf", []) for inner in _flat(part))]


def test_documents_are_values() -> None:
    assert isinstance(parse(HEAD), ModelDeployment)
    with pytest.raises(ValueError, match="frozen"):
        parse(HEAD).metadata.name = "other"
