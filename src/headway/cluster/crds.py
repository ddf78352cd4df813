"""The custom resources: ``ModelDeployment`` and ``ScalingPolicy``, their schema from the documents' own definition."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from headway.cluster.names import GROUP, MANAGED_BY, MANAGER, Object
from headway.cluster.structural import Schema, rule, structural, with_rules
from headway.domain.cluster_status import ModelStatus, PolicyStatus
from headway.domain.scaling_policy import ScalingPolicy
from headway.domain.spec import API_VERSION, ModelDeployment

VERSION: Final = API_VERSION.rpartition("/")[2]
MODEL_PLURAL: Final = "modeldeployments"
POLICY_PLURAL: Final = "scalingpolicies"
MODEL_PATTERN: Final = "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"


def crds() -> list[Object]:
    """Both CustomResourceDefinitions."""
    return [_model_crd(), _policy_crd()]


def _model_crd() -> Object:
    schema = _whole(ModelDeployment, ModelStatus, {"type": "string", "maxLength": 40, "pattern": MODEL_PATTERN})
    spec = schema["properties"]["spec"]
    fields = spec["properties"]
    # What a laptop finds in the folder, a cluster has to be told.
    spec["required"] = ["kubernetes"]
    schema["required"] = ["spec"]
    kubernetes = fields["kubernetes"]
    kubernetes["required"] = ["image"]
    image = kubernetes["properties"]["image"]
    image.pop("nullable")
    moving = "self.contains('@sha256:') || !self.endsWith(':latest')"
    kubernetes["properties"]["image"] = with_rules(image, rule(moving, "latest moves: name a digest or a tag"))
    kubernetes["properties"]["route"] = with_rules(
        kubernetes["properties"]["route"],
        rule("has(self.gateway) != has(self.ingress)", "name either a gateway or an ingress"),
    )
    fields["scaling"] = _bounded(fields["scaling"])
    fields["sticky"] = with_rules(
        fields["sticky"], rule("has(self.header) != has(self.cookie)", "name either a header or a cookie")
    )
    fields["env"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    fields["traffic"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["version"]}
    whole = "size(self) == 0 || self.map(arm, arm.weight).sum() == 100"
    fields["traffic"] = with_rules(fields["traffic"], rule(whole, "the weights sum to 100"))
    scale = {
        "specReplicasPath": ".spec.scaling.minReplicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    columns = [
        _column("Ready", "string", _condition("Ready")),
        _column("Replicas", "integer", ".status.replicas"),
        _column("Up", "integer", ".status.readyReplicas", "Replicas that are ready."),
        _column("Traffic", "string", ".status.traffic"),
        _column("Reason", "string", _condition("Ready", "reason")),
        _column("Image", "string", ".spec.kubernetes.image", priority=1),
        _column("Message", "string", _condition("Ready", "message"), priority=1),
        _column("Age", "date", ".metadata.creationTimestamp"),
    ]
    return _crd("ModelDeployment", MODEL_PLURAL, ["md"], schema, columns, scale)


def _policy_crd() -> Object:
    schema = _whole(ScalingPolicy, PolicyStatus, None)
    schema["required"] = ["spec"]
    fields = schema["properties"]["spec"]["properties"]
    fields["scaling"] = _bounded(fields["scaling"])
    columns = [
        _column("Target", "string", ".spec.targetRef.name"),
        _column("Engine", "string", ".spec.engine"),
        _column("Min", "integer", ".spec.scaling.minReplicas"),
        _column("Max", "integer", ".spec.scaling.maxReplicas"),
        _column("Replicas", "integer", ".status.replicas"),
        _column("Ready", "string", _condition("Ready")),
        _column("Age", "date", ".metadata.creationTimestamp"),
    ]
    return _crd("ScalingPolicy", POLICY_PLURAL, [], schema, columns, None)


def _bounded(scaling: Schema) -> Schema:
    least = "has(self.minReplicas) ? self.minReplicas : 1"
    return with_rules(
        scaling,
        rule(f"!has(self.maxReplicas) || self.maxReplicas >= ({least})", "maxReplicas is not below minReplicas"),
        rule("!has(self.triggers) || size(self.triggers) == 0 || has(self.maxReplicas)", "triggers need maxReplicas"),
    )


def _whole(document: type[BaseModel], status: type[BaseModel], name: Schema | None) -> Schema:
    schema = structural(document.model_json_schema(by_alias=True))
    fields = schema["properties"]
    fields["apiVersion"] = {"type": "string"}
    fields["kind"] = {"type": "string"}
    # The API server checks metadata itself; a schema may only restrict the name.
    fields["metadata"] = {"type": "object"} if name is None else {"type": "object", "properties": {"name": name}}
    found = structural(status.model_json_schema(by_alias=True))
    conditions = found["properties"]["conditions"]
    conditions |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    fields["status"] = found
    return schema


def _crd(
    kind: str, plural: str, short: list[str], schema: Schema, columns: list[Schema], scale: Schema | None
) -> Object:
    names: dict[str, Any] = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
        "categories": ["headway"],
    }
    if short:
        names["shortNames"] = short
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, **({"scale": scale} if scale is not None else {})},
        "additionalPrinterColumns": columns,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}", "labels": {MANAGED_BY: MANAGER}},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def _column(name: str, kind: str, path: str, description: str = "", *, priority: int = 0) -> Schema:
    found: Schema = {"name": name, "type": kind, "jsonPath": path}
    if description:
        found["description"] = description
    return {**found, "priority": priority} if priority else found


def _condition(type_: str, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{field}'
