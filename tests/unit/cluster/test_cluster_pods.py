"""What a pod is told: the model server's config, its environment, how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headway.cluster.pods import CONFIG_VARIABLE, REPLICA_VARIABLE, lag_s, pause_s
from headway.server import container
from headway.server.config import ServerConfig, ServerOptions
from tests.unit.cluster.cases import CASES, rendered


def pod(case: str) -> dict[str, Any]:
    deployment = next(one for one in reversed(rendered(case)) if one["kind"] == "Deployment")
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return found


def environment(case: str) -> dict[str, str]:
    """As the container sees it: Kubernetes makes ``$`` of ``$$``."""
    entries = pod(case)["containers"][0]["env"]
    assert len({one["name"] for one in entries}) == len(entries)
    return {one["name"]: one["value"].replace("$$", "$") for one in entries if "value" in one}


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("policy")])
def test_the_model_server_understands_its_config(case: str) -> None:
    config = container.container_config(environment(case), "iris-v1-abc")
    assert (config.model, config.replica_id, config.listen) == ("iris", "iris-v1-abc", "tcp:0.0.0.0:8080")
    assert config.query_log_dir is None
    assert config.drain_delay_s < pod(case)["terminationGracePeriodSeconds"] or config.drain_delay_s == 0


def test_every_field_of_the_document_reaches_the_model_server() -> None:
    config = container.container_config(environment("full"), "host")
    assert config.options == ServerOptions(
        max_batch_size=32,
        max_batch_delay_s=0.002,
        latency_target_s=0.25,
        max_queue=256,
        timeout_s=90.0,
        max_body_bytes=64 * 1024**2,
        workers=2,
    )
    assert (config.entrypoint, config.sample, config.metrics_compat) == ("model:Iris", "sample.json", "seldon")
    assert config.worker_hang_s == 3 * 20 + 5


def test_a_value_means_itself() -> None:
    found = environment("full")
    assert found["PRICE"] == "$(HOME) costs $$5"
    assert found["OMP_NUM_THREADS"] == "1"  # 1.5 cores for two workers


def test_the_variables_are_those_that_the_image_reads() -> None:
    assert (CONFIG_VARIABLE, REPLICA_VARIABLE) == (container.CONFIG_VARIABLE, container.REPLICA_VARIABLE)


@pytest.mark.parametrize("said", ["{", "[]", '{"model": 1}', '{"model": "iris"}', '{"modle": "iris"}'])
def test_a_config_that_is_none_is_refused(said: str) -> None:
    with pytest.raises(Exception, match=r"."):
        container.container_config({CONFIG_VARIABLE: said}, "host")


def test_the_name_of_the_replica_is_the_pods() -> None:
    said = json.dumps({"model": "iris", "version": "v1", "digest": "0" * 64})
    config = container.container_config({CONFIG_VARIABLE: said, REPLICA_VARIABLE: "iris-v1-x"}, "host")
    assert isinstance(config, ServerConfig)
    assert config.replica_id == "iris-v1-x"


@pytest.mark.parametrize("grace_s", [0, 1, 2, 3, 5, 10, 15, 30, 60, 3600])
def test_the_pause_and_the_lag_leave_at_least_half_of_the_grace_period_to_answer(grace_s: int) -> None:
    assert pause_s(grace_s) + lag_s(grace_s) <= grace_s / 2
    assert grace_s < 30 or (pause_s(grace_s), lag_s(grace_s)) == (5, 2)


def test_a_pod_without_a_grace_period_has_no_pause() -> None:
    stopping = pod("stops-at-once")
    assert stopping["terminationGracePeriodSeconds"] == 0
    assert "lifecycle" not in stopping["containers"][0]


def test_a_pod_is_placed_as_the_document_says_and_has_its_resources() -> None:
    full = pod("full")
    assert full["nodeSelector"] == {"topology.kubernetes.io/zone": "eu-1a"}
    assert [toleration["effect"] for toleration in full["tolerations"]] == ["NoSchedule", "NoExecute"]
    assert full["imagePullSecrets"] == [{"name": "registry"}]
    asked = full["containers"][0]["resources"]
    assert asked == {"requests": {"cpu": "1500m", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}
    assert "resources" not in pod("plain")["containers"][0]
