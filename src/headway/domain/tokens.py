"""Access tokens: ``hw_`` and 43 characters of base64url (256 random bits). Stored as SHA-256.

A fast hash is right here: the secret has 256 bits of its own, there is nothing to guess
(OWASP, *Password Storage*, speaks of low-entropy secrets).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum

TOKEN_PREFIX = "hw_"


class Scope(StrEnum):
    """``admin``: everything. ``deploy``: everything but tokens and shutdown. ``predict``: the data listener."""

    ADMIN = "admin"
    DEPLOY = "deploy"
    PREDICT = "predict"


GRANTS: dict[Scope, frozenset[Scope]] = {
    Scope.ADMIN: frozenset(Scope),
    Scope.DEPLOY: frozenset({Scope.DEPLOY, Scope.PREDICT}),
    Scope.PREDICT: frozenset({Scope.PREDICT}),
}


@dataclass(frozen=True, slots=True)
class Token:
    """A stored token; the secret itself is shown once and kept nowhere."""

    name: str
    sha256: str
    scope: Scope
    models: tuple[str, ...] | None
    """Models a ``predict`` or ``deploy`` token is confined to; None: all."""
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None

    def active(self, now: float) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def allows(self, scope: Scope, model: str | None) -> bool:
        """Whether it covers ``scope`` on ``model`` (None: something that is of no single model)."""
        if scope not in GRANTS[self.scope]:
            return False
        return self.models is None or (model is not None and model in self.models)


def digest(secret: str) -> str:
    """SHA-256 of the secret, lowercase hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(secret_sha256: str, token: Token) -> bool:
    """Constant-time comparison of two digests."""
    return hmac.compare_digest(secret_sha256, token.sha256)
