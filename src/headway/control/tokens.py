"""TokenService: who may call, kept in memory and written through to the store.

A presented secret is hashed and compared with every stored hash in constant time, never looked up by key,
so the time an answer takes tells nothing about what is stored (the secrets themselves have 256 random bits,
see :mod:`headway.domain.tokens`). There is one control plane per home, so memory is as true as the store.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headway.domain.errors import Conflict, InvalidInput, Unauthenticated
from headway.domain.events import EventType, NewEvent
from headway.domain.names import check_model_name, check_token_name
from headway.domain.routing_table import GatewayToken
from headway.domain.tokens import GRANTS, TOKEN_PREFIX, Scope, Token, digest, matches
from headway.ports.clock import Clock
from headway.ports.token_store import TokenStore

HOME_TOKEN_NAME = "home-admin"
"""Name of the home's built-in admin token; no stored token can take it."""
SECRET_BYTES = 32
MAX_LIFETIME_S = 100 * 365 * 86_400.0
MAX_MODELS = 1_000
"""Models that one token may be confined to."""


@dataclass(frozen=True, slots=True)
class CreatedToken:
    """A new token and its secret, which is kept nowhere else."""

    token: Token
    secret: str

    def __repr__(self) -> str:
        return f"CreatedToken(token={self.token!r})"


class TokenService:
    """Create, list, revoke and check tokens. Call :meth:`load` once before anything else.

    ``home_admin_sha256`` is the hash of the home's own admin token: it passes every check, is not listed and
    cannot be revoked. ``on_change`` is called after every change of what the gateway has to know.
    """

    def __init__(
        self,
        store: TokenStore,
        clock: Clock,
        *,
        home_admin_sha256: str,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._home = Token(HOME_TOKEN_NAME, home_admin_sha256, Scope.ADMIN, models=None, created_at=0.0)
        self.on_change = on_change
        self._tokens: tuple[Token, ...] = ()
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Read every token from the store."""
        self._tokens = tuple(await self._store.list())

    def list(self) -> tuple[Token, ...]:
        """Every stored token, revoked and expired ones too, by creation."""
        return self._tokens

    async def create(
        self, name: str, scope: str, *, models: Sequence[str] | None = None, lifetime_s: float | None = None
    ) -> CreatedToken:
        """A new token with a fresh secret; ``lifetime_s`` None: it does not expire.

        Raises ``InvalidName`` or ``InvalidInput`` for bad arguments, ``Conflict`` when an unrevoked token
        (expired ones count) has that name.
        """
        check_token_name(name, where="name")
        if name == HOME_TOKEN_NAME:
            raise Conflict(f"{name!r} is the name of this home's own token", where="name", hint="choose another name")
        granted = _scope(scope)
        confined = _confined_to(models, granted)
        now = self._clock.now()
        expires_at = None if lifetime_s is None else now + _lifetime(lifetime_s)
        secret = TOKEN_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        token = Token(name, digest(secret), granted, confined, created_at=now, expires_at=expires_at)
        data = {"name": name, "scope": str(granted), "models": _listed(confined), "expires_at": expires_at}
        async with self._lock:
            await self._store.add(token, [NewEvent(now, EventType.TOKEN_CREATED, data=data)])
            await self.load()
        self._changed()
        return CreatedToken(token, secret)

    async def revoke(self, name: str) -> Token:
        """Make the token of that name void at once. Raises ``InvalidName`` or ``TokenNotFound``."""
        check_token_name(name, where="name")
        now = self._clock.now()
        async with self._lock:
            revoked = await self._store.revoke(name, now, [NewEvent(now, EventType.TOKEN_REVOKED, data={"name": name})])
            await self.load()
        self._changed()
        return revoked

    def authenticate(self, secret: str) -> Token:
        """The token that ``secret`` belongs to. Raises ``Unauthenticated``, saying why when it was ours once."""
        presented = digest(secret)
        found: Token | None = None
        # No early exit: as many comparisons whether the first, the last or no token fits.
        for token in (self._home, *self._tokens):
            if matches(presented, token):
                found = token
        if found is None:
            raise Unauthenticated("this token is not known here", hint="headway token create NAME")
        if found.revoked_at is not None:
            raise Unauthenticated(f"token {found.name} was revoked", hint="headway token create NAME")
        if not found.active(self._clock.now()):
            raise Unauthenticated(f"token {found.name} has expired", hint="headway token create NAME")
        return found

    def still_valid(self, token: Token) -> bool:
        """Whether a token that was authenticated earlier would be accepted again: for answers that go on for long."""
        if token.sha256 == self._home.sha256:
            return True
        now = self._clock.now()
        return any(t.sha256 == token.sha256 and t.active(now) for t in self._tokens)

    def gateway_tokens(self) -> tuple[GatewayToken, ...]:
        """Every active token that may call models, the home's own included, as the gateway needs to know it."""
        now = self._clock.now()
        able = [t for t in (self._home, *self._tokens) if t.active(now) and Scope.PREDICT in GRANTS[t.scope]]
        return tuple(
            GatewayToken(t.name, t.sha256, t.models, None if t.expires_at is None else math.floor(t.expires_at))
            for t in able
        )

    def has_active(self, scope: Scope) -> bool:
        """Whether any *stored* active token covers ``scope``.

        The home's own token does not count: it never leaves the machine, so a listener beyond loopback that
        only it could use would be of no use to anybody who should be let in.
        """
        now = self._clock.now()
        return any(t.active(now) and scope in GRANTS[t.scope] for t in self._tokens)

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()


def _scope(text: str) -> Scope:
    try:
        return Scope(text)
    except ValueError:
        raise InvalidInput(f"{text[:40]!r} is not a scope", where="scope", hint=f"one of: {', '.join(Scope)}") from None


def _confined_to(models: Sequence[str] | None, scope: Scope) -> tuple[str, ...] | None:
    if models is None:
        return None
    if scope is Scope.ADMIN:
        raise InvalidInput("an admin token cannot be confined to models", where="models", hint="use scope deploy")
    if not models:
        raise InvalidInput("an empty list of models", where="models", hint="leave models out to cover all of them")
    if len(models) > MAX_MODELS:
        raise InvalidInput(f"{len(models)} models, more than {MAX_MODELS}", where="models", hint="leave models out")
    for index, model in enumerate(models):
        check_model_name(model, where=f"models[{index}]")
    return tuple(dict.fromkeys(models))


def _lifetime(seconds: float) -> float:
    if not 0 < seconds <= MAX_LIFETIME_S:  # also false for NaN
        raise InvalidInput(
            f"a token cannot live for {seconds:g} s",
            where="expires_in_s",
            hint=f"more than 0 and at most {MAX_LIFETIME_S:.0f} (100 years), or left out for no expiry",
        )
    return float(seconds)


def _listed(models: tuple[str, ...] | None) -> Sequence[str] | None:
    return None if models is None else [*models]
