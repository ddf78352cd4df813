"""The document ``ScalingPolicy``: Headway's triggers for a Deployment that Headway does not own. On Kubernetes only."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError

from headway.domain.errors import Unsupported
from headway.domain.kubernetes_spec import Engine, Namespace, ObjectName
from headway.domain.scaling_rules import check_scaling
from headway.domain.scaling_spec import Scaling
from headway.domain.spec import API_VERSION, ModelDeployment, parse
from headway.domain.spec_part import Part
from headway.domain.spec_problems import refusal

POLICY_KIND = "ScalingPolicy"
OF_MODELS = ("concurrency", "rps", "latency", "python")
"""Triggers that ask a model server."""


class PolicyMetadata(Part):
    name: ObjectName
    namespace: Namespace | None = None


class TargetRef(Part):
    api_version: Literal["apps/v1"] = "apps/v1"
    kind: Literal["Deployment"] = "Deployment"
    name: ObjectName = Field(description="A Deployment of the policy's namespace.")


class PolicySpec(Part):
    target_ref: TargetRef
    engine: Engine = Field(default="headway", description="Who moves the number of replicas.")
    trigger_secret: ObjectName | None = Field(
        default=None,
        description="Secret whose keys are what triggers name in ...FromEnv; not for the engine hpa.",
    )
    scaling: Scaling


class ScalingPolicy(Part):
    """How many replicas a Deployment has, and by which signals that number moves."""

    api_version: Literal["headway.dev/v1alpha1"] = "headway.dev/v1alpha1"
    kind: Literal["ScalingPolicy"] = "ScalingPolicy"
    metadata: PolicyMetadata
    spec: PolicySpec


def parse_policy(data: object) -> ScalingPolicy:
    """A policy from plain data. ``InvalidSpec`` lists every problem; ``Unsupported``: a trigger needs a model."""
    try:
        found = ScalingPolicy.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        raise refusal(error, ScalingPolicy) from None
    check_scaling(found.spec.scaling)
    for position, trigger in enumerate(found.spec.scaling.triggers):
        where = f"spec.scaling.triggers[{position}]"
        if trigger.type in OF_MODELS:
            raise Unsupported(
                f"{trigger.type} asks a model server, and a ScalingPolicy is for any Deployment",
                where=f"{where}.type",
                hint="models have spec.scaling of their own",
            )
        if trigger.type == "jobs" and trigger.model is None:
            raise Unsupported("a ScalingPolicy has no model of its own", where=f"{where}.model", hint="name one")
    return found


def parse_either(data: object) -> ModelDeployment | ScalingPolicy:
    """A document of either kind."""
    if isinstance(data, dict) and data.get("kind") == POLICY_KIND and data.get("apiVersion") == API_VERSION:
        return parse_policy(data)
    return parse(data)
