"""Access: who is calling, and what that token covers.

The default is no: every path but the public ones needs a token, and a token that may only predict gets
nothing here. A ``deploy`` token may do everything but tokens and shutdown, on its models if it is confined.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from fastapi import Depends, Path
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from headway.api.answers import failure
from headway.control.tokens import TokenService
from headway.domain import names
from headway.domain.errors import Forbidden, Unauthenticated
from headway.domain.tokens import GRANTS, Token
from headway.domain.tokens import Scope as TokenScope

PUBLIC = frozenset({"/healthz"})
HOW = "send the header 'Authorization: Bearer hw_…'; on this machine the file admin.token in Headway's home holds one"


class Authentication:
    """Lets requests with a valid token pass and remembers whose they are (``request.state.caller``).

    Pure ASGI and before any routing, so that without a token nothing is read, parsed or told apart.
    """

    def __init__(self, app: ASGIApp, *, tokens: TokenService, public: Collection[str] = PUBLIC) -> None:
        self._app = app
        self._tokens = tokens
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._public:
            try:
                caller = self._tokens.authenticate(_secret(scope))
            except Unauthenticated as error:
                await failure(error, {"WWW-Authenticate": _challenge(scope)})(scope, receive, send)
                return
            if TokenScope.DEPLOY not in GRANTS[caller.scope]:
                raise Forbidden(
                    f"token {caller.name} may call models only, not the control API",
                    hint="headway token create NAME --scope deploy",
                )
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)


def _challenge(scope: Scope) -> str:
    """RFC 6750, section 3: the error attribute only when a token was presented."""
    presented = any(name == b"authorization" for name, _ in scope["headers"])
    return 'Bearer realm="headway"' + (', error="invalid_token"' if presented else "")


def _secret(scope: Scope) -> str:
    sent: list[bytes] = [value for name, value in scope["headers"] if name == b"authorization"]
    if not sent:
        raise Unauthenticated("a token is needed here", hint=HOW)
    if len(sent) > 1:
        raise Unauthenticated("more than one Authorization header", hint=HOW)
    kind, _, secret = sent[0].decode("latin-1").partition(" ")
    if kind.lower() != "bearer" or not secret.strip():
        raise Unauthenticated("the Authorization header holds no bearer token", hint=HOW)
    return secret.strip()


def _caller(request: Request) -> Token:
    caller = request.state.caller
    assert isinstance(caller, Token)
    return caller


Caller = Annotated[Token, Depends(_caller)]
"""Endpoint argument: the caller's token."""


def _administrator(caller: Caller) -> Token:
    if TokenScope.ADMIN not in GRANTS[caller.scope]:
        raise Forbidden(f"token {caller.name} has scope {caller.scope}; this needs an admin token")
    return caller


Administrator = Annotated[Token, Depends(_administrator)]
"""Endpoint argument: the caller's token, which is an admin's; others are refused."""


def check_covers(caller: Token, model: str) -> str:
    """``model`` when the token covers it. Raises ``Forbidden``, whether or not there is such a model."""
    if caller.models is not None and model not in caller.models:
        raise Forbidden(
            f"token {caller.name} does not cover model {model}", hint=f"it covers: {', '.join(caller.models[:10])}"
        )
    return model


def covered(caller: Token) -> frozenset[str] | None:
    """The models the caller may see; None: all, and what belongs to no model as well."""
    return None if caller.models is None else frozenset(caller.models)


def _model(
    model: Annotated[
        str,
        Path(
            description="Name of the model: 1 to 40 lowercase letters, digits and dashes.",
            examples=["iris"],
            json_schema_extra={"pattern": f"^{names.MODEL_NAME.pattern}$"},
        ),
    ],
    caller: Caller,
) -> str:
    return check_covers(caller, names.check_model_name(model, where="path"))


ModelName = Annotated[str, Depends(_model)]
"""Endpoint argument: the model in the path, which the caller's token covers."""


def _digest(
    digest: Annotated[
        str,
        Path(
            description="Digest of the bundle: SHA-256 in lowercase hex.",
            json_schema_extra={"pattern": f"^{names.DIGEST.pattern}$"},
        ),
    ],
) -> str:
    return names.check_digest(digest, where="path")


Digest = Annotated[str, Depends(_digest)]
"""Endpoint argument: the bundle digest in the path."""


def _token_name(
    name: Annotated[
        str,
        Path(
            description="Name of the token.",
            examples=["ci"],
            json_schema_extra={"pattern": f"^{names.TOKEN_NAME.pattern}$"},
        ),
    ],
) -> str:
    return names.check_token_name(name, where="path")


TokenName = Annotated[str, Depends(_token_name)]
"""Endpoint argument: the token name in the path."""
