"""Deployments and tokens in memory, on one shared event log.

Every change is checked first and then made without yielding to the event loop, so it is one
transaction together with its events. What goes in and out is copied: nobody can change the stored
state by changing what they hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

from headway.adapters.memory.event_log import MemoryEventLog
from headway.domain.deployments import Deployment
from headway.domain.errors import Conflict, ModelNotFound, StaleWrite, TokenNotFound
from headway.domain.events import NewEvent
from headway.domain.tokens import Token


class MemoryDeploymentStore:
    """Resource versions are drawn from one counter for all deployments, so none is ever used twice."""

    def __init__(self, log: MemoryEventLog) -> None:
        self._log = log
        self._deployments: dict[str, Deployment] = {}
        self._resource_version = 0

    async def load_all(self) -> list[Deployment]:
        return [deepcopy(self._deployments[name]) for name in sorted(self._deployments)]

    async def save(self, deployment: Deployment, events: Sequence[NewEvent] = ()) -> Deployment:
        prepared = self._log.prepare(events)
        stored = self._deployments.get(deployment.name)
        if deployment.resource_version != (stored.resource_version if stored else 0):
            raise StaleWrite(f"deployment {deployment.name} was changed by somebody else", hint="read it again")
        self._resource_version += 1
        saved = replace(deployment, resource_version=self._resource_version)
        self._deployments[saved.name] = deepcopy(saved)
        self._log.record(prepared)
        return saved

    async def delete(self, name: str, events: Sequence[NewEvent] = ()) -> None:
        prepared = self._log.prepare(events)
        if name not in self._deployments:
            raise ModelNotFound(f"there is no model {name}")
        del self._deployments[name]
        self._log.record(prepared)


class MemoryTokenStore:
    """Tokens in order of creation."""

    def __init__(self, log: MemoryEventLog) -> None:
        self._log = log
        self._tokens: list[Token] = []

    async def list(self) -> list[Token]:
        return [*self._tokens]

    async def add(self, token: Token, events: Sequence[NewEvent] = ()) -> None:
        prepared = self._log.prepare(events)
        if token.revoked_at is None and self._unrevoked(token.name) is not None:
            raise Conflict(f"there is a token {token.name} already", hint="revoke it first or choose another name")
        self._tokens.append(token)
        self._log.record(prepared)

    async def revoke(self, name: str, now: float, events: Sequence[NewEvent] = ()) -> Token:
        prepared = self._log.prepare(events)
        index = self._unrevoked(name)
        if index is None:
            raise TokenNotFound(f"there is no unrevoked token {name}")
        self._tokens[index] = replace(self._tokens[index], revoked_at=now)
        self._log.record(prepared)
        return self._tokens[index]

    def _unrevoked(self, name: str) -> int | None:
        for index, token in enumerate(self._tokens):
            if token.name == name and token.revoked_at is None:
                return index
        return None
