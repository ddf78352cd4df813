"""What the operator writes into the status of its custom resources."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from headway.domain.spec_part import Part


class Condition(Part):
    """As in Kubernetes' API conventions."""

    type: str = Field(max_length=316)
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(min_length=1, max_length=1024)
    message: str = Field(default="", max_length=32_768)
    observed_generation: int | None = Field(default=None, ge=0)
    last_transition_time: str = Field(description="RFC 3339.")


class VersionStatus(Part):
    """One version of the model."""

    name: str
    digest: str
    image: str
    weight: int = Field(default=0, ge=0, le=100, description="Its share of the traffic now, in percent.")
    replicas: int = Field(default=0, ge=0)
    ready_replicas: int = Field(default=0, ge=0)


class ScalingStatus(Part):
    """The last decision of Headway's own loop that says something new."""

    version: str = Field(description="Whose replicas; of a policy, its target.")
    at: str = Field(description="RFC 3339.")
    current: int = Field(ge=0, description="Replicas asked for then.")
    desired: int = Field(ge=0, description="Replicas decided.")
    binding: str = Field(description="What settled it: a trigger or a rule.")
    message: str = Field(default="", max_length=32_768)


class SplitArm(Part):
    """One version's share of the traffic."""

    version: str
    weight: int = Field(ge=0, le=100, description="In percent.")


class ModelStatus(Part):
    """Status of a ``ModelDeployment``."""

    observed_generation: int | None = Field(default=None, ge=0)
    replicas: int = Field(default=0, ge=0, description="Of all versions that run.")
    ready_replicas: int = Field(default=0, ge=0)
    selector: str = Field(default="", description="Of the pods, for the scale subresource.")
    traffic: str = Field(default="", description="The split that the routes have now, for people.")
    split: list[SplitArm] = Field(
        default=[], max_length=100, description="Who has the traffic, or had it last; the condition Ready says which."
    )
    previous_split: list[SplitArm] = Field(
        default=[], max_length=100, description="Who had it before; headway rollback returns to it."
    )
    versions: list[VersionStatus] = Field(default=[], max_length=1000)
    scaling: list[ScalingStatus] = Field(default=[], max_length=100, description="With the engine headway.")
    conditions: list[Condition] = Field(default=[], max_length=16)


class PolicyStatus(Part):
    """Status of a ``ScalingPolicy``."""

    observed_generation: int | None = Field(default=None, ge=0)
    replicas: int = Field(default=0, ge=0, description="Of the target.")
    scaling: list[ScalingStatus] = Field(default=[], max_length=1, description="With the engine headway.")
    conditions: list[Condition] = Field(default=[], max_length=16)
