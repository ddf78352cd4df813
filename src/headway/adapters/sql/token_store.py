"""Tokens in SQL. Only the SHA-256 of a secret is ever here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from headway.adapters.sql.database import SqlDatabase
from headway.adapters.sql.tables import tokens
from headway.domain.errors import Conflict, TokenNotFound
from headway.domain.events import NewEvent
from headway.domain.tokens import Scope, Token


class SqlTokenStore:
    """Revoked tokens stay as rows; a partial unique index keeps the names of the others apart."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def list(self) -> list[Token]:
        query = sa.select(tokens).order_by(tokens.c.id)
        return await self._database.read(lambda c: [_token(row) for row in c.execute(query).mappings()])

    async def add(self, token: Token, events: Sequence[NewEvent] = ()) -> None:
        def work(connection: sa.Connection) -> None:
            if token.revoked_at is None and connection.execute(_unrevoked(token.name)).first() is not None:
                raise Conflict(f"there is a token {token.name} already", hint="revoke it first or choose another name")
            connection.execute(sa.insert(tokens).values(_row(token)))

        await self._database.write(work, events)

    async def revoke(self, name: str, now: float, events: Sequence[NewEvent] = ()) -> Token:
        def work(connection: sa.Connection) -> Token:
            row = connection.execute(_unrevoked(name)).mappings().first()
            if row is None:
                raise TokenNotFound(f"there is no unrevoked token {name}")
            connection.execute(sa.update(tokens).where(tokens.c.id == row["id"]).values(revoked_at=now))
            return replace(_token(row), revoked_at=now)

        return await self._database.write(work, events)


def _unrevoked(name: str) -> sa.Select[Any]:
    return sa.select(tokens).where(tokens.c.name == name, tokens.c.revoked_at.is_(None))


def _row(token: Token) -> dict[str, Any]:
    return {
        "name": token.name,
        "sha256": token.sha256,
        "scope": str(token.scope),
        "models": None if token.models is None else [*token.models],
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    }


def _token(row: sa.RowMapping) -> Token:
    return Token(
        name=row["name"],
        sha256=row["sha256"],
        scope=Scope(row["scope"]),
        models=None if row["models"] is None else tuple(row["models"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
