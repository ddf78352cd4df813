"""Webhooks of jobs: how they are signed, when they are tried again, and where they may lead. Pure.

Signatures follow Standard Webhooks 1.0 (standardwebhooks.com): HMAC-SHA256 over ``ID.TIMESTAMP.BODY``, so that neither
the body nor its time can be replaced, and a receiver can tell a repeated delivery by its id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from headway.domain.errors import InvalidInput

SECRET_PREFIX: Final = "whsec_"
MOST_URL_CHARS: Final = 2000
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 3600.0
GONE: Final = 410
"""The receiver wants no more of this (Standard Webhooks)."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


def secret_key(secret: str) -> bytes:
    """The key that ``secret`` stands for: what follows ``whsec_`` is base64, anything else is taken as it is."""
    if secret.startswith(SECRET_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


def signed_headers(key: bytes, delivery_id: str, at: float, body: bytes) -> Mapping[str, str]:
    """The headers that tell the receiver who sent ``body``, and when (seconds since the epoch)."""
    timestamp = str(int(at))
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": delivery_id, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}


def pause_s(tries: int, chance: float) -> float:
    """How long to wait after ``tries`` failed tries: 5, 10, 20 s … an hour; ``chance`` (0 to 1) makes it up to 20 %
    longer or shorter, so that what failed together is not tried together."""
    doublings = min(max(tries - 1, 0), 20)
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**doublings)) * (0.8 + 0.4 * chance)


def check_url(url: str, *, allow_private: bool) -> SplitResult:
    """The parts of a webhook's URL. Raises :class:`InvalidInput` for what cannot or may not be called."""
    if len(url) > MOST_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidInput(f"must be at most {MOST_URL_CHARS} printable ASCII characters", where="webhook")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidInput(f"{url[:80]!r} is no URL", where="webhook") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise InvalidInput(f"{url[:80]!r} is no http or https URL", where="webhook")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("the URL must not hold a user or password", where="webhook")
    if not allow_private and _as_address(host) is not None and not is_public(host):
        raise InvalidInput(
            f"{host} is not a public address",
            where="webhook",
            hint="jobs.webhooks.allowPrivate: true lets webhooks of this model go there",
        )
    return parts


def is_public(address: str) -> bool:
    """Whether ``address`` is an IP address out in the internet: not loopback, private, link-local, multicast, reserved.

    What carries an IPv4 address inside (mapped, 6to4, Teredo, NAT64) is judged by that as well.
    """
    found = _as_address(address.partition("%")[0])
    return found is not None and "%" not in address and all(_public(one) for one in _readings(found))


def _as_address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _readings(address: Address) -> list[Address]:
    readings: list[Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return [address.ipv4_mapped]
        if address.sixtofour is not None:
            readings.append(address.sixtofour)
        if address.teredo is not None:
            readings.extend(address.teredo)
        if address in _NAT64:
            return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return readings


def _public(address: Address) -> bool:
    refused = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
    return address.is_global and not refused and not address.is_link_local and not address.is_private
