"""What a cluster cannot honour is refused by name, with its place; and a laptop refuses what only clusters have."""

from __future__ import annotations

from typing import Any

import pytest

from headway.cluster.refusals import admitted
from headway.cluster.render import render_documents
from headway.control.commands import wish_of
from headway.domain.errors import InvalidInput, InvalidSpec, InvalidTraffic, Unsupported
from headway.domain.spec import Spec, parse

IMAGE = "registry.example.com/iris@sha256:" + "1" * 64
CPU = {"type": "cpu", "target": "80%"}
REDIS = {"type": "redis", "address": "redis:6379", "listName": "work"}
PROMETHEUS = {"type": "prometheus", "serverAddress": "http://p:9090", "query": "up", "threshold": 1}
RABBITMQ = {"type": "rabbitmq", "host": "amqp://q:5672/", "queueName": "work", "value": 1}
POSTGRESQL = {"type": "postgresql", "connection": "postgresql://u@db/d", "query": "select 1", "targetQueryValue": 1}
CRON = {"type": "cron", "start": "0 8 * * *", "end": "0 9 * * *", "desiredReplicas": 2}


def model(spec: dict[str, Any], name: str = "iris", **kubernetes: Any) -> dict[str, Any]:
    kinds = {"apiVersion": "headway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": name}}
    return {**kinds, "spec": {**spec, "kubernetes": {"image": IMAGE, **kubernetes}}}


def scaled(engine: str, *triggers: dict[str, Any], least: int = 1, cpu: bool = True, **scaling: Any) -> dict[str, Any]:
    policy = {"minReplicas": least, "maxReplicas": 5, "triggers": list(triggers), **scaling}
    return model({"resources": {"cpu": "1", "memory": "1Gi"} if cpu else {}, "scaling": policy}, engine=engine)


FEW = {"min": 2, "max": 2}
GATEWAY = {"gateway": {"name": "public"}}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("metadata.name", model({}, name="2fast"), "begin with a letter"),
    ("spec.sticky.header", model({"sticky": {"header": "x-user"}}, route={"ingress": {}}), "by a header"),
    ("spec.sticky.cookie", model({"sticky": {"cookie": "arm"}}, route=GATEWAY), "Traefik"),
    ("spec.sticky.cookie", model({"sticky": {"cookie": "arm"}}), "Traefik"),
    ("spec.shadow", model({"shadow": {"version": "v1"}}), "copied by the gateway"),
    ("spec.graph", model({"graph": {"name": "a", "type": "MODEL", "path": "a"}}), "inference graphs"),
    ("spec.arm", model({"arm": {"weight": 10}}), "spec.traffic"),
    ("spec.queryLog.payloads", model({"queryLog": {"payloads": {"sample": "1%"}}}), "payloads"),
    ("spec.jobs.workers", model({"jobs": {"maxAttempts": 5}}), "KEDA"),
    ("spec.jobs.workers.scaleDownWindow", model({"jobs": {"workers": FEW | {"scaleDownWindow": "1m"}}}), "fixed"),
    ("spec.jobs.webhooks.secretFromEnv", model({"jobs": {"workers": FEW, "webhooks": {"secretFromEnv": "S"}}}), "key"),
    ("spec.scaling.warmStart", model({"scaling": {"warmStart": True}}), "by themselves"),
    ("spec.scaling.triggers[0].type", scaled("headway", {"type": "python"}), "which the operator does not have"),
    ("spec.scaling.triggers[0].type", scaled("headway", {"type": "jobs", "value": 3}), "does not ask job servers"),
    ("spec.scaling.minReplicas", scaled("headway", {"type": "rps", "target": 3}, least=0), "nobody holds requests"),
    ("spec.kubernetes.triggerSecret", scaled("headway", {**REDIS, "passwordFromEnv": "P"}), "from a Secret: name it"),
    ("spec.scaling.shadow", scaled("hpa", CPU, shadow=True), "carries out"),
    ("spec.scaling.shadow", scaled("keda", CPU, shadow=True), "carries out"),
    ("spec.scaling.minReplicas", scaled("hpa", CPU, PROMETHEUS, least=0), "at least 1"),
    ("spec.scaling.cooldownPeriod", scaled("hpa", CPU, cooldownPeriod="10m"), "going to 0"),
    ("spec.scaling.fallback", scaled("hpa", CPU, PROMETHEUS, fallback={"replicas": 2}), "outside"),
    ("spec.scaling.behavior.scaleUp.tolerance", scaled("hpa", CPU, behavior={"scaleUp": {"tolerance": 0}}), "cluster"),
    ("spec.scaling.triggers[0].window", scaled("hpa", {**CPU, "window": "1m"}), "window of its own"),
    ("spec.scaling.triggers[0].target", scaled("keda", {**CPU, "target": "0.5%"}), "whole percents"),
    ("spec.scaling.triggers[0].type", scaled("hpa", CPU, cpu=False), "resources.cpu"),
    ("spec.scaling.triggers[0].type", scaled("hpa", PROMETHEUS), "keda or headway"),
    ("spec.scaling.triggers[0].type", scaled("hpa", {"type": "rps", "target": 3}), "use the engine headway"),
    ("spec.scaling.triggers[0].type", scaled("keda", {"type": "concurrency", "target": 3}), "use the engine headway"),
    ("spec.scaling.triggers", scaled("keda", {"type": "latency", "threshold": "1s"}), "use the engine headway"),
    ("spec.scaling.triggers[0].type", scaled("keda", {"type": "jobs", "value": 3}), "use the engine headway"),
    ("spec.scaling.triggers[0].type", scaled("keda", {"type": "python"}), "use the engine headway"),
    ("spec.scaling.triggers[0].library", scaled("keda", {**REDIS, "library": "rq"}), "rq:queue:NAME"),
    ("spec.scaling.triggers[0].timeout", scaled("keda", {**REDIS, "timeout": "1s"}), "no time limit"),
    ("spec.scaling.triggers[0].timeout", scaled("keda", {**RABBITMQ, "timeout": "1s"}), "no time limit"),
    ("spec.scaling.triggers[0].timeout", scaled("keda", {**POSTGRESQL, "timeout": "1s"}), "no time limit"),
    ("spec.scaling.triggers[0].pollingInterval", scaled("keda", {**REDIS, "pollingInterval": "1500ms"}), "whole sec"),
    (
        "spec.scaling.triggers[1].pollingInterval",
        scaled("keda", REDIS, {**PROMETHEUS, "pollingInterval": "30s"}),
        "one interval (15s so far)",
    ),
    ("spec.scaling.cooldownPeriod", scaled("keda", REDIS, cooldownPeriod="1500ms"), "whole seconds"),
    ("spec.scaling.triggers[0].start", scaled("keda", {**CRON, "start": "0 8 L * *"}), "no L"),
    (
        "spec.scaling.triggers[0].connection",
        scaled("keda", {**POSTGRESQL, "connection": "postgresql://u@db/d?application_name=x"}),
        "application_name",
    ),
    (
        "spec.kubernetes.triggerSecret",
        scaled("keda", {**PROMETHEUS, "bearerTokenFromEnv": "TOKEN"}),
        "from a Secret",
    ),
    (
        "spec.kubernetes.triggerSecret",
        model({"scaling": {"minReplicas": 2}}, triggerSecret="signals"),
        "leave it out",
    ),
]


