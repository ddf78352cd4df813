"""One question to an outside system: its time limit, how its failure is told, and which answers are numbers.

Passwords come in through addresses and the environment. No message holds one: what a library says is cleaned of
every secret of the question, and an address is shown without its user, password and parameters.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

from headway.domain.errors import SignalLost
from headway.domain.quantities import seconds

T = TypeVar("T")
LONGEST_QUOTE = 200


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked (``LLEN jobs``), of whom (``Redis at cache:6379/0``), and how long an answer may take."""

    asked: str
    of: str
    timeout: str
    secrets: tuple[str, ...] = ()

    def lost(self, came_back: str) -> SignalLost:
        """The failure of this question, told in one line."""
        for secret in self.secrets:
            for spelling in {secret, unquote(secret), quote(secret, safe="")} - {""}:
                came_back = came_back.replace(spelling, "***")
        came_back = " ".join(came_back.split())[:LONGEST_QUOTE] or "nothing"
        return SignalLost(
            f"{self.of}, asked for {self.asked}: {came_back}",
            details={"asked": self.asked, "of": self.of, "came_back": came_back},
        )

    def of_whom(self, of: str, *secrets: str | None) -> Question:
        """The same question with a better name of whom it is put to, and with what must not be told."""
        return replace(self, of=of, secrets=(*self.secrets, *(secret for secret in secrets if secret)))

    @asynccontextmanager
    async def limited(self) -> AsyncIterator[None]:
        """Everything within takes at most the question's time, else ``SignalLost``: looking a name up, connecting too.

        What runs within is cancelled then, and must not wait again for a server that hangs.
        """
        limit = asyncio.timeout(seconds(self.timeout))
        try:
            async with limit:
                yield
        except TimeoutError as error:
            raise self.lost(f"no answer within {self.timeout}" if limit.expired() else reason(error)) from None

    def variable(self, env: Mapping[str, str], name: str, field: str) -> str:
        """The environment variable that ``field`` of the trigger names. Raises ``SignalLost`` without it."""
        if value := env.get(name):
            return value
        raise self.lost(f"the environment variable {name}, named by {field}, is not set (or is empty)")

    def number(self, value: object) -> float:
        """``value`` as the answer. Raises ``SignalLost`` for what is no finite number: null, text, NaN, infinity."""
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise self.lost(f"{shown(value)} instead of a number")
        if not math.isfinite(value):
            raise self.lost(f"{value} instead of a finite number")
        return float(value)


def expect(trigger: object, kind: type[T]) -> T:
    """``trigger``, which is of that kind; anything else is the caller's mistake."""
    if not isinstance(trigger, kind):
        raise TypeError(f"this source reads {kind.__name__}, not {type(trigger).__name__}")
    return trigger


def shown(value: object) -> str:
    """How a value that is no number is named in a message."""
    if value is None:
        return "null"
    return f"{type(value).__name__} {str(value)[:60]!r}"


def reason(error: BaseException) -> str:
    """The most telling line of an error: of a chain, the operating system's word (``Connection refused``)."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        link = link.exceptions[0] if isinstance(link, BaseExceptionGroup) else link.__cause__ or link.__context__
    for link in reversed(seen):
        if isinstance(link, OSError) and link.strerror:
            # What a library put in place of the system's own words says less: "Connect call failed".
            if link.errno and not isinstance(link, ssl.SSLError | socket.gaierror):
                return os.strerror(link.errno)
            return link.strerror
    return next((f"{type(one).__name__}: {one}" for one in seen if str(one)), type(error).__name__)


def bare(address: str) -> str:
    """The address for people: no user, no password, no parameters."""
    try:
        parts = urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}" if parts.scheme and host else "an address without a host"
