"""Tests that need the same service are given to the same worker."""

from __future__ import annotations

import pytest

from tests.conftest import TESTS
from tests.services.scheduling import ServiceScheduling, service_of


@pytest.mark.parametrize(
    ("nodeid", "service"),
    [
        ("tests/contracts/test_metric_source_redis.py::TestRedisSource::test_down_and_back", "redis"),
        ("tests/integration/sources/test_redis_source.py::test_redis_refuses[fields0-a@b]", "redis"),
        ("tests/integration/sources/test_rabbitmq_source.py::test_message_rate", "rabbitmq"),
        ("tests/contracts/test_event_publisher_rabbitmq.py::TestRabbitmqEventPublisher::test_it", "rabbitmq"),
        ("tests/e2e/test_events_rabbitmq.py::test_it", "rabbitmq"),
        ("tests/e2e/test_images.py::test_it", "images"),
        ("tests/contracts/test_jobs_postgresql.py::TestPostgresqlJobs::test_it", "postgresql"),
        ("tests/integration/jobs/test_jobs_postgresql_faults.py::test_it", "postgresql"),
        ("tests/contracts/test_jobs_sqlite.py::TestSqliteJobs::test_it", None),
        ("tests/unit/server/test_redis.py::test_it", None),
        ("tests/integration/cli/test_e2e.py::test_it", None),
    ],
)
def test_the_service_of_a_test(nodeid: str, service: str | None) -> None:
    assert service_of(nodeid) == service
    scope = ServiceScheduling._split_scope(object.__new__(ServiceScheduling), nodeid)
    assert scope == (service or nodeid)


def test_the_tests_of_an_end_to_end_module_share_its_control_plane() -> None:
    for name in ("test_it", "test_it[a::b-tests/e2e/c.py::d]"):
        scope = ServiceScheduling._split_scope(object.__new__(ServiceScheduling), f"tests/e2e/test_jobs.py::{name}")
        assert scope == "tests/e2e/test_jobs.py"


def test_every_module_with_a_service_is_known() -> None:
    modules = [*TESTS.glob("contracts/test_metric_source_*.py"), *TESTS.glob("integration/sources/test_*.py")]
    found = [service_of(f"{path.relative_to(TESTS.parent)}::test") for path in modules]
    assert set(found) >= {"redis", "rabbitmq", "postgresql", "prometheus"}
    assert None not in found
