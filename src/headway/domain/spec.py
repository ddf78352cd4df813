"""The deployment document, ``ModelDeployment``: one for laptop and cluster.

Field names follow Kubernetes. What is unknown, or not supported by this release, is refused by name, never
ignored. The *version-level* part (model, env, resources, server, probes, grace period) is everything that
touches a replica and goes into the version's digest; the *deployment-level* part (scaling, traffic, sticky,
shadow) can change without a new version.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from headway.domain import names, replicas
from headway.domain.errors import InvalidName
from headway.domain.quantities import byte_count, millicores, seconds
from headway.domain.routing_table import WEIGHT_TOTAL, Arm
from headway.domain.spec_problems import check_weights, not_supported, refusal

API_VERSION = "headway.dev/v1alpha1"
KIND = "ModelDeployment"
RESERVED_ENV = re.compile(r"HEADWAY_.*|PYTHONPATH|PYTHONHOME|LD_PRELOAD|LD_AUDIT")
_ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
_TOKEN = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"  # a header or cookie name: RFC 9110, section 5.6.2


class _Part(BaseModel):
    """A part of the document: camelCase on the wire, unknown fields refused."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        hide_input_in_errors=True,
    )


def _checked(check: Any) -> AfterValidator:
    def run(text: str) -> str:
        try:
            check(text)
        except InvalidName as error:
            raise ValueError(f"{error.message} ({error.hint})") from None
        return text

    return AfterValidator(run)


def _written(value: object) -> object:
    """A quantity may be written as a number, as in Kubernetes: ``cpu: 2``."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _relative(path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or "\0" in path or ".." in parts:
        raise ValueError("must be a path inside the model's folder")
    return path


Millicores = Annotated[str, Field(examples=["500m", "2"]), BeforeValidator(_written), _checked(millicores)]
Bytes = Annotated[str, Field(examples=["512Mi", "2Gi"]), BeforeValidator(_written), _checked(byte_count)]
Duration = Annotated[str, Field(examples=["2ms", "30s"]), _checked(seconds)]
ProbePath = Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=256)]
ModelName = Annotated[str, Field(max_length=40), _checked(names.check_model_name)]
VersionName = Annotated[str, _checked(names.check_version_name)]


class Metadata(_Part):
    name: ModelName = Field(description="The model's name: its place in URLs.")


class Model(_Part):
    path: str = Field(default=".", description="Folder of the model, relative to this document.", min_length=1)
    entrypoint: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$",
        max_length=300,
        description="module:attribute; left out, it is looked for in model.py.",
    )
    sample: Annotated[str, AfterValidator(_relative)] | None = Field(
        default=None,
        description="Example request body in the folder, predicted once before a replica is ready; "
        "left out, sample.json is used if it is there.",
    )


class EnvVar(_Part):
    name: str = Field(pattern=_ENV_NAME, max_length=128)
    value: str = Field(max_length=32_768)

    @model_validator(mode="after")
    def _not_reserved(self) -> EnvVar:
        if RESERVED_ENV.fullmatch(self.name):
            raise ValueError(f"{self.name} is set by Headway itself")
        if "\0" in self.value:
            raise ValueError("a value cannot hold a NUL character")
        return self


class Resources(_Part):
    cpu: Millicores | None = Field(
        default=None, description="Processor share a replica is planned with; sizes its thread pools."
    )
    memory: Bytes | None = Field(default=None, description="Limit; a replica above it is killed and says so.")


class Server(_Part):
    max_batch_size: int = Field(default=64, ge=1, le=65_536, description="Most rows predicted together.")
    max_batch_delay: Duration = Field(default="0s", description="Longest extra wait for a fuller batch.")
    max_queue: int = Field(default=256, ge=1, le=100_000, description="Requests that may wait; beyond it 429.")
    timeout: Duration = Field(default="30s", description="Time limit of one request; then 504.")
    max_body_size: Bytes = Field(default="32Mi", description="Largest request body; then 413.")

    @model_validator(mode="after")
    def _sane(self) -> Server:
        if not 0 < seconds(self.timeout) <= 3600:
            raise ValueError("timeout must be more than 0s and at most 1h")
        if seconds(self.max_batch_delay) > 10:
            raise ValueError("maxBatchDelay must be at most 10s")
        return self


class Probe(_Part):
    """An HTTP probe with Kubernetes' fields."""

    path: ProbePath
    initial_delay_seconds: int = Field(default=0, ge=0, le=3600)
    period_seconds: int = Field(default=10, ge=1, le=3600)
    timeout_seconds: int = Field(default=1, ge=1, le=3600)
    failure_threshold: int = Field(default=3, ge=1, le=10_000)
    success_threshold: int = Field(default=1, ge=1, le=100)

    def typed(self) -> replicas.Probe:
        """As the runtime takes it."""
        return replicas.Probe(
            path=self.path,
            period_s=float(self.period_seconds),
            timeout_s=float(self.timeout_seconds),
            initial_delay_s=float(self.initial_delay_seconds),
            failure_threshold=self.failure_threshold,
            success_threshold=self.success_threshold,
        )


class StartupProbe(Probe):
    path: ProbePath = "/health/ready"
    period_seconds: int = Field(default=1, ge=1, le=3600)
    failure_threshold: int = Field(default=120, ge=1, le=10_000)
    success_threshold: Literal[1] = 1


class ReadinessProbe(Probe):
    path: ProbePath = "/health/ready"
    period_seconds: int = Field(default=5, ge=1, le=3600)
    timeout_seconds: int = Field(default=2, ge=1, le=3600)


