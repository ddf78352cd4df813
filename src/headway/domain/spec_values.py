"""The scalar types of the deployment document: their syntax, and the one spelling each value is brought to.

Names and paths end up in the gateway's configuration, in URLs or in a process environment, so their syntax is
the plain core of what the RFCs allow. Amounts are kept in canonical spelling: the same amount is the same text,
and so makes no new version.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from headway.domain import names
from headway.domain.bundles import check_path
from headway.domain.errors import InvalidBundle, InvalidName
from headway.domain.quantities import (
    byte_count,
    canonical_bytes,
    canonical_duration,
    canonical_millicores,
    canonical_share,
    millicores,
)

RESERVED_ENV = re.compile(r"HEADWAY_.*|PYTHONPATH|PYTHONHOME|LD_PRELOAD|LD_AUDIT")
LEAST_MEMORY = 16 * 1024 * 1024
MOST_MEMORY = 1 << 60
MOST_MILLICORES = 1_024_000
_ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
# The plain core of RFC 9110's token (5.6.2): what it allows besides, nobody names a header, and a gateway's
# configuration would have to quote.
_HEADER_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
_COOKIE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
_ENTRYPOINT = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"
_PROBE_PATH = r"^/[!-~]*$"


def _checked(check: Callable[[str], object]) -> AfterValidator:
    """Whatever ``check`` says of a name or path, said as a problem of the document."""

    def run(text: str) -> str:
        try:
            check(text)
        except (InvalidName, InvalidBundle) as error:
            raise ValueError(f"{error.message} ({error.hint})") from None
        return text

    return AfterValidator(run)


def syntax(pattern: str, words: str) -> AfterValidator:
    """Text that fits ``pattern``; ``words`` tell people what that is."""
    compiled = re.compile(pattern.removeprefix("^").removesuffix("$"))

    def run(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError(words)
        return text

    return AfterValidator(run)


def _written(value: object) -> object:
    """A quantity may be written as a number, as in Kubernetes: ``cpu: 2``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MOST_MEMORY:
        return value
    return format(Decimal(repr(value)), "f")


def _unitless(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError("a duration needs a unit; write for example 2ms, 30s or 1m30s")
    return value


def _cpu(text: str) -> str:
    if millicores(text) > MOST_MILLICORES:
        raise ValueError("must be at most 1024")
    return canonical_millicores(millicores(text))


def _bytes(text: str) -> str:
    if text.endswith("m"):
        # Kubernetes reads 512m as half a byte; whoever writes it means mebibytes.
        raise ValueError(f"the unit m means thousandths; did you mean {text[:-1][:40]}Mi?")
    count = byte_count(text)
    if count >= MOST_MEMORY:
        raise ValueError("must be below 1Ei")
    return canonical_bytes(count)


def _memory(text: str) -> str:
    if byte_count(text) < LEAST_MEMORY:
        raise ValueError("is less than any replica needs to start (16Mi); write for example 512Mi or 2Gi")
    return text


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("cannot hold a NUL character")
    return text


def _not_reserved(name: str) -> str:
    if RESERVED_ENV.fullmatch(name):
        raise ValueError(f"{name} is set by Headway itself")
    return name


def _not_ours(header: str) -> str:
    if header.lower().startswith("x-headway-"):
        raise ValueError("x-headway-* headers are Headway's own; a client cannot send them")
    return header


_quantity = BeforeValidator(_written, json_schema_input_type=str | float)
Millicores = Annotated[str, Field(examples=["500m", "2"]), AfterValidator(_cpu), _quantity]
Bytes = Annotated[str, Field(examples=["512Mi", "2Gi"]), AfterValidator(_bytes), _quantity]
Memory = Annotated[str, Field(examples=["512Mi", "2Gi"]), AfterValidator(_bytes), AfterValidator(_memory), _quantity]
Duration = Annotated[
    str, Field(examples=["2ms", "30s"]), AfterValidator(canonical_duration), BeforeValidator(_unitless)
]
Percent = Annotated[str, Field(examples=["0.1%", "5%"]), AfterValidator(canonical_share)]
FieldName = Annotated[str, Field(min_length=1, max_length=256)]
ModelName = Annotated[str, Field(max_length=40), _checked(names.check_model_name)]
VersionName = Annotated[str, _checked(names.check_version_name)]
FolderPath = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_no_nul)]
BundlePath = Annotated[str, Field(min_length=1, max_length=1024), _checked(check_path)]
ProbePath = Annotated[
    str,
    Field(max_length=256, json_schema_extra={"pattern": _PROBE_PATH}),
    syntax(_PROBE_PATH, "must be a path that starts with /, in printable ASCII without spaces"),
]
EntryPoint = Annotated[
    str,
    Field(max_length=300, json_schema_extra={"pattern": _ENTRYPOINT}),
    syntax(_ENTRYPOINT, "must be module:attribute, for example model:Iris"),
]
EnvName = Annotated[
    str,
    Field(max_length=128, json_schema_extra={"pattern": _ENV_NAME}),
    syntax(_ENV_NAME, "must be letters, digits and underscores, not starting with a digit"),
    AfterValidator(_not_reserved),
]
EnvValue = Annotated[str, Field(max_length=32_768), AfterValidator(_no_nul)]
HeaderName = Annotated[
    str,
    Field(max_length=64, json_schema_extra={"pattern": _HEADER_NAME}),
    syntax(_HEADER_NAME, "must be a header name: letters, digits, dashes and underscores"),
    AfterValidator(_not_ours),
]
CookieName = Annotated[
    str,
    Field(max_length=64, json_schema_extra={"pattern": _COOKIE_NAME}),
    syntax(_COOKIE_NAME, "must be a cookie name: letters, digits, dots, dashes and underscores"),
]
