"""What a SeldonDeployment may say and is refused, by name and place; and what is done in another way, by note."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from headway.domain.errors import InvalidInput, InvalidSpec, Unsupported
from headway.domain.seldon import translate
from tests.unit.seldon.conftest import Given

Change = Callable[[dict[str, Any]], object]

BASE: dict[str, Any] = {
    "apiVersion": "machinelearning.seldon.io/v1",
    "kind": "SeldonDeployment",
    "metadata": {"name": "iris"},
    "spec": {
        "predictors": [
            {
                "name": "default",
                "graph": {"name": "m", "type": "MODEL"},
                "componentSpecs": [{"spec": {"containers": [{"name": "m", "image": "org/iris:1"}]}}],
            }
        ]
    },
}
PREDICTOR = "spec.predictors[0]"
COMPONENT = f"{PREDICTOR}.componentSpecs[0]"
KEDA = f"{COMPONENT}.kedaSpec"
TRIGGER = f"{KEDA}.triggers[0]"
CONTAINER = f"{COMPONENT}.spec.containers[0]"


def changed(*changes: Change) -> dict[str, Any]:
    document = copy.deepcopy(BASE)
    for change in changes:
        change(document)
    return document


def predictor(**fields: Any) -> Change:
    return lambda d: d["spec"]["predictors"][0].update(fields)


def graph(**fields: Any) -> Change:
    return lambda d: d["spec"]["predictors"][0]["graph"].update(fields)


def component(**fields: Any) -> Change:
    return lambda d: d["spec"]["predictors"][0]["componentSpecs"][0].update(fields)


def pod(**fields: Any) -> Change:
    return lambda d: d["spec"]["predictors"][0]["componentSpecs"][0]["spec"].update(fields)


def container(**fields: Any) -> Change:
    return lambda d: d["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0].update(fields)


def spec(**fields: Any) -> Change:
    return lambda d: d["spec"].update(fields)


def second(**fields: Any) -> Change:
    def add(document: dict[str, Any]) -> None:
        other = copy.deepcopy(BASE["spec"]["predictors"][0]) | {"name": "other", **fields}
        document["spec"]["predictors"].append(other)

    return add


def keda(*triggers: dict[str, Any], **fields: Any) -> Change:
    return component(kedaSpec={"minReplicaCount": 1, "maxReplicaCount": 3, "triggers": list(triggers), **fields})


def refused(document: dict[str, Any], folders: Given | None = None) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        translate(document, folders or Given({"m": "iris"}))
    return caught.value


PROMETHEUS = {"type": "prometheus", "metadata": {"serverAddress": "http://p:9090", "query": "up", "threshold": "1"}}

UNSUPPORTED: list[tuple[Change, str]] = [
    (lambda d: d.update(apiVersion="machinelearning.seldon.io/v1alpha1"), "apiVersion"),
    (spec(protocol="tensorflow"), "spec.protocol"),
    (spec(transport="grpc"), "spec.transport"),
    (spec(serverType="kafka"), "spec.serverType"),
    (spec(oauth_key="k"), "spec.oauth_key"),
    (spec(annotations={"seldon.io/ambassador-header": "x"}), "spec.annotations.seldon.io/ambassador-header"),
    (predictor(explainer={"type": "AnchorTabular"}), f"{PREDICTOR}.explainer"),
    (predictor(ssl={"certSecretName": "c"}), f"{PREDICTOR}.ssl"),
    (predictor(svcOrchSpec={"env": [{"name": "X", "value": "1"}]}), f"{PREDICTOR}.svcOrchSpec.env[0].name"),
    (predictor(svcOrchSpec={"replicas": 3}), f"{PREDICTOR}.svcOrchSpec.replicas"),
    (predictor(canary=True), f"{PREDICTOR}.canary"),
    (graph(implementation="TENSORFLOW_SERVER"), f"{PREDICTOR}.graph.implementation"),
    (graph(implementation="TRITON_SERVER", modelUri="m"), f"{PREDICTOR}.graph.implementation"),
    (graph(endpoint={"type": "GRPC"}), f"{PREDICTOR}.graph.endpoint.type"),
    (graph(logger={"mode": "all", "url": "http://x"}), f"{PREDICTOR}.graph.logger.url"),
    (graph(envSecretRefName="s"), f"{PREDICTOR}.graph.envSecretRefName"),
    (graph(modelUri="gs://b/m"), f"{PREDICTOR}.graph.modelUri"),
    (graph(type="SPLITTER"), f"{PREDICTOR}.graph.type"),
    (component(hpaSpec={"maxReplicas": 2, "metrics": [{"type": "Pods", "pods": {}}]}),
     f"{COMPONENT}.hpaSpec.metrics[0].type"),
    (component(pdbSpec={"minAvailable": 1}), f"{COMPONENT}.pdbSpec"),
    (pod(volumes=[{"name": "v"}]), f"{COMPONENT}.spec.volumes"),
    (pod(nodeSelector={"gpu": "yes"}), f"{COMPONENT}.spec.nodeSelector"),
    (pod(containers=[*BASE["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"], {"name": "side"}]),
     f"{COMPONENT}.spec.containers[1].name"),
    (container(command=["python"]), f"{CONTAINER}.command"),
    (container(volumeMounts=[{"name": "v"}]), f"{CONTAINER}.volumeMounts"),
    (container(envFrom=[{"secretRef": {}}]), f"{CONTAINER}.envFrom"),
    (container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {}}}]), f"{CONTAINER}.env[0].valueFrom"),
    (container(env=[{"name": "PYTHONPATH", "value": "x"}]), f"{CONTAINER}.env[0].name"),
    (container(env=[{"name": "PREDICTOR_ID", "value": "x"}]), f"{CONTAINER}.env"),
    (container(resources={"limits": {"nvidia.com/gpu": 1}}), f"{CONTAINER}.resources.limits.nvidia.com/gpu"),
    (container(livenessProbe={"exec": {"command": ["true"]}}), f"{CONTAINER}.livenessProbe.exec"),
    (container(readinessProbe={"httpGet": {"path": "/ready", "port": 8000}}),
     f"{CONTAINER}.readinessProbe.httpGet.path"),
    (keda({"type": "kafka", "metadata": {}}), f"{TRIGGER}.type"),
    (keda({**PROMETHEUS, "authenticationRef": {"name": "x"}}), f"{TRIGGER}.authenticationRef"),
    (keda(PROMETHEUS, idleReplicaCount=0), f"{COMPONENT}.kedaSpec.idleReplicaCount"),
    (keda({"type": "memory", "metadata": {"type": "Utilization", "value": "50"}}), f"{TRIGGER}.metadata"),
    (second(traffic=0, replicas=4), "spec.predictors[1]"),
]  # fmt: skip
WRONG: list[tuple[Change, str]] = [
    (lambda d: d.update(kind="Deployment"), "kind"),
    (lambda d: d["metadata"].update(name="Iris"), "metadata.name"),
    (spec(predictors=[]), "spec.predictors"),
    (predictor(trafic=3), f"{PREDICTOR}.trafic"),
    (predictor(traffic=30), f"{PREDICTOR}.traffic"),
    (predictor(shadow=True), "spec.predictors"),
    (second(traffic=30), "spec.predictors"),
    (second(name="default", traffic=100), "spec.predictors[1].name"),
    (graph(type=None), f"{PREDICTOR}.graph.type"),
    (graph(parameters=[{"name": "k", "value": "x", "type": "INT"}]), f"{PREDICTOR}.graph.parameters[0].value"),
    (graph(children=[{"name": "m", "type": "MODEL"}]), f"{PREDICTOR}.graph.children[0].name"),
    (component(hpaSpec={"metrics": []}), f"{COMPONENT}.hpaSpec.maxReplicas"),
    (component(kedaSpec={"triggers": []}), f"{COMPONENT}.kedaSpec.triggers"),
    (keda({"type": "prometheus", "metadata": {"threshold": "much"}}), f"{TRIGGER}.metadata.threshold"),
    (keda(PROMETHEUS, minReplicaCount=3), PREDICTOR),
    (spec(annotations={"seldon.io/rest-timeout": "soon"}), "spec.annotations.seldon.io/rest-timeout"),
    (spec(annotations={"headway.dev/path": "x", "headway.dev/folder": "y"}), "spec.annotations.headway.dev/folder"),
    (container(resources={"limits": {"memory": "much"}}), f"{CONTAINER}.resources.limits.memory"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "where"), UNSUPPORTED, ids=[where for _, where in UNSUPPORTED])
def test_what_cannot_be_honoured_is_refused_by_name(change: Change, where: str) -> None:
    # Where nodes have no folder, that is told first; here they have.
    document = changed(lambda d: d["spec"]["predictors"][0].update(traffic=100), change)
    error = refused(document)
    assert isinstance(error, Unsupported), error
    assert error.where == where


@pytest.mark.parametrize(("change", "where"), WRONG, ids=[where for _, where in WRONG])
def test_what_no_such_document_says_is_wrong(change: Change, where: str) -> None:
    error = refused(changed(change))
    assert isinstance(error, InvalidSpec), error
    assert error.where == where


def test_an_image_is_asked_for_by_every_name_it_has() -> None:
    error = refused(changed(), Given())
    assert (error.where, error.message) == (f"{CONTAINER}.image", "the image org/iris:1 cannot run here")
    assert error.hint == "give the folder of its code: --model m=DIR, or the annotation headway.dev/path.m: DIR"
    for name in ("m", "org/iris:1", "org/iris", "iris:1", "iris"):
        (document,) = translate(changed(), Given({name: "folder"})).documents
        assert document["spec"]["model"] == {"path": "folder"}


@pytest.mark.parametrize(
    ("key", "changes", "entrypoint"),
    [
        ("headway.dev/path", (), None),
        ("headway.dev/path.m", (), None),
        ("headway.dev/path", (container(env=[{"name": "MODEL_NAME", "value": "Iris"}]),), "Iris:Iris"),
        ("headway.dev/path", (container(env=[{"name": "MODEL_NAME", "value": "a.b.Iris"}]),), "a.b:Iris"),
    ],
)
def test_annotations_name_folders(key: str, changes: tuple[Change, ...], entrypoint: str | None) -> None:
    document = changed(lambda d: d["metadata"].update(annotations={key: "./here"}), *changes)
    (found,) = translate(document, Given()).documents
    assert found["spec"]["model"] == {"path": "./here"} | ({"entrypoint": entrypoint} if entrypoint else {})


def test_the_folder_may_know_its_entry_point() -> None:
    (found,) = translate(changed(), Given({"m": "iris"}, iris="Iris:Iris")).documents
    assert found["spec"]["model"] == {"path": "iris", "entrypoint": "Iris:Iris"}


def test_files_of_prepackaged_servers() -> None:
    lone = changed(predictor(componentSpecs=None), graph(implementation="MLFLOW_SERVER", modelUri="file:///models/m"))
    (found,) = translate(lone, Given()).documents
    assert found["spec"]["graph"]["path"] == "/models/m"
    remote = changed(predictor(componentSpecs=None), graph(implementation="SKLEARN_SERVER", modelUri="s3://b/m"))
    error = refused(remote, Given())
    assert error.where == f"{PREDICTOR}.graph.modelUri"
    assert error.hint is not None
    assert "aws s3 cp --recursive" in error.hint
    (found,) = translate(remote, Given({"m": "fetched"})).documents
    assert found["spec"]["graph"]["path"] == "fetched"


def triggers(*found: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    asked = container(resources={"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}})
    (document,) = translate(changed(asked, keda(*found, **fields)), Given({"m": "iris"})).documents
    result: list[dict[str, Any]] = document["spec"]["scaling"]["triggers"]
    return result


def test_kinds_of_keda_triggers() -> None:
    found = triggers(
        {"type": "rabbitmq", "metadata": {"hostFromEnv": "H", "queueName": "q", "mode": "QueueLength", "value": "20"}},
        {"type": "redis", "metadata": {"host": "r", "port": "6380", "listName": "l", "listLength": "7"}},
        {"type": "postgresql",
         "metadata": {"host": "db", "userName": "u", "dbName": "d", "query": "q", "targetQueryValue": "5"}},
        {"type": "cron",
         "metadata": {"timezone": "Europe/Vienna", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": "2"}},
        {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}},
        {"type": "memory", "metricType": "AverageValue", "metadata": {"value": "512Mi"}},
        {"type": "memory", "name": "Also RAM", "metadata": {"type": "Utilization", "value": "80"}},
        pollingInterval=10,
    )  # fmt: skip
    polled = {"pollingInterval": "10s"}
    assert found == [
        {"type": "rabbitmq", "hostFromEnv": "H", "queueName": "q", "mode": "QueueLength", "value": 20.0, **polled},
        {"type": "redis", "address": "r:6380", "listName": "l", "listLength": 7.0, **polled},
        {
            "type": "postgresql",
            "connection": "postgresql://u@db:5432/d",
            "query": "q",
            "targetQueryValue": 5.0,
            **polled,
        },
        {"type": "cron", "timezone": "Europe/Vienna", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": 2},
        {"type": "cpu", "target": "60%"},
        {"type": "memory", "target": "25%"},
        {"type": "memory", "target": "40%", "name": "also-ram"},
    ]


def test_two_triggers_of_a_type_get_names_and_keda_has_its_own_defaults() -> None:
    both = [PROMETHEUS, {**PROMETHEUS, "metadata": {**PROMETHEUS["metadata"], "ignoreNullValues": "true"}}]  # type: ignore[dict-item]
    (document,) = translate(changed(component(kedaSpec={"triggers": both})), Given({"m": "iris"})).documents
    scaling = document["spec"]["scaling"]
    assert [trigger.get("name") for trigger in scaling["triggers"]] == [None, "prometheus-2"]
    assert [trigger.get("ignoreNullValues") for trigger in scaling["triggers"]] == [None, True]
    assert {trigger["pollingInterval"] for trigger in scaling["triggers"]} == {"30s"}
    assert (scaling["minReplicas"], scaling["maxReplicas"], scaling["cooldownPeriod"]) == (0, 100, "300s")


def test_old_metrics_of_an_hpa() -> None:
    metrics = [{"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 55}}]
    document = changed(component(hpaSpec={"maxReplicas": 4, "metrics": metrics}))
    (found,) = translate(document, Given({"m": "iris"})).documents
    assert found["spec"]["scaling"]["triggers"] == [{"type": "cpu", "target": "55%"}]


def test_what_containers_of_one_process_have_to_agree_on() -> None:
    children = {"name": "n", "type": "MODEL", "children": []}
    nodes = graph(type="TRANSFORMER", children=[children])
    other = {"name": "n", "image": "o:1", "env": [{"name": "A", "value": "2"}]}
    document = changed(
        nodes,
        container(env=[{"name": "A", "value": "1"}]),
        lambda d: d["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"].append(other),
    )
    error = refused(document, Given({"m": "m", "n": "n"}))
    assert error.where == f"{COMPONENT}.spec.containers[1].env"
    assert "one process" in error.message


def test_replicas_and_patience() -> None:
    (found,) = translate(changed(predictor(replicas=3, progressDeadlineSeconds=600)), Given({"m": "iris"})).documents
    assert found["spec"]["scaling"] == {"minReplicas": 3}
    assert found["spec"]["probes"] == {"startup": {"failureThreshold": 600}}
    (found,) = translate(changed(spec(replicas=2)), Given({"m": "iris"})).documents
    assert found["spec"]["scaling"] == {"minReplicas": 2}
