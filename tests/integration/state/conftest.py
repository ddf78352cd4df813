"""A database file of the test's own, closed at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.adapters.sql import SqlDatabase


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "headway.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqlDatabase]:
    database = SqlDatabase(path)
    await database.open()
    yield database
    await database.close()
