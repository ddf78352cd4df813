"""What the suites of stores in SQL share: a database file of the test's own, closed at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.adapters.sql import SqlDatabase


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqlDatabase]:
    database = SqlDatabase(tmp_path / "headway.db")
    await database.open()
    yield database
    await database.close()
