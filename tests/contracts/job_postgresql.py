"""A database of its own in the test's PostgreSQL, in which time can be moved.

A schema that is searched first holds a ``clock_timestamp`` that is ahead by what a table says.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import asyncpg

from headway.adapters.sql import SqlJobs
from tests.services.fixtures import PostgresqlService

_MOVABLE = """
CREATE SCHEMA moved;
CREATE TABLE moved.ahead (seconds double precision NOT NULL);
INSERT INTO moved.ahead VALUES (0);
CREATE FUNCTION moved.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
  $$ SELECT pg_catalog.clock_timestamp() + seconds * interval '1 second' FROM moved.ahead $$;
"""
_TABLES = "jobs, job_contents, job_lines, job_callers, job_events, job_deliveries"


async def make_database(service: PostgresqlService) -> str:
    """The address of a new database."""
    name = f"jobs_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(service.address)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.execute(f"ALTER DATABASE {name} SET search_path = moved, pg_catalog, public")
    await admin.close()
    address = service.at(service.port, database=name)
    connection = await asyncpg.connect(address)
    await connection.execute(_MOVABLE)
    await connection.close()
    store = SqlJobs.open_postgresql(address, files=Path("/nowhere"))
    await store.start()
    await store.close()
    return address


class PostgresqlWorld:
    """Whatever was opened before a crash stays open beside what is opened after: another process."""

    def __init__(self, address: str, folder: Path, *, fenced: bool = True) -> None:
        self.address = address
        self._files = folder / "files"
        self._fenced = fenced
        self._opened: list[SqlJobs] = []
        self._ahead = 0.0
        self.jobs = self.another()

    def another(self) -> SqlJobs:
        store = SqlJobs.open_postgresql(self.address, files=self._files, fenced=self._fenced)
        self._opened.append(store)
        return store

    async def open(self) -> None:
        """Forget what the test before left."""
        await self.jobs.start()
        tables = ", ".join(f"headway_{name}" for name in _TABLES.split(", "))
        await self.sql(
            f"TRUNCATE {tables}; UPDATE headway_job_counters SET value = 0; UPDATE moved.ahead SET seconds = 0"
        )
        await self.crash()

    async def sql(self, text: str) -> None:
        connection = await asyncpg.connect(self.address)
        await connection.execute(text)
        await connection.close()

    def now(self) -> float:
        return time.time() + self._ahead

    async def elapse(self, seconds: float) -> None:
        self._ahead += seconds
        await self.sql(f"UPDATE moved.ahead SET seconds = {self._ahead}")

    async def crash(self) -> None:
        self.jobs = self.another()
        await self.jobs.start()

    async def close(self) -> None:
        for store in self._opened:
            await store.close()
