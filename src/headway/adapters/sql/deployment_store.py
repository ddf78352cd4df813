"""Deployments and their versions in SQL.

The version rows of one deployment are written only when they differ from what is stored: a model with
hundreds of old versions costs a save no more than one with two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from headway.adapters.sql.appends import draw
from headway.adapters.sql.database import SqlDatabase
from headway.adapters.sql.documents import deployment_document, deployment_from, version_document
from headway.adapters.sql.tables import RESOURCE_VERSION, deployments, versions
from headway.domain.deployments import Deployment
from headway.domain.errors import ModelNotFound, StaleWrite
from headway.domain.events import NewEvent


class SqlDeploymentStore:
    """Resource versions are drawn from one counter for all deployments, so none is ever used twice.

    With a counter per deployment, a save based on a deployment that was deleted and made again meanwhile
    could meet an equal number and win.
    """

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def load_all(self) -> list[Deployment]:
        return await self._database.read(_load_all)

    async def save(self, deployment: Deployment, events: Sequence[NewEvent] = ()) -> Deployment:
        document = deployment_document(deployment)
        wanted = {
            version.name: {"position": i, "state": str(version.state), "document": version_document(version)}
            for i, version in enumerate(deployment.versions)
        }

        def work(connection: sa.Connection) -> int:
            resource_version = draw(connection, RESOURCE_VERSION)  # first: it holds off every other save
            row = {"resource_version": resource_version, "state": str(deployment.state), "document": document}
            _save_row(connection, deployment, row)
            _save_versions(connection, deployment.name, wanted)
            return resource_version

        return replace(deployment, resource_version=await self._database.write(work, events))

    async def delete(self, name: str, events: Sequence[NewEvent] = ()) -> None:
        def work(connection: sa.Connection) -> None:
            if connection.execute(sa.delete(deployments).where(deployments.c.name == name)).rowcount == 0:
                raise ModelNotFound(f"there is no model {name}")

        await self._database.write(work, events)


def _load_all(connection: sa.Connection) -> list[Deployment]:
    of_model: dict[str, list[sa.RowMapping]] = {}
    for row in connection.execute(sa.select(versions).order_by(versions.c.model, versions.c.position)).mappings():
        of_model.setdefault(row["model"], []).append(row)
    rows = connection.execute(sa.select(deployments)).mappings()
    # Sorted here: how a database orders text depends on its collation.
    return sorted((deployment_from(row, of_model.get(row["name"], ())) for row in rows), key=lambda d: d.name)


def _save_row(connection: sa.Connection, deployment: Deployment, row: dict[str, Any]) -> None:
    same_name = deployments.c.name == deployment.name
    stored = connection.execute(sa.select(deployments.c.resource_version).where(same_name)).scalar()
    if deployment.resource_version != (stored or 0):
        raise StaleWrite(f"deployment {deployment.name} was changed by somebody else", hint="read it again")
    if stored is None:
        connection.execute(sa.insert(deployments).values(name=deployment.name, **row))
    else:
        connection.execute(sa.update(deployments).where(same_name).values(**row))


def _save_versions(connection: sa.Connection, model: str, wanted: dict[str, dict[str, Any]]) -> None:
    query = sa.select(versions.c.name, versions.c.position, versions.c.state, versions.c.document)
    stored = {
        row["name"]: {key: row[key] for key in ("position", "state", "document")}
        for row in connection.execute(query.where(versions.c.model == model)).mappings()
    }
    changed = [name for name, row in wanted.items() if stored.get(name) != row]
    gone = [name for name in stored if name not in wanted or name in changed]
    if gone:
        connection.execute(sa.delete(versions).where(versions.c.model == model, versions.c.name.in_(gone)))
    if changed:
        connection.execute(sa.insert(versions), [{"model": model, "name": name, **wanted[name]} for name in changed])
