"""The same tests on a laptop and, with the mark ``cluster``, on the cluster that KUBECONFIG names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.e2e.blackbox.cluster_place import cluster_place  # noqa: F401 - a fixture
from tests.e2e.blackbox.local_place import LocalPlace
from tests.e2e.blackbox.place import Place
from tests.installation import module_installation
from tests.waiting import PortPicker


@pytest.fixture(scope="module", params=["local", pytest.param("cluster", marks=pytest.mark.cluster)])
def place(request: pytest.FixtureRequest, free_port: PortPicker) -> Iterator[Place]:
    """Where a test runs; each uses model names of its own and deletes them."""
    if request.param == "cluster":
        found: Any = request.getfixturevalue("cluster_place")
        yield found
        return
    with module_installation(free_port) as headway, ExitStack() as until_the_end:
        yield LocalPlace(headway, until_the_end)