@pytest.mark.parametrize(("where", "document", "words"), REFUSED, ids=[f"{n} {r[0]}" for n, r in enumerate(REFUSED)])
def test_what_a_cluster_cannot_honour_is_refused_by_name(where: str, document: dict[str, Any], words: str) -> None:
    with pytest.raises(Unsupported) as refused:
        admitted(document)
    said = {problem["where"]: problem["message"] for problem in refused.value.details["problems"]}
    assert words in said[where]


def test_of_every_field_of_a_document_it_was_thought_what_it_is_on_a_cluster() -> None:
    """A new field fails this: it is rendered, or refused in :mod:`headway.cluster.refusals`."""
    rendered = {"env_vars", "kubernetes", "metrics", "model", "probe_set", "resources", "scaling", "server", "shadow"}
    rendered |= {"jobs", "sticky", "termination_grace_period_seconds", "traffic"}
    refused = {"arm", "graph", "query_log"}
    assert set(Spec.model_fields) == rendered | refused


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(Unsupported) as refused:
        admitted(model({"jobs": {"maxAttempts": 5}, "sticky": {"header": "x-user"}}))
    places = [problem["where"] for problem in refused.value.details["problems"]]
    assert places == ["spec.sticky.header", "spec.jobs.workers"]


@pytest.mark.parametrize(
    "trigger",
    [
        {**CRON, "start": "0 8 * JUL MON"},
        {**POSTGRESQL, "connection": "postgresql://u@db/d?sslmode=disable"},
        {**RABBITMQ, "host": "http://q:15672/", "timeout": "1s"},
        {**PROMETHEUS, "timeout": "1s"},
    ],
)
def test_what_keda_knows_is_not_refused(trigger: dict[str, Any]) -> None:
    assert render_documents([admitted(scaled("keda", trigger))], None)


