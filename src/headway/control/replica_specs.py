"""From a version to the replicas that run it. Equal inputs give equal specs, so a restarted control plane
asks the runtime for exactly what already runs."""

from __future__ import annotations

import secrets
from dataclasses import replace

from headway.domain.deployments import Deployment, Version
from headway.domain.errors import HeadwayError
from headway.domain.names import REPLICA_SUFFIX_ALPHABET, REPLICA_SUFFIX_LENGTH
from headway.domain.replicas import ReplicaSpec
from headway.domain.version_specs import jobs_of, spec_of


def replica_spec(model: str, version: Version, replica_id: str, bundle_path: str, *, warm: bool = False) -> ReplicaSpec:
    """The spec of one replica of ``version``, whose environment must have been built."""
    if version.python is None:
        raise HeadwayError(f"{model} {version.name} has no environment yet")
    spec = spec_of(version)
    server = dict(spec.server_options())
    if spec.model.sample is not None:
        server["sample"] = spec.model.sample
    if spec.metrics.compat is not None:
        server["metrics_compat"] = spec.metrics.compat
    if spec.graph is not None:
        server["graph"] = spec.graph.document()
    payloads = spec.payload_options()
    if payloads is not None:
        server["payloads"] = payloads
    return ReplicaSpec(
        replica_id=replica_id,
        model=model,
        version=version.name,
        digest=version.digest,
        bundle_path=bundle_path,
        python=version.python,
        entrypoint=spec.model.entrypoint,
        probes=spec.probes(),
        server=server,
        env=spec.env(),
        cpu_millicores=spec.cpu_millicores(),
        memory_bytes=spec.memory_bytes(),
        termination_grace_s=spec.termination_grace_s,
        warm=warm,
    )


def worker_spec(deployment: Deployment, version: Version, replica_id: str, bundle_path: str) -> ReplicaSpec:
    """The spec of one worker of ``version``: a replica that takes jobs instead of requests."""
    spec = replica_spec(deployment.name, version, replica_id, bundle_path, warm=workers_warm(deployment))
    return replace(spec, role="work", termination_grace_s=jobs_of(deployment).grace_s)


def workers_warm(deployment: Deployment) -> bool:
    """Whether workers start from a process that has loaded the model: unless ``spec.scaling.warmStart`` says no."""
    return deployment.scaling is None or bool(deployment.scaling["warmStart"])


def kept_warm(deployment: Deployment) -> bool:
    """Whether replicas of ``deployment`` are to start from a process that has loaded the model."""
    return deployment.scaling is not None and bool(deployment.scaling["warmStart"])


def replica_suffix() -> str:
    """Five random characters; the space of 14 million makes a repeat among a model's replicas unlikely."""
    return "".join(secrets.choice(REPLICA_SUFFIX_ALPHABET) for _ in range(REPLICA_SUFFIX_LENGTH))
