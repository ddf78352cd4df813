"""What the routes of a model say, before it is known in whose objects.

Paths are those of the gateway on a laptop: ``/models/NAME/…`` by the split, ``/models/NAME/versions/V/…`` to one
version; the replica sees what comes after. It is told how it was chosen, and never sees a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from headway.cluster.jobs import takes_jobs
from headway.cluster.names import SPLIT_ANNOTATION
from headway.cluster.versions import ClusterVersion
from headway.domain.errors import InvalidTraffic
from headway.domain.kubernetes_spec import HeaderMatch, Route
from headway.domain.routing_table import Arm, Shadow
from headway.domain.spec import ModelDeployment, VersionSpec

REMOVED_HEADERS: Final = (
    "authorization",
    "x-headway-at",
    "x-headway-client",
    "x-headway-held-ms",
    "x-headway-key",
    "x-headway-shadow",
    "x-headway-version",
)
"""Not for clients to say; ``x-headway-model`` and ``x-headway-arm`` are set."""
MARGIN_S: Final = 2
"""A replica that is late answers 504 by itself; the gateway waits that much longer."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who gets which requests of one model."""

    model: str
    route: Route
    split: tuple[Arm, ...]
    running: tuple[str, ...]
    """Versions with a path of their own, in order of creation."""
    shadow: Shadow | None
    cookie: str | None
    """Cookie that keeps a client with its version."""
    timeouts_s: dict[str, int]
    """By version: whole seconds for one request."""
    body_bytes: int
    """The largest request body of any version in the split."""
    jobs: bool = False
    """Whether the model takes jobs."""

    @property
    def path(self) -> str:
        return f"/models/{self.model}"

    @property
    def job_paths(self) -> list[str]:
        """Where calls for jobs come in: ``/models/iris/jobs``, ``/models/iris/versions/v1/jobs``."""
        if not self.jobs:
            return []
        return [f"{self.path}/jobs", *(f"{self.version_path(version)}/jobs" for version in self.running)]

    def version_path(self, version: str) -> str:
        """``/models/iris/versions/v1``"""
        return f"{self.path}/versions/{version}"

    @property
    def headers(self) -> Sequence[HeaderMatch]:
        return self.route.headers

    @property
    def split_timeout_s(self) -> int:
        """Of the version that may take longest."""
        return max(self.timeouts_s[arm.version] for arm in self.split)

    def annotations(self) -> dict[str, str]:
        """What is read back from a route: the split that it has."""
        return {SPLIT_ANNOTATION: ",".join(f"{arm.version}={arm.weight}" for arm in self.split)}

    def added_headers(self, arm: str) -> dict[str, str]:
        """What the replica is told; ``arm``: ``split`` or ``pinned``."""
        return {"x-headway-arm": arm, "x-headway-model": self.model}


def traffic_of(
    document: ModelDeployment, route: Route, split: tuple[Arm, ...], running: Sequence[ClusterVersion]
) -> Traffic:
    """The traffic of ``document``'s model by ``split``. ``InvalidTraffic`` for a header that leads nowhere."""
    names = tuple(version.name for version in running)
    for position, match in enumerate(route.headers):
        if match.version not in names:
            where = f"spec.kubernetes.route.headers[{position}].version"
            hint = f"versions that run: {', '.join(names)}; at 0 % a version runs too"
            raise InvalidTraffic(f"{match.version} does not run", where=where, hint=hint)
    specs: dict[str, VersionSpec] = {version.name: version.spec() for version in running}
    spec = document.spec
    return Traffic(
        model=document.metadata.name,
        route=route,
        split=split,
        running=names,
        shadow=None if spec.shadow is None else Shadow(spec.shadow.version, spec.shadow.percent),
        cookie=None if spec.sticky is None else spec.sticky.cookie,
        timeouts_s={name: ceil(one.timeout_s) + MARGIN_S for name, one in specs.items()},
        jobs=takes_jobs(document),
        body_bytes=max(one.server_options()["max_body_bytes"] for one in specs.values()),
    )