class LivenessProbe(Probe):
    path: ProbePath = "/health/live"
    timeout_seconds: int = Field(default=5, ge=1, le=3600)
    success_threshold: Literal[1] = 1


class Probes(_Part):
    startup: StartupProbe = StartupProbe()
    readiness: ReadinessProbe = ReadinessProbe()
    liveness: LivenessProbe = LivenessProbe()


class Scaling(_Part):
    min_replicas: int = Field(default=1, ge=0, le=1000, description="Replicas of each version in the split.")
    max_replicas: int | None = Field(default=None, ge=1, le=1000)


class TrafficArm(_Part):
    version: VersionName
    weight: int = Field(ge=0, le=WEIGHT_TOTAL, description="Percent; all weights sum to 100.")


class Sticky(_Part):
    """One of the two: the same value meets the same version."""

    header: str | None = Field(default=None, pattern=_TOKEN, max_length=64)
    cookie: str | None = Field(default=None, pattern=_TOKEN, max_length=64)

    @model_validator(mode="after")
    def _one(self) -> Sticky:
        if (self.header is None) == (self.cookie is None):
            raise ValueError("name either a header or a cookie")
        return self


class Shadow(_Part):
    version: VersionName
    percent: int = Field(default=100, ge=1, le=100, description="Share of production requests that is copied.")


class VersionSpec(_Part):
    """The version-level part: what a replica is made of."""

    model: Model = Model()
    env_vars: list[EnvVar] = Field(default=[], alias="env", max_length=200)
    resources: Resources = Resources()
    server: Server = Server()
    probe_set: Probes = Field(default=Probes(), alias="probes")
    termination_grace_period_seconds: int = Field(default=30, ge=0, le=3600)

    def env(self) -> dict[str, str]:
        """Environment variables by name."""
        return {var.name: var.value for var in self.env_vars}

    def probes(self) -> replicas.Probes:
        """As the runtime takes them."""
        probes = self.probe_set
        return replicas.Probes(probes.startup.typed(), probes.readiness.typed(), probes.liveness.typed())

    def server_options(self) -> dict[str, Any]:
        """By the field names of the model server's options; seconds and bytes as numbers."""
        return {
            "max_batch_size": self.server.max_batch_size,
            "max_batch_delay_s": seconds(self.server.max_batch_delay),
            "max_queue": self.server.max_queue,
            "timeout_s": seconds(self.server.timeout),
            "max_body_bytes": byte_count(self.server.max_body_size),
        }

    def cpu_millicores(self) -> int | None:
        """Processor share in thousandths of a core."""
        return millicores(self.resources.cpu) if self.resources.cpu is not None else None

    def memory_bytes(self) -> int | None:
        """Memory limit."""
        return byte_count(self.resources.memory) if self.resources.memory is not None else None

    @property
    def termination_grace_s(self) -> float:
        return float(self.termination_grace_period_seconds)

    @property
    def timeout_s(self) -> float:
        return seconds(self.server.timeout)

    @property
    def max_queue(self) -> int:
        return self.server.max_queue

    @model_validator(mode="after")
    def _env_once(self) -> VersionSpec:
        seen: set[str] = set()
        for var in self.env_vars:
            if var.name in seen:
                raise ValueError(f"env sets {var.name} twice")
            seen.add(var.name)
        return self


class Spec(VersionSpec):
    """The whole ``spec``."""

    scaling: Scaling = Scaling()
    traffic: list[TrafficArm] | None = Field(default=None, max_length=100)
    sticky: Sticky | None = None
    shadow: Shadow | None = None


class ModelDeployment(_Part):
    """What a user wants of a model."""

    api_version: Literal["headway.dev/v1alpha1"] = "headway.dev/v1alpha1"
    kind: Literal["ModelDeployment"] = "ModelDeployment"
    metadata: Metadata
    spec: Spec = Spec()

    def version_level(self) -> dict[str, Any]:
        """The version-level part as JSON, defaults filled in, without the model's path (the content counts)."""
        fields = set(VersionSpec.model_fields)
        level: dict[str, Any] = self.spec.model_dump(mode="json", by_alias=True, include=fields)
        level["model"].pop("path")
        return level


def parse(data: object) -> ModelDeployment:
    """A document from plain data. ``InvalidSpec`` lists every problem, ``Unsupported`` what is not done yet."""
    not_supported(data)
    try:
        doc = ModelDeployment.model_validate(data)
    except ValidationError as error:
        raise refusal(error, ModelDeployment) from None
    arms(doc)
    return doc


def default_document(name: str) -> ModelDeployment:
    """The document of a folder that brings none."""
    return parse({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": {}})


def arms(doc: ModelDeployment) -> tuple[Arm, ...] | None:
    """The declared split; None when the document leaves traffic alone. ``InvalidTraffic`` when it cannot be."""
    if doc.spec.traffic is None:
        return None
    check_weights([(arm.version, arm.weight) for arm in doc.spec.traffic])
    return tuple(Arm(arm.version, arm.weight) for arm in doc.spec.traffic)


def version_digest(bundle_digest: str, version_level: dict[str, Any]) -> str:
    """SHA-256 (hex) over the bundle's digest and the canonical JSON of the version-level part."""
    canonical = json.dumps(version_level, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(f"{bundle_digest}\n{canonical}".encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the document, for editors and validators."""
    schema = ModelDeployment.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
