"""The state in PostgreSQL: for who keeps it away from the machine that writes it, as a cluster's operator does.

The tables are those of the file. Transactions are PostgreSQL's own (READ COMMITTED); what has to come one after the
other waits for a row: see ``counters``.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from headway.adapters.sql.documents import to_json
from headway.adapters.sql.schema import STATE
from headway.domain.errors import MissingExtra, StorageFailed

_LOCK: Final = 0x4865616477617930
"""Of those who make or migrate the tables; advisory locks are of one database."""


class PostgresqlServer:
    """The database at ``url`` (``postgresql://user@host:5432/database``). Raises ``MissingExtra``."""

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        if find_spec("asyncpg") is None:
            raise MissingExtra("PostgreSQL needs asyncpg", hint="pip install 'headway[postgresql]'")
        found = urlsplit(url)
        self._where = f"postgresql://{found.hostname or ''}{f':{found.port}' if found.port else ''}{found.path}"
        self._url = url
        self._timeout_s = timeout_s

    def __str__(self) -> str:
        """Without user and password."""
        return self._where

    async def open(self) -> AsyncEngine:
        """Make or migrate the tables; raises ``StorageFailed``, ``Unsupported``."""
        import asyncpg

        async def connect() -> Any:
            settings = {
                "application_name": "headway",
                "synchronous_commit": "on",
                "idle_in_transaction_session_timeout": "15s",
            }
            return await asyncpg.connect(
                self._url, timeout=self._timeout_s, command_timeout=60.0, server_settings=settings
            )

        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connect,
            json_serializer=to_json,
            pool_size=2,
            max_overflow=2,
            pool_timeout=self._timeout_s,
            pool_pre_ping=True,
        )
        try:
            async with engine.begin() as connection:
                await connection.run_sync(self._upgrade)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, sa.exc.SQLAlchemyError, OSError, ValueError) as error:
            await engine.dispose()
            reason = getattr(error, "orig", None) or error
            raise StorageFailed(f"the database cannot be opened: {reason}", where=self._where) from error
        return engine

    def _upgrade(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        STATE.upgrade(connection, self._where)
