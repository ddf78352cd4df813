"""The typed spec of a version, and of a deployment's jobs, read once: control loops ask for them in every round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from headway.domain.deployments import Deployment, Version
from headway.domain.job_spec import Jobs
from headway.domain.spec import VersionSpec

_MOST: Final = 10_000
_known: Final[dict[str, tuple[dict[str, Any], VersionSpec]]] = {}
_known_jobs: Final[dict[str, tuple[Mapping[str, Any], Jobs]]] = {}
_DEFAULT_JOBS: Final = Jobs()


def spec_of(version: Version) -> VersionSpec:
    """``version.spec`` as a :class:`VersionSpec`, which is frozen and may be shared."""
    found = _known.get(version.digest)
    if found is not None and (found[0] is version.spec or found[0] == version.spec):
        return found[1]
    spec = VersionSpec.model_validate(version.spec)
    if len(_known) >= _MOST:
        _known.clear()
    _known[version.digest] = (version.spec, spec)
    return spec


def jobs_of(deployment: Deployment) -> Jobs:
    """What ``deployment`` says of its jobs, frozen and to be shared."""
    stored = deployment.jobs
    if stored is None:
        return _DEFAULT_JOBS
    found = _known_jobs.get(deployment.name)
    if found is not None and (found[0] is stored or found[0] == stored):
        return found[1]
    jobs = Jobs.model_validate(stored)
    if len(_known_jobs) >= _MOST:
        _known_jobs.clear()
    _known_jobs[deployment.name] = (stored, jobs)
    return jobs
