"""The deployment document, ``ModelDeployment``: one for laptop and cluster.

Field names follow Kubernetes. What is unknown, or not supported by this release, is refused by name, never
ignored. The *version-level* part (model, env, resources, server, query log, metrics, probes, grace period) is
everything that touches a replica and goes into the version's digest; the *deployment-level* part (scaling, traffic,
sticky, shadow, jobs, kubernetes) can change without a new version.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from headway.domain import replicas
from headway.domain.graph_spec import GraphNode
from headway.domain.job_spec import Jobs
from headway.domain.kubernetes_spec import Kubernetes, Namespace
from headway.domain.quantities import byte_count, millicores, seconds, share
from headway.domain.routing_table import WEIGHT_TOTAL, Arm
from headway.domain.scaling_rules import check_scaling
from headway.domain.scaling_spec import Scaling
from headway.domain.spec_part import Part
from headway.domain.spec_problems import check_weights, refusal
from headway.domain.spec_values import (
    BundlePath,
    Bytes,
    CookieName,
    Duration,
    EntryPoint,
    EnvName,
    EnvValue,
    FieldName,
    FolderPath,
    HeaderName,
    Memory,
    Millicores,
    ModelName,
    Percent,
    ProbePath,
    VersionName,
)

API_VERSION = "headway.dev/v1alpha1"
KIND = "ModelDeployment"
MOST_BODY = 1024**3
MOST_PAYLOAD = 1024**2


class Metadata(Part):
    name: ModelName = Field(description="The model's name: its place in URLs.")
    namespace: Namespace | None = Field(default=None, description="On a cluster; a laptop has none and refuses it.")


class Model(Part):
    path: FolderPath = Field(
        default=".",
        description="Folder of the model, relative to this document; or models:/… or runs:/… of an MLflow server.",
    )
    entrypoint: EntryPoint | None = Field(
        default=None, description="module:attribute; left out, it is looked for in model.py."
    )
    sample: BundlePath | None = Field(
        default=None,
        description="Example request body in the folder, predicted once before a replica is ready; "
        "left out, sample.json is used if it is there.",
    )


class EnvVar(Part):
    name: EnvName = Field(description="Name of the variable; names that Headway sets itself are refused.")
    value: EnvValue = Field(description="Its value: a string, so numbers need quotes.")


class Resources(Part):
    cpu: Millicores | None = Field(
        default=None, description="Processor share a replica is planned with; sizes its thread pools."
    )
    memory: Memory | None = Field(default=None, description="Limit; a replica above it is killed and says so.")


class Server(Part):
    max_batch_size: int = Field(default=64, ge=1, le=65_536, description="Most rows predicted together.")
    max_batch_delay: Duration = Field(default="0s", description="Longest extra wait for a fuller batch.")
    latency_target: Duration | None = Field(
        default=None, description="What an answer may take: later ones are refused at once, batches wait less."
    )
    max_queue: int = Field(default=256, ge=1, le=100_000, description="Requests that may wait; beyond it 429.")
    timeout: Duration = Field(default="30s", description="Time limit of one request; then 504.")
    max_body_size: Bytes = Field(default="32Mi", description="Largest request body; then 413.")
    workers: int = Field(
        default=1, ge=1, le=64, description="Processes that serve one replica with one loaded model: cores for it."
    )

    @model_validator(mode="after")
    def _sane(self) -> Server:
        if not 0.001 <= seconds(self.timeout) <= 3600:
            raise ValueError("timeout must be at least 1ms and at most 1h")
        if seconds(self.max_batch_delay) > 10:
            raise ValueError("maxBatchDelay must be at most 10s")
        if seconds(self.max_batch_delay) >= seconds(self.timeout):
            raise ValueError("maxBatchDelay must be shorter than timeout")
        if self.latency_target is not None and not 0.001 <= seconds(self.latency_target) <= seconds(self.timeout):
            raise ValueError("latencyTarget must be at least 1ms and at most timeout")
        if byte_count(self.max_body_size) > MOST_BODY:
            raise ValueError("maxBodySize must be at most 1Gi")
        return self


class Payloads(Part):
    """Requests that are kept whole, with their answers."""

    sample: Percent = Field(description="Share of predicted requests: 1% or 0.01.")
    max_size: Bytes = Field(default="16Ki", description="Longer bodies are left out.")
    redact: list[FieldName] = Field(
        default=[], max_length=200, description="Fields (keys, columns, tensors) whose values are taken out."
    )

    @model_validator(mode="after")
    def _bounded(self) -> Payloads:
        if byte_count(self.max_size) > MOST_PAYLOAD:
            raise ValueError("maxSize must be at most 1Mi")
        return self


class QueryLog(Part):
    payloads: Payloads | None = Field(default=None, description="Left out, no payload is kept.")


class Metrics(Part):
    compat: Literal["seldon"] | None = Field(
        default=None, description="seldon: /metrics also shows the names and labels of Seldon Core."
    )


class Probe(Part):
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


class Probes(Part):
    startup: StartupProbe = StartupProbe()
    readiness: ReadinessProbe = ReadinessProbe()
    liveness: LivenessProbe = LivenessProbe()


class TrafficArm(Part):
    version: VersionName
    weight: int = Field(ge=0, le=WEIGHT_TOTAL, description="Percent; all weights sum to 100.")


class Sticky(Part):
    """One of the two: the same value meets the same version."""

    header: HeaderName | None = Field(
        default=None, description="Request header whose value decides; without it the version is random."
    )
    cookie: CookieName | None = Field(
        default=None, description="Cookie whose value decides; set by the gateway where it is missing."
    )

    @model_validator(mode="after")
    def _one(self) -> Sticky:
        if (self.header is None) == (self.cookie is None):
            raise ValueError("name either a header or a cookie")
        return self


class Shadow(Part):
    version: VersionName
    percent: int = Field(default=100, ge=1, le=100, description="Share of production requests that is copied.")


class VersionArm(Part):
    """What becomes of this document's version, where a file says several of one model: one of the two."""

    weight: int | None = Field(default=None, ge=0, le=WEIGHT_TOTAL, description="Its percentage of the traffic.")
    shadow: int | None = Field(
        default=None, ge=1, le=100, description="It gets copies of this percentage of the requests, and no traffic."
    )

    @model_validator(mode="after")
    def _one(self) -> VersionArm:
        if (self.weight is None) == (self.shadow is None):
            raise ValueError("state either weight or shadow")
        return self


