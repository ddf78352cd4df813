"""The scaled cluster that several modules look at."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.operator.scaling_world import ScalingCluster


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world() -> AsyncIterator[ScalingCluster]:
    made = ScalingCluster()
    await made.up()
    yield made
    await made.down()
