"""``spec.kubernetes``: what a deployment needs to say of the cluster that it runs on, and of no other place.

The section speaks of Kubernetes alone: it is checked everywhere and makes no new version, and a laptop has nothing to
do for it. Field names and syntax are those of the objects that the fields end up in.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from headway.domain.spec_part import Part
from headway.domain.spec_values import HeaderName, VersionName, syntax

_DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_DNS_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_HOST = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
_LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
_HEADER_TEXT = r"^[A-Za-z0-9._~:/+=-]+$"
_IMAGE = re.compile(
    r"(?P<name>(?:[a-z0-9]+(?:[.-]+[a-z0-9]+)*(?::[0-9]{1,5})?/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@sha256:(?P<digest>[0-9a-f]{64}))?"
)


def _image(text: str) -> str:
    found = _IMAGE.fullmatch(text)
    if found is None:
        raise ValueError("must be an image, for example registry.example.com/iris@sha256:...")
    if found["digest"] is None and found["tag"] in (None, "latest"):
        raise ValueError("a version never changes, and what latest means does; name a digest (@sha256:...) or a tag")
    return text


Image = Annotated[str, Field(max_length=512), AfterValidator(_image)]
ObjectName = Annotated[
    str,
    Field(max_length=253, json_schema_extra={"pattern": _DNS_NAME}),
    syntax(_DNS_NAME, "must be the name of an object: lowercase letters, digits, dashes and dots"),
]
Namespace = Annotated[
    str,
    Field(max_length=63, json_schema_extra={"pattern": _DNS_LABEL}),
    syntax(_DNS_LABEL, "must be the name of a namespace: 1 to 63 lowercase letters, digits and dashes"),
]
HostName = Annotated[
    str,
    Field(max_length=253, json_schema_extra={"pattern": _HOST}),
    syntax(_HOST, "must be a host name, such as models.example.com or *.example.com"),
]
LabelKey = Annotated[
    str, Field(max_length=317), syntax(_LABEL_KEY, "must be the key of a label, such as topology.kubernetes.io/zone")
]
LabelValue = Annotated[
    str,
    Field(max_length=63, json_schema_extra={"pattern": _LABEL_VALUE}),
    syntax(_LABEL_VALUE, "must be the value of a label: at most 63 letters, digits, dashes, dots and underscores"),
]
HeaderText = Annotated[
    str,
    Field(max_length=256, json_schema_extra={"pattern": _HEADER_TEXT}),
    syntax(_HEADER_TEXT, "must be letters, digits and . _ ~ : / + = -"),
]
Engine = Literal["headway", "hpa", "keda"]


class GatewayRef(Part):
    """The Gateway (Gateway API) that routes are attached to."""

    name: ObjectName
    namespace: Namespace | None = Field(default=None, description="Left out, the model's own.")
    section_name: ObjectName | None = Field(default=None, description="Its listener; left out, all of them.")


class TraefikIngress(Part):
    """Traefik: an Ingress for the versions' paths, Traefik's own resources for the split."""

    class_name: ObjectName = Field(default="traefik", description="Class of the Ingress.")
    entry_points: list[ObjectName] = Field(default=[], max_length=20, description="Left out, Traefik's defaults.")
    tls_secret: ObjectName | None = Field(default=None, description="Secret with the certificate; left out, no TLS.")


class HeaderMatch(Part):
    """Requests with this header go to this version, whatever the split."""

    name: HeaderName
    value: HeaderText
    version: VersionName


class Route(Part):
    gateway: GatewayRef | None = None
    ingress: TraefikIngress | None = None
    hosts: list[HostName] = Field(default=[], max_length=16, description="Left out, every host.")
    headers: list[HeaderMatch] = Field(default=[], max_length=8, description="The first that matches counts.")

    @model_validator(mode="after")
    def _one(self) -> Route:
        if (self.gateway is None) == (self.ingress is None):
            raise ValueError("name either a gateway or an ingress")
        return self


class Toleration(Part):
    key: LabelKey | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(default=None, ge=0, le=86_400)

    @model_validator(mode="after")
    def _sane(self) -> Toleration:
        if self.key is None and self.operator != "Exists":
            raise ValueError("without a key the operator must be Exists")
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("with the operator Exists there is no value")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds needs the effect NoExecute")
        return self


class Kubernetes(Part):
    """What holds on a cluster alone."""

    image: Image | None = Field(default=None, description="Image of the version that this document describes.")
    image_pull_secrets: list[ObjectName] = Field(default=[], max_length=20)
    route: Route | None = Field(default=None, description="Left out, versions have a Service each and no route.")
    engine: Engine = Field(default="headway", description="Who moves the number of replicas where triggers do.")
    trigger_secret: ObjectName | None = Field(
        default=None,
        description="Secret whose keys are what triggers name in ...FromEnv; not for the engine hpa.",
    )
    node_selector: dict[LabelKey, LabelValue] = Field(default={}, max_length=20)
    tolerations: list[Toleration] = Field(default=[], max_length=20)
    allow_from: list[Namespace] = Field(
        default=[], max_length=50, description="Namespaces that may call the replicas; left out, all."
    )