class VersionSpec(Part):
    """The version-level part: what a replica is made of."""

    model: Model = Model()
    graph: GraphNode | None = Field(
        default=None, description="An inference graph in the place of a single model: a folder for each node."
    )
    env_vars: list[EnvVar] = Field(default=[], alias="env", max_length=200)
    resources: Resources = Resources()
    server: Server = Server()
    query_log: QueryLog = QueryLog()
    metrics: Metrics = Metrics()
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
            "latency_target_s": None if self.server.latency_target is None else seconds(self.server.latency_target),
            "max_queue": self.server.max_queue,
            "timeout_s": seconds(self.server.timeout),
            "max_body_bytes": byte_count(self.server.max_body_size),
            "workers": self.server.workers,
        }

    def payload_options(self) -> dict[str, Any] | None:
        """By the field names of the model server's ``PayloadOptions``; None: no payload is kept."""
        kept = self.query_log.payloads
        if kept is None:
            return None
        return {"sample": share(kept.sample), "max_bytes": byte_count(kept.max_size), "redact": sorted(kept.redact)}

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

    @model_validator(mode="after")
    def _model_or_graph(self) -> VersionSpec:
        if self.graph is not None and self.model != Model():
            raise ValueError("model and graph exclude each other; a node of the graph has path and entrypoint")
        return self


class Spec(VersionSpec):
    """The whole ``spec``."""

    scaling: Scaling = Scaling()
    traffic: list[TrafficArm] | None = Field(default=None, max_length=100)
    arm: VersionArm | None = Field(
        default=None, description="For several documents of one model in a file: what this one's version gets."
    )
    sticky: Sticky | None = None
    shadow: Shadow | None = None
    jobs: Jobs = Jobs()
    kubernetes: Kubernetes = Kubernetes()


class ModelDeployment(Part):
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
        if self.spec.graph is None:
            level.pop("graph")  # what versions were before there were graphs, they still are
        else:
            level["graph"] = self.spec.graph.without_paths()
        level["env"].sort(key=lambda var: var["name"])  # order means nothing, so it makes no new version
        return level


def parse(data: object) -> ModelDeployment:
    """A document from plain data. ``InvalidSpec`` lists every problem."""
    try:
        doc = ModelDeployment.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        raise refusal(error, ModelDeployment) from None
    check_scaling(doc.spec.scaling, memory=doc.spec.resources.memory is not None)
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
