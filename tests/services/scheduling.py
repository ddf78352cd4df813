"""Tests that need the same service run on the same xdist worker, so that each service is started once; so do those of a
module of ``e2e``, which share a control plane.

xdist's own way, the mark ``xdist_group``, changes nothing with pytest 9.2: xdist 3.8 writes the group into an attribute
that pytest no longer reads. Where a test stands tells its service as well.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]

_SERVICE = re.compile(
    r"^tests/(?:(?:contracts/test_(?:metric_source|job_broker|event_publisher)|integration/sources/test|integration/jobs/test_job_servers)_(?P<source>\w+?)(?:_source)?"
    r"|(?:contracts|integration/jobs)/test_jobs_(?P<store>postgresql|rabbitmq)(?:_\w+)?"
    r"|e2e/test_(?:events_(?P<relay>rabbitmq)|(?P<images>images)))\.py::"
)


def service_of(nodeid: str) -> str | None:
    """``redis`` for a test that needs Redis."""
    found = _SERVICE.match(nodeid)
    return (found["source"] or found["store"] or found["relay"] or found["images"]) if found else None


def control_plane_of(nodeid: str) -> str | None:
    """The module of an end-to-end test."""
    return nodeid.partition("::")[0] if nodeid.startswith("tests/e2e/") else None


class ServiceScheduling(LoadGroupScheduling):  # type: ignore[misc]
    """As ``--dist loadgroup``, with services and control planes as groups."""

    def _split_scope(self, nodeid: str) -> str:
        return service_of(nodeid) or control_plane_of(nodeid) or super()._split_scope(nodeid)
