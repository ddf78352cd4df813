"""What every token store does, the event log that it writes to included."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import NamedTuple

import pytest

from headway.domain.errors import Conflict, HeadwayError, TokenNotFound
from headway.domain.events import EventType, NewEvent
from headway.domain.tokens import Scope, Token, digest
from headway.ports.event_log import EventLog
from headway.ports.token_store import TokenStore


class TokenState(NamedTuple):
    """A store and the log that its events go to."""

    tokens: TokenStore
    log: EventLog


def token(name: str = "ci", secret: str = "hw_secret", scope: Scope = Scope.PREDICT) -> Token:
    return Token(name, digest(secret), scope, ("iris", "wine"), 1_700_000_000.5)


def told(name: str) -> NewEvent:
    return NewEvent(1.0, EventType.TOKEN_CREATED, data={"name": name})


@pytest.mark.anyio
class TokenStoreContract:
    """Subclasses give a fixture ``state``."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_tokens_are_listed_as_they_were_added_in_order(self, state: TokenState) -> None:
        assert await state.tokens.list() == []
        tokens = [
            token("z"),
            replace(token("a", "hw_2", Scope.ADMIN), models=None, created_at=3.0, expires_at=4.25),
            replace(token("m", "hw_3", Scope.DEPLOY), models=(), created_at=2.0),
        ]
        for one in tokens:
            await state.tokens.add(one)
        found = await state.tokens.list()
        assert found == tokens
        assert [type(t.scope) for t in found] == [Scope] * 3

    async def test_a_name_is_taken_until_it_is_revoked(self, state: TokenState) -> None:
        await state.tokens.add(token())
        with pytest.raises(Conflict):
            await state.tokens.add(token(secret="hw_other"), [told("ci")])
        assert await state.tokens.list() == [token()]
        assert await state.log.read() == []

    async def test_an_expired_token_keeps_its_name(self, state: TokenState) -> None:
        await state.tokens.add(replace(token(), expires_at=1.0))
        with pytest.raises(Conflict):
            await state.tokens.add(token())

    async def test_a_revoked_token_stays_listed_and_frees_its_name(self, state: TokenState) -> None:
        await state.tokens.add(token())
        revoked = await state.tokens.revoke("ci", 99.5)
        assert revoked == replace(token(), revoked_at=99.5)
        newer = token(secret="hw_newer")
        await state.tokens.add(newer)
        assert await state.tokens.list() == [revoked, newer]
        again = await state.tokens.revoke("ci", 100.0)
        assert again == replace(newer, revoked_at=100.0)
        assert await state.tokens.list() == [revoked, again]

    async def test_revoking_twice_or_what_is_not_there(self, state: TokenState) -> None:
        await state.tokens.add(token())
        await state.tokens.revoke("ci", 5.0)
        for name in ("ci", "nobody"):
            with pytest.raises(TokenNotFound):
                await state.tokens.revoke(name, 6.0, [told(name)])
        assert await state.tokens.list() == [replace(token(), revoked_at=5.0)]
        assert await state.log.read() == []

    async def test_of_concurrent_adds_and_revocations_one_wins(self, state: TokenState) -> None:
        adds = [state.tokens.add(token(secret=f"hw_{n}"), [told(str(n))]) for n in range(6)]
        added = [type(r) for r in await asyncio.gather(*adds, return_exceptions=True) if r is not None]
        assert added == [Conflict] * 5
        revocations = [state.tokens.revoke("ci", float(n), [told("revoked")]) for n in range(6)]
        revoked = [r for r in await asyncio.gather(*revocations, return_exceptions=True) if not isinstance(r, Token)]
        assert [type(r) for r in revoked] == [TokenNotFound] * 5
        assert len(await state.tokens.list()) == 1
        assert len(await state.log.read()) == 2

    async def test_the_events_come_with_the_change(self, state: TokenState) -> None:
        await state.tokens.add(token(), [told("added")])
        await state.tokens.revoke("ci", 5.0, [told("revoked")])
        assert [e.data["name"] for e in await state.log.read()] == ["added", "revoked"]

    async def test_when_the_events_cannot_be_written_nothing_changes(self, state: TokenState) -> None:
        bad = NewEvent(1.0, EventType.TOKEN_CREATED, data={"x": float("inf")})
        with pytest.raises(HeadwayError):
            await state.tokens.add(token(), [bad])
        assert await state.tokens.list() == []
        await state.tokens.add(token())
        with pytest.raises(HeadwayError):
            await state.tokens.revoke("ci", 1.0, [bad])
        assert await state.tokens.list() == [token()]
