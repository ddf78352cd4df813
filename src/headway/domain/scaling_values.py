"""The scalar types of ``spec.scaling``: cron expressions, time zones, and addresses that hold no secret.

A document is stored, shown and put under version control, so a password in an address is refused; the field's
``…FromEnv`` twin names an environment variable of the control plane instead.
"""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field

_TRIGGER_NAME = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
_ENV_REF = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
_SECRET_PARAMETERS = frozenset({"password", "passwd", "pass", "token", "access_token", "secret", "sslpassword"})
_A_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def _trigger_name(text: str) -> str:
    if re.fullmatch(_TRIGGER_NAME, text) is None or text.endswith("\n"):
        raise ValueError("must be 1 to 40 lowercase letters, digits and dashes, for example queue-length")
    return text


def _env_ref(text: str) -> str:
    if re.fullmatch(_ENV_REF, text) is None or text.endswith("\n"):
        raise ValueError("must be the name of an environment variable: letters, digits and underscores")
    return text


def _cron(text: str) -> str:
    if len(text.split()) != 5:
        raise ValueError("a cron expression has five fields: minute hour day month weekday, for example 0 8 * * 1-5")
    try:
        next(CronSim(text, _A_DAY))
    except StopIteration:
        raise ValueError(f"{text[:60]!r} never comes") from None
    except CronSimError as error:
        raise ValueError(f"{text[:60]!r} is not a cron expression: {str(error)[:100]}") from None
    return text


def _time_zone(name: str) -> str:
    if name == "UTC":
        return name  # known without a time zone database
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name[:60]!r} is not a time zone; write for example UTC or Europe/Vienna") from None
    return name


def _uri(schemes: tuple[str, ...], example: str, instead: str) -> AfterValidator:
    """A URI of one of ``schemes`` with a host; ``instead`` tells where a secret goes."""

    def run(text: str) -> str:
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port
            secret = parts.password is not None
        except ValueError:
            raise ValueError(f"is not a URI; write for example {example}") from None
        if parts.scheme not in schemes or not host or any(c.isspace() or not c.isprintable() for c in text):
            raise ValueError(f"must be a URI that starts with {_alternatives(schemes)}, for example {example}")
        if secret or any(name.lower() in _SECRET_PARAMETERS for name, _ in parse_qsl(parts.query)):
            raise ValueError(f"holds a password, and documents are no place for secrets; {instead}")
        return text

    return AfterValidator(run)


def _alternatives(schemes: tuple[str, ...]) -> str:
    named = [f"{scheme}://" for scheme in schemes]
    return " or ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def _address(text: str) -> str:
    if "@" in text or "://" in text:
        raise ValueError("must be host:port; usernameFromEnv and passwordFromEnv tell who asks")
    found = _ADDRESS.fullmatch(text)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise ValueError("must be host:port, for example localhost:6379")
    return text


TriggerName = Annotated[
    str, Field(max_length=40, json_schema_extra={"pattern": _TRIGGER_NAME}), AfterValidator(_trigger_name)
]
EnvRef = Annotated[str, Field(max_length=128, json_schema_extra={"pattern": _ENV_REF}), AfterValidator(_env_ref)]
"""Name of an environment variable of the control plane: secrets stay out of documents."""
_text = Field(min_length=1, max_length=4096)
Cron = Annotated[str, Field(min_length=1, max_length=200, examples=["0 8 * * 1-5"]), AfterValidator(_cron)]
TimeZone = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_time_zone)]
HttpUri = Annotated[
    str,
    _text,
    _uri(("http", "https"), "http://localhost:9090", "name a variable that holds a token in bearerTokenFromEnv"),
]
AmqpOrHttpUri = Annotated[
    str,
    _text,
    _uri(
        ("amqp", "amqps", "http", "https"),
        "amqp://localhost:5672/",
        "put the whole URI into an environment variable and name it in hostFromEnv",
    ),
]
PostgresqlUri = Annotated[
    str,
    _text,
    _uri(
        ("postgresql", "postgres"),
        "postgresql://user@localhost:5432/database",
        "put the whole URI into an environment variable and name it in connectionFromEnv",
    ),
]
Address = Annotated[str, _text, AfterValidator(_address)]
