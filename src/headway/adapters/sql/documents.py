"""The deployment aggregate as JSON documents, and back, without loss.

A document holds every field of the dataclass that has no column of its own. A field that is missing
in a stored document takes the dataclass's default, so an older database is read as it is. The other
way round cannot happen: a change of a dataclass's fields comes with a migration, if only an empty one
(``tests/unit/sql/test_document_shape.py`` insists), and a database of a newer Headway is refused when it
is opened. So there is no unknown field that could be dropped in silence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import RowMapping

from headway.domain.deployments import Deployment, Version
from headway.domain.errors import HeadwayError, StorageFailed


def to_json(value: Any) -> str:
    """JSON in ASCII, so that even a lone surrogate (half-decoded output of a process) can be stored."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def check_json(value: Any, what: str) -> None:
    """:class:`HeadwayError` when ``value`` is not JSON: a fault of the caller's code, not of the input."""
    try:
        to_json(value)
    except (TypeError, ValueError) as error:
        raise HeadwayError(f"{what} is not JSON: {error}") from error


def deployment_document(deployment: Deployment) -> dict[str, Any]:
    """All of it but the versions and what has a column of its own."""
    document = _plain(deployment, f"deployment {deployment.name}")
    for column in ("name", "resource_version", "state", "versions"):
        del document[column]
    return document


def version_document(version: Version) -> dict[str, Any]:
    """All of it but what has a column of its own."""
    document = _plain(version, f"version {version.name}")
    for column in ("name", "state"):
        del document[column]
    return document


def deployment_from(row: RowMapping, version_rows: Iterable[RowMapping]) -> Deployment:
    """The aggregate from its rows. Raises :class:`StorageFailed` when they do not make one."""
    versions = [{**r["document"], "name": r["name"], "state": r["state"]} for r in version_rows]
    fields = {
        **row["document"],
        "name": row["name"],
        "resource_version": row["resource_version"],
        "state": row["state"],
        "versions": versions,
    }
    try:
        return msgspec.convert(fields, Deployment)
    except msgspec.ValidationError as error:
        raise StorageFailed(f"the stored deployment {row['name']} cannot be read: {error}") from error


def _plain(value: Deployment | Version, what: str) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(value)
    check_json(plain, what)
    return plain