INVALID: list[tuple[str, dict[str, Any]]] = [
    ("spec.kubernetes.image", {"image": "iris"}),
    ("spec.kubernetes.image", {"image": "registry:5000/iris"}),
    ("spec.kubernetes.image", {"image": "iris:latest"}),
    ("spec.kubernetes.image", {"image": "Iris:1"}),
    ("spec.kubernetes.route", {"route": {}}),
    ("spec.kubernetes.route", {"route": {"gateway": {"name": "a"}, "ingress": {}}}),
    ("spec.kubernetes.route.hosts[0]", {"route": {**GATEWAY, "hosts": ["A.example.com"]}}),
    ("spec.kubernetes.route.headers[0].value", {"route": {**GATEWAY, "headers": [
        {"name": "x", "value": "`) || Host(`x", "version": "v1"}]}}),
    ("spec.kubernetes.tolerations[0]", {"tolerations": [{"value": "x"}]}),
    ("spec.kubernetes.tolerations[0]", {"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]}),
    ("spec.kubernetes.tolerations[0]", {"tolerations": [{"key": "a", "tolerationSeconds": 3}]}),
    ("spec.kubernetes.engine", {"engine": "knative"}),
    ("spec.kubernetes.allowFrom[0]", {"allowFrom": ["a.b"]}),
    ("spec.kubernetes.imagePullSecret", {"imagePullSecret": "x"}),
]  # fmt: skip


@pytest.mark.parametrize(("where", "section"), INVALID)
def test_a_section_that_is_wrong_is_refused_everywhere(where: str, section: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse(model({}, **section))
    assert refused.value.where == where


@pytest.mark.parametrize("image", ["iris:1", "a/b:v2", "registry:5000/a/b:1.0", f"iris@sha256:{'a' * 64}", IMAGE])
def test_an_image_with_a_tag_or_a_digest_is_fine(image: str) -> None:
    assert parse(model({}, image=image)).spec.kubernetes.image == image


def test_an_image_is_needed_on_a_cluster_and_not_on_a_laptop() -> None:
    document = model({})
    del document["spec"]["kubernetes"]
    wish_of(parse(document))
    with pytest.raises(Unsupported, match="a version is an image"):
        admitted(document)


def test_a_laptop_takes_the_section_of_clusters_and_refuses_a_namespace() -> None:
    document = model({}, route=GATEWAY, engine="keda")
    wish_of(parse(document))
    document["metadata"]["namespace"] = "models"
    with pytest.raises(Unsupported, match="namespaces") as refused:
        wish_of(parse(document))
    assert refused.value.where == "metadata.namespace"


def test_a_route_is_asked_only_for_versions_that_run() -> None:
    header = {"name": "x-beta", "value": "1", "version": "v7"}
    with pytest.raises(InvalidTraffic, match="v7 does not run"):
        render_documents([admitted(model({}, route={**GATEWAY, "headers": [header]}))], None)


def test_more_versions_than_an_httproute_holds_are_refused() -> None:
    documents = [admitted(model({"env": [{"name": "N", "value": str(n)}]})) for n in range(16)]
    weights = [{"version": f"v{n + 1}", "weight": 100 if n == 0 else 0} for n in range(17)]
    last = admitted(model({"traffic": weights}, route=GATEWAY))
    with pytest.raises(Unsupported, match="16 rules"):
        render_documents([*documents, last], None)


def test_two_namespaces_for_one_document_are_refused() -> None:
    document = model({})
    document["metadata"]["namespace"] = "models"
    assert render_documents([admitted(document)], "models")[0]["metadata"]["namespace"] == "models"
    with pytest.raises(InvalidInput, match="the command says other"):
        render_documents([admitted(document)], "other")


def policy(trigger: dict[str, Any], **spec: Any) -> dict[str, Any]:
    scaling = {"minReplicas": 5, "maxReplicas": 30, "triggers": [trigger]}
    kinds = {"apiVersion": "headway.dev/v1alpha1", "kind": "ScalingPolicy", "metadata": {"name": "workers"}}
    return {**kinds, "spec": {"targetRef": {"name": "w"}, "scaling": scaling, **spec}}


@pytest.mark.parametrize("type_", [{"type": "rps", "target": 1}, {"type": "python"}, {"type": "jobs", "value": 1}, CPU])
def test_a_policy_for_any_deployment_has_no_trigger_that_needs_a_model(type_: dict[str, Any]) -> None:
    with pytest.raises(Unsupported) as refused:
        admitted(policy(type_))
    assert (refused.value.where or "").startswith("spec.scaling.triggers[0].")


@pytest.mark.parametrize(
    ("where", "document"),
    [
        ("spec.targetRef.kind", policy(REDIS, targetRef={"kind": "StatefulSet", "name": "w"})),
        ("spec.scalling", policy(REDIS, scalling={})),
        ("spec.scaling.maxReplicas", policy(REDIS, scaling={"minReplicas": 5, "maxReplicas": 3, "triggers": [REDIS]})),
    ],
)
def test_a_policy_that_is_wrong_is_refused(where: str, document: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec) as refused:
        admitted(document)
    assert refused.value.where == where
