"""TokenStore: hashed access tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headway.domain.events import NewEvent
from headway.domain.tokens import Token


class TokenStore(Protocol):
    """Names are unique among tokens that are not revoked; revoked ones stay listed."""

    async def list(self) -> list[Token]:
        """Every token, revoked and expired ones too, by creation."""
        ...

    async def add(self, token: Token, events: Sequence[NewEvent] = ()) -> None:
        """Raises ``Conflict`` when an unrevoked token has that name."""
        ...

    async def revoke(self, name: str, now: float, events: Sequence[NewEvent] = ()) -> Token:
        """The revoked token. Raises ``TokenNotFound`` when no unrevoked token has that name."""
        ...
