"""What all tests share: isolation from the user's own Headway, real services, ports, leak checks.

A test sees no ``HEADWAY_…`` variable of the person who runs it, and HEADWAY_HOME is a scratch folder. Tests in
``integration`` and ``e2e`` fail when they leave a process, a listening socket or a temporary file behind.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.cluster_options import add_cluster_options
from tests.leaks import LeakCheck, environment, make_scratch, remove_scratch
from tests.reruns import reruns_of
from tests.services.cluster import cluster_image, real_cluster  # noqa: F401 - fixtures
from tests.services.fixtures import (  # noqa: F401 - fixtures
    postgresql_service,
    prometheus_service,
    rabbitmq_service,
    redis_service,
    rscript,
)
from tests.services.registry import base_archive, registry_service  # noqa: F401 - fixtures
from tests.waiting import PortPicker

KEPT_VARIABLES = {"HEADWAY_HAPROXY", "HEADWAY_REQUIRE_SERVICES", "HEADWAY_RSCRIPT"}
LONGEST_FIRST = {name: place for place, name in enumerate(("e2e", "browser", "docs", "integration", "contracts"))}
TESTS = Path(__file__).parent

# A busy machine is no bug: examples have no deadline of their own, pytest-timeout bounds the whole test.
settings.register_profile("headway", deadline=None, print_blob=True)
settings.load_profile("headway")


def pytest_addoption(parser: pytest.Parser) -> None:
    add_cluster_options(parser)


def layer(path: Path) -> str:
    """``unit``, ``properties``, … : the folder of ``tests`` that holds the test module at ``path``."""
    return path.relative_to(TESTS).parts[0] if path.is_relative_to(TESTS) else ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of e2e carry that mark; those that the machine can disturb get a second attempt, but not in a debugger.

    What takes long comes first, in random order as before: so no process waits at the end for another's long test.
    """
    if not config.getoption("--cluster"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("cluster")])
        items[:] = [item for item in items if not item.get_closest_marker("cluster")]
    items.sort(key=lambda item: LONGEST_FIRST.get(layer(item.path), len(LONGEST_FIRST)))
    for item in items:
        if layer(item.path) == "e2e":
            item.add_marker(pytest.mark.e2e)
        if (reruns := reruns_of(item.nodeid, os.environ)) and not config.getoption("usepdb"):
            item.add_marker(pytest.mark.flaky(reruns=reruns))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """Each real service is started on one worker only."""
    if config.getoption("dist") != "loadgroup":
        return None
    from tests.services.scheduling import ServiceScheduling

    return ServiceScheduling(config, log)


@pytest.fixture(scope="session")
def free_port() -> PortPicker:
    """Call it for a loopback TCP port that nobody else will take."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return PortPicker(int(worker))


@pytest.fixture(scope="session")
def require_service() -> Callable[[str, object], None]:
    """``require_service("HAProxy", path_or_none)``: skips without the service, fails with HEADWAY_REQUIRE_SERVICES=1.

    So a laptop without it can run the rest, and CI cannot pass by skipping.
    """
    strict = os.environ.get("HEADWAY_REQUIRE_SERVICES", "") not in {"", "0"}

    def require(name: str, found: object) -> None:
        if found:
            return
        if strict:
            pytest.fail(f"{name} is needed here and was not found (HEADWAY_REQUIRE_SERVICES is set)", pytrace=False)
        pytest.skip(f"{name} was not found")

    return require


@pytest.fixture
def scratch(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder with a short path and ``home`` and ``tmp`` in it; whatever still runs in it at the end is a leak."""
    folder = make_scratch()
    check = LeakCheck(folder)
    yield folder
    left = check.left() if layer(request.path) in {"integration", "e2e"} else []
    remove_scratch(folder)
    if left:
        pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(autouse=True)
def isolated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the user's reaches a test, and no file of a test reaches the user's home."""
    for name in list(os.environ):
        if name.startswith("HEADWAY_") and name not in KEPT_VARIABLES:
            monkeypatch.delenv(name)
    if layer(request.path) in {"integration", "e2e"}:
        folder: Path = request.getfixturevalue("scratch")
        for name, value in environment(folder).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(tempfile, "tempdir", None)
    else:
        monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / "headway-home"))
