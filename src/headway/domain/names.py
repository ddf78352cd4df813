"""Names and the one rule each must follow. Standard library only.

A model name becomes a URL segment, a folder, a Kubernetes object and a metrics label, so it follows
the strictest of them: an RFC 1123 label, kept to 40 characters so that ``<model>-<version>-<suffix>``
fits the 63 characters of a Kubernetes name.
"""

from __future__ import annotations

import re

from headway.domain.errors import InvalidName

MODEL_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
VERSION_NAME = re.compile(r"v[1-9][0-9]{0,8}")
REPLICA_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: no words; no look-alikes
REPLICA_SUFFIX_LENGTH = 5
DIGEST = re.compile(r"[0-9a-f]{64}")
TOKEN_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def check_model_name(name: str, *, where: str | None = None) -> str:
    """``name`` unchanged, or :class:`InvalidName`."""
    if not MODEL_NAME.fullmatch(name):
        raise InvalidName(
            f"{_shown(name)} is not a model name",
            where=where,
            hint="1 to 40 lowercase letters, digits and dashes, starting and ending with a letter or digit",
        )
    return name


def check_version_name(name: str, *, where: str | None = None) -> str:
    """``name`` unchanged, or :class:`InvalidName`. Versions are ``v1``, ``v2``, …"""
    if not VERSION_NAME.fullmatch(name):
        raise InvalidName(f"{_shown(name)} is not a version", where=where, hint="versions are named v1, v2, ...")
    return name


def check_token_name(name: str, *, where: str | None = None) -> str:
    """``name`` unchanged, or :class:`InvalidName`."""
    if not TOKEN_NAME.fullmatch(name):
        raise InvalidName(
            f"{_shown(name)} is not a token name",
            where=where,
            hint="1 to 63 lowercase letters, digits, dots, dashes and underscores",
        )
    return name


def check_digest(digest: str, *, where: str | None = None) -> str:
    """``digest`` unchanged, or :class:`InvalidName`. A digest is SHA-256 in lowercase hex."""
    if not DIGEST.fullmatch(digest):
        raise InvalidName(f"{_shown(digest)} is not a digest", where=where, hint="64 lowercase hex digits (SHA-256)")
    return digest


def version_name(number: int) -> str:
    """1 -> ``v1``."""
    return f"v{number}"


def version_number(name: str) -> int:
    """``v1`` -> 1."""
    return int(check_version_name(name)[1:])


def replica_name(model: str, version: str, suffix: str) -> str:
    """``iris``, ``v1``, ``x7k2p`` -> ``iris-v1-x7k2p``; at most 57 characters."""
    return f"{model}-{version}-{suffix}"
